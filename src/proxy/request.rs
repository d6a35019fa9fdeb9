//! A request before it is anything else: is it well-formed, what does it name, what identifies it.
//!
//! Owns the checks that hyper leaves to a proxy (RFC 9112 §3.2 and §6, DESIGN's side doors) and the reading of keys and
//! callers; `keyed` and `whole` make of them what the guard sees. Decides nothing about admission, sends nothing.

mod http2;
mod keyed;
mod whole;

use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request};
use hyper::body::Incoming;

use super::client::Tls;
use super::correlation::X_REQUEST_ID;
use super::headers::{self, Protected};
use super::policy::{CallerSource, GuardPolicy, OnOtherCaller, Params};
use super::problem::{BadRequest, Problem};
use crate::idempotency::{CallerHash, CallerHasher, Key, unstable_authorization};

pub use keyed::{Keyed, fields};
pub use whole::{Buffered, ReadError, Whole, fits, read_body};

/// The longest name of a host, without the trailing dot.
const MAX_HOST_BYTES: usize = 253;

/// What was seen of a request's head before hyper took it apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    /// `Content-Length` and `Transfer-Encoding` are both there: hyper removes the former, so the fields no longer show it.
    pub length_and_transfer_encoding: bool,
    /// A line, or an empty line before the request line, ends in a line feed without a carriage return.
    pub bare_line_feed: bool,
}

/// The protocol that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and what was seen of the head. A request of which nothing was seen is refused.
    Http1(Option<Framing>),
    /// HTTP/2, whose frames leave no doubt about where a request ends. h2 refuses connection fields, and a length that its
    /// frames belie.
    Http2,
}

/// A request as it came. Its head is boxed, as it passes many hands.
#[derive(Debug)]
pub struct InParts {
    /// All but the body.
    pub head: Box<Parts>,
    /// The body, still to come.
    pub body: Incoming,
}

impl InParts {
    /// The parts of `request`.
    #[must_use]
    pub fn of(request: Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        Self { head: Box::new(head), body }
    }
}

/// Names that only one spelling may carry, over all routes.
#[derive(Debug)]
pub struct Names {
    enforced: Spellings,
    /// Those that it would be, too, if the routes that observe enforced. `None` if none does.
    observed: Option<Spellings>,
}

/// Names, and how they may be spelled.
#[derive(Debug)]
struct Spellings {
    protected: Arc<Protected>,
    guarded_methods: HashSet<Method>,
}

impl Names {
    /// The names that the routes of `params` protect.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        let policies = || params.routes.iter().filter_map(|route| route.guard.as_ref());
        let own = params.request_id.then_some(X_REQUEST_ID);
        let observes = policies().any(|policy| policy.observes);
        Self {
            enforced: Spellings::of(policies().filter(|policy| !policy.observes), own.clone()),
            observed: observes.then(|| Spellings::of(policies(), own)),
        }
    }

    /// The fields that no spelling may imitate.
    #[must_use]
    pub const fn protected(&self) -> &Arc<Protected> {
        &self.enforced.protected
    }

    /// Refuses what is malformed or could be read in two ways, on every route, and makes an HTTP/2 head an HTTP/1.1 one.
    /// Returns the host in the form that routes and ids are made of: lower case, without trailing dot and `default_port`.
    ///
    /// # Errors
    ///
    /// [`BadRequest`].
    pub fn check(
        &self,
        parts: &mut Parts,
        protocol: Protocol,
        default_port: u16,
    ) -> Result<String, BadRequest> {
        match protocol {
            Protocol::Http1(framing) => check_framing(&parts.headers, framing)?,
            Protocol::Http2 => http2::downgrade(parts)?,
        }
        self.enforced.check(parts)?;
        if !parts.uri.path().starts_with('/') || parts.method == Method::CONNECT {
            return Err(BadRequest::Form);
        }
        host(parts, default_port)
    }

    /// Refuses what could be read in two ways if the routes that observe enforced.
    ///
    /// # Errors
    ///
    /// [`BadRequest`].
    pub fn check_observed(&self, parts: &Parts) -> Result<(), BadRequest> {
        self.observed.as_ref().map_or(Ok(()), |observed| observed.check(parts))
    }
}

impl Spellings {
    fn of<'a>(policies: impl Iterator<Item = &'a GuardPolicy> + Clone, more: Option<HeaderName>) -> Self {
        let keys = policies.clone().flat_map(|policy| policy.header.iter().cloned());
        let callers = policies.clone().flat_map(|policy| &policy.caller).filter_map(|source| match source {
            CallerSource::Header(name) => Some(name.clone()),
            CallerSource::Cookie(_) => Some(COOKIE),
            CallerSource::ClientCert => None,
        });
        let protected = Arc::new(Protected::new(keys.chain(callers).chain(more)));
        Self {
            protected,
            guarded_methods: policies.flat_map(|policy| policy.methods.iter().cloned()).collect(),
        }
    }

    fn check(&self, parts: &Parts) -> Result<(), BadRequest> {
        for name in parts.headers.keys() {
            if let Some(imitated) = self.protected.imitated_by(name.as_str()) {
                return Err(BadRequest::Underscore(name.to_string(), imitated));
            }
        }
        if parts.headers.contains_key(CONNECTION) {
            let mut nominated = headers::tokens(&parts.headers, &CONNECTION);
            if let Some(name) = nominated.find(|token| self.protected.contains(token)) {
                return Err(BadRequest::Nominated(name));
            }
        }
        let lower = |method: &&Method| parts.method.as_str().eq_ignore_ascii_case(method.as_str());
        match self.guarded_methods.iter().find(lower) {
            Some(guarded) if *guarded != parts.method => Err(BadRequest::MethodCase(guarded.to_string())),
            _ => Ok(()),
        }
    }
}

/// Every method that the request asks to be taken for beside its own (`X-HTTP-Method-Override` and its kin).
#[must_use]
pub fn other_methods(parts: &Parts) -> Vec<Method> {
    let overrides = headers::method_overrides(&parts.headers);
    let named = overrides
        .iter()
        .flat_map(|name| parts.headers.get_all(name))
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    named.filter_map(|name| Method::from_bytes(&name.trim_ascii().to_ascii_uppercase()).ok()).collect()
}

/// Its own method and the `others`.
pub fn methods<'a>(parts: &'a Parts, others: &'a [Method]) -> impl Iterator<Item = &'a str> {
    std::iter::once(&parts.method).chain(others).map(Method::as_str)
}

/// The method by which the request is guarded under `policy`, if it is; `others` are those that it may be taken for.
#[must_use]
pub fn guarded_by(parts: &Parts, others: &[Method], policy: &GuardPolicy) -> Option<Method> {
    let guards = |method: &&Method| policy.methods.contains(method);
    others.iter().rfind(guards).or_else(|| Some(&parts.method).filter(guards)).cloned()
}

/// The key, if there is one.
///
/// # Errors
///
/// [`Problem::KeyInvalid`].
pub fn key(headers: &HeaderMap, policy: &GuardPolicy) -> Result<Option<Key>, Problem> {
    let lines = policy.header.iter().flat_map(|name| headers.get_all(name)).map(|value| value.as_bytes());
    Key::parse(lines, policy.key_rules).map_err(Problem::KeyInvalid)
}

/// The problem of a request without a key.
#[must_use]
pub fn key_missing(policy: &GuardPolicy) -> Problem {
    let names: Vec<&str> = policy.header.iter().map(HeaderName::as_str).collect();
    Problem::KeyMissing { header: names.join(" or ") }
}

/// Who calls, by the fields of the request and the certificate of its connection.
///
/// # Errors
///
/// [`Problem::CallerUnstable`] if callers are kept apart by a mark that is new on every try.
pub fn caller(headers: &HeaderMap, tls: Option<&Tls>, policy: &GuardPolicy) -> Result<CallerHash, Problem> {
    let mut hasher = CallerHasher::new();
    for source in &policy.caller {
        match source {
            CallerSource::Header(name) => {
                let values = || headers.get_all(name).into_iter().map(|value| value.as_bytes());
                if *name == AUTHORIZATION
                    && policy.on_other_caller == OnOtherCaller::Isolate
                    && let Some(scheme) = values().find_map(unstable_authorization)
                {
                    return Err(Problem::CallerUnstable { scheme });
                }
                hasher.mark(name.as_str(), values());
            }
            CallerSource::Cookie(name) => {
                hasher.mark("cookie", [name.as_bytes()]);
                hasher.mark(name, cookies(headers, name));
            }
            CallerSource::ClientCert => {
                let certificate = tls.and_then(|tls| tls.certificate.as_ref());
                hasher.mark("client-cert", certificate.iter().map(|fingerprint| fingerprint.as_slice()));
            }
        }
    }
    Ok(hasher.finish())
}

fn check_framing(headers: &HeaderMap, framing: Option<Framing>) -> Result<(), BadRequest> {
    let framing = framing.ok_or(BadRequest::Framing)?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    if framing.bare_line_feed {
        return Err(BadRequest::LineEnd);
    }
    if framing.length_and_transfer_encoding || first.is_some() && headers.contains_key(CONTENT_LENGTH) {
        return Err(BadRequest::LengthAndCoding);
    }
    match first {
        None => Ok(()),
        Some(coding) if codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(())
        }
        Some(_) => {
            let known = ["chunked", "gzip", "x-gzip", "deflate", "compress", "x-compress", "identity"];
            let unknown =
                headers::tokens(headers, &TRANSFER_ENCODING).any(|token| !known.contains(&token.as_str()));
            Err(if unknown { BadRequest::UnknownCoding } else { BadRequest::TransferCoding })
        }
    }
}

/// RFC 9112 §3.2: exactly one valid `Host`; an absolute target must name the same authority.
fn host(parts: &Parts, default_port: u16) -> Result<String, BadRequest> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok().and_then(|line| authority(line, default_port)),
        (None, _) => return Err(BadRequest::Host("the request has no Host field")),
        (Some(_), Some(_)) => return Err(BadRequest::Host("the request has more than one Host field")),
    };
    let host = host.ok_or(BadRequest::Host("the Host field is not a host with an optional port"))?;
    if parts.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(BadRequest::Form);
    }
    match parts.uri.authority() {
        Some(target) if authority(target.as_str(), default_port).as_ref() != Some(&host) => {
            Err(BadRequest::Host("the request target names another host than the Host field"))
        }
        _ => Ok(host),
    }
}

/// The authority in one form, if it is a host with an optional port. Longer names than DNS has (RFC 1035 §2.3.4) are none:
/// what is done for each of their labels would add up.
fn authority(authority: &str, default_port: u16) -> Option<String> {
    // The colons of an IPv6 address stand in brackets.
    let literal_bytes = if authority.starts_with('[') { authority.find(']')? + 1 } else { 0 };
    let end = authority.bytes().skip(literal_bytes).position(|byte| byte == b':');
    let (host, port) = authority.split_at(end.map_or(authority.len(), |end| literal_bytes + end));
    let port = match port {
        "" | ":" => None,
        port => Some(port.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?),
    };
    let port = port.map(|port| port.parse::<NonZeroU16>().ok()).map_or(Some(None), |port| port.map(Some))?;
    let host = match host.strip_prefix('[') {
        Some(literal) => format!("[{}]", literal.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None => host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(),
    };
    // RFC 3986 has more characters in a name than hosts have; a comma would make two of it for those who split lists.
    let is_of_a_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !host.starts_with('.') && host.bytes().all(is_of_a_host);
    if host.is_empty()
        || host.len() > MAX_HOST_BYTES
        || host.ends_with('.')
        || !(host.starts_with('[') || is_name)
    {
        return None;
    }
    Some(match port {
        Some(port) if port.get() != default_port => format!("{host}:{port}"),
        _ => host,
    })
}

/// All values of the cookie `name` (RFC 6265 §4.2.1).
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(COOKIE).into_iter().map(|line| line.as_bytes());
    lines.flat_map(|line| line.split(|byte| *byte == b';')).filter_map(move |pair| {
        let (found, value) = pair.trim_ascii().split_at_checked(name.len())?;
        (found == name.as_bytes()).then(|| value.strip_prefix(b"="))?
    })
}

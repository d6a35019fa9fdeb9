//! A request before it is anything else: is it well-formed, what does it name, what identifies it.
//!
//! Owns the checks that hyper leaves to a proxy (RFC 9112 §3.2 and §6, DESIGN's side doors) and the reading of keys, callers
//! and bodies. Decides nothing about admission, sends nothing.

mod http2;

use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body::WholeBody;
use super::correlation::X_REQUEST_ID;
use super::headers::{self, METHOD_OVERRIDES, Protected};
use super::path;
use super::policy::{CallerSource, GuardPolicy, OnOtherCaller, Params};
use super::problem::{BadRequest, Problem};
use super::quota::{Quota, Share};
use crate::idempotency::{
    CallerHash, CallerHasher, Fingerprint, Key, Payload, Presented, RequestId, Scope, unstable_authorization,
};

/// Bodies larger than this are hashed on a thread of their own: hashing must not hold up other requests.
const HASH_INLINE_BYTES: usize = 64 * 1024;

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

/// Names that only one spelling may carry, over all routes.
#[derive(Debug)]
pub struct Names {
    protected: Arc<Protected>,
    guarded_methods: HashSet<Method>,
}

/// The body of a guarded request.
#[derive(Debug)]
pub struct Buffered {
    /// The bytes.
    pub data: Bytes,
    /// What came behind them.
    pub trailers: HeaderMap,
    /// Its share of the bytes that may be held at once.
    share: Option<Share>,
}

/// A guarded request that was read whole.
#[derive(Debug)]
pub struct Whole {
    /// The head.
    pub parts: Parts,
    /// The method by which it is guarded.
    pub method: Method,
    /// The host, in the form that ids are made of.
    pub host: String,
    /// The key.
    pub key: Key,
    /// Who calls.
    pub caller: CallerHash,
    /// The body.
    pub body: Buffered,
}

impl Names {
    /// The names that the routes of `params` protect.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        let policies = || params.routes.iter().filter_map(|route| route.guard.as_ref());
        let keys = policies().flat_map(|policy| policy.header.iter().cloned());
        let callers = policies().flat_map(|policy| &policy.caller).map(|source| match source {
            CallerSource::Header(name) => name.clone(),
            CallerSource::Cookie(_) => COOKIE,
        });
        let own = params.request_id.then_some(X_REQUEST_ID);
        let guarded_methods = policies().flat_map(|policy| policy.methods.iter().cloned()).collect();
        Self { protected: Arc::new(Protected::new(keys.chain(callers).chain(own))), guarded_methods }
    }

    /// The fields that no spelling may imitate.
    #[must_use]
    pub const fn protected(&self) -> &Arc<Protected> {
        &self.protected
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
            Some(guarded) if *guarded != parts.method => {
                return Err(BadRequest::MethodCase(guarded.to_string()));
            }
            _ => {}
        }
        if !parts.uri.path().starts_with('/') || parts.method == Method::CONNECT {
            return Err(BadRequest::Form);
        }
        host(parts, default_port)
    }
}

/// The method and every method that the request asks to be taken for (`X-HTTP-Method-Override` and its kin).
pub fn methods(parts: &Parts) -> impl Iterator<Item = Method> + '_ {
    let overrides = METHOD_OVERRIDES.iter().flat_map(|name| parts.headers.get_all(name));
    let named = overrides.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named = named.filter_map(|name| Method::from_bytes(&name.trim_ascii().to_ascii_uppercase()).ok());
    std::iter::once(parts.method.clone()).chain(named)
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

/// Who calls.
///
/// # Errors
///
/// [`Problem::CallerUnstable`] if callers are kept apart by a mark that is new on every try.
pub fn caller(headers: &HeaderMap, policy: &GuardPolicy) -> Result<CallerHash, Problem> {
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
        }
    }
    Ok(hasher.finish())
}

/// Reads the whole body, within the route's limits and `budget`, which counts bytes.
///
/// # Errors
///
/// [`Problem`]: too large, too slow, broken off, or no room.
pub async fn read_body(
    mut body: Incoming,
    policy: &GuardPolicy,
    budget: &Quota,
    protected: &Protected,
) -> Result<Buffered, Problem> {
    let max_bytes = policy.max_request_body_bytes;
    let too_large = || Problem::RequestTooLarge { max_bytes };
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    let reading = async {
        let mut whole = Buffered { data: Bytes::new(), trailers: HeaderMap::new(), share: None };
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            match frame.map_err(|error| broken_off(&error))?.into_data() {
                Ok(data) if whole.data.len() + rest.len() + data.len() > max_bytes => return Err(too_large()),
                Ok(data) => {
                    whole.hold(budget, data.len())?;
                    // One frame, as most bodies are, is taken as it is; several are gathered.
                    if whole.data.is_empty() && rest.is_empty() {
                        whole.data = data;
                    } else {
                        rest.extend_from_slice(&std::mem::take(&mut whole.data));
                        rest.extend_from_slice(&data);
                    }
                }
                Err(frame) => whole.trailers = protected.without(frame.into_trailers().unwrap_or_default()),
            }
        }
        if !rest.is_empty() {
            whole.data = rest.freeze();
        }
        Ok(whole)
    };
    timeout(policy.request_body_timeout, reading).await.unwrap_or(Err(Problem::RequestTimeout))
}

impl Whole {
    /// The request as the guard sees it.
    ///
    /// # Errors
    ///
    /// [`Problem::BodyInvalid`] if the route compares JSON and the body is none.
    pub async fn present(&self, policy: &GuardPolicy) -> Result<Presented, Problem> {
        let isolated = policy.on_other_caller == OnOtherCaller::Isolate;
        let path = path::identity(self.parts.uri.path());
        let scope = Scope {
            method: self.method.as_str(),
            host: &self.host,
            path: &path,
            caller: isolated.then_some(&self.caller),
        };
        let id = RequestId::derive(&scope, &self.key);
        let fingerprint = self.fingerprint(policy).await?;
        Ok(Presented { id, caller: (!isolated).then_some(self.caller), fingerprint: Some(fingerprint) })
    }

    async fn fingerprint(&self, policy: &GuardPolicy) -> Result<Fingerprint, Problem> {
        let counted =
            std::iter::once(&CONTENT_TYPE).chain(&policy.fingerprint_headers).chain(METHOD_OVERRIDES.iter());
        let fields = counted.flat_map(|name| {
            self.parts.headers.get_all(name).into_iter().map(|value| (name.as_str(), value.as_bytes()))
        });
        let trailers = self.body.trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let query = self.parts.uri.query();
        if self.body.data.len() <= HASH_INLINE_BYTES {
            let fields: Vec<(&str, &[u8])> = fields.collect();
            let trailers: Vec<(&str, &[u8])> = trailers.collect();
            let payload = Payload { query, fields: &fields, body: &self.body.data, trailers: &trailers };
            return policy.fingerprint.fingerprint(&payload).map_err(Problem::BodyInvalid);
        }
        let owned = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
        let fields: Vec<(String, Vec<u8>)> = fields.map(owned).collect();
        let trailers: Vec<(String, Vec<u8>)> = trailers.map(owned).collect();
        let (rule, query, data) =
            (policy.fingerprint.clone(), query.map(str::to_owned), self.body.data.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            let (fields, trailers) = (borrowed(&fields), borrowed(&trailers));
            let payload =
                Payload { query: query.as_deref(), fields: &fields, body: &data, trailers: &trailers };
            rule.fingerprint(&payload)
        });
        // It fails only if the runtime is ending, and the process with it.
        hashing.await.map_err(|_| Problem::ShuttingDown)?.map_err(Problem::BodyInvalid)
    }
}

impl Buffered {
    /// The body to send, and the share to hold until it was sent.
    #[must_use]
    pub fn into_body(self) -> (WholeBody, Option<Share>) {
        (WholeBody::new(self.data, self.trailers), self.share)
    }

    fn hold(&mut self, budget: &Quota, bytes: usize) -> Result<(), Problem> {
        let bytes = bytes as u64;
        let is_held = match &mut self.share {
            Some(share) => share.grow(bytes),
            None => {
                self.share = budget.take(bytes);
                self.share.is_some()
            }
        };
        is_held.then_some(()).ok_or(Problem::Overloaded)
    }
}

fn borrowed(fields: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}

/// A body that is not framed as it should be is malformed; any other end is the client's own.
pub(super) fn broken_off(error: &hyper::Error) -> Problem {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match cause {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => BadRequest::Body.into(),
        _ => Problem::ClientGone,
    }
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
        (Some(line), None) => {
            line.to_str().ok().and_then(|line| authority(&line.parse().ok()?, default_port))
        }
        (None, _) => return Err(BadRequest::Host("the request has no Host field")),
        (Some(_), Some(_)) => return Err(BadRequest::Host("the request has more than one Host field")),
    };
    let host = host.ok_or(BadRequest::Host("the Host field is not a host with an optional port"))?;
    if parts.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(BadRequest::Form);
    }
    match parts.uri.authority() {
        Some(target) if authority(target, default_port).as_ref() != Some(&host) => {
            Err(BadRequest::Host("the request target names another host than the Host field"))
        }
        _ => Ok(host),
    }
}

/// The authority in one form, if it is a host with an optional port.
fn authority(authority: &Authority, default_port: u16) -> Option<String> {
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host)? {
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
    if host.is_empty() || host.ends_with('.') || !(host.starts_with('[') || is_name) {
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

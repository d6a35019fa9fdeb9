//! Which fields cross the proxy.
//!
//! Owns the rules of RFC 9110 §7.6 for both directions: connection fields stop here, `Via` is written here, and a route's own
//! changes are made. What is told of the client stands in `forwarded`. Fields are never renamed, joined or reordered beyond
//! that.

use std::collections::HashSet;

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};

use super::forwarded::{self, Peer, X_FORWARDED, X_REAL_IP};
use super::policy::HeaderChanges;

/// Names this proxy in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "oncegate";

/// Fields by which lenient back ends take another method than the request line's.
static METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Fields by which lenient back ends take another path than the request line's. They never pass.
static PATH_OVERRIDES: [HeaderName; 2] =
    [HeaderName::from_static("x-original-url"), HeaderName::from_static("x-rewrite-url")];

/// The method overrides, if a request has any of them. Most have none, and need not be searched for each.
pub(super) fn method_overrides(headers: &HeaderMap) -> &'static [HeaderName] {
    if headers.keys().any(|name| METHOD_OVERRIDES.contains(name)) { &METHOD_OVERRIDES } else { &[] }
}

/// How a request came here.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The client: the other end of its connection.
    pub from: &'a Peer,
    /// Whether what it says of its own clients is believed.
    pub is_trusted: bool,
    /// Whether it came over TLS.
    pub over_tls: bool,
    /// The protocol's version.
    pub version: Version,
}

/// Fields that no spelling may imitate and no `Connection` field may remove.
#[derive(Debug)]
pub struct Protected(HashSet<Box<str>>);

impl Protected {
    /// The fields that matter on every route, and `more`: the keys and the callers' marks.
    #[must_use]
    pub fn new(more: impl Iterator<Item = HeaderName>) -> Self {
        let fixed = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, FORWARDED, X_REAL_IP];
        let overrides = METHOD_OVERRIDES.iter().chain(&PATH_OVERRIDES).cloned();
        Self(fixed.into_iter().chain(overrides).chain(more).map(|name| name.as_str().into()).collect())
    }

    /// Whether the field of this lower-case name is protected.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name) || name.starts_with(X_FORWARDED)
    }

    /// The protected field that `name` could be read as, its underscores as hyphens.
    #[must_use]
    pub fn imitated_by(&self, name: &str) -> Option<String> {
        // Names are short: a search that has to be set up costs more than the loop.
        let hyphenated = name.bytes().any(|byte| byte == b'_').then(|| name.replace('_', "-"))?;
        self.contains(&hyphenated).then_some(hyphenated)
    }

    /// `trailers` without what has its place in the head (RFC 9110 §6.5.1).
    #[must_use]
    pub fn without(&self, trailers: HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::with_capacity(trailers.len());
        for (name, value) in &trailers {
            if !self.contains(name.as_str()) && self.imitated_by(name.as_str()).is_none() {
                kept.append(name.clone(), value.clone());
            }
        }
        kept
    }
}

/// The lower-case tokens of a list field (RFC 9110 §5.6.1). Bytes outside ASCII make no token.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + use<'a> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty())
}

/// The protocol that a request asks to switch to, if it asks for exactly one that is in `allowed`. Never `h2c`.
#[must_use]
pub fn upgrade(headers: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
    let value = headers.get(UPGRADE)?;
    let asked = tokens(headers, &CONNECTION).any(|token| token == "upgrade");
    let protocol = value.to_str().ok()?.to_ascii_lowercase();
    let single = headers.get_all(UPGRADE).iter().count() == 1;
    (asked && single && protocol != "h2c" && allowed.contains(&protocol)).then(|| value.clone())
}

/// Makes a client's fields those of the request to the upstream. `upgrade` is the protocol that may pass.
pub fn to_upstream(
    headers: &mut HeaderMap,
    received: &Received<'_>,
    upgrade: Option<HeaderValue>,
    protected: &Protected,
) {
    let wants_trailers = tokens(headers, &TE).any(|token| token == "trailers");
    let never_passes = |name: &str| name == EXPECT.as_str() || PATH_OVERRIDES.iter().any(|own| own == name);
    strip(headers, protected, never_passes);
    match upgrade {
        Some(protocol) => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol);
        }
        None if wants_trailers => {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        None => {}
    }
    forwarded::tell(headers, received);
    via(headers, received.version);
}

/// Makes an upstream's fields those of the answer to the client. Lengths are left out where the body tells its own.
pub fn to_client(headers: &mut HeaderMap, keep_length: bool, protected: &Protected) {
    strip(headers, protected, |_| false);
    if !keep_length {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Makes a route's own changes.
pub fn change(headers: &mut HeaderMap, changes: &HeaderChanges) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for (name, value) in &changes.set {
        headers.insert(name.clone(), value.clone());
    }
}

/// Says that a message of this version passed through here (RFC 9110 §7.6.3).
pub fn via(headers: &mut HeaderMap, version: Version) {
    let value = if version == Version::HTTP_2 { "2.0 oncegate" } else { "1.1 oncegate" };
    headers.append(VIA, HeaderValue::from_static(value));
}

/// Removes the fields with such names. One look at each name that is there costs less than looking for each that is not.
pub(super) fn remove_if(headers: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    let removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

/// Removes connection fields, what `Connection` names, and what `never_passes`. What must not be removed stays: a response's
/// nomination of it is ignored, a request's was refused before.
fn strip(headers: &mut HeaderMap, protected: &Protected, never_passes: impl Fn(&str) -> bool) {
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<String> = tokens(headers, &CONNECTION).collect();
        for name in nominated {
            if !protected.contains(&name) {
                headers.remove(name.as_str());
            }
        }
        headers.remove(CONNECTION);
    }
    remove_if(headers, |name| {
        matches!(
            name,
            "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "te"
                | "transfer-encoding"
                | "upgrade"
        ) || never_passes(name)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn protected() -> Protected {
        Protected::new(std::iter::once(HeaderName::from_static("idempotency-key")))
    }

    fn spelled(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn connection_fields_stop_here_and_the_rest_passes() {
        let mut request = headers(&[
            ("host", "api.example.com"),
            ("connection", "close, X-Debug"),
            ("x-debug", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("accept", "*/*"),
        ]);
        let received = Received {
            from: &Peer::new("::ffff:10.1.2.3".parse().unwrap()),
            is_trusted: false,
            over_tls: false,
            version: Version::HTTP_11,
        };
        to_upstream(&mut request, &received, None, &protected());
        assert_eq!(
            spelled(&request),
            [
                "accept: */*",
                "connection: te",
                "host: api.example.com",
                "te: trailers",
                "via: 1.1 oncegate",
                "x-forwarded-for: 10.1.2.3",
                "x-forwarded-host: api.example.com",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn a_response_cannot_have_a_protected_field_removed_by_nomination() {
        let mut response = headers(&[
            ("connection", "content-length, idempotency-key, x-a"),
            ("content-length", "3"),
            ("idempotency-key", "k"),
            ("x-a", "1"),
        ]);
        to_client(&mut response, true, &protected());
        assert_eq!(spelled(&response), ["content-length: 3", "idempotency-key: k"]);
    }

    #[test]
    fn only_an_allowed_protocol_asked_for_by_both_fields_passes() {
        let allowed = ["websocket".to_owned(), "h2c".to_owned()];
        for (lines, passes) in [
            (&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")][..], true),
            (&[("upgrade", "websocket")], false),
            (&[("connection", "upgrade"), ("upgrade", "h2c")], false),
            (&[("connection", "upgrade"), ("upgrade", "tls/1.0")], false),
            (&[("connection", "upgrade"), ("upgrade", "websocket, h2c")], false),
            (&[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")], false),
        ] {
            let lines = lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
                map
            });
            assert_eq!(upgrade(&lines, &allowed).is_some(), passes, "{lines:?}");
        }
    }
}

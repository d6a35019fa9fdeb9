//! The request as it is sent.
//!
//! Owns what a route changes in it: the prefix that the upstream does not see, and fields. Everything that decides (route, side
//! doors, identity, fingerprint) has happened before, on the request as it came.

use http::header::{HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use http_body::Body;

use super::body::RequestBody;
use super::forwarded::X_FORWARDED_PREFIX;
use super::headers;
use super::policy::Route;

/// The request in origin form (RFC 9112 §3.2.1), with the bytes that were matched, but for what the route changes. Boxed: on
/// its way to a connection it passes many hands.
pub(super) fn outbound(mut parts: Box<Parts>, body: RequestBody, route: &Route) -> Box<Request<RequestBody>> {
    if let (Some(_), Some(path_and_query)) = (parts.uri.authority(), parts.uri.path_and_query()) {
        parts.uri = Uri::from(path_and_query.clone());
    }
    if let Some(prefix) = &route.strip_prefix {
        strip(&mut parts, prefix);
    }
    headers::change(&mut parts.headers, &route.request_headers);
    // hyper leaves the body of a GET or HEAD away if it knows no length and is not told to send it.
    let seldom_has_one = matches!(parts.method, Method::GET | Method::HEAD);
    if seldom_has_one && !body.is_end_stream() && body.size_hint().exact().is_none() {
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Box::new(Request::from_parts(*parts, body))
}

/// The path without `prefix`, which it begins with and which ends at the end of a segment.
pub(super) fn without_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    match rest.as_bytes().first() {
        None => Some("/"),
        Some(b'/') => Some(rest),
        Some(_) => None,
    }
}

fn strip(parts: &mut Parts, prefix: &str) {
    let Some(path) = without_prefix(parts.uri.path(), prefix) else { return };
    let stripped = match parts.uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let Ok(stripped) = stripped else { return };
    parts.uri = Uri::from(stripped);
    // What a trusted proxy has taken off stands before what is taken off here.
    let before = parts.headers.get(X_FORWARDED_PREFIX).and_then(|before| before.to_str().ok());
    let taken = format!("{}{prefix}", before.unwrap_or_default().trim_end_matches('/'));
    if let Ok(taken) = HeaderValue::try_from(taken) {
        parts.headers.insert(X_FORWARDED_PREFIX, taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_with_its_segment() {
        for (path, stripped) in [
            ("/api/v1", Some("/v1")),
            ("/api/", Some("/")),
            ("/api", Some("/")),
            ("/api//x", Some("//x")),
            ("/apis", None),
            ("/API/v1", None),
            ("/", None),
        ] {
            assert_eq!(without_prefix(path, "/api"), stripped, "{path}");
        }
    }
}

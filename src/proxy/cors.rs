//! What browsers are told about other origins (Fetch standard, "CORS protocol").
//!
//! A route with `cors_origins` speaks for its upstream, which may know nothing of keys and replays. Preflights are answered
//! here, and every answer, be it the upstream's, a replay or a problem, says whether *this* request's origin may read it. What
//! the upstream says of that is replaced, so that no replay carries another origin's permission.

use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use http::request::Parts;

use super::headers::tokens;
use super::policy::Cors;

/// What a script may read of an answer, beyond what every script may.
const EXPOSED: HeaderValue = HeaderValue::from_static("Idempotent-Replayed, Retry-After, Link, X-Request-Id");

/// Whether a browser asks whether it may send what its page wants to send.
#[must_use]
pub fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The fields of the answer to a preflight, but for those that every answer has ([`complete`]). A page of an allowed origin
/// may send any method and any field, the key's among them: whether they are taken is for the request itself to learn.
#[must_use]
pub fn preflight(cors: &Cors, asked: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if permission(cors, asked.get(ORIGIN)).is_none() {
        return fields;
    }
    for (ask, allow) in [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ] {
        if let Some(value) = asked.get(&ask) {
            fields.insert(allow, value.clone());
        }
        fields.append(VARY, ask.into());
    }
    fields.insert(ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs().into());
    fields
}

/// Says in an answer whether pages of `origin`, the request's, may read it. `also_exposed` is a field beyond the usual ones.
pub fn complete(
    answer: &mut HeaderMap,
    cors: &Cors,
    origin: Option<&HeaderValue>,
    also_exposed: Option<&HeaderName>,
) {
    answer.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
    answer.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    if cors.origins.is_some() && !tokens(answer, &VARY).any(|token| token == "origin" || token == "*") {
        answer.append(VARY, ORIGIN.into());
    }
    let Some(permission) = permission(cors, origin) else { return };
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, permission);
    if cors.credentials {
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    answer.append(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if let Some(name) = also_exposed {
        answer.append(ACCESS_CONTROL_EXPOSE_HEADERS, name.clone().into());
    }
}

/// The value of `Access-Control-Allow-Origin`, if pages of `origin` may read.
fn permission(cors: &Cors, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    match &cors.origins {
        None => Some(HeaderValue::from_static("*")),
        Some(listed) => origin.filter(|origin| listed.contains(origin)).cloned(),
    }
}

//! One line in the log for each request.
//!
//! Owns what such a line says. It never holds a key, a body, a query or a credential: a key shows as the first 8 hex digits
//! of its hash.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{HeaderValue, USER_AGENT};
use http::request::Parts;
use http::uri::Uri;
use http::{HeaderMap, Method, StatusCode, Version};
use tracing::info;

use super::outcome::RequestOutcome;
use super::tally::Tally;

/// The target of access lines, for filters.
pub const TARGET: &str = "oncegate::access";

/// How much of a path a line shows.
const MAX_PATH_BYTES: usize = 1024;

/// How much of a `User-Agent` field a line shows.
const MAX_USER_AGENT_BYTES: usize = 256;

/// What a line will say.
#[derive(Debug)]
pub struct AccessLine {
    started: SystemTime,
    client: IpAddr,
    method: Method,
    target: Uri,
    version: Version,
    user_agent: Option<HeaderValue>,
    pub(super) trace_parent: Option<HeaderValue>,
    pub(super) tally: Tally,
    pub(super) authority: Option<String>,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) route: Option<Arc<str>>,
    pub(super) key: Option<String>,
    pub(super) upstream: Option<Duration>,
    pub(super) store: Option<Duration>,
    pub(super) cause: Option<&'static str>,
    pub(super) client_gone: bool,
}

impl AccessLine {
    /// The line of a request that begins.
    #[must_use]
    pub fn begin(client: IpAddr, head: &Parts) -> Self {
        Self {
            started: SystemTime::now(),
            client,
            method: head.method.clone(),
            target: head.uri.clone(),
            version: head.version,
            user_agent: head.headers.get(USER_AGENT).cloned(),
            trace_parent: only(&head.headers, "traceparent").cloned(),
            tally: Tally::counting(),
            authority: None,
            request_id: None,
            route: None,
            key: None,
            upstream: None,
            store: None,
            cause: None,
            client_gone: false,
        }
    }

    /// Writes the line of a request that ended so, so long after its head, and that would have ended as `observed` on a route
    /// that enforces.
    pub fn write(
        &self,
        status: Option<StatusCode>,
        outcome: RequestOutcome,
        observed: Option<RequestOutcome>,
        took: Duration,
    ) {
        let user_agent = self.user_agent.as_ref().and_then(|value| value.to_str().ok());
        info!(
            target: TARGET,
            start = %humantime::format_rfc3339_millis(self.started),
            client = %self.client,
            method = %self.method,
            path = shortened_path(self.target.path()),
            protocol = ?self.version,
            authority = self.authority.as_deref(),
            user_agent = user_agent.map(|text| shortened(text, MAX_USER_AGENT_BYTES)),
            request_id = self.request_id.as_ref().and_then(|id| id.to_str().ok()),
            trace_id = self.trace_parent.as_ref().and_then(trace_id),
            route = self.route.as_deref(),
            status = status.map(|status| status.as_u16()),
            outcome = outcome.as_str(),
            observed = observed.map(RequestOutcome::as_str),
            cause = self.cause,
            key = self.key.as_deref(),
            client_gone = self.client_gone.then_some(true),
            bytes_received = self.tally.received_bytes(),
            bytes_sent = self.tally.sent_bytes(),
            duration_ms = milliseconds(took),
            upstream_ms = self.upstream.map(milliseconds),
            endpoint = self.tally.endpoint().as_deref(),
            store_ms = self.store.map(milliseconds),
            "request"
        );
    }
}

/// The value of a field that comes once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

/// The trace's id in a `traceparent` field (W3C Trace Context §3.2): 32 hex digits in lower case, not all of them 0.
fn trace_id(value: &HeaderValue) -> Option<&str> {
    let mut parts = value.to_str().ok()?.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_known = version.len() == 2 && is_hex(version) && version != "ff";
    (is_known && id.len() == 32 && is_hex(id) && id.bytes().any(|byte| byte != b'0')).then_some(id)
}

/// As much of a path as is told of it.
pub(super) fn shortened_path(path: &str) -> &str {
    shortened(path, MAX_PATH_BYTES)
}

fn shortened(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or_default()
}

/// The line of a head that could not be read, and was answered before anybody saw it: with 400, 414 or 431.
pub(super) fn unreadable(client: IpAddr) {
    info!(target: TARGET, client = %client, outcome = RequestOutcome::Refused.as_str(), cause = "head", "request");
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_named_as_w3c_has_it() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        for (text, expected) in [
            (format!("00-{id}-b7ad6b7169203331-01"), Some(id)),
            (format!("cc-{id}-b7ad6b7169203331-01-more"), Some(id)),
            (format!("ff-{id}-b7ad6b7169203331-01"), None),
            (format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()), None),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), None),
            (format!("00-{}-b7ad6b7169203331-01", &id[1..]), None),
            (String::new(), None),
        ] {
            assert_eq!(trace_id(&HeaderValue::from_str(&text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_long_is_cut_where_a_character_ends() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("a\u{e9}c", 2), "a");
    }
}

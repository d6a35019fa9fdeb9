//! One line in the log for each request.
//!
//! Owns what such a line says. It never holds a key, a body, a query or a credential: a key shows as the first 8 hex digits
//! of its hash.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use http::header::{HeaderValue, USER_AGENT};
use http::request::Parts;
use http::uri::Uri;
use http::{Method, StatusCode, Version};
use tracing::info;

use super::outcome::RequestOutcome;
use super::tally::Tally;
use super::trace::{Parent, TraceId};

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
    pub(super) trace_id: Option<TraceId>,
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
            trace_id: Parent::of(&head.headers).map(|parent| parent.trace_id),
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
            trace_id = self.trace_id.map(|id| HEXLOWER.encode(&id)),
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
    fn what_is_long_is_cut_where_a_character_ends() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("a\u{e9}c", 2), "a");
    }
}

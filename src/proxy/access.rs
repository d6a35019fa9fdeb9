//! One line in the log for each request.
//!
//! Owns what such a line says. It never holds a key, a body, a query or a credential: a key shows as the first 8 hex digits
//! of its hash.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use tracing::info;

use super::outcome::RequestOutcome;

/// The target of access lines, for filters.
pub const TARGET: &str = "oncegate::access";

/// What a line will say.
#[derive(Debug)]
pub struct AccessLine {
    client: IpAddr,
    method: Method,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) route: Option<Arc<str>>,
    pub(super) key: Option<String>,
    pub(super) upstream: Option<Duration>,
    pub(super) cause: Option<&'static str>,
    pub(super) client_gone: bool,
}

impl AccessLine {
    /// The line of a request that begins.
    #[must_use]
    pub fn begin(client: IpAddr, method: &Method) -> Self {
        Self {
            client,
            method: method.clone(),
            request_id: None,
            route: None,
            key: None,
            upstream: None,
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
        info!(
            target: TARGET,
            client = %self.client,
            method = %self.method,
            request_id = self.request_id.as_ref().and_then(|id| id.to_str().ok()),
            route = self.route.as_deref(),
            status = status.map(|status| status.as_u16()),
            outcome = outcome.as_str(),
            observed = observed.map(RequestOutcome::as_str),
            cause = self.cause,
            key = self.key.as_deref(),
            client_gone = self.client_gone.then_some(true),
            duration_ms = milliseconds(took),
            upstream_ms = self.upstream.map(milliseconds),
            "request"
        );
    }
}

/// The line of a head that could not be read, and was answered before anybody saw it: with 400, 414 or 431.
pub(super) fn unreadable(client: IpAddr) {
    info!(target: TARGET, client = %client, outcome = RequestOutcome::Refused.as_str(), cause = "head", "request");
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

//! One line in the log for each request.
//!
//! Owns what such a line says. It never holds a key, a body, a query or a credential: a key shows as the first 8 hex digits
//! of its hash.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tracing::info;

use super::outcome::RequestOutcome;
use crate::idempotency::Key;

/// The target of access lines, for filters.
pub const TARGET: &str = "oncegate::access";

/// What is known of a request so far; written when it is dropped, so that no request goes without its line.
#[derive(Debug)]
pub struct AccessLine(Option<Box<Known>>);

#[derive(Debug)]
struct Known {
    begun: Instant,
    client: IpAddr,
    method: Method,
    request_id: Option<HeaderValue>,
    route: Option<Arc<str>>,
    key: Option<String>,
    upstream: Option<Duration>,
    cause: Option<&'static str>,
    status: Option<StatusCode>,
    outcome: RequestOutcome,
    client_gone: bool,
}

impl AccessLine {
    /// Begins the line, or none if access lines are off.
    #[must_use]
    pub fn begin(on: bool, client: IpAddr, method: &Method) -> Self {
        Self(on.then(|| {
            Box::new(Known {
                begun: Instant::now(),
                client,
                method: method.clone(),
                request_id: None,
                route: None,
                key: None,
                upstream: None,
                cause: None,
                status: None,
                outcome: RequestOutcome::ClientGone,
                client_gone: false,
            })
        }))
    }

    /// The request's `X-Request-Id`.
    pub fn request_id(&mut self, id: &HeaderValue) {
        if let Some(known) = &mut self.0 {
            known.request_id = Some(id.clone());
        }
    }

    /// The route that serves the request.
    pub fn route(&mut self, name: &Arc<str>) {
        if let Some(known) = &mut self.0 {
            known.route = Some(name.clone());
        }
    }

    /// The request's key.
    pub fn key(&mut self, key: &Key) {
        if let Some(known) = &mut self.0 {
            known.key = Some(key.hash_prefix());
        }
    }

    /// How long the upstream took to its response head, or to its failure.
    pub fn upstream(&mut self, took: Duration) {
        if let Some(known) = &mut self.0 {
            known.upstream = Some(took);
        }
    }

    /// Why there is no answer of the upstream.
    pub fn cause(&mut self, cause: &'static str) {
        if let Some(known) = &mut self.0 {
            known.cause = Some(cause);
        }
    }

    /// How it ended.
    pub fn end(&mut self, status: StatusCode, outcome: RequestOutcome) {
        if let Some(known) = &mut self.0 {
            known.status = Some(status);
            known.outcome = outcome;
        }
    }

    /// How it ended, where the status went out before that was known.
    pub fn outcome(&mut self, outcome: RequestOutcome) {
        if let Some(known) = &mut self.0 {
            known.outcome = outcome;
        }
    }

    /// Nobody was there to take the reply.
    pub fn client_gone(&mut self) {
        if let Some(known) = &mut self.0 {
            known.client_gone = true;
        }
    }
}

/// The line of a head that could not be read, and was answered before anybody saw it: with 400, 414 or 431.
pub(super) fn unreadable(client: IpAddr) {
    info!(target: TARGET, client = %client, outcome = RequestOutcome::Refused.as_str(), cause = "head", "request");
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        self.write();
    }
}

impl AccessLine {
    /// Hands the line on: what is left behind writes nothing.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Writes the line, once.
    pub fn write(&mut self) {
        let Some(known) = self.0.take() else { return };
        info!(
            target: TARGET,
            client = %known.client,
            method = %known.method,
            request_id = known.request_id.as_ref().and_then(|id| id.to_str().ok()),
            route = known.route.as_deref(),
            status = known.status.map(|status| status.as_u16()),
            outcome = known.outcome.as_str(),
            cause = known.cause,
            key = known.key,
            client_gone = known.client_gone.then_some(true),
            duration_ms = milliseconds(known.begun.elapsed()),
            upstream_ms = known.upstream.map(milliseconds),
            "request"
        );
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

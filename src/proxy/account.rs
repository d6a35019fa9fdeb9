//! What is known of one request from its head to its end: counted, and told in the access log where that is on.
//!
//! Owns that every request is accounted for once: an account that is dropped is closed, so that no request goes without. Where
//! the access log is off, an account is a few words on the stack and a clock that is read twice.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::access::AccessLine;
use super::metrics::RouteMetrics;
use super::outcome::RequestOutcome;
use crate::idempotency::Key;

/// The account of one request. Closed when it is dropped.
#[derive(Debug)]
pub struct Account(Option<Open>);

#[derive(Debug)]
struct Open {
    /// `None` until it is known where the request counts.
    metrics: Option<Arc<RouteMetrics>>,
    status: Option<StatusCode>,
    outcome: RequestOutcome,
    /// What it would have ended as on a route that enforces.
    observed: Option<RequestOutcome>,
    line: Option<Box<AccessLine>>,
}

impl Account {
    /// Opens the account of a request. `line` is its line in the access log, if that is on.
    #[must_use]
    pub const fn open(line: Option<Box<AccessLine>>) -> Self {
        Self(Some(Open {
            metrics: None,
            status: None,
            outcome: RequestOutcome::ClientGone,
            observed: None,
            line,
        }))
    }

    /// The request's `X-Request-Id`.
    pub fn request_id(&mut self, id: &HeaderValue) {
        self.line(|line| line.request_id = Some(id.clone()));
    }

    /// The route that serves the request, and what it counts.
    pub fn route(&mut self, name: &Arc<str>, metrics: &Arc<RouteMetrics>) {
        if let Some(open) = &mut self.0 {
            open.metrics = Some(metrics.clone());
        }
        self.line(|line| line.route = Some(name.clone()));
    }

    /// Where a request counts that no route serves.
    pub fn unrouted(&mut self, metrics: &Arc<RouteMetrics>) {
        if let Some(open) = &mut self.0 {
            open.metrics.get_or_insert_with(|| metrics.clone());
        }
    }

    /// The request's key.
    pub fn key(&mut self, key: &Key) {
        self.line(|line| line.key = Some(key.hash_prefix()));
    }

    /// How long the upstream took to its response head, or to its failure.
    pub fn upstream(&mut self, took: Duration) {
        self.line(|line| line.upstream = Some(took));
    }

    /// Why there is no answer of the upstream.
    pub fn cause(&mut self, cause: &'static str) {
        self.line(|line| line.cause = Some(cause));
    }

    /// How it ended.
    pub fn end(&mut self, status: StatusCode, outcome: RequestOutcome) {
        if let Some(open) = &mut self.0 {
            open.status = Some(status);
            open.outcome = outcome;
        }
    }

    /// How it ended, where the status went out before that was known.
    pub fn outcome(&mut self, outcome: RequestOutcome) {
        if let Some(open) = &mut self.0 {
            open.outcome = outcome;
        }
    }

    /// How it would have ended on a route that enforces: what it would have met first counts.
    pub fn observed(&mut self, outcome: RequestOutcome) {
        if let Some(open) = &mut self.0 {
            open.observed.get_or_insert(outcome);
        }
    }

    /// Nobody was there to take the reply.
    pub fn client_gone(&mut self) {
        self.line(|line| line.client_gone = true);
    }

    /// Hands the account on: what is left behind accounts for nothing.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Closes the account, once: counts the request and writes its line.
    pub fn close(&mut self) {
        let Some(Open { metrics, status, outcome, observed, line }) = self.0.take() else { return };
        if let Some(metrics) = metrics {
            metrics.count(outcome, observed);
        }
        if let Some(line) = line {
            line.write(status, outcome, observed);
        }
    }

    fn line(&mut self, tell: impl FnOnce(&mut AccessLine)) {
        if let Some(Open { line: Some(line), .. }) = &mut self.0 {
            tell(line);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close();
    }
}

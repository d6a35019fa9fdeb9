//! What is known of one request from its head to its end: counted, and told in the access log where that is on.
//!
//! Owns that every request is accounted for once: an account that is dropped is closed, so that no request goes without. Where
//! the access log is off, an account is a few words on the stack and a clock that is read twice.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::access::AccessLine;
use super::body::ReplyBody;
use super::metrics::{RouteMetrics, method_name};
use super::outcome::RequestOutcome;
use super::tally::Tally;
use crate::idempotency::Key;

/// The account of one request. Closed when it is dropped.
#[derive(Debug)]
pub struct Account {
    method: &'static str,
    /// Gone once it is closed.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    begun: Instant,
    /// `None` until it is known where the request counts.
    metrics: Option<Arc<RouteMetrics>>,
    status: Option<StatusCode>,
    outcome: RequestOutcome,
    /// What it would have ended as on a route that enforces.
    observed: Option<RequestOutcome>,
    line: Option<Box<AccessLine>>,
}

impl Account {
    /// Opens the account of a request that begins now. `line` is its line in the access log, if that is on.
    #[must_use]
    pub fn open(method: &Method, line: Option<Box<AccessLine>>) -> Self {
        let (begun, outcome) = (Instant::now(), RequestOutcome::ClientGone);
        let open = Open { begun, metrics: None, status: None, outcome, observed: None, line };
        Self { method: method_name(method), open: Some(open) }
    }

    /// The request's method, as a label has it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        self.method
    }

    /// The request's `X-Request-Id`.
    pub fn request_id(&mut self, id: &HeaderValue) {
        self.line(|line| line.request_id = Some(id.clone()));
    }

    /// The route that serves the request, and what it counts.
    pub fn route(&mut self, name: &Arc<str>, metrics: &Arc<RouteMetrics>) {
        if let Some(open) = &mut self.open {
            open.metrics = Some(metrics.clone());
        }
        self.line(|line| line.route = Some(name.clone()));
    }

    /// Where a request counts that no route serves.
    pub fn unrouted(&mut self, metrics: &Arc<RouteMetrics>) {
        if let Some(open) = &mut self.open {
            open.metrics.get_or_insert_with(|| metrics.clone());
        }
    }

    /// What other tasks count of the request; nothing where it has no line.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let line = self.open.as_ref().and_then(|open| open.line.as_ref());
        line.map_or_else(Tally::default, |line| line.tally.clone())
    }

    /// The host that the request names.
    pub fn authority(&mut self, host: &str) {
        self.line(|line| line.authority = Some(host.to_owned()));
    }

    /// The store is asked now: the moment, where it matters.
    #[must_use]
    pub fn asks_store(&self) -> Option<Instant> {
        self.open.as_ref().and_then(|open| open.line.as_ref()).map(|_| Instant::now())
    }

    /// The store, asked at that moment, has answered.
    pub fn store_answered(&mut self, asked_at: Option<Instant>) {
        let Some(asked_at) = asked_at else { return };
        self.line(|line| *line.store.get_or_insert_default() += asked_at.elapsed());
    }

    /// An answer that is in memory goes to the client.
    pub fn answers(&mut self, response: &Response<ReplyBody>) {
        self.line(|line| {
            let bytes = response.body().size_hint().lower();
            line.tally.sent(usize::try_from(bytes).unwrap_or(usize::MAX));
        });
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
        if let Some(open) = &mut self.open {
            open.status = Some(status);
            open.outcome = outcome;
        }
    }

    /// How it ended, where the status went out before that was known.
    pub fn outcome(&mut self, outcome: RequestOutcome) {
        if let Some(open) = &mut self.open {
            open.outcome = outcome;
        }
    }

    /// How it would have ended on a route that enforces: what it would have met first counts.
    pub fn observed(&mut self, outcome: RequestOutcome) {
        if let Some(open) = &mut self.open {
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
        Self { method: self.method, open: self.open.take() }
    }

    /// Closes the account, once: counts the request and writes its line.
    pub fn close(&mut self) {
        let Some(Open { begun, metrics, status, outcome, observed, line }) = self.open.take() else { return };
        let took = begun.elapsed();
        if let Some(metrics) = metrics {
            let answered = status.filter(|_| outcome != RequestOutcome::ClientGone);
            metrics.ended(self.method, answered, (outcome, observed), took);
        }
        if let Some(line) = line {
            line.write(status, outcome, observed, took);
        }
    }

    fn line(&mut self, tell: impl FnOnce(&mut AccessLine)) {
        if let Some(Open { line: Some(line), .. }) = &mut self.open {
            tell(line);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close();
    }
}

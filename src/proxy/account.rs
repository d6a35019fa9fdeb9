//! What is known of one request from its head to its end: counted, told in the access log where that is on, and traced.
//!
//! Owns that every request is accounted for once: an account that is dropped is closed, so that no request goes without. Where
//! the access log is off and nothing is traced, an account is a few words on the stack and a clock that is read twice.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::access::AccessLine;
use super::body::ReplyBody;
use super::metrics::RouteMetrics;
use super::outcome::RequestOutcome;
use super::tally::Tally;
use super::trace::RequestTrace;
use crate::guard;
use crate::idempotency::Key;

/// The account of one request. Closed when it is dropped.
#[derive(Debug)]
pub struct Account {
    method: &'static str,
    /// Gone once it is closed.
    open: Option<Open>,
    /// Spans of it may end after it is closed: the work goes on without its client.
    trace: Option<Box<RequestTrace>>,
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
    /// Opens the account of a request that begins now. `line` is its line in the access log, if that is on, and `trace` its
    /// trace, if it is traced.
    #[must_use]
    pub fn open(
        method: &'static str,
        mut line: Option<Box<AccessLine>>,
        mut trace: Option<Box<RequestTrace>>,
    ) -> Self {
        if let (Some(line), Some(trace)) = (&mut line, &mut trace) {
            line.trace_id = Some(trace.trace_id());
            trace.tally = line.tally.clone();
        }
        let (begun, outcome) = (Instant::now(), RequestOutcome::ClientGone);
        let open = Open { begun, metrics: None, status: None, outcome, observed: None, line };
        Self { method, open: Some(open), trace }
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
        self.trace(|trace| trace.route(name));
    }

    /// Where a request counts that no route serves.
    pub fn unrouted(&mut self, metrics: &Arc<RouteMetrics>) {
        if let Some(open) = &mut self.open {
            open.metrics.get_or_insert_with(|| metrics.clone());
        }
    }

    /// What other tasks count of the request; nothing where it has no line and no trace.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let line = self.open.as_ref().and_then(|open| open.line.as_ref());
        let tally = line.map(|line| &line.tally).or_else(|| self.trace.as_ref().map(|trace| &trace.tally));
        tally.cloned().unwrap_or_default()
    }

    /// Whether spans are made of it.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.is_sampled())
    }

    /// Asks the store, of which the trace tells.
    pub async fn traced<T>(&mut self, asking: Pin<Box<impl Future<Output = T>>>) -> T {
        let (answer, steps) = guard::recorded(asking).await;
        self.trace(|trace| trace.steps(steps));
        answer
    }

    /// A request with these fields begins to be sent to the upstream.
    pub fn sends(&mut self, fields: &mut HeaderMap) {
        self.trace(|trace| trace.sends(fields));
    }

    /// The head of its answer is there, or there is none and this is why.
    pub fn answered(&mut self, status: Option<StatusCode>, cause: Option<&'static str>) {
        self.trace(|trace| trace.answered(status, cause));
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
        self.sent(usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX));
    }

    /// So many more bytes of the answer's body are on their way to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.line(|line| line.tally.sent(bytes));
    }

    /// The request's key.
    pub fn key(&mut self, key: &Key) {
        self.line(|line| line.key = Some(key.hash_prefix()));
        self.trace(|trace| trace.key(key.hash_prefix()));
    }

    /// How long the upstream took to its response head, or to its failure.
    pub fn upstream(&mut self, took: Duration) {
        self.line(|line| line.upstream = Some(took));
    }

    /// Why there is no answer of the upstream.
    pub fn cause(&mut self, cause: &'static str) {
        self.line(|line| line.cause = Some(cause));
        self.trace(|trace| trace.cause(cause));
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
        Self { method: self.method, open: self.open.take(), trace: self.trace.take() }
    }

    /// Closes the account, once: counts the request, writes its line and ends its span.
    pub fn close(&mut self) {
        let Some(Open { begun, metrics, status, outcome, observed, line }) = self.open.take() else { return };
        let took = begun.elapsed();
        if let Some(metrics) = metrics {
            let answered = status.filter(|_| outcome != RequestOutcome::ClientGone);
            metrics.ended(self.method, answered, (outcome, observed), took);
        }
        if let Some(trace) = &mut self.trace {
            trace.ended(status, outcome.as_str(), observed.map(RequestOutcome::as_str), took);
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

    fn trace(&mut self, tell: impl FnOnce(&mut RequestTrace)) {
        if let Some(trace) = &mut self.trace {
            tell(trace);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close();
    }
}

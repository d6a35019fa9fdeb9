//! The trace of one request: its own span, the steps of the store, and the request to the upstream.
//!
//! Owns what these spans say. A trace that is not sampled says nothing, and only tells the upstream so.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::context::{Parent, SAMPLED, TRACEPARENT, TRACESTATE};
use super::{Span, SpanId, SpanKind, SpanValue, TraceId, Tracer};
use crate::guard::Step;
use crate::proxy::access::shortened_path;
use crate::proxy::tally::Tally;

/// The trace of one request. Ends its spans when it is dropped.
#[derive(Debug)]
pub struct RequestTrace {
    tracer: Tracer,
    trace_id: TraceId,
    flags: u8,
    /// The client's span; `None` if the trace begins here.
    parent: Option<SpanId>,
    /// The request's own.
    id: SpanId,
    method: &'static str,
    path: String,
    started: SystemTime,
    begun: Instant,
    route: Option<Arc<str>>,
    key: Option<String>,
    cause: Option<&'static str>,
    /// The span of a request to the upstream that has not ended, and when it began.
    sending: Option<(SpanId, Instant)>,
    /// Hears where the request goes.
    pub(in crate::proxy) tally: Tally,
}

type Attributes = Vec<(&'static str, SpanValue)>;

impl RequestTrace {
    pub(super) fn new(
        tracer: Tracer,
        (trace_id, flags): (TraceId, u8),
        parent: Option<SpanId>,
        method: &'static str,
        path: &str,
    ) -> Self {
        let is_sampled = flags & SAMPLED != 0;
        Self {
            id: tracer.new_span(),
            tracer,
            trace_id,
            flags,
            parent,
            method,
            path: if is_sampled { shortened_path(path).to_owned() } else { String::new() },
            started: SystemTime::now(),
            begun: Instant::now(),
            route: None,
            key: None,
            cause: None,
            sending: None,
            tally: if is_sampled { Tally::counting() } else { Tally::default() },
        }
    }

    /// Whether spans are made of it.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace that the request belongs to.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The name of the route that serves the request.
    pub fn route(&mut self, name: &Arc<str>) {
        self.route = Some(name.clone());
    }

    /// The first digits of the key's hash.
    pub fn key(&mut self, hash_prefix: String) {
        self.key = Some(hash_prefix);
    }

    /// Why there is no answer of the upstream.
    pub const fn cause(&mut self, cause: &'static str) {
        self.cause = Some(cause);
    }

    /// What the store was asked.
    pub fn steps(&self, steps: Vec<Step>) {
        for step in steps {
            let Step { operation, result, is_error, begun, took } = step;
            let mut attributes: Attributes = vec![
                ("oncegate.store.operation", operation.into()),
                ("oncegate.store.result", result.into()),
            ];
            attributes.extend(is_error.then(|| ("error.type", result.into())));
            let name = format!("store {operation}");
            self.child(self.tracer.new_span(), SpanKind::Internal, name, (begun, took), attributes, is_error);
        }
    }

    /// A request with these fields begins to be sent: names its span to the upstream.
    pub fn sends(&mut self, fields: &mut HeaderMap) {
        let id = self.tracer.new_span();
        fields.insert(TRACEPARENT, self.child_of(id));
        if self.parent.is_none() {
            // It belongs to a trace that could not be read.
            fields.remove(TRACESTATE);
        }
        self.sending = self.is_sampled().then(|| (id, Instant::now()));
    }

    /// The head of the answer is there, or `cause` says why there is none.
    pub fn answered(&mut self, status: Option<StatusCode>, cause: Option<&'static str>) {
        let Some((id, begun)) = self.sending.take() else { return };
        let mut attributes: Attributes = vec![("http.request.method", self.method.into())];
        if let Some(endpoint) = self.tally.endpoint() {
            address(&endpoint, &mut attributes);
        }
        let is_error = failure(status, cause, 400, &mut attributes);
        let timing = (begun, begun.elapsed());
        self.child(id, SpanKind::Client, self.method.to_owned(), timing, attributes, is_error);
    }

    /// The request has ended so, and would have ended as `observed` on a route that enforces.
    pub fn ended(
        &mut self,
        status: Option<StatusCode>,
        outcome: &'static str,
        observed: Option<&'static str>,
        took: Duration,
    ) {
        if !self.is_sampled() {
            return;
        }
        let mut attributes: Attributes = vec![
            ("http.request.method", self.method.into()),
            ("url.path", std::mem::take(&mut self.path).into()),
            ("oncegate.outcome", outcome.into()),
        ];
        attributes.extend(observed.map(|observed| ("oncegate.observed", observed.into())));
        attributes.extend(self.key.take().map(|key| ("oncegate.key", key.into())));
        let mut name = self.method.to_owned();
        if let Some(route) = &self.route {
            name = format!("{name} {route}");
            attributes.push(("http.route", route.to_string().into()));
        }
        let is_error = failure(status, self.cause, 500, &mut attributes);
        self.tracer.send(Span {
            trace_id: self.trace_id,
            id: self.id,
            parent: self.parent,
            flags: self.flags,
            kind: SpanKind::Server,
            name: name.into(),
            started: self.started,
            took,
            attributes,
            is_error,
        });
    }

    fn child(
        &self,
        id: SpanId,
        kind: SpanKind,
        name: String,
        (begun, took): (Instant, Duration),
        attributes: Attributes,
        is_error: bool,
    ) {
        self.tracer.send(Span {
            trace_id: self.trace_id,
            id,
            parent: Some(self.id),
            flags: self.flags,
            kind,
            name: name.into(),
            started: self.started + begun.saturating_duration_since(self.begun),
            took,
            attributes,
            is_error,
        });
    }

    fn child_of(&self, span_id: SpanId) -> HeaderValue {
        Parent { trace_id: self.trace_id, span_id, flags: self.flags }.field()
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        // Nobody waited for the answer.
        self.answered(None, Some(self.cause.unwrap_or("abandoned")));
    }
}

/// Says how it ended, and whether that is a failure: without an answer, or with a status from `errors_from` on.
fn failure(
    status: Option<StatusCode>,
    cause: Option<&'static str>,
    errors_from: u16,
    attributes: &mut Attributes,
) -> bool {
    let status = status.map(|status| status.as_u16());
    attributes.extend(status.map(|status| ("http.response.status_code", status.into())));
    let bad_status = status.filter(|status| *status >= errors_from);
    let error = cause.map(SpanValue::from).or_else(|| bad_status.map(|status| status.to_string().into()));
    let is_error = error.is_some();
    attributes.extend(error.map(|error| ("error.type", error)));
    is_error
}

/// Where an endpoint is, without its base path: a host, perhaps with a port, or the path of a socket.
fn address(endpoint: &str, attributes: &mut Attributes) {
    let authority = endpoint.split_once('/').map_or(endpoint, |(authority, _)| authority);
    let authority: Option<Authority> = authority.parse().ok();
    let host = authority.as_ref().map_or(endpoint, Authority::host);
    attributes.push(("server.address", host.to_owned().into()));
    attributes.extend(authority.and_then(|it| it.port_u16()).map(|port| ("server.port", port.into())));
}

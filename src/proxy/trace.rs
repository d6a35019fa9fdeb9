//! Spans: what is traced of a request, and the context in which it stands (W3C Trace Context).
//!
//! Owns which requests are traced, and the queue to whoever sends spans. Nothing here waits: a span that finds the queue full
//! is dropped and counted. Where a client says that its trace is not sampled, its fields pass as they came. No span holds a
//! key, a body, a query or a credential.

mod context;
mod request;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::request::Parts;
use tokio::sync::mpsc;

pub(super) use self::context::Parent;
use self::context::SAMPLED;
pub use self::request::RequestTrace;
use super::correlation::RequestIds;

/// How many spans may wait to be sent; beyond it they are dropped.
const MAX_WAITING_SPANS: usize = 8_192;

/// The values of the last 7 bytes of a trace id, which are random in every id that keeps to W3C's level 2.
const RANDOM_VALUES: u64 = 1 << 56;

/// The id of a trace.
pub type TraceId = [u8; 16];

/// The id of a span.
pub type SpanId = [u8; 8];

/// Makes the spans of requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Span>,
    /// From this value on, the last bytes of a trace id say that it is sampled.
    threshold: u64,
    trace_ids: RequestIds,
    span_ids: RequestIds,
    dropped: AtomicU64,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span it belongs to.
    pub parent: Option<SpanId>,
    /// The flags of the trace (W3C Trace Context §3.2.2.5).
    pub flags: u8,
    /// What it is.
    pub kind: SpanKind,
    /// What it is called. Few names are in use.
    pub name: Cow<'static, str>,
    /// When it began.
    pub started: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What else is known of it, under the names of OpenTelemetry's conventions.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// Whether it failed.
    pub is_error: bool,
}

/// What a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The work on a request.
    Server,
    /// The request to an upstream.
    Client,
    /// A step of the work.
    Internal,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Number(i64),
}

impl From<&'static str> for SpanValue {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for SpanValue {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for SpanValue {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl Tracer {
    /// A tracer that samples this share (0 to 1) of the traces that begin here, and where its spans wait to be sent.
    #[must_use]
    pub fn new(sample_ratio: f64) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(MAX_WAITING_SPANS);
        let threshold = ((1.0 - sample_ratio.clamp(0.0, 1.0)) * RANDOM_VALUES as f64) as u64;
        let (trace_ids, span_ids) = (RequestIds::new(), RequestIds::new());
        let inner = Inner { queue, threshold, trace_ids, span_ids, dropped: AtomicU64::new(0) };
        (Self(Arc::new(inner)), spans)
    }

    /// So many spans were made and not taken by any collector.
    pub fn lose(&self, spans: usize) {
        self.0.dropped.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// How many spans were lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Begins the trace of a request with this head, or goes on with its client's; `None` if that is not sampled.
    #[must_use]
    pub fn begin(&self, method: &'static str, head: &Parts) -> Option<Box<RequestTrace>> {
        let parent = Parent::of(&head.headers);
        let (trace_id, flags) = match parent {
            Some(Parent { flags, .. }) if flags & SAMPLED == 0 => return None,
            Some(Parent { trace_id, flags, .. }) => (trace_id, flags),
            None => {
                let id = self.new_trace();
                (id, if self.samples(id) { SAMPLED } else { 0 })
            }
        };
        let parent = parent.map(|parent| parent.span_id);
        Some(Box::new(RequestTrace::new(self.clone(), (trace_id, flags), parent, method, head.uri.path())))
    }

    fn samples(&self, trace_id: TraceId) -> bool {
        let random = u128::from_be_bytes(trace_id) % u128::from(RANDOM_VALUES);
        random >= self.0.threshold.into()
    }

    fn new_trace(&self) -> TraceId {
        let [first, second] = self.0.trace_ids.numbers();
        // All zeros are no id.
        (u128::from(first.max(1)) << 64 | u128::from(second)).to_be_bytes()
    }

    fn new_span(&self) -> SpanId {
        let [number, _] = self.0.span_ids.numbers();
        number.max(1).to_be_bytes()
    }

    fn send(&self, span: Span) {
        if self.0.queue.try_send(span).is_err() {
            self.lose(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_samples_that_share_of_the_traces_and_always_the_same_ones() {
        for (ratio, range) in [(0.0, 0..=0), (0.25, 2_300..=2_700), (1.0, 10_000..=10_000)] {
            let (tracer, _spans) = Tracer::new(ratio);
            let (other, _spans_of_the_other) = Tracer::new(ratio);
            let ids: Vec<TraceId> = (0..10_000).map(|_| tracer.new_trace()).collect();
            let sampled = ids.iter().filter(|id| tracer.samples(**id)).count();
            assert!(range.contains(&sampled), "{ratio}: {sampled}");
            assert!(ids.iter().all(|id| tracer.samples(*id) == other.samples(*id)), "replicas agree");
        }
    }

    #[test]
    fn what_finds_the_queue_full_is_counted_as_dropped() {
        let (tracer, spans) = Tracer::new(1.0);
        let head = http::Request::new(()).into_parts().0;
        for _ in 0..MAX_WAITING_SPANS + 3 {
            tracer.begin("GET", &head).unwrap().ended(None, "passed", None, Duration::ZERO);
        }
        assert_eq!((tracer.dropped(), spans.len()), (3, MAX_WAITING_SPANS));
    }
}

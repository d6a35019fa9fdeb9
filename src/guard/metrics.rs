//! What the guard counts: operations of the store, what became unknown, and what is in flight.
//!
//! On the way of a request these are a few relaxed additions. What the guard knows anyway is read when the page is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::steps::{self, Step};
use super::{Guard, Inner};
use crate::idempotency::{Entry, UnknownCause};
use crate::metrics::{Histogram, STORE, Table, gauge};
use crate::store::{Insert, Page, StoreError, Update, Write};

/// For how many seconds back it is known how many attempts began: one that is older reads as younger by so much.
const SECONDS: usize = 8192;

/// The guard's instruments.
#[derive(Debug)]
pub(super) struct Metrics {
    operations: Family<OperationLabels, Histogram, fn() -> Histogram>,
    known_operations: Table<OperationLabels>,
    unknown: Family<[(&'static str, &'static str); 1], Counter>,
    pub(super) permits_dropped: Counter,
    pub(super) pending_writes_dropped: Counter,
    pub(super) in_flight: InFlight,
}

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Insert,
    List,
    Lookup,
    Prune,
    Remove,
    Renew,
    Update,
}

/// What a store answers, in a word.
pub(super) trait Answer {
    fn word(&self) -> &'static str;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    result: &'static str,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let unknown = Family::default();
        // Of a dead owner's keys nobody tells when they became unknown.
        for cause in UnknownCause::ALL.into_iter().filter(|cause| *cause != UnknownCause::OwnerLost) {
            let _made: Counter = unknown.get_or_create_owned(&[("cause", cause.as_str())]);
        }
        Self {
            operations: Family::new_with_constructor(|| Histogram::new(&STORE)),
            known_operations: Table::default(),
            unknown,
            permits_dropped: Counter::default(),
            pending_writes_dropped: Counter::default(),
            in_flight: InFlight::new(),
        }
    }

    /// Counts an operation that was begun then and has ended so.
    pub(super) fn operated<T: Answer>(
        &self,
        operation: Operation,
        begun: Instant,
        result: &Result<T, StoreError>,
    ) {
        let (is_error, took) = (result.is_err(), begun.elapsed());
        let result = result.as_ref().map_or_else(error_word, Answer::word);
        steps::tell(|| Step { operation: operation.as_str(), result, is_error, begun, took });
        let labels = OperationLabels { operation: operation.as_str(), result };
        let rest = OperationLabels { operation: "other", result: "other" };
        let make = |labels| self.operations.get_or_create_owned(&labels);
        self.known_operations.of(labels, rest, make).observe(took);
    }

    /// Counts an attempt of which nobody can tell whether it acted.
    pub(super) fn became_unknown(&self, cause: UnknownCause) {
        self.unknown.get_or_create(&[("cause", cause.as_str())]).inc();
    }
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::List => "list",
            Self::Lookup => "lookup",
            Self::Prune => "prune",
            Self::Remove => "remove",
            Self::Renew => "renew",
            Self::Update => "update",
        }
    }
}

const fn error_word(error: &StoreError) -> &'static str {
    match error {
        StoreError::CallerFull { .. } => "caller_full",
        StoreError::Corrupt(_) => "corrupt",
        StoreError::Full { .. } => "full",
        StoreError::NotReplicated { .. } => "not_replicated",
        StoreError::OutOfMemory => "out_of_memory",
        StoreError::Unfit(_) => "unfit",
        StoreError::Unavailable(_) => "unavailable",
    }
}

impl Answer for Insert {
    fn word(&self) -> &'static str {
        match self {
            Self::Inserted => "inserted",
            Self::Exists(_) => "exists",
        }
    }
}

impl Answer for Write {
    fn word(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Lost => "lost",
        }
    }
}

impl Answer for Update {
    fn word(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Lost => "lost",
        }
    }
}

impl Answer for Option<Entry> {
    fn word(&self) -> &'static str {
        if self.is_some() { "found" } else { "absent" }
    }
}

impl Answer for Page {
    fn word(&self) -> &'static str {
        "done"
    }
}

/// How many were pruned.
impl Answer for u64 {
    fn word(&self) -> &'static str {
        "done"
    }
}

/// The permits that are held, by the second in which they were given: so that the oldest is found without a lock.
pub(super) struct InFlight {
    start: Instant,
    begun: Box<[AtomicU32]>,
}

/// The second in which a permit was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second(usize);

impl InFlight {
    fn new() -> Self {
        Self { start: Instant::now(), begun: (0..SECONDS).map(|_| AtomicU32::new(0)).collect() }
    }

    /// A permit is given.
    pub(super) fn begin(&self, at: Instant) -> Second {
        let second = Second(self.second(at));
        if let Some(count) = self.begun.get(second.0) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        second
    }

    /// A permit of that second has ended.
    pub(super) fn end(&self, second: Second) {
        if let Some(count) = self.begun.get(second.0) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn count(&self) -> u64 {
        self.begun.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }

    /// How long ago the oldest was given, to a second.
    fn oldest(&self, now: Instant) -> Duration {
        let second = self.second(now);
        let from_oldest = (1..=SECONDS).map(|after| (SECONDS - after, (second + after) % SECONDS));
        let is_held = |index: usize| self.begun.get(index).is_some_and(|it| it.load(Ordering::Relaxed) > 0);
        let oldest = from_oldest.into_iter().find(|(_, index)| is_held(*index));
        Duration::from_secs(oldest.map_or(0, |(age, _)| age as u64))
    }

    fn second(&self, at: Instant) -> usize {
        let seconds = at.saturating_duration_since(self.start).as_secs();
        usize::try_from(seconds).unwrap_or(usize::MAX) % SECONDS
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Guard {
    /// Puts what the guard counts on the page.
    pub fn register(&self, registry: &mut Registry) {
        let metrics = &self.0.metrics;
        registry.register(
            "oncegate_store_operation_duration_seconds",
            "Duration of operations of the store, by what came of them",
            metrics.operations.clone(),
        );
        registry.register(
            "oncegate_unknown_outcomes",
            "Attempts of which nobody can tell whether the upstream acted",
            metrics.unknown.clone(),
        );
        registry.register(
            "oncegate_permits_dropped",
            "Attempts whose work ended without saying how, by a panic for instance; their keys read as unknown",
            metrics.permits_dropped.clone(),
        );
        registry.register(
            "oncegate_pending_writes_dropped",
            "Records and removals that the store never took; their keys read as unknown",
            metrics.pending_writes_dropped.clone(),
        );
        registry.register_collector(Box::new(Now(Arc::clone(&self.0))));
    }
}

/// What the guard knows at present.
#[derive(Debug)]
struct Now(Arc<Inner>);

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Inner { metrics, waiting, pending, .. } = &*self.0;
        let mut write = |name, help, value: u64| gauge(&mut encoder, name, help, value);
        let oldest = metrics.in_flight.oldest(Instant::now()).as_secs();
        write(
            "oncegate_in_flight",
            "Permits held: attempts that this process works on",
            metrics.in_flight.count(),
        )?;
        write(
            "oncegate_oldest_in_flight_seconds",
            "How long ago the oldest of them began; 0 if there is none",
            oldest,
        )?;
        write(
            "oncegate_waiters",
            "Requests that wait for another one with their key",
            waiting.count() as u64,
        )?;
        let help = "Records and removals that the store has not taken yet";
        write("oncegate_pending_writes", help, pending.count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_permit_tells_its_age_until_it_ends() {
        let in_flight = InFlight::new();
        let after = |seconds| in_flight.start + Duration::from_secs(seconds);
        assert_eq!((in_flight.count(), in_flight.oldest(after(3))), (0, Duration::ZERO));
        let first = in_flight.begin(after(10));
        let second = in_flight.begin(after(8_200));
        assert_eq!((in_flight.count(), in_flight.oldest(after(8_200))), (2, Duration::from_secs(8_190)));
        in_flight.end(first);
        assert_eq!((in_flight.count(), in_flight.oldest(after(8_205))), (1, Duration::from_secs(5)));
        in_flight.end(second);
        assert_eq!((in_flight.count(), in_flight.oldest(after(8_205))), (0, Duration::ZERO));
    }
}

//! What an operator may choose about admission.

use std::sync::Arc;
use std::time::Duration;

use crate::idempotency::OnUnknown;

/// Choices that hold for every key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// How long an in-flight entry reads as in flight without a sign of life. Renewed every third of it.
    pub lease: Duration,
    /// How long one store operation may take.
    pub store_timeout: Duration,
    /// How long a record that the store did not take is tried again.
    pub settle_retry: Duration,
    /// How many records and removals may wait for the store to come back. Beyond it they are dropped: their entries read
    /// as unknown from the lease's end.
    pub max_pending_writes: usize,
    /// How often expired entries are dropped.
    pub prune_interval: Duration,
    /// How many entries a caller may have; `None` for any number.
    pub max_entries_per_caller: Option<u64>,
    /// How many requests may wait for one key.
    pub max_waiters: usize,
}

/// Choices of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long an entry lives from its settlement.
    pub ttl: Duration,
    /// How long an attempt may take: an entry whose owner gives no sign of life lives no shorter, for he may be at work.
    pub attempt_timeout: Duration,
    /// What a duplicate of a request in flight gets.
    pub on_in_flight: OnInFlight,
    /// What a duplicate of a request with unknown outcome gets.
    pub on_unknown: OnUnknown,
    /// Statuses of the upstream that say that nothing was done: the key is free again.
    pub release_status: Arc<[u16]>,
}

/// What a duplicate of a request in flight gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInFlight {
    /// A refusal at once.
    #[default]
    Reject,
    /// The replay as soon as it is there.
    Wait {
        /// How long it waits at most, before the refusal.
        timeout: Duration,
    },
}

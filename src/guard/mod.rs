//! Admission to the upstream: claim, hold, settle.
//!
//! Owns the permit (I2), the tokens (I1) and what happens to a record that the store did not take (I5). Joins the core and
//! the store; knows nothing of HTTP. Whatever it leaves running in the background runs on the tracker that shutdown waits
//! for.

mod metrics;
mod operator;
mod owners;
mod params;
mod pending;
mod permit;
mod steps;
mod waiting;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use operator::ChangeError;
pub use params::{OnInFlight, Params, Rules};
pub use permit::{Permit, Settled};
pub use steps::{Step, recorded};

use crate::idempotency::{
    CallerShare, Claim, Entry, Owner, Presented, ReleaseReason, RequestId, State, UnknownCause, Verdict,
    judge,
};
use crate::store::{Insert, Page, PageRequest, Store, StoreError};
use metrics::{Answer, Metrics, Operation};
use owners::Owners;
use pending::PendingWrites;
use waiting::{Waiter, WaitingRoom};

/// How often a standing `Unknown` entry is taken over before the request is told that it is in flight: each try lost
/// means that another request was faster.
const MAX_TAKE_OVERS: usize = 3;

/// A waiter's pause after a store said that an entry is settled which then was not.
const WAITER_PAUSE: Duration = Duration::from_millis(5);

/// Stands before the upstream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    params: Params,
    /// The one of the parameters that grows with the settings.
    store_timeout_ms: AtomicU64,
    owners: Owners,
    pending: PendingWrites,
    waiting: WaitingRoom,
    tracker: TaskTracker,
    metrics: Metrics,
}

/// What came of asking for admission.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// The request may run, once.
    Granted(Permit),
    /// The key is known: this is what the request gets.
    Standing {
        /// The verdict on the request.
        verdict: Verdict,
        /// Whether the request waited for it.
        waited: bool,
    },
    /// The request waited, and the attempts it waited for were not carried out. The key is free.
    Released(ReleaseReason),
}

enum Claimed {
    Won(Permit),
    Standing(Entry),
}

/// An `Unknown` entry that a claim takes over.
#[derive(Clone, Copy)]
struct Earlier {
    owner: Owner,
    cause: UnknownCause,
}

impl Guard {
    /// A guard before `store`, whose background work runs on `tracker`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, params: Params, tracker: TaskTracker) -> Self {
        let pending = PendingWrites::new(params.max_pending_writes);
        let waiting = WaitingRoom::new(params.max_waiters);
        let store_timeout_ms = AtomicU64::new(milliseconds(params.store_timeout));
        let (owners, metrics) = (Owners::new(), Metrics::new());
        let inner = Inner { store, params, store_timeout_ms, owners, pending, waiting, tracker, metrics };
        Self(Arc::new(inner))
    }

    /// From now on one store operation may take so long, or as long as before if that is longer: what has begun may need it.
    pub fn raise_store_timeout(&self, store_timeout: Duration) {
        self.0.store_timeout_ms.fetch_max(milliseconds(store_timeout), Ordering::Relaxed);
    }

    /// Asks to run `presented`. Waits for a request in flight if `rules` say so, and is judged anew on waking.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is full or cannot be asked. Nothing may be sent then.
    pub async fn admit(&self, presented: &Presented, rules: &Rules) -> Result<Admission, StoreError> {
        let deadline = match rules.on_in_flight {
            OnInFlight::Reject => None,
            OnInFlight::Wait { timeout } => Some(Instant::now() + timeout),
        };
        let mut waiter: Option<Waiter> = None;
        let mut seen: Option<Owner> = None;
        let mut replaces: Option<Earlier> = None;
        let mut take_overs = 0;
        loop {
            if let Some(reason) = waiter.as_ref().and_then(Waiter::give_up) {
                return Ok(Admission::Released(reason));
            }
            let standing = match self.claim(presented, rules, replaces.take()).await? {
                Claimed::Won(permit) => return Ok(Admission::Granted(permit)),
                Claimed::Standing(entry) => entry,
            };
            let owner = standing.owner;
            let earlier = match &standing.state {
                State::Unknown(cause) => Some(Earlier { owner, cause: *cause }),
                State::InFlight | State::Completed { .. } => None,
            };
            let verdict = judge(standing, presented, rules.on_unknown);
            match (&verdict, deadline) {
                (Verdict::RunAgain, _) if take_overs < MAX_TAKE_OVERS => {
                    take_overs += 1;
                    replaces = earlier;
                }
                (Verdict::RunAgain, _) => {
                    return Ok(Admission::Standing { verdict: Verdict::InFlight, waited: waiter.is_some() });
                }
                (Verdict::InFlight, Some(deadline)) if Instant::now() < deadline => {
                    // Only after a place is taken are releases told: what happened before is seen by claiming again.
                    if waiter.is_none() {
                        waiter = self.0.waiting.enter(presented.id);
                        if waiter.is_none() {
                            return Ok(Admission::Standing { verdict, waited: false });
                        }
                    } else {
                        Box::pin(self.wait(presented, deadline, seen == Some(owner))).await?;
                        seen = Some(owner);
                    }
                }
                _ => return Ok(Admission::Standing { verdict, waited: waiter.is_some() }),
            }
        }
    }

    /// What stands under `id`, within `store_timeout`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be asked.
    pub async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        self.0.within(Operation::Lookup, Instant::now(), self.0.store.lookup(id)).await
    }

    /// In-flight and unknown entries, a page at a time. How long that may take is for the caller to say.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be asked.
    pub async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        let begun = Instant::now();
        let listed = self.0.store.list(page).await;
        self.0.metrics.operated(Operation::List, begun, &listed);
        listed
    }

    /// Drops expired entries at every interval. Never returns.
    pub async fn prune_forever(&self) {
        loop {
            let interval = self.0.params.prune_interval;
            sleep(interval).await;
            let begun = Instant::now();
            let pruned = timeout(interval, self.0.store.prune()).await;
            let pruned = pruned.unwrap_or_else(|_| Err(self.0.no_answer()));
            self.0.metrics.operated(Operation::Prune, begun, &pruned);
            match pruned {
                Ok(dropped) => debug!(dropped, "pruned"),
                Err(error) => warn!(%error, "pruning failed; it is tried again at the next interval"),
            }
        }
    }

    async fn claim(
        &self,
        presented: &Presented,
        rules: &Rules,
        replaces: Option<Earlier>,
    ) -> Result<Claimed, StoreError> {
        let inner = &self.0;
        let claim = Claim {
            owner: inner.owners.next(),
            caller: presented.caller,
            fingerprint: presented.fingerprint,
            lease: inner.params.lease,
            ttl: rules.ttl.max(rules.attempt_timeout),
            share: inner
                .params
                .max_entries_per_caller
                .map(|max_entries| CallerShare { caller: presented.counted_as, max_entries }),
            replaces: replaces.map(|earlier| earlier.owner),
        };
        // The lease is counted from before the insert was sent: the store's count begins later, never earlier.
        let begun = Instant::now();
        let lease_until = begun + inner.params.lease;
        match inner.within(Operation::Insert, begun, inner.store.insert(&presented.id, &claim)).await {
            Ok(Insert::Inserted) => {
                let earlier = replaces.map(|earlier| earlier.cause);
                Ok(Claimed::Won(Permit::new(
                    self.0.clone(),
                    presented.id,
                    &claim,
                    rules,
                    lease_until,
                    earlier,
                )))
            }
            Ok(Insert::Exists(entry)) => Ok(Claimed::Standing(entry)),
            Err(
                full @ (StoreError::Full { .. } | StoreError::CallerFull { .. } | StoreError::OutOfMemory),
            ) => Err(full),
            // Removed, it would take with it what is unknown of the earlier attempt. If it has landed, it reads as unknown
            // again from the lease's end.
            Err(error) if replaces.is_some() => Err(error),
            Err(error) => {
                pending::withdraw(inner, presented.id, claim.owner, lease_until);
                Err(error)
            }
        }
    }

    async fn wait(
        &self,
        presented: &Presented,
        deadline: Instant,
        woken_in_vain: bool,
    ) -> Result<(), StoreError> {
        if woken_in_vain {
            sleep(WAITER_PAUSE).await;
        }
        let inner = &self.0;
        let patience = deadline.saturating_duration_since(Instant::now());
        let settled = inner.store.settled(&presented.id, patience);
        timeout_at(deadline + inner.store_timeout(), settled).await.unwrap_or_else(|_| Err(inner.no_answer()))
    }
}

impl Inner {
    /// One store operation, which begins now, within `store_timeout`.
    async fn within<T: Answer>(
        &self,
        what: Operation,
        begun: Instant,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut operation = pin!(operation);
        // A store in memory answers at once and needs no timer.
        let done = match at_once(operation.as_mut()).await {
            Some(done) => done,
            None => {
                // Boxed, so that those who need it not need not carry it along.
                let timed = Box::pin(timeout(self.store_timeout(), operation));
                timed.await.unwrap_or_else(|_| Err(self.no_answer()))
            }
        };
        self.metrics.operated(what, begun, &done);
        done
    }

    fn no_answer(&self) -> StoreError {
        let patience_ms = self.store_timeout_ms.load(Ordering::Relaxed);
        StoreError::Unavailable(format!("no answer within {patience_ms} ms").into())
    }

    fn store_timeout(&self) -> Duration {
        Duration::from_millis(self.store_timeout_ms.load(Ordering::Relaxed))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What `work` comes to if it is done the first time it is looked at.
async fn at_once<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests;

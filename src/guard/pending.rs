//! Writes that the store has not taken yet.
//!
//! Owns their number and their patience, and knows which attempts of this process are overdue: their lease may be over, and they
//! are still to be recorded. Dropping one is safe: its entry reads as in flight until the lease ends, and as
//! unknown from then on; never as absent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::Inner;
use super::metrics::Operation;
use crate::idempotency::{Fingerprint, Owner, RequestId, Settlement};
use crate::store::Write;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct PendingWrites {
    places: Arc<Semaphore>,
    max: usize,
    /// By their owners, each as often as it was said.
    overdue: Mutex<HashMap<Owner, usize>>,
}

/// A record that waits, and is overdue until this is dropped.
#[derive(Debug)]
struct Overdue {
    inner: Arc<Inner>,
    owner: Owner,
}

/// What is to be written, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: RequestId,
    pub(super) owner: Owner,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) ttl: Duration,
    pub(super) settlement: Settlement,
}

impl PendingWrites {
    pub(super) fn new(max_pending_writes: usize) -> Self {
        let max = max_pending_writes.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(max)), max, overdue: Mutex::default() }
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Whether this process is still to record what came of this owner's attempt.
    pub(super) fn is_overdue(&self, owner: Owner) -> bool {
        self.overdue().contains_key(&owner)
    }

    /// From now on it is, as often as it is said.
    pub(super) fn set_overdue(&self, owner: Owner) {
        *self.overdue().entry(owner).or_default() += 1;
    }

    /// Takes one back.
    pub(super) fn not_overdue(&self, owner: Owner) {
        if let Entry::Occupied(mut times) = self.overdue().entry(owner) {
            *times.get_mut() -= 1;
            if *times.get() == 0 {
                let _last = times.remove();
            }
        }
    }

    fn overdue(&self) -> MutexGuard<'_, HashMap<Owner, usize>> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.max.saturating_sub(self.places.available_permits())
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        self.inner.pending.not_overdue(self.owner);
    }
}

/// Writes `record` again and again, in the background, until the store takes it or `settle_retry` is over.
pub(super) fn retry(inner: &Arc<Inner>, record: Record) {
    let Some((place, runtime)) = inner.pending.place().zip(Handle::try_current().ok()) else {
        inner.metrics.pending_writes_dropped.inc();
        error!(id = ?record.id, "a record is given up, too many are waiting; its key will read as unknown");
        return;
    };
    let inner = inner.clone();
    let tracker = inner.tracker.clone();
    inner.pending.set_overdue(record.owner);
    let overdue = Overdue { inner: inner.clone(), owner: record.owner };
    let task = async move {
        let _overdue = overdue;
        let give_up_at = Instant::now() + inner.params.settle_retry;
        let mut pause = FIRST_PAUSE;
        while let Err(error) = record.write(&inner).await {
            if Instant::now() >= give_up_at {
                inner.metrics.pending_writes_dropped.inc();
                error!(id = ?record.id, %error, "a record is given up; its key reads as unknown");
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        info!(id = ?record.id, "a record was taken late");
        drop(place);
    };
    drop(tracker.spawn_on(task, &runtime));
}

/// Removes a claim that may have landed though its insert failed, in the background. The insert may still be under way
/// when the first removal finds nothing, so the search goes on past the lease.
pub(super) fn withdraw(inner: &Arc<Inner>, id: RequestId, owner: Owner, lease_until: Instant) {
    let Some(place) = inner.pending.place() else {
        inner.metrics.pending_writes_dropped.inc();
        warn!(
            ?id,
            "a claim that may have landed is not removed, too many are waiting; its key may read as unknown"
        );
        return;
    };
    let inner = inner.clone();
    let tracker = inner.tracker.clone();
    drop(tracker.spawn(async move {
        let params = &inner.params;
        let give_up_at = Instant::now() + params.settle_retry;
        let landed_by = lease_until + params.lease;
        let mut pause = FIRST_PAUSE;
        loop {
            let removing = inner.store.remove(&id, owner);
            let removed = inner.within(Operation::Remove, Instant::now(), removing).await;
            let now = Instant::now();
            match removed {
                Ok(Write::Applied) => break,
                Ok(Write::Lost) if now >= landed_by => break,
                _ if now >= give_up_at => {
                    inner.metrics.pending_writes_dropped.inc();
                    warn!(
                        ?id,
                        "a claim that may have landed could not be removed; its key may read as unknown"
                    );
                    break;
                }
                _ => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        drop(place);
    }));
}

//! Writes that the store has not taken yet.
//!
//! Owns their number and their patience. Dropping one is safe: its entry reads as in flight until the lease ends, and as
//! unknown from then on; never as absent.

use std::sync::Arc;
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
        Self { places: Arc::new(Semaphore::new(max)), max }
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.max.saturating_sub(self.places.available_permits())
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
    let task = async move {
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

//! Someone who waits for an entry to be settled.
//!
//! Owns the registration: it ends with the wait, however that ends, so that nothing is left of those who gave up.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::idempotency::RequestId;

use super::MemoryStore;
use super::record::Reading;

pub(super) struct Waiter<'a> {
    store: &'a MemoryStore,
    id: &'a RequestId,
    channel: Option<watch::Receiver<()>>,
}

impl<'a> Waiter<'a> {
    /// Registers for the entry under `id`, and says when its lease ends; `None` if it is not in flight.
    pub(super) fn register(store: &'a MemoryStore, id: &'a RequestId) -> Option<(Self, Instant)> {
        let mut shard = store.shard(id);
        let now = store.clock.now();
        match shard.live(id, now)?.read(now) {
            Reading::InFlight { lease_ends_at } => {
                let channel = Some(shard.wait_for(id));
                Some((Self { store, id, channel }, store.clock.instant(lease_ends_at)))
            }
            Reading::Unknown { .. } | Reading::Completed { .. } => None,
        }
    }

    /// Returns once the entry is settled or removed.
    pub(super) async fn woken(mut self) {
        if let Some(channel) = &mut self.channel {
            // Nothing is ever sent: the channel closes.
            while channel.changed().await.is_ok() {}
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.channel = None;
        self.store.shard(self.id).stop_waiting(self.id);
    }
}

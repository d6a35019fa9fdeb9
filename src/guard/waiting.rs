//! Requests that wait for another request with their key.
//!
//! Owns their number, and what they were told about the attempts they waited for. That an entry is settled comes from the
//! store; why it went away only its owner knows, and he says it here before he removes it. Waiters of one process only: a
//! release by another process reads as a first one, which one waiter may take over.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::idempotency::{ReleaseReason, RequestId};

/// After this many attempts that were never sent, the rest give up: they would run one by one over a dead upstream.
const MAX_NOT_SENT: usize = 2;

#[derive(Clone, Debug)]
pub(super) struct WaitingRoom(Arc<Room>);

#[derive(Debug)]
struct Room {
    max_waiters: usize,
    /// How many wait in all: an owner looks here before it takes the lock.
    count: AtomicUsize,
    groups: Mutex<HashMap<RequestId, Group>>,
}

/// The waiters of one key. The group ends with its last waiter.
#[derive(Debug, Default)]
struct Group {
    waiters: usize,
    not_sent: usize,
    give_up: Option<ReleaseReason>,
}

/// A place in the room, given back on drop.
#[derive(Debug)]
pub(super) struct Waiter {
    room: Arc<Room>,
    id: RequestId,
}

impl WaitingRoom {
    pub(super) fn new(max_waiters: usize) -> Self {
        Self(Arc::new(Room { max_waiters, count: AtomicUsize::new(0), groups: Mutex::default() }))
    }

    /// A place among those who wait for `id`; `None` if there is none left.
    pub(super) fn enter(&self, id: RequestId) -> Option<Waiter> {
        let mut groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry(id).or_default();
        if group.waiters >= self.0.max_waiters {
            if group.waiters == 0 {
                groups.remove(&id);
            }
            return None;
        }
        group.waiters += 1;
        self.0.count.fetch_add(1, Ordering::SeqCst);
        Some(Waiter { room: self.0.clone(), id })
    }

    /// How many wait in all.
    pub(super) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// The owner's word to those who wait for `id`. To be said before the entry is removed.
    pub(super) fn released(&self, id: &RequestId, reason: ReleaseReason) {
        if self.0.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = groups.get_mut(id) else { return };
        match reason {
            ReleaseReason::NotSent(_) => group.not_sent += 1,
            ReleaseReason::Status(_) => group.give_up = Some(reason),
        }
        if group.not_sent >= MAX_NOT_SENT {
            group.give_up = Some(reason);
        }
    }
}

impl Waiter {
    /// Why there is nothing more to wait for, if so: the upstream said that it did nothing, or one waiter has taken over
    /// already and nothing was sent again.
    pub(super) fn give_up(&self) -> Option<ReleaseReason> {
        let groups = self.room.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.get(&self.id).and_then(|group| group.give_up)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut groups = self.room.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Occupied(mut slot) = groups.entry(self.id) {
            slot.get_mut().waiters -= 1;
            if slot.get().waiters == 0 {
                slot.remove();
            }
        }
        self.room.count.fetch_sub(1, Ordering::SeqCst);
    }
}

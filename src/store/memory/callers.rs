//! How many entries each caller has, where the operator bounds that.
//!
//! Owns the count. It goes down by itself when an entry goes, whichever way that is: the shard's book holds a place for each
//! entry, and the place counts. Taken with a shard locked, never the other way round.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::idempotency::{CallerHash, CallerShare};

#[derive(Clone, Debug, Default)]
pub(super) struct Callers(Arc<Mutex<HashMap<CallerHash, u64>>>);

/// One entry's place in its caller's share, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    callers: Callers,
    caller: CallerHash,
}

impl Callers {
    /// A place, if the caller has one left.
    pub(super) fn take(&self, share: CallerShare) -> Option<Place> {
        let mut counts = self.lock();
        let count = counts.entry(share.caller).or_default();
        if *count < share.max_entries {
            *count += 1;
            return Some(Place { callers: self.clone(), caller: share.caller });
        }
        if *count == 0 {
            counts.remove(&share.caller);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallerHash, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many callers have entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.callers.lock().entry(self.caller) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

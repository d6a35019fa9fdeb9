//! A count with a bound. Whoever finds no room is refused at once; nobody waits here. What cannot be refused any more is
//! charged beyond the bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound, and how much of it is taken.
#[derive(Clone, Debug)]
pub struct Quota(Arc<Count>);

#[derive(Debug)]
struct Count {
    max: AtomicU64,
    taken: AtomicU64,
}

/// A share of a quota, given back on drop.
#[derive(Debug)]
pub struct Share {
    count: Arc<Count>,
    amount: u64,
}

impl Quota {
    /// A quota of `max`, none of it taken.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self(Arc::new(Count { max: AtomicU64::new(max), taken: AtomicU64::new(0) }))
    }

    /// From now on `max` is the bound. What is taken stays, be it more.
    pub(super) fn set_max(&self, max: u64) {
        self.0.max.store(max, Ordering::Relaxed);
    }

    /// How much is taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// How much may be taken.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max.load(Ordering::Relaxed)
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.taken() >= self.0.max.load(Ordering::Relaxed)
    }

    /// A share of `amount`, room or not.
    pub(super) fn charge(&self, amount: u64) -> Share {
        let mut share = Share { count: self.0.clone(), amount: 0 };
        share.charge(amount);
        share
    }

    /// A share of `amount`, if there is room.
    #[must_use]
    pub fn take(&self, amount: u64) -> Option<Share> {
        let mut share = Share { count: self.0.clone(), amount: 0 };
        share.grow(amount).then_some(share)
    }
}

impl Share {
    /// Takes `more` of the same quota; `false` if there is no room.
    pub(super) fn grow(&mut self, more: u64) -> bool {
        let Count { max, taken } = &*self.count;
        let max = max.load(Ordering::Relaxed);
        let grown = |taken: u64| taken.checked_add(more).filter(|taken| *taken <= max);
        let is_taken = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        if is_taken {
            self.amount += more;
        }
        is_taken
    }

    /// Takes `more` of the same quota, room or not.
    pub(super) fn charge(&mut self, more: u64) {
        self.count.taken.fetch_add(more, Ordering::Relaxed);
        self.amount += more;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.count.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_what_is_dropped_is_free_again() {
        let quota = Quota::new(10);
        let mut first = quota.take(6).unwrap();
        assert!(quota.take(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        assert!(quota.take(u64::MAX).is_none());
        drop(first);
        assert!(quota.take(10).is_some());
    }

    #[test]
    fn a_new_bound_takes_nothing_away() {
        let quota = Quota::new(10);
        let mut share = quota.take(6).unwrap();
        quota.set_max(4);
        assert!(quota.is_full() && !share.grow(1));
        quota.set_max(7);
        assert!(share.grow(1));
        drop(share);
        assert_eq!(quota.taken(), 0);
    }
}

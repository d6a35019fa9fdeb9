//! The kept answers: an LRU cache, bounded in bytes.
//!
//! Owns the rule that an answer can go at any time and that nothing but its replay is lost with it. An answer stands under
//! a serial number that is drawn for it alone and that only one record holds: it can never belong to another request. The
//! cache may not be asked whether a key is live; that is the table's matter.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::idempotency::Answer;

use super::u48::U48;

/// Names one kept answer. No two answers of a store share one.
pub(super) type Serial = U48;

/// What an answer costs beside its own bytes: the nodes of the cache and the rounding of the allocator. Measured with
/// 200,000 answers of 1 KiB and jemalloc, which rounds larger ones up by as much as a fourth.
const OVERHEAD_BYTES: u32 = 385;

/// Answers that are heavier than this part of the bound are accounted for at once. moka does it in batches of up to 384
/// writes otherwise, and so many big ones could stand beyond the bound.
const LIGHT_PART: u64 = 512;

#[derive(Debug)]
pub(super) struct Answers {
    cache: Cache<Serial, Answer, BuildHasherDefault<Spread>>,
    max_bytes: u64,
    next_serial: AtomicU64,
    kept: AtomicU64,
    dropped: AtomicU64,
    /// As of the last time that it was asked for.
    evicted: AtomicU64,
}

/// Spreads serial numbers over the cache. They are the store's own count, which nobody can steer, so a hash that withstands
/// an attacker would be wasted; moka takes it several times for each answer.
#[derive(Debug, Default)]
struct Spread(u64);

impl Answers {
    pub(super) fn new(max_bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, answer| weight(answer))
            // moka's default policy would rather refuse a new answer than drop an old one.
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(BuildHasherDefault::default());
        let [next_serial, kept, dropped, evicted] = Default::default();
        Self { cache, max_bytes, next_serial, kept, dropped, evicted }
    }

    /// Keeps an answer, and may let older ones go; `None` if it is heavier than all that may be kept.
    pub(super) fn keep(&self, answer: &Answer) -> Option<Serial> {
        let weight = u64::from(weight(answer));
        if weight > self.max_bytes {
            return None;
        }
        let serial = Serial::new(self.next_serial.fetch_add(1, Ordering::Relaxed));
        self.cache.insert(serial, answer.clone());
        self.kept.fetch_add(1, Ordering::Release);
        if weight > self.max_bytes / LIGHT_PART {
            self.cache.run_pending_tasks();
        }
        Some(serial)
    }

    /// The answer, unless it had to make room.
    pub(super) fn get(&self, serial: Serial) -> Option<Answer> {
        self.cache.get(&serial)
    }

    pub(super) fn drop(&self, serial: Serial) {
        // Counted first: counted late, it would be taken for one that had to make room.
        self.dropped.fetch_add(1, Ordering::Release);
        if self.cache.remove(&serial).is_none() {
            self.dropped.fetch_sub(1, Ordering::Release);
        }
    }

    /// Does what moka has put off.
    pub(super) fn tidy(&self) {
        self.cache.run_pending_tasks();
    }

    /// How many answers had to make room so far: those that are neither here nor were dropped. moka could tell of each, but
    /// would take a lock for every answer that is kept. While answers come and go it may be a few short, and never goes back.
    pub(super) fn evicted(&self) -> u64 {
        let kept = self.kept.load(Ordering::Acquire);
        // What was kept until then is counted by moka after this.
        self.tidy();
        let accounted_for = self.cache.entry_count() + self.dropped.load(Ordering::Acquire);
        let evicted = kept.saturating_sub(accounted_for);
        self.evicted.fetch_max(evicted, Ordering::Relaxed).max(evicted)
    }

    /// What the kept answers weigh, as of the last tidying.
    pub(super) fn bytes(&self) -> u64 {
        self.cache.weighted_size()
    }
}

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    /// The finalizer of SplitMix64: every bit of the number reaches every bit of the hash.
    fn write_u64(&mut self, number: u64) {
        let mut hash = self.0 ^ number;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = hash ^ (hash >> 31);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn weight(answer: &Answer) -> u32 {
    u32::try_from(answer.as_bytes().len()).unwrap_or(u32::MAX).saturating_add(OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_answers_do_not_pile_up_beyond_the_bound() {
        const MAX_BYTES: u64 = 1 << 20;
        let answers = Answers::new(MAX_BYTES);
        let big = Answer::new(200, [].into_iter(), &[0; 100_000], [].into_iter()).unwrap();
        for number in 0..100 {
            assert!(answers.keep(&big).is_some(), "answer {number}");
            let bytes: u64 = answers.cache.iter().map(|(_, answer)| u64::from(weight(&answer))).sum();
            assert!(bytes <= MAX_BYTES, "{bytes} bytes after answer {number}");
        }
        assert_eq!(answers.evicted(), 90);
    }
}

//! Completed entries of the recent past, so that their replays need no round trip.
//!
//! Owns copies, never the truth: what is in flight or unknown is never in here, and a copy goes with the entry's expiry, with a
//! release that is heard of, and at the latest after `ttl`. A completed entry changes in no other way (I3), so a copy can
//! only be of an entry that was released in the meantime, and for no longer than `ttl`: whatever was missed, a release
//! has reached everybody by then. A key that is free here is not free: that, only the server can say.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::idempotency::{Entry, RequestId, State};

/// What a copy costs beside its answer's bytes: itself, the nodes of the cache and the rounding of the allocator.
const OVERHEAD_BYTES: u32 = 600;

/// Copies that are heavier than this part of the bound are accounted for at once. moka does it in batches of up to 384
/// writes otherwise, and so many big ones could stand beyond the bound.
const LIGHT_PART: u64 = 512;

/// The copies.
#[derive(Debug)]
pub(super) struct Near {
    /// `None` if there are to be none.
    cache: Option<Cache<RequestId, Copy, BuildHasherDefault<FirstBytes>>>,
    max_bytes: u64,
    ttl: Duration,
    /// How many releases were heard of, of ids that end alike.
    releases: [AtomicU64; 256],
}

#[derive(Clone, Debug)]
struct Copy {
    entry: Entry,
    until: Instant,
}

/// The moment before the server was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    at: Instant,
    releases: u64,
}

/// An id is a SHA-256 already, so its first bytes serve as the hash. A client who wants ids to collide has to find keys by trial,
/// and wins a slower look-up in a cache.
#[derive(Debug, Default)]
struct FirstBytes(u64);

impl Near {
    pub(super) fn new(max_bytes: u64, ttl: Duration) -> Self {
        let cache = (max_bytes > 0).then(|| {
            Cache::builder()
                .max_capacity(max_bytes)
                .weigher(|_, copy: &Copy| weight(&copy.entry))
                // moka's default policy would rather refuse a new copy than drop an old one.
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(ttl)
                .build_with_hasher(BuildHasherDefault::default())
        });
        Self { cache, max_bytes, ttl, releases: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.cache.is_some()
    }

    /// To be called before the server is asked for what may be kept then.
    pub(super) fn asking(&self, id: &RequestId) -> Asking {
        Asking { at: Instant::now(), releases: self.releases(id).load(Ordering::SeqCst) }
    }

    /// The entry, if there is a copy.
    pub(super) fn get(&self, id: &RequestId) -> Option<Entry> {
        let copy = self.cache.as_ref()?.get(id)?;
        (Instant::now() < copy.until).then_some(copy.entry)
    }

    /// Keeps a copy of an entry that is completed. `now` is the server's clock at the earliest when it was read.
    pub(super) fn keep(&self, id: &RequestId, entry: &Entry, now: SystemTime, asking: Asking) {
        let (Some(cache), State::Completed { .. }, Some(expires_at)) =
            (&self.cache, &entry.state, entry.expires_at)
        else {
            return;
        };
        let weight = u64::from(weight(entry));
        // The server has looked no earlier than it was asked: so the copy goes no later than the entry.
        let rest = expires_at.duration_since(now).unwrap_or_default().min(self.ttl);
        if rest.is_zero() || weight > self.max_bytes {
            return;
        }
        cache.insert(*id, Copy { entry: entry.clone(), until: asking.at + rest });
        if weight > self.max_bytes / LIGHT_PART {
            cache.run_pending_tasks();
        }
        // A release that was heard of while the reply was on its way may have been this entry's.
        if self.releases(id).load(Ordering::SeqCst) != asking.releases {
            cache.invalidate(id);
        }
    }

    /// The entry is released.
    pub(super) fn released(&self, id: &RequestId) {
        if let Some(cache) = &self.cache {
            self.releases(id).fetch_add(1, Ordering::SeqCst);
            cache.invalidate(id);
        }
    }

    /// Releases may have been missed: every copy goes.
    pub(super) fn clear(&self) {
        if let Some(cache) = &self.cache {
            for releases in &self.releases {
                releases.fetch_add(1, Ordering::SeqCst);
            }
            cache.invalidate_all();
        }
    }

    fn releases(&self, id: &RequestId) -> &AtomicU64 {
        let ([.., last], [.., spare]) = (id.as_bytes(), &self.releases);
        // A byte has no more values than there are counts.
        self.releases.get(usize::from(*last)).unwrap_or(spare)
    }

    /// Does what moka has put off.
    pub(super) fn tidy(&self) {
        if let Some(cache) = &self.cache {
            cache.run_pending_tasks();
        }
    }
}

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(self.0, |first| u64::from_le_bytes(*first));
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

fn weight(entry: &Entry) -> u32 {
    let answer = match &entry.state {
        State::Completed { answer: Some(answer), .. } => answer.as_bytes().len(),
        State::Completed { answer: None, .. } | State::InFlight | State::Unknown(_) => 0,
    };
    u32::try_from(answer).unwrap_or(u32::MAX).saturating_add(OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::idempotency::{Answer, Owner, UnknownCause};

    const TTL: Duration = Duration::from_secs(10);
    const ID: RequestId = RequestId::from_bytes([1; 32]);
    const NOW: SystemTime = UNIX_EPOCH;

    fn near() -> Near {
        Near::new(1 << 20, TTL)
    }

    fn entry(state: State, lives: Duration) -> Entry {
        Entry { owner: Owner::new(1), caller: None, fingerprint: None, state, expires_at: Some(NOW + lives) }
    }

    fn completed(body: &[u8], lives: Duration) -> Entry {
        let answer = Answer::new(200, [].into_iter(), body, [].into_iter()).unwrap();
        entry(State::Completed { status: 200, answer: Some(answer) }, lives)
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_goes_after_the_ttl_and_never_later_than_its_entry() {
        for (lives, kept) in [(TTL * 10, TTL), (TTL / 2, TTL / 2)] {
            let near = near();
            let asking = near.asking(&ID);
            // The reply takes its time, and the copy counts from before.
            tokio::time::advance(Duration::from_secs(1)).await;
            let entry = completed(b"x", lives);
            near.keep(&ID, &entry, NOW, asking);
            tokio::time::advance(kept - Duration::from_millis(1_001)).await;
            assert_eq!(near.get(&ID), Some(entry), "gone too early");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(near.get(&ID), None, "kept too long");
        }
    }

    #[tokio::test]
    async fn what_is_in_flight_or_unknown_is_never_kept() {
        let near = near();
        for state in [State::InFlight, State::Unknown(UnknownCause::OwnerLost)] {
            near.keep(&ID, &entry(state, TTL), NOW, near.asking(&ID));
            assert_eq!(near.get(&ID), None);
        }
    }

    #[tokio::test]
    async fn a_release_drops_the_copy_and_the_one_that_is_on_its_way() {
        let near = near();
        near.keep(&ID, &completed(b"x", TTL), NOW, near.asking(&ID));
        let on_its_way = near.asking(&ID);
        near.released(&ID);
        assert_eq!(near.get(&ID), None, "a released entry is still replayed");
        near.keep(&ID, &completed(b"x", TTL), NOW, on_its_way);
        assert_eq!(near.get(&ID), None, "a reply that was on its way brought the released entry back");
        near.keep(&ID, &completed(b"x", TTL), NOW, near.asking(&ID));
        near.clear();
        assert_eq!(near.get(&ID), None, "releases may have been missed");
    }

    #[tokio::test]
    async fn copies_are_bounded_in_bytes() {
        const MAX_BYTES: u64 = 1 << 20;
        let near = Near::new(MAX_BYTES, TTL);
        let id = |number| RequestId::from_bytes([number; 32]);
        for number in 0..50 {
            near.keep(&id(number), &completed(&[0; 100_000], TTL), NOW, near.asking(&ID));
            let kept = (0..50).filter(|number| near.get(&id(*number)).is_some()).count();
            assert!(kept <= 10, "{kept} copies of 100 kB in 1 MiB");
            assert!(near.get(&id(number)).is_some(), "copy {number} had to make room for older ones");
        }
        near.keep(&ID, &completed(&[0; 2 << 20], TTL), NOW, near.asking(&ID));
        assert_eq!(near.get(&ID), None, "a copy that is heavier than the bound is kept");
    }

    #[tokio::test]
    async fn a_bound_of_nothing_keeps_nothing() {
        let near = Near::new(0, TTL);
        near.keep(&ID, &completed(b"x", TTL), NOW, near.asking(&ID));
        assert_eq!((near.is_on(), near.get(&ID)), (false, None));
    }
}

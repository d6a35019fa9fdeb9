//! The memory store: it knows its own process, and forgets with it.
//!
//! Owns the entries and the answers of one process, and keeps them apart (I7). Entries lie in a sharded map with an exact
//! bound: nothing but expiry and `remove` takes one out, and beyond the bound new keys are refused. Answers lie in a moka
//! cache with a bound in bytes: an answer that had to make room reads as not retained, and its entry stays.
//!
//! An answer is put into the cache before its entry becomes completed, and the cache is read under the entry's lock, so a
//! reader never finds a completed entry whose answer is still to come. No lock is held over an await, and nothing that is
//! done under one can panic, so a poisoned lock is as good as any. The clock is read under the lock too: what one method
//! saw lapse or expire, no later one finds running.

mod answers;
mod callers;
mod chunks;
mod clock;
mod fill_level;
mod record;
mod shard;
mod table;
mod u48;
mod waiter;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::idempotency::{Claim, Entry, Fingerprint, Outcome, Owner, RequestId, State};

use self::answers::{Answers, Serial};
use self::callers::{Callers, Place};
use self::clock::{Clock, Millis, millis};
use self::fill_level::FillLevel;
use self::record::{Reading, Record};
use self::shard::Shard;
use self::waiter::Waiter;
use super::transition::Transition;
use super::{Cursor, Insert, Listed, Page, PageRequest, Store, StoreError, Trouble, Update, Write};

/// How many locks the entries share. Far more than there are threads, so that two rarely meet.
const SHARDS: usize = 64;

/// So many answers are dropped at a stretch before other tasks have their turn.
const DROP_BATCH: usize = 512;

/// What an operator may choose about the memory store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryParams {
    /// How many bytes of answers are kept.
    pub max_bytes: u64,
    /// How many entries may live at once.
    pub max_entries: u64,
    /// How often the guard prunes; the fill level's forecast is counted from prune to prune.
    pub prune_interval: Duration,
}

/// The store that lives and dies with its process.
pub struct MemoryStore {
    pub(super) params: MemoryParams,
    clock: Clock,
    shards: [Mutex<Shard>; SHARDS],
    /// Records in all shards, the expired ones included. Raised before a record is put in, so never above the bound.
    entries: AtomicU64,
    callers: Callers,
    answers: Answers,
    last_prune: Mutex<FillLevel>,
}

/// How full a memory store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStats {
    /// Entries, with those that have expired since the last prune.
    pub entries: u64,
    /// What the kept answers weigh, as of the cache's last maintenance.
    pub answers_bytes: u64,
    /// How many answers had to make room before their entries expired, since the start.
    pub answers_evicted: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(params: MemoryParams) -> Self {
        Self {
            clock: Clock::start(),
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            entries: AtomicU64::new(0),
            callers: Callers::default(),
            answers: Answers::new(params.max_bytes),
            last_prune: Mutex::new(FillLevel::default()),
            params,
        }
    }

    /// How full the store is.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            entries: self.entries.load(Ordering::Relaxed),
            answers_bytes: self.answers.bytes(),
            answers_evicted: self.answers.evicted(),
        }
    }

    fn shard(&self, id: &RequestId) -> MutexGuard<'_, Shard> {
        // The tables hash by the first bytes, so the last one is free to choose the shard.
        let [.., last] = *id.as_bytes();
        #[expect(clippy::indexing_slicing, reason = "the remainder is less than the number of shards")]
        lock(&self.shards[usize::from(last) % SHARDS])
    }

    fn try_insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        let mut shard = self.shard(id);
        let (now, lease_ends_at) = self.clock.now_and_after(claim.lease);
        let (expired, place) = match shard.stored(id) {
            Some(standing) if now < standing.expires_at() => {
                let reading = standing.read(now);
                if standing.owner() == claim.owner && matches!(reading, Reading::InFlight { .. }) {
                    shard.change(id, now, |standing| standing.renew(now, lease_ends_at));
                    return Ok(Insert::Inserted);
                }
                if !matches!(reading, Reading::Unknown { .. }) || claim.replaces != Some(standing.owner()) {
                    return Ok(Insert::Exists(self.entry(&shard, standing, now)));
                }
                // Takes the other's place, and with it the one in its caller's share.
                (None, shard.take_place(id))
            }
            Some(expired) => (expired.answer(), self.caller_place(claim)?),
            None => {
                let place = self.caller_place(claim)?;
                self.reserve()?;
                (None, place)
            }
        };
        shard.put(Record::new(id, claim, now, lease_ends_at, millis(claim.ttl)), claim.caller, place);
        drop(shard);
        if let Some(answer) = expired {
            self.answers.drop(answer);
        }
        Ok(Insert::Inserted)
    }

    /// A place in the caller's share, where that is bounded.
    fn caller_place(&self, claim: &Claim) -> Result<Option<Place>, StoreError> {
        let Some(share) = claim.share else { return Ok(None) };
        let full = StoreError::CallerFull { max_entries: share.max_entries };
        self.callers.take(share).map(Some).ok_or(full)
    }

    /// Takes one of the places, if there is one.
    fn reserve(&self) -> Result<(), StoreError> {
        let max_entries = self.params.max_entries;
        let one_more = |entries| (entries < max_entries).then_some(entries + 1);
        match self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Full { max_entries }),
        }
    }

    /// Drops what has expired in the first shard where anything has; `false` if there is none.
    fn make_room(&self) -> bool {
        self.shards.iter().any(|shard| {
            let (records, answers) = self.drop_expired(shard);
            answers.into_iter().for_each(|answer| self.answers.drop(answer));
            records > 0
        })
    }

    /// Drops what has expired, and returns how many entries that were and the answers that are still to be dropped.
    fn drop_expired(&self, shard: &Mutex<Shard>) -> (u64, Vec<Serial>) {
        let dropped = lock(shard).drop_expired(self.clock.now());
        self.entries.fetch_sub(dropped.records, Ordering::Relaxed);
        (dropped.records, dropped.answers)
    }

    /// Judges an update without making it; `None` if `owner` does not stand there.
    fn judge(
        &self,
        shard: &Shard,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        now: Millis,
    ) -> Option<(Transition, Millis)> {
        let standing = shard.live(id, now).filter(|standing| standing.owner() == owner)?;
        Some((Transition::judge(&self.state(standing, now), outcome), standing.expires_at()))
    }

    /// Makes an update whose answer is kept already; `None` if it was not made.
    fn apply(
        &self,
        (id, owner): (&RequestId, Owner),
        (outcome, answer): (&Outcome, Option<Serial>),
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Option<Millis> {
        let mut shard = self.shard(id);
        let (now, expires_at) = self.clock.now_and_after(ttl);
        let (Transition::Apply, _) = self.judge(&shard, id, owner, outcome, now)? else { return None };
        shard.change(id, now, |standing| standing.settle(outcome, fingerprint, answer, now, expires_at))?;
        shard.wake(id);
        Some(expires_at)
    }

    /// What a reader is shown of a live record. Ask with its shard locked, so that its answer cannot go in between for
    /// any other reason than that it had to make room.
    fn entry(&self, shard: &Shard, record: &Record, now: Millis) -> Entry {
        let expires_at = match record.read(now) {
            Reading::InFlight { .. } => None,
            Reading::Unknown { expires_at, .. } | Reading::Completed { expires_at, .. } => {
                Some(self.clock.system_time(expires_at))
            }
        };
        Entry {
            owner: record.owner(),
            caller: shard.caller(&record.id),
            fingerprint: record.fingerprint(),
            state: self.state(record, now),
            expires_at,
        }
    }

    fn state(&self, record: &Record, now: Millis) -> State {
        match record.read(now) {
            Reading::InFlight { .. } => State::InFlight,
            Reading::Unknown { cause, .. } => State::Unknown(cause),
            Reading::Completed { status, answer, .. } => {
                State::Completed { status, answer: answer.and_then(|serial| self.answers.get(serial)) }
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn setup(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        let shard = self.shard(id);
        let now = self.clock.now();
        Ok(shard.live(id, now).map(|record| self.entry(&shard, record, now)))
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        loop {
            let inserted = self.try_insert(id, claim);
            // Another claim may have taken the room that was made; as long as something expires there is more.
            let is_full = matches!(inserted, Err(StoreError::Full { .. } | StoreError::CallerFull { .. }));
            if !is_full || !self.make_room() {
                return inserted;
            }
        }
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        let mut shard = self.shard(id);
        let (now, ends_at) = self.clock.now_and_after(lease);
        let renewed = shard.change(id, now, |standing| {
            let owns = standing.owner() == owner;
            owns && standing.renew(now, ends_at)
        });
        Ok(if renewed == Some(true) { Write::Applied } else { Write::Lost })
    }

    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        // Judged twice: an answer that comes too late must not push others out, and the cache may have to do its
        // maintenance when one is put in, which should not hold up a shard.
        let judged = {
            let shard = self.shard(id);
            self.judge(&shard, id, owner, outcome, self.clock.now())
        };
        let expires_at = match judged {
            Some((Transition::Apply, _)) => {
                let answer = match outcome {
                    Outcome::Completed(answer) => self.answers.keep(answer),
                    Outcome::NotRetained { .. } | Outcome::Unknown(_) => None,
                };
                let applied = self.apply((id, owner), (outcome, answer), fingerprint, ttl);
                if let (None, Some(unused)) = (applied, answer) {
                    self.answers.drop(unused);
                }
                applied
            }
            Some((Transition::Stands, expires_at)) => Some(expires_at),
            Some((Transition::Refused, _)) | None => None,
        };
        Ok(expires_at.map_or(Update::Lost, |at| Update::Applied { expires_at: self.clock.system_time(at) }))
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        let mut shard = self.shard(id);
        let now = self.clock.now();
        if shard.live(id, now).is_none_or(|standing| standing.owner() != owner) {
            return Ok(Write::Lost);
        }
        let removed = shard.remove(id);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        drop(shard);
        if let Some(answer) = removed.and_then(|record| record.answer()) {
            self.answers.drop(answer);
        }
        Ok(Write::Applied)
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        let mut pruned = 0;
        for shard in &self.shards {
            let (records, answers) = self.drop_expired(shard);
            pruned += records;
            for batch in answers.chunks(DROP_BATCH) {
                batch.iter().for_each(|answer| self.answers.drop(*answer));
                tokio::task::yield_now().await;
            }
        }
        self.answers.tidy();
        let level = FillLevel { entries: self.entries.load(Ordering::Relaxed), at: self.clock.now() };
        let last = std::mem::replace(&mut *lock(&self.last_prune), level);
        level.warn(last, self.params.max_entries);
        Ok(pruned)
    }

    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        let waiting = async {
            while let Some((waiter, lease_ends_at)) = Waiter::register(self, id) {
                // A lease that was renewed meanwhile is waited for again.
                if tokio::time::timeout_at(lease_ends_at, waiter.woken()).await.is_ok() {
                    break;
                }
            }
        };
        // Out of patience is an answer like any other: the caller looks for himself.
        tokio::time::timeout(patience, waiting).await.unwrap_or(());
        Ok(())
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        let mut first = BTreeMap::new();
        let mut more = false;
        for shard in &self.shards {
            let shard = lock(shard);
            let now = self.clock.now();
            for record in shard.iter().filter(|record| now < record.expires_at()) {
                let Some(claimed_at_ms) = record.claimed_at() else { continue };
                let cursor = Cursor { claimed_at_ms, id: record.id };
                if page.after.is_some_and(|after| cursor <= after) {
                    continue;
                }
                let full = first.len() >= page.limit_entries;
                more |= full;
                if full && first.last_key_value().is_none_or(|(last, _)| *last < cursor) {
                    continue;
                }
                first.insert(cursor, self.entry(&shard, record, now));
                if full {
                    first.pop_last();
                }
            }
        }
        let next = first.last_key_value().map(|(last, _)| *last).filter(|_| more);
        let now = self.clock.now();
        let listed = |(Cursor { claimed_at_ms, id }, entry)| Listed {
            id,
            age: Duration::from_millis(now.saturating_sub(claimed_at_ms)),
            entry,
        };
        Ok(Page { entries: first.into_iter().map(listed).collect(), next })
    }

    fn troubles(&self) -> Vec<Trouble> {
        Vec::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("params", &self.params).field("stats", &self.stats()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

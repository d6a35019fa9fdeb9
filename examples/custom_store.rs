//! A store of your own, in a page: one map under one lock.
//!
//! `cargo run --example custom_store --features store-contract` runs the public conformance suite against it. It has no
//! bound on its entries, which a store that serves traffic should have (`StoreError::Full`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use oncegate::idempotency::{
    CallerShare, Claim, Entry, Fingerprint, Outcome, Owner, RequestId, State, UnknownCause,
};
use oncegate::store::{
    Cursor, Insert, Listed, Page, PageRequest, Store, StoreError, Trouble, Update, Write, contract,
};
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug)]
struct MapStore {
    rows: Mutex<HashMap<RequestId, Row>>,
    /// Told of every change, so that those who wait in `settled` look again.
    changed: Notify,
    /// The store owns time: one moment on both clocks, so that all readers are told the same `expires_at`.
    born: (Instant, SystemTime),
}

#[derive(Debug)]
struct Row {
    /// As it was last written; what a reader sees depends on the time, see `Row::read`.
    entry: Entry,
    claimed: Instant,
    /// The lease's end while the entry is in flight, its expiry afterwards.
    ends: Instant,
    /// How long the entry lives from the lease's end if its owner dies.
    ttl: Duration,
    /// Whose it is, where callers are bounded.
    share: Option<CallerShare>,
}

impl Row {
    /// What stands here now: nothing if it has expired, `Unknown` if its owner has died.
    fn read(&self, store: &MapStore) -> Option<Entry> {
        let in_flight = self.entry.state == State::InFlight;
        if Instant::now() < self.ends {
            return Some(self.entry.clone());
        }
        let expires = self.ends + self.ttl;
        let owner_lost = Entry {
            state: State::Unknown(UnknownCause::OwnerLost),
            expires_at: Some(store.wall_clock(expires)),
            ..self.entry.clone()
        };
        (in_flight && Instant::now() < expires).then_some(owner_lost)
    }
}

impl MapStore {
    fn new() -> Self {
        Self { rows: Mutex::default(), changed: Notify::new(), born: (Instant::now(), SystemTime::now()) }
    }

    /// Every method holds this lock from its first look to its last write: that makes it one atomic step.
    fn rows(&self) -> MutexGuard<'_, HashMap<RequestId, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall_clock(&self, at: Instant) -> SystemTime {
        self.born.1 + at.duration_since(self.born.0)
    }
}

#[async_trait]
impl Store for MapStore {
    async fn setup(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        Ok(self.rows().get(id).and_then(|row| row.read(self)))
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        let mut rows = self.rows();
        let now = Instant::now();
        if let Some(row) = rows.get_mut(id)
            && let Some(standing) = row.read(self)
        {
            if standing.owner == claim.owner && standing.state == State::InFlight {
                // Sent again, since the first reply was lost: the same claim, with a new lease.
                row.ends = now + claim.lease;
                return Ok(Insert::Inserted);
            }
            let replaced =
                matches!(standing.state, State::Unknown(_)) && claim.replaces == Some(standing.owner);
            if !replaced {
                return Ok(Insert::Exists(standing));
            }
        } else if let Some(share) = claim.share {
            let is_his = |row: &&Row| row.share == Some(share) && row.read(self).is_some();
            if rows.values().filter(is_his).count() as u64 >= share.max_entries {
                return Err(StoreError::CallerFull { max_entries: share.max_entries });
            }
        }
        let entry = Entry {
            owner: claim.owner,
            caller: claim.caller,
            fingerprint: claim.fingerprint,
            state: State::InFlight,
            expires_at: None,
        };
        rows.insert(
            *id,
            Row { entry, claimed: now, ends: now + claim.lease, ttl: claim.ttl, share: claim.share },
        );
        Ok(Insert::Inserted)
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(id) else { return Ok(Write::Lost) };
        let runs = row.read(self).is_some_and(|it| it.owner == owner && it.state == State::InFlight);
        if !runs {
            return Ok(Write::Lost);
        }
        row.ends = Instant::now() + lease;
        Ok(Write::Applied)
    }

    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(id) else { return Ok(Update::Lost) };
        let Some(standing) = row.read(self).filter(|it| it.owner == owner) else { return Ok(Update::Lost) };
        let state = match outcome {
            Outcome::Completed(answer) => {
                State::Completed { status: answer.status(), answer: Some(answer.clone()) }
            }
            Outcome::NotRetained { status } => State::Completed { status: *status, answer: None },
            Outcome::Unknown(cause) => State::Unknown(*cause),
        };
        match (&standing.state, &state) {
            (State::InFlight, _) | (State::Unknown(_), State::Completed { .. }) => {}
            // Settled already: the same again changes nothing, anything else is lost.
            (settled, again) => {
                let same = standing.expires_at.filter(|_| settled == again);
                return Ok(same.map_or(Update::Lost, |expires_at| Update::Applied { expires_at }));
            }
        }
        row.ends = Instant::now() + ttl;
        let expires_at = self.wall_clock(row.ends);
        let fingerprint = standing.fingerprint.or(fingerprint);
        row.entry = Entry { state, fingerprint, expires_at: Some(expires_at), ..standing };
        self.changed.notify_waiters();
        Ok(Update::Applied { expires_at })
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        let mut rows = self.rows();
        let stands = rows.get(id).and_then(|row| row.read(self)).is_some_and(|it| it.owner == owner);
        if !stands {
            return Ok(Write::Lost);
        }
        rows.remove(id);
        self.changed.notify_waiters();
        Ok(Write::Applied)
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        let mut rows = self.rows();
        let before = rows.len();
        rows.retain(|_, row| row.read(self).is_some());
        Ok((before - rows.len()) as u64)
    }

    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        let gives_up = Instant::now() + patience;
        loop {
            // Listens before it looks: a change in between is not missed.
            let changed = self.changed.notified();
            let lease_ends = match self.rows().get(id).and_then(|row| Some((row.read(self)?, row.ends))) {
                Some((entry, ends)) if entry.state == State::InFlight => ends,
                _ => return Ok(()),
            };
            let woken = tokio::time::timeout_at(lease_ends.min(gives_up), changed).await.is_ok();
            if !woken && gives_up <= Instant::now() {
                return Ok(());
            }
        }
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        let rows = self.rows();
        let mut listed: Vec<(Cursor, Listed)> = Vec::new();
        for (id, row) in rows.iter() {
            let Some(entry) = row.read(self) else { continue };
            let claimed_at_ms = row.claimed.duration_since(self.born.0).as_millis() as u64;
            let cursor = Cursor { claimed_at_ms, id: *id };
            let completed = matches!(entry.state, State::Completed { .. });
            if !completed && page.after.is_none_or(|after| after < cursor) {
                listed.push((cursor, Listed { id: *id, age: row.claimed.elapsed(), entry }));
            }
        }
        listed.sort_by_key(|(cursor, _)| *cursor);
        let more = listed.len() > page.limit_entries;
        listed.truncate(page.limit_entries);
        let next = listed.last().map(|(cursor, _)| *cursor).filter(|_| more);
        Ok(Page { entries: listed.into_iter().map(|(_, one)| one).collect(), next })
    }

    /// It is in this process, and nothing can be wrong with it.
    fn troubles(&self) -> Vec<Trouble> {
        Vec::new()
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example speaks to its reader")]
async fn main() {
    println!("running the contract, which takes some seconds");
    contract::conformance(async || Arc::new(MapStore::new()) as Arc<dyn Store>).await;
    println!("the store keeps the contract");
}

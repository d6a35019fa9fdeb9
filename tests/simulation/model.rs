//! A plain store, until there is a real one.
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use oncegate::idempotency::{Claim, Entry, Outcome, Owner, RequestId, State, UnknownCause};
use oncegate::store::{Insert, Page, PageRequest, Store, StoreError, Update, Write};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

#[derive(Debug)]
struct Row {
    entry: Entry,
    until: Instant,
    ttl: Duration,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
pub(crate) struct PlainStore {
    rows: Mutex<BTreeMap<RequestId, Row>>,
    changed: Notify,
    start: Instant,
}

impl PlainStore {
    pub(crate) fn new() -> Self {
        Self { rows: Mutex::default(), changed: Notify::new(), start: Instant::now() }
    }
    fn wall(&self, at: Instant) -> SystemTime {
        SystemTime::UNIX_EPOCH + (at - self.start)
    }
    fn with<T>(&self, id: &RequestId, f: impl FnOnce(&mut BTreeMap<RequestId, Row>) -> T) -> T {
        let mut rows = self.rows.lock().unwrap();
        if let Some(row) = rows.get_mut(id) {
            if row.entry.state == State::InFlight && row.until <= Instant::now() {
                row.entry.state = State::Unknown(UnknownCause::OwnerLost);
                row.until += row.ttl;
                row.entry.expires_at = Some(self.wall(row.until));
            }
            if row.entry.state != State::InFlight && row.until <= Instant::now() {
                rows.remove(id);
            }
        }
        f(&mut rows)
    }
}

#[async_trait]
impl Store for PlainStore {
    async fn setup(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        Ok(self.with(id, |rows| rows.get(id).map(|row| row.entry.clone())))
    }
    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        Ok(self.with(id, |rows| {
            if let Some(row) = rows.get(id) {
                if row.entry.owner == claim.owner {
                    return Insert::Inserted;
                }
                let replaced = matches!(row.entry.state, State::Unknown(_)) && claim.replaces == Some(row.entry.owner);
                if !replaced {
                    return Insert::Exists(row.entry.clone());
                }
            }
            let entry = Entry {
                owner: claim.owner,
                caller: claim.caller,
                fingerprint: claim.fingerprint,
                state: State::InFlight,
                expires_at: None,
            };
            rows.insert(*id, Row { entry, until: Instant::now() + claim.lease, ttl: claim.ttl, outcome: None });
            Insert::Inserted
        }))
    }
    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        Ok(self.with(id, |rows| match rows.get_mut(id) {
            Some(row) if row.entry.owner == owner && row.entry.state == State::InFlight => {
                row.until = Instant::now() + lease;
                Write::Applied
            }
            _ => Write::Lost,
        }))
    }
    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        let update = self.with(id, |rows| {
            let Some(row) = rows.get_mut(id).filter(|row| row.entry.owner == owner) else { return Update::Lost };
            let state = match outcome {
                Outcome::Completed(answer) => {
                    State::Completed { status: answer.status(), answer: Some(answer.clone()) }
                }
                Outcome::NotRetained { status } => State::Completed { status: *status, answer: None },
                Outcome::Unknown(cause) => State::Unknown(*cause),
            };
            let allowed = match (&row.entry.state, &state) {
                (State::InFlight, _) => true,
                (State::Unknown(_), State::Completed { .. }) => true,
                _ => false,
            };
            if allowed {
                row.entry.state = state;
                row.outcome = Some(outcome.clone());
                row.until = Instant::now() + ttl;
                row.entry.expires_at = Some(self.wall(row.until));
            } else if row.outcome.as_ref() != Some(outcome) {
                return Update::Lost;
            }
            Update::Applied { expires_at: self.wall(row.until) }
        });
        self.changed.notify_waiters();
        Ok(update)
    }
    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        let write = self.with(id, |rows| {
            if rows.get(id).is_some_and(|row| row.entry.owner == owner) {
                rows.remove(id);
                Write::Applied
            } else {
                Write::Lost
            }
        });
        self.changed.notify_waiters();
        Ok(write)
    }
    async fn prune(&self) -> Result<u64, StoreError> {
        let ids: Vec<_> = self.rows.lock().unwrap().keys().copied().collect();
        let before = ids.len();
        for id in ids {
            self.with(&id, |_| ());
        }
        Ok((before - self.rows.lock().unwrap().len()) as u64)
    }
    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let until = self.with(id, |rows| {
                rows.get(id).filter(|row| row.entry.state == State::InFlight).map(|row| row.until)
            });
            let Some(until) = until else { return Ok(()) };
            let _ = timeout_at(until.min(deadline), changed).await;
            if Instant::now() >= deadline {
                return Ok(());
            }
        }
    }
    async fn list(&self, _: &PageRequest) -> Result<Page, StoreError> {
        Ok(Page::default())
    }
}

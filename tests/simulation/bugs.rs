//! Bugs that the simulation must notice: in the driver, or in a wrapper around the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use oncegate::idempotency::{Claim, Entry, Fingerprint, Outcome, Owner, RequestId, State, UnknownCause};
use oncegate::store::{Insert, Page, PageRequest, Store, StoreError, Trouble, Update, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Whatever goes wrong frees the key.
    ReleasesOnError,
    /// The owner sends without looking at its lease.
    SendsAfterLapse,
    /// Half an upload is settled as a whole one.
    SettlesHalfAnUpload,
    /// Every payload is taken for the same.
    IgnoresFingerprint,
    /// The store lets anyone renew, update and remove.
    IgnoresOwner,
    /// The store takes the end of a lease for the end of the work.
    LapseIsPermission,
    /// The store makes room by dropping live entries.
    Evicts,
}

/// A store with a bug.
#[derive(Debug)]
pub(crate) struct Buggy {
    inner: Arc<dyn Store>,
    bug: Bug,
    inserted: Mutex<VecDeque<(RequestId, Owner)>>,
}

const EVICTS_BEYOND_ENTRIES: usize = 1;

impl Buggy {
    pub(crate) fn new(inner: Arc<dyn Store>, bug: Bug) -> Self {
        Self { inner, bug, inserted: Mutex::default() }
    }

    /// The token by which a write is made.
    async fn writer(&self, id: &RequestId, owner: Owner) -> Result<Owner, StoreError> {
        if self.bug != Bug::IgnoresOwner {
            return Ok(owner);
        }
        Ok(self.inner.lookup(id).await?.map_or(owner, |entry| entry.owner))
    }

    async fn evict(&self, id: &RequestId, owner: Owner) -> Result<(), StoreError> {
        let evicted = {
            let mut inserted = self.inserted.lock().unwrap();
            inserted.push_back((*id, owner));
            if inserted.len() > EVICTS_BEYOND_ENTRIES { inserted.pop_front() } else { None }
        };
        if let Some((id, owner)) = evicted {
            let _write = self.inner.remove(&id, owner).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Buggy {
    async fn setup(&self) -> Result<(), StoreError> {
        self.inner.setup().await
    }

    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        self.inner.lookup(id).await
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        let inserted = self.inner.insert(id, claim).await?;
        match (&inserted, self.bug) {
            (Insert::Exists(entry), Bug::LapseIsPermission)
                if entry.state == State::Unknown(UnknownCause::OwnerLost) =>
            {
                let claim = Claim { replaces: Some(entry.owner), ..claim.clone() };
                self.inner.insert(id, &claim).await
            }
            (Insert::Inserted, Bug::Evicts) => {
                self.evict(id, claim.owner).await?;
                Ok(inserted)
            }
            _ => Ok(inserted),
        }
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        self.inner.renew(id, self.writer(id, owner).await?, lease).await
    }

    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        self.inner.update(id, self.writer(id, owner).await?, outcome, fingerprint, ttl).await
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        self.inner.remove(id, self.writer(id, owner).await?).await
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        self.inner.prune().await
    }

    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        self.inner.settled(id, patience).await
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        self.inner.list(page).await
    }

    fn troubles(&self) -> Vec<Trouble> {
        self.inner.troubles()
    }
}

//! A store that fails when it is told to, over the memory store.
//!
//! A fault can strike before the operation lands or after it, so that the caller is told of an error for a write that
//! was made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use oncegate::idempotency::{Claim, Entry, Fingerprint, Outcome, Owner, RequestId};
use oncegate::store::memory::{MemoryParams, MemoryStore};
use oncegate::store::{Insert, Page, PageRequest, Store, StoreError, Trouble, Update, Write};
use tokio::sync::Notify;

/// What a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Insert,
    List,
    Lookup,
    Prune,
    Remove,
    Renew,
    Settled,
    Setup,
    Update,
}

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Before,
    After,
    Hold,
    Stall,
}

/// The memory store, and the faults that stand before it.
#[derive(Debug)]
pub struct FaultyStore {
    memory: MemoryStore,
    faults: Mutex<HashMap<Operation, Fault>>,
    calls: Mutex<HashMap<Operation, usize>>,
    troubles: Mutex<Vec<Trouble>>,
    healed: Notify,
}

impl FaultyStore {
    pub fn new() -> Arc<Self> {
        let params = MemoryParams {
            max_bytes: 64 << 20,
            max_entries: 10_000,
            prune_interval: Duration::from_secs(60),
        };
        Arc::new(Self {
            memory: MemoryStore::new(params),
            faults: Mutex::default(),
            calls: Mutex::default(),
            troubles: Mutex::default(),
            healed: Notify::new(),
        })
    }

    /// From now on the operation fails and changes nothing.
    pub fn fail(&self, operation: Operation) {
        self.faults.lock().unwrap().insert(operation, Fault::Before);
    }

    /// From now on the operation is carried out, and reported as failed.
    pub fn land_and_fail(&self, operation: Operation) {
        self.faults.lock().unwrap().insert(operation, Fault::After);
    }

    /// From now on the operation never returns, and changes nothing.
    pub fn stall(&self, operation: Operation) {
        self.faults.lock().unwrap().insert(operation, Fault::Stall);
    }

    /// From now on the operation waits until it is healed.
    pub fn hold(&self, operation: Operation) {
        self.faults.lock().unwrap().insert(operation, Fault::Hold);
    }

    pub fn heal(&self, operation: Operation) {
        self.faults.lock().unwrap().remove(&operation);
        self.healed.notify_waiters();
    }

    /// From now on this is what it says is wrong with it.
    pub fn trouble(&self, troubles: &[Trouble]) {
        *self.troubles.lock().unwrap() = troubles.to_vec();
    }

    /// How often the operation was asked for.
    pub fn calls(&self, operation: Operation) -> usize {
        self.calls.lock().unwrap().get(&operation).copied().unwrap_or_default()
    }

    async fn through<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        *self.calls.lock().unwrap().entry(operation).or_default() += 1;
        let fault = || self.faults.lock().unwrap().get(&operation).copied();
        loop {
            let healed = self.healed.notified();
            if fault() != Some(Fault::Hold) {
                break;
            }
            healed.await;
        }
        match fault() {
            None | Some(Fault::Hold) => work.await,
            Some(Fault::Before) => Err(unavailable()),
            Some(Fault::After) => work.await.and_then(|_| Err(unavailable())),
            Some(Fault::Stall) => std::future::pending().await,
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("the test broke this store".into())
}

#[async_trait]
impl Store for FaultyStore {
    async fn setup(&self) -> Result<(), StoreError> {
        self.through(Operation::Setup, self.memory.setup()).await
    }

    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        self.through(Operation::Lookup, self.memory.lookup(id)).await
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        self.through(Operation::Insert, self.memory.insert(id, claim)).await
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        self.through(Operation::Renew, self.memory.renew(id, owner, lease)).await
    }

    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        self.through(Operation::Update, self.memory.update(id, owner, outcome, fingerprint, ttl)).await
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        self.through(Operation::Remove, self.memory.remove(id, owner)).await
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        self.through(Operation::Prune, self.memory.prune()).await
    }

    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        self.through(Operation::Settled, self.memory.settled(id, patience)).await
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        self.through(Operation::List, self.memory.list(page)).await
    }

    fn troubles(&self) -> Vec<Trouble> {
        self.troubles.lock().unwrap().clone()
    }
}

//! What the guard's tests stand on.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::guard::{Admission, Guard, OnInFlight, Params, Permit, Rules};
use crate::idempotency::{
    Answer, Attempt, CallerHash, Claim, Entry, Fingerprint, NotSentCause, OnUnknown, Outcome, Owner,
    Presented, RequestId, State,
};
use crate::store::memory::{MemoryParams, MemoryStore};
use crate::store::{Insert, Page, PageRequest, Store, StoreError, Trouble, Update, Write};

pub(super) const LEASE: Duration = Duration::from_secs(3);
pub(super) const STORE_TIMEOUT: Duration = Duration::from_millis(250);
pub(super) const SETTLE_RETRY: Duration = Duration::from_secs(600);
pub(super) const TTL: Duration = Duration::from_secs(86_400);
pub(super) const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
pub(super) const MAX_PENDING_WRITES: usize = 3;
pub(super) const MAX_WAITERS: usize = 30;
pub(super) const MAX_ENTRIES: u64 = 8;

pub(super) const NOT_SENT: Attempt = Attempt::NotSent(NotSentCause::ConnectFailed);

/// An operation of the store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Insert,
    Renew,
    Update,
    Remove,
    Prune,
    Settled,
}

/// What the store does when it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Mood {
    #[default]
    Works,
    Fails,
    Hangs,
    /// Carries the operation out, and never answers.
    LandsAndHangs,
    /// Carries the operation out after this time, whoever still waits for it.
    LandsAfter(Duration),
    /// Answers after this time; carried out at once.
    AnswersAfter(Duration),
}

#[derive(Debug, Default)]
struct Switch {
    mood: Mutex<Mood>,
    calls: AtomicUsize,
}

/// A memory store that can be told to fail, per operation.
#[derive(Debug)]
pub(super) struct MoodyStore {
    inner: Arc<MemoryStore>,
    switches: [Switch; 6],
    landings: TaskTracker,
}

impl MoodyStore {
    pub(super) fn set(&self, op: Op, mood: Mood) {
        *self.switches[op as usize].mood.lock().unwrap() = mood;
    }

    /// How often the operation was asked for.
    pub(super) fn calls(&self, op: Op) -> usize {
        self.switches[op as usize].calls.load(Ordering::Relaxed)
    }

    async fn moody<T: Send + 'static>(
        &self,
        op: Op,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let switch = &self.switches[op as usize];
        switch.calls.fetch_add(1, Ordering::Relaxed);
        let mood = *switch.mood.lock().unwrap();
        match mood {
            Mood::Works => call.await,
            Mood::Fails => Err(StoreError::Unavailable("told to fail".into())),
            Mood::Hangs => std::future::pending().await,
            Mood::LandsAndHangs => {
                drop(call.await);
                std::future::pending().await
            }
            Mood::LandsAfter(delay) => {
                drop(self.landings.spawn(async move {
                    sleep(delay).await;
                    drop(call.await);
                }));
                std::future::pending().await
            }
            Mood::AnswersAfter(delay) => {
                let result = call.await;
                sleep(delay).await;
                result
            }
        }
    }
}

#[async_trait]
impl Store for MoodyStore {
    async fn setup(&self) -> Result<(), StoreError> {
        self.inner.setup().await
    }

    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        self.inner.lookup(id).await
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        let (inner, id, claim) = (self.inner.clone(), *id, claim.clone());
        self.moody(Op::Insert, async move { inner.insert(&id, &claim).await }).await
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        let (inner, id) = (self.inner.clone(), *id);
        self.moody(Op::Renew, async move { inner.renew(&id, owner, lease).await }).await
    }

    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        let (inner, id, outcome) = (self.inner.clone(), *id, outcome.clone());
        self.moody(Op::Update, async move { inner.update(&id, owner, &outcome, fingerprint, ttl).await })
            .await
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        let (inner, id) = (self.inner.clone(), *id);
        self.moody(Op::Remove, async move { inner.remove(&id, owner).await }).await
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        let inner = self.inner.clone();
        self.moody(Op::Prune, async move { inner.prune().await }).await
    }

    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        let (inner, id) = (self.inner.clone(), *id);
        self.moody(Op::Settled, async move { inner.settled(&id, patience).await }).await
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        self.inner.list(page).await
    }

    fn troubles(&self) -> Vec<Trouble> {
        self.inner.troubles()
    }
}

/// A guard over a moody store, and the clients before it.
pub(super) struct Bench {
    pub(super) guard: Guard,
    pub(super) store: Arc<MoodyStore>,
    /// The guard's background work.
    pub(super) tracker: TaskTracker,
    clients: TaskTracker,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_max_waiters(MAX_WAITERS)
    }

    pub(super) fn with_max_waiters(max_waiters: usize) -> Self {
        let params =
            MemoryParams { max_bytes: 1 << 20, max_entries: MAX_ENTRIES, prune_interval: PRUNE_INTERVAL };
        let store = Arc::new(MoodyStore {
            inner: Arc::new(MemoryStore::new(params)),
            switches: Default::default(),
            landings: TaskTracker::new(),
        });
        let params = Params {
            lease: LEASE,
            store_timeout: STORE_TIMEOUT,
            settle_retry: SETTLE_RETRY,
            max_pending_writes: MAX_PENDING_WRITES,
            prune_interval: PRUNE_INTERVAL,
            max_entries_per_caller: None,
            max_waiters,
        };
        let tracker = TaskTracker::new();
        let guard = Guard::new(store.clone(), params, tracker.clone());
        Self { guard, store, tracker, clients: TaskTracker::new() }
    }

    /// The permit for a key that nobody has used.
    pub(super) async fn granted(&self, presented: &Presented) -> Permit {
        granted(self.guard.admit(presented, &rejecting()).await.unwrap())
    }

    /// What a duplicate gets at once.
    pub(super) async fn verdict(&self, presented: &Presented) -> crate::idempotency::Verdict {
        match self.guard.admit(presented, &rejecting()).await.unwrap() {
            Admission::Standing { verdict, waited: false } => verdict,
            other @ (Admission::Granted(_) | Admission::Standing { .. } | Admission::Released(_)) => {
                panic!("not a verdict at once: {other:?}")
            }
        }
    }

    /// A request that asks for admission in a task of its own, and has got as far as it can.
    pub(super) async fn asks(
        &self,
        presented: Presented,
        rules: Rules,
    ) -> JoinHandle<Result<Admission, StoreError>> {
        let guard = self.guard.clone();
        let task = self.clients.spawn(async move { guard.admit(&presented, &rules).await });
        all_have_moved().await;
        task
    }

    pub(super) async fn state(&self, presented: &Presented) -> Option<State> {
        self.store.lookup(&presented.id).await.unwrap().map(|entry| entry.state)
    }
}

/// Lets every task run until it waits for time: paused time moves on only then.
pub(super) async fn all_have_moved() {
    sleep(Duration::from_millis(1)).await;
}

/// Holds the permit for as long as `work` takes.
pub(super) async fn hold<T>(permit: &Permit, work: impl Future<Output = T>) -> T {
    permit.holding(Instant::now() + TTL, pin!(work)).await.expect("the work ends")
}

pub(super) fn granted(admission: Admission) -> Permit {
    match admission {
        Admission::Granted(permit) => permit,
        other @ (Admission::Standing { .. } | Admission::Released(_)) => panic!("not granted: {other:?}"),
    }
}

/// A request for key number `key` with payload number `payload`.
pub(super) fn presented(key: u8, payload: u8) -> Presented {
    let counted_as = CallerHash::from_bytes([1; 32]);
    let id = RequestId::from_bytes([key; 32]);
    Presented { id, caller: None, fingerprint: Some(fingerprint(payload)), counted_as }
}

/// The fingerprint of payload number `payload`.
pub(super) const fn fingerprint(payload: u8) -> Fingerprint {
    Fingerprint::from_parts(NonZeroU32::MIN, [payload; 16])
}

/// A request for key number `key` whose body is still to come.
pub(super) fn streaming(key: u8) -> Presented {
    Presented { fingerprint: None, ..presented(key, 0) }
}

pub(super) fn rejecting() -> Rules {
    Rules {
        ttl: TTL,
        attempt_timeout: TTL,
        on_in_flight: OnInFlight::Reject,
        on_unknown: OnUnknown::Reject,
        release_status: [425, 429].into(),
    }
}

pub(super) fn waiting(timeout: Duration) -> Rules {
    Rules { on_in_flight: OnInFlight::Wait { timeout }, ..rejecting() }
}

pub(super) fn answer(status: u16) -> Answer {
    Answer::new(status, [].into_iter(), b"charge 1", [].into_iter()).unwrap()
}

pub(super) fn answered(status: u16) -> Attempt {
    Attempt::Answered(answer(status))
}

pub(super) fn completed(status: u16) -> Option<State> {
    Some(State::Completed { status, answer: Some(answer(status)) })
}

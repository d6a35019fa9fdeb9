//! A store that fails as networks and servers do, in front of one that does not.

use std::fmt::Debug;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use oncegate::idempotency::{Claim, Entry, Fingerprint, Outcome, Owner, RequestId};
use oncegate::store::{Insert, Page, PageRequest, Store, StoreError, Trouble, Update, Write};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::ledger::{Ledger, Try, short};
use super::rng::Rng;

tokio::task_local! {
    /// The try on whose behalf the store is asked.
    pub(crate) static TRY: Try;
}

/// How bad it is, until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) until: Instant,
    pub(crate) faults_percent: u64,
    pub(crate) drops_renewals: bool,
}

#[derive(Debug)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) rng: Mutex<Rng>,
    pub(crate) weather: Vec<Weather>,
    /// About how long the guard waits for an answer, in milliseconds.
    pub(crate) patience_ms: u64,
    pub(crate) lease_ms: u64,
    /// Operations that land after their callers have gone.
    pub(crate) landings: TaskTracker,
    /// How many have waited so far.
    pub(crate) journeys: AtomicU64,
}

#[derive(Debug)]
enum Fault {
    None,
    /// The operation sets out late: dropped by a caller who does not wait, it is never carried out.
    Slow(Duration),
    /// It is carried out, and the answer is late: a caller who does not wait never learns.
    AnswersLate(Duration),
    Refuses,
    /// It is carried out, and the answer is an error.
    RefusesAfter,
    /// It is under way, and is carried out when nobody waits for it any more.
    LandsLate(Duration),
    Hangs,
}

impl FaultyStore {
    fn weather(&self) -> Option<Weather> {
        let now = Instant::now();
        self.weather.iter().find(|weather| now < weather.until).copied()
    }

    /// How long it takes for a waiter to hear that he may wake. No two of those who wait at a time have the same way:
    /// tokio's channels wake in an order that differs from run to run.
    fn journey(&self) -> Duration {
        Duration::from_millis(self.journeys.fetch_add(1, Ordering::Relaxed) % 64)
    }

    fn draw(&self, operation: &'static str) -> Fault {
        let mut rng = self.rng.lock().unwrap();
        let Some(weather) = self.weather() else { return Fault::None };
        if weather.drops_renewals && operation == "renew" {
            return if rng.percent(50) { Fault::Refuses } else { Fault::Hangs };
        }
        if !rng.percent(weather.faults_percent) {
            return Fault::None;
        }
        match rng.below(8) {
            0 => Fault::Slow(rng.millis(1, self.patience_ms * 2)),
            1 | 2 => Fault::AnswersLate(rng.millis(1, self.patience_ms * 2)),
            3 => Fault::Refuses,
            4 => Fault::RefusesAfter,
            5 => Fault::LandsLate(rng.millis(1, self.lease_ms)),
            6 => Fault::LandsLate(rng.millis(1, self.lease_ms * 4)),
            _ => Fault::Hangs,
        }
    }

    async fn disturbed<T: Debug + Send + 'static>(
        &self,
        id: &RequestId,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let fault = self.draw(operation);
        let who = TRY.try_with(|by| by.to_string()).unwrap_or_else(|_| "background".to_owned());
        if !matches!(fault, Fault::None) {
            self.ledger.note(&who, &format!("{operation} of {}: {fault:?}", short(id)));
        }
        match fault {
            Fault::None => call.await,
            Fault::Slow(delay) => {
                sleep(delay).await;
                call.await
            }
            Fault::AnswersLate(delay) => {
                let result = call.await;
                sleep(delay).await;
                result
            }
            Fault::Refuses => Err(refused()),
            Fault::RefusesAfter => {
                drop(call.await);
                Err(refused())
            }
            Fault::LandsLate(delay) => {
                self.landings.spawn(async move {
                    sleep(delay).await;
                    drop(call.await);
                });
                pending().await
            }
            Fault::Hangs => pending().await,
        }
    }
}

/// What stands under `id` after an operation, for the ledger.
async fn observe(inner: &Arc<dyn Store>, ledger: &Ledger, id: &RequestId) {
    ledger.observe(id, inner.lookup(id).await.expect("the store itself does not fail"));
}

fn refused() -> StoreError {
    StoreError::Unavailable("connection reset".into())
}

#[async_trait]
impl Store for FaultyStore {
    async fn setup(&self) -> Result<(), StoreError> {
        self.inner.setup().await
    }

    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        let (inner, asked) = (self.inner.clone(), *id);
        self.disturbed(id, "lookup", async move { inner.lookup(&asked).await }).await
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        let (inner, ledger, asked, claim) = (self.inner.clone(), self.ledger.clone(), *id, claim.clone());
        let call = async move {
            observe(&inner, &ledger, &asked).await;
            let inserted = inner.insert(&asked, &claim).await;
            observe(&inner, &ledger, &asked).await;
            if matches!(inserted, Ok(Insert::Inserted)) {
                ledger.leased(&asked, claim.lease);
            }
            inserted
        };
        let inserted = self.disturbed(id, "insert", call).await;
        if let Ok(Insert::Exists(entry)) = &inserted {
            TRY.with(|by| self.ledger.told(*by, entry));
        }
        inserted
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        let (inner, ledger, asked) = (self.inner.clone(), self.ledger.clone(), *id);
        let call = async move {
            let renewed = inner.renew(&asked, owner, lease).await;
            observe(&inner, &ledger, &asked).await;
            if matches!(renewed, Ok(Write::Applied)) {
                ledger.leased(&asked, lease);
            }
            renewed
        };
        self.disturbed(id, "renew", call).await
    }

    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        let (inner, ledger, asked, outcome) = (self.inner.clone(), self.ledger.clone(), *id, outcome.clone());
        let call = async move {
            let updated = inner.update(&asked, owner, &outcome, fingerprint, ttl).await;
            observe(&inner, &ledger, &asked).await;
            updated
        };
        self.disturbed(id, "update", call).await
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        let (inner, ledger, asked) = (self.inner.clone(), self.ledger.clone(), *id);
        let call = async move {
            let removed = inner.remove(&asked, owner).await;
            observe(&inner, &ledger, &asked).await;
            removed
        };
        self.disturbed(id, "remove", call).await
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        match self.weather() {
            Some(weather) if self.rng.lock().unwrap().percent(weather.faults_percent) => Err(refused()),
            _ => self.inner.prune().await,
        }
    }

    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        let fault = self.draw("settled");
        match fault {
            Fault::None | Fault::AnswersLate(_) | Fault::LandsLate(_) => {}
            Fault::Slow(delay) => sleep(delay.min(patience)).await,
            Fault::Refuses => return Err(refused()),
            // Returning early is allowed.
            Fault::RefusesAfter => return Ok(()),
            Fault::Hangs => pending().await,
        }
        let journey = self.journey();
        let settled = self.inner.settled(id, patience).await;
        sleep(journey).await;
        settled
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        self.inner.list(page).await
    }

    fn troubles(&self) -> Vec<Trouble> {
        self.inner.troubles()
    }
}

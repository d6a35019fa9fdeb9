//! One run of one seed.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncegate::guard::Guard;
use oncegate::idempotency::{OnUnknown, RequestId, State, Verdict};
use oncegate::store::Store;
use oncegate::store::memory::{MemoryParams, MemoryStore};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::bugs::{Bug, Buggy};
use super::driver::{Driver, Response};
use super::faulty::{FaultyStore, TRY};
use super::ledger::{Ledger, Try};
use super::plan::{Client, LONG_TTL, Plan};
use super::rng::Rng;

/// How often the ledger looks at the store between operations.
const LOOK_EVERY: Duration = Duration::from_millis(700);

/// Long after every attempt, waiter and pause of a plan has ended.
const CLIENTS_END_WITHIN: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) history: Vec<String>,
}

/// Runs `seed` in virtual time. The same seed gives the same report.
pub(crate) fn run(seed: u64, on_unknown: OnUnknown, bug: Option<Bug>) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(&mut Rng::new(seed), on_unknown, bug);
        world.live().await;
        let pages = std::mem::take(&mut *world.driver.ledger.pages());
        Report { violations: pages.violations, history: pages.lines }
    })
}

struct World {
    plan: Arc<Plan>,
    driver: Arc<Driver>,
    /// What the process's shutdown would wait for.
    tracker: TaskTracker,
    landings: TaskTracker,
    rng: Mutex<Rng>,
}

impl World {
    fn new(rng: &mut Rng, on_unknown: OnUnknown, bug: Option<Bug>) -> Self {
        let plan = Arc::new(Plan::draw(rng, on_unknown));
        let ledger = Arc::new(Ledger::new(plan.ttl, on_unknown == OnUnknown::Retry));
        ledger.note(
            &"plan",
            &format!("{:?} ttl {:?}, calm after {:?}", plan.params, plan.ttl, plan.weather.len()),
        );
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(MemoryParams {
            max_bytes: 1 << 20,
            max_entries: plan.max_entries,
            prune_interval: plan.params.prune_interval,
        }));
        let store: Arc<dyn Store> = match bug {
            Some(bug) => Arc::new(Buggy::new(memory, bug)),
            None => memory,
        };
        let landings = TaskTracker::new();
        let faulty = Arc::new(FaultyStore {
            inner: store.clone(),
            ledger: ledger.clone(),
            rng: Mutex::new(rng.fork()),
            weather: plan.weather.clone(),
            patience_ms: u64::try_from(plan.params.store_timeout.as_millis()).unwrap(),
            lease_ms: u64::try_from(plan.params.lease.as_millis()).unwrap(),
            landings: landings.clone(),
            journeys: AtomicU64::new(0),
        });
        let tracker = TaskTracker::new();
        let guard = || Guard::new(faulty.clone(), plan.params.clone(), tracker.clone());
        let driver = Arc::new(Driver { guards: [guard(), guard()], store, ledger, bug });
        Self { plan, driver, tracker, landings, rng: Mutex::new(rng.fork()) }
    }

    async fn live(&self) {
        let keepers = TaskTracker::new();
        let guard = self.driver.guards[0].clone();
        keepers.spawn(async move { guard.prune_forever().await });
        let (ledger, store, keys) = (self.driver.ledger.clone(), self.driver.store.clone(), self.plan.keys);
        keepers.spawn(async move {
            loop {
                look(&ledger, &store, keys).await;
                sleep(LOOK_EVERY).await;
            }
        });
        self.clients(self.plan.clients.iter()).await;
        self.drain().await;
        self.check_ends().await;
        if self.plan.ttl < LONG_TTL {
            self.outlive_the_ttl().await;
        }
    }

    async fn clients(&self, clients: impl Iterator<Item = &Client>) {
        let crowd = TaskTracker::new();
        for (index, client) in clients.enumerate() {
            let life = Life {
                plan: self.plan.clone(),
                driver: self.driver.clone(),
                tracker: self.tracker.clone(),
                rules: self.plan.rules(client),
                presented: client.presented,
                streams: client.streams,
                guard: client.guard,
                starts_after: client.starts_after,
                tries: client.tries,
                rng: client.rng.clone(),
                index,
            };
            crowd.spawn(life.live());
        }
        crowd.close();
        if timeout(CLIENTS_END_WITHIN, crowd.wait()).await.is_err() {
            self.driver.ledger.violation("liveness: a client is never answered".to_owned());
        }
    }

    /// The work ends within what its parts may take: attempts, and records that wait for the store.
    async fn drain(&self) {
        self.tracker.close();
        let bound = self.plan.params.settle_retry + CLIENTS_END_WITHIN;
        if timeout(bound, self.tracker.wait()).await.is_err() {
            self.driver.ledger.violation("I8: the tracker does not drain".to_owned());
        }
        self.landings.close();
        self.landings.wait().await;
        self.tracker.reopen();
        self.driver.ledger.note(&"world", &"drained");
        sleep(self.plan.params.lease + Duration::from_millis(10)).await;
    }

    /// Liveness: nothing stays in flight, and what was answered is recorded.
    async fn check_ends(&self) {
        look(&self.driver.ledger, &self.driver.store, self.plan.keys).await;
        for key in 0..self.plan.keys {
            let id = id(key);
            let entry = self.driver.store.lookup(&id).await.unwrap();
            let ledger = &self.driver.ledger;
            if entry.as_ref().is_some_and(|entry| entry.state == State::InFlight) {
                ledger.violation(format!("liveness: key {key} is still in flight"));
            }
            let heals = self.plan.params.max_pending_writes > 100
                && self.plan.params.settle_retry > Duration::from_secs(60)
                && self.plan.on_unknown == OnUnknown::Reject;
            let answered = ledger.pages().dispatches.iter().any(|sent| {
                sent.presented.id == id && sent.settled_as_answered && sent.at.elapsed() < self.plan.ttl
            });
            let completed = entry.is_some_and(|entry| matches!(entry.state, State::Completed { .. }));
            if heals && answered && !completed {
                ledger.violation(format!("I5: the answer for key {key} was never recorded"));
            }
        }
    }

    /// Beyond the ttl the same keys may run again, and do.
    async fn outlive_the_ttl(&self) {
        sleep(self.plan.ttl + Duration::from_secs(1)).await;
        let before: Vec<_> =
            self.driver.ledger.pages().dispatches.iter().map(|sent| sent.presented.id).collect();
        for key in 0..self.plan.keys {
            if self.driver.store.lookup(&id(key)).await.unwrap().is_some() {
                self.driver.ledger.violation(format!("liveness: key {key} outlives its ttl"));
            }
        }
        self.driver.ledger.note(&"world", &"the ttl is over");
        let clients: Vec<_> = {
            let mut rng = self.rng.lock().unwrap();
            (0..self.plan.keys * 3)
                .map(|_| {
                    let client = self.plan.client(&mut rng);
                    Client { starts_after: client.starts_after.min(self.plan.ttl / 2), ..client }
                })
                .collect()
        };
        self.clients(clients.iter()).await;
        self.drain().await;
        for client in &clients {
            let id = client.presented.id;
            let runs = self
                .driver
                .ledger
                .pages()
                .dispatches
                .iter()
                .skip(before.len())
                .filter(|sent| sent.presented.id == id)
                .count();
            if runs > 1 || (runs == 0 && self.plan.max_entries >= self.plan.keys) {
                self.driver.ledger.violation(format!("liveness: {runs} runs of {id:?} after the ttl"));
            }
        }
        look(&self.driver.ledger, &self.driver.store, self.plan.keys).await;
    }
}

fn id(key: u64) -> RequestId {
    let mut bytes = [0; 32];
    bytes[0] = u8::try_from(key).unwrap();
    RequestId::from_bytes(bytes)
}

async fn look(ledger: &Ledger, store: &Arc<dyn Store>, keys: u64) {
    for key in 0..keys {
        ledger.observe(&id(key), store.lookup(&id(key)).await.unwrap());
    }
}

/// A client that tries again until it has an answer, or enough.
struct Life {
    plan: Arc<Plan>,
    driver: Arc<Driver>,
    tracker: TaskTracker,
    rules: oncegate::guard::Rules,
    presented: oncegate::idempotency::Presented,
    streams: bool,
    guard: usize,
    starts_after: Duration,
    tries: usize,
    rng: Rng,
    index: usize,
}

impl Life {
    async fn live(mut self) {
        sleep(self.starts_after).await;
        for number in 0..self.tries {
            let by = Try { client: self.index, number };
            let attempted = self.plan.attempt(&mut self.rng);
            let (driver, rules) = (self.driver.clone(), self.rules.clone());
            let (guard, presented, streams) = (self.guard, self.presented, self.streams);
            let work = async move { driver.serve(by, guard, (presented, streams), rules, attempted).await };
            let work = self.tracker.spawn(TRY.scope(by, work));
            // The work goes on without a client that hangs up.
            let patience = if self.rng.percent(80) { CLIENTS_END_WITHIN } else { self.rng.millis(1, 2_000) };
            let response = match timeout(patience, work).await {
                Ok(joined) => joined.unwrap_or(Response::Broken),
                Err(_) => {
                    self.driver.ledger.note(&by, &"hangs up");
                    Response::Broken
                }
            };
            if !self.goes_on(&response) {
                return;
            }
            sleep(self.rng.millis(1, 3_000)).await;
        }
    }

    fn goes_on(&mut self, response: &Response) -> bool {
        match response {
            Response::Refused | Response::Broken | Response::Standing(Verdict::InFlight) => true,
            Response::Own | Response::Standing(_) => self.rng.percent(40),
        }
    }
}

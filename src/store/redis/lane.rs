//! A connection that is always there, or on its way.
//!
//! Owns reconnecting: one task a lane dials, with pauses that grow and are never the same on two replicas.
//! Whoever needs the connection meanwhile waits for it as long as his own deadline allows, and not beside too many others.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, RedisError, ServerErrorKind, Value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::connect::Connection;
use super::health::{Health, Who};
use super::load::Load;
use super::params::RedisParams;
use super::script::Call;
use super::{judged, unavailable};
use crate::store::StoreError;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Between two connections that both broke at once.
const LONGEST_BREATH: Duration = Duration::from_millis(500);

/// A connection that lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(5);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection on which nothing came back for so long, though something was asked, is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// What the connections of a store have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) params: Arc<RedisParams>,
    pub(super) health: Arc<Health>,
    /// Those who may wait for a connection, on all lanes together.
    pub(super) waiting: Arc<Semaphore>,
    /// Tells all others at once that one connection was made, so that none of them sleeps on.
    pub(super) reached: Arc<Notify>,
}

/// A connection and its keeper.
pub(super) struct Lane {
    current: watch::Receiver<Option<Live>>,
    /// The generations up to which connections were found to be broken.
    broken: watch::Sender<u64>,
    waiting: Arc<Semaphore>,
    load: Load,
}

/// A connection that was not found to be broken yet.
#[derive(Clone)]
struct Live {
    connection: Connection,
    generation: u64,
    heard: watch::Sender<Instant>,
}

/// Gives the connection up when dropped before the answer came.
struct Alone<'a> {
    lane: &'a Lane,
    is_answered: bool,
}

impl Shared {
    pub(super) fn new(params: Arc<RedisParams>) -> Self {
        let waiting = Arc::new(Semaphore::new(params.max_waiting.min(Semaphore::MAX_PERMITS)));
        Self { params, health: Arc::default(), waiting, reached: Arc::default() }
    }
}

impl Lane {
    /// A lane whose keeper runs on `tasks` until the lane is dropped.
    pub(super) fn open(shared: &Shared, who: Who, tasks: &TaskTracker) -> Self {
        let (live, current) = watch::channel(None);
        let (broken, found_broken) = watch::channel(0);
        let waiting = Arc::clone(&shared.waiting);
        drop(tasks.spawn(keep(shared.clone(), who, live, found_broken)));
        Self { current, broken, waiting, load: Load::default() }
    }

    /// Whether a call would be answered at once, as far as can be seen.
    pub(super) fn is_free(&self) -> bool {
        let bears_more = |live: &Live| self.load.bears_more(|| *live.heard.borrow());
        self.current.borrow().as_ref().is_some_and(bears_more)
    }

    /// Returns once there is a connection, or after `patience`.
    pub(super) async fn connected(&self, patience: Duration) -> Result<(), StoreError> {
        self.live(0, Instant::now() + patience).await.map(drop)
    }

    /// Calls, and waits as long as `patience` allows. What a connection that has just broken may have carried is sent again by
    /// the next one: every call bears that.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        call: &Call,
        patience: Duration,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + patience;
        let _under_way = self.load.begin();
        let mut live = self.live(0, deadline).await?;
        let mut answered = self.ask(&mut live, call, deadline).await;
        if answered.is_err() && self.is_broken(&live) && Instant::now() < deadline {
            live = self.live(live.generation, deadline).await?;
            answered = self.ask(&mut live, call, deadline).await;
        }
        redis::from_redis_value(answered?).map_err(|error| unavailable(RedisError::from(error)))
    }

    /// The same where nobody else uses the lane, and nobody may who comes before the answer: if it does not come, whoever
    /// calls next has another connection.
    pub(super) async fn call_alone<T: FromRedisValue>(
        &self,
        call: &Call,
        patience: Duration,
    ) -> Result<T, StoreError> {
        let mut alone = Alone { lane: self, is_answered: false };
        let answered = self.call(call, patience).await;
        alone.is_answered = !matches!(answered, Err(StoreError::Unavailable(_)));
        answered
    }

    async fn ask(&self, live: &mut Live, call: &Call, deadline: Instant) -> Result<Value, StoreError> {
        match timeout_at(deadline, call.run(&mut live.connection)).await {
            Ok(Ok(value)) => {
                live.heard.send_replace(Instant::now());
                Ok(value)
            }
            Ok(Err(error)) => {
                if error.code().is_some() {
                    live.heard.send_replace(Instant::now());
                }
                self.failed(live, &error);
                Err(judged(error))
            }
            Err(_) => {
                self.unanswered(live);
                Err(unavailable("no answer in time"))
            }
        }
    }

    /// A connection after that of this generation, as soon as there is one.
    async fn live(&self, after: u64, deadline: Instant) -> Result<Live, StoreError> {
        let is_next = |live: &Option<Live>| live.as_ref().is_some_and(|live| live.generation > after);
        if let Some(live) = self.current.borrow().as_ref().filter(|live| live.generation > after) {
            return Ok(live.clone());
        }
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|_| unavailable("no connection, and too many wait for one"))?;
        let mut current = self.current.clone();
        match timeout_at(deadline, current.wait_for(is_next)).await {
            Ok(found) => {
                found.ok().and_then(|found| found.clone()).ok_or_else(|| unavailable("it has ended"))
            }
            Err(_) => Err(unavailable("no connection in time")),
        }
    }

    /// To be told of every error. The connection is given up if it is the cause.
    fn failed(&self, live: &Live, error: &RedisError) {
        let demoted = matches!(
            error.kind(),
            redis::ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        if demoted || error.is_unrecoverable_error() {
            self.give_up(live);
        }
    }

    /// To be told when an answer did not come in time.
    fn unanswered(&self, live: &Live) {
        self.load.left_unanswered();
        if live.heard.borrow().elapsed() >= SILENCE {
            self.give_up(live);
        }
    }

    fn is_broken(&self, live: &Live) -> bool {
        *self.broken.borrow() >= live.generation
    }

    fn give_up(&self, live: &Live) {
        self.broken.send_if_modified(|broken| {
            let newly = *broken < live.generation;
            *broken = live.generation.max(*broken);
            newly
        });
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if let (false, Some(live)) = (self.is_answered, self.lane.current.borrow().as_ref()) {
            self.lane.give_up(live);
        }
    }
}

async fn keep(
    shared: Shared,
    who: Who,
    current: watch::Sender<Option<Live>>,
    mut broken: watch::Receiver<u64>,
) {
    let (heard, _) = watch::channel(Instant::now());
    let mut pause = FIRST_PAUSE;
    for generation in 1.. {
        let connection = tokio::select! {
            connection = reconnect(&shared, who) => connection,
            () = current.closed() => return,
        };
        let begun = Instant::now();
        heard.send_replace(begun);
        current.send_replace(Some(Live { connection, generation, heard: heard.clone() }));
        if broken.wait_for(|broken| *broken >= generation).await.is_err() {
            return;
        }
        current.send_replace(None);
        // A server that takes connections and ends them, or lets nobody write, is not dialled at the pace of requests.
        if begun.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        } else {
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                () = current.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_BREATH);
        }
    }
}

async fn reconnect(shared: &Shared, who: Who) -> Connection {
    let mut pause = FIRST_PAUSE;
    loop {
        let reached = shared.reached.notified();
        let begun = Instant::now();
        match Connection::open(&shared.params).await {
            Ok(connection) => {
                shared.health.found(who);
                shared.reached.notify_waiters();
                return connection;
            }
            Err(error) => shared.health.lost(who, begun, &error),
        }
        tokio::select! {
            () = sleep(jittered(pause)) => {}
            () = reached => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between a half and the whole of `pause`.
pub(super) fn jittered(pause: Duration) -> Duration {
    let share = getrandom::u32().map_or(0, |random| random % 512);
    pause / 2 + pause * share / 1024
}

//! A connection that is always there, or on its way.
//!
//! Owns reconnecting: one task a lane dials, with pauses that grow and are never the same on two replicas, and says so once.
//! Whoever needs the connection meanwhile waits for it as long as his own deadline allows.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, RedisResult, ServerErrorKind};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::connect::Connection;
use super::params::RedisParams;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection on which nothing came back for so long, though something was asked, is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection and its keeper.
pub(super) struct Lane {
    current: watch::Receiver<Option<Live>>,
    /// The generations up to which connections were found to be broken.
    broken: watch::Sender<u64>,
}

/// A connection that was not found to be broken yet.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: Connection,
    generation: u64,
    heard: watch::Sender<Instant>,
}

impl Lane {
    /// A lane whose keeper runs on `tasks` until the lane is dropped.
    pub(super) fn open(params: Arc<RedisParams>, number: usize, tasks: &TaskTracker) -> Self {
        let (live, current) = watch::channel(None);
        let (broken, found_broken) = watch::channel(0);
        drop(tasks.spawn(keep(params, number, live, found_broken)));
        Self { current, broken }
    }

    /// The connection, as soon as there is one. To be bounded by the caller.
    pub(super) async fn live(&self) -> RedisResult<Live> {
        let mut current = self.current.clone();
        match current.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(live)) => Ok(live.clone()),
            Ok(None) | Err(_) => Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into()),
        }
    }

    /// To be told of every answer.
    pub(super) fn heard(&self, live: &Live) {
        live.heard.send_replace(Instant::now());
    }

    /// To be told of every error. The connection is given up if it is the cause.
    pub(super) fn failed(&self, live: &Live, error: &RedisError) {
        let demoted = matches!(
            error.kind(),
            redis::ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        if demoted || error.is_unrecoverable_error() {
            self.give_up(live);
        }
    }

    /// To be told when an answer did not come in time.
    pub(super) fn unanswered(&self, live: &Live) {
        if live.heard.borrow().elapsed() >= SILENCE {
            self.give_up(live);
        }
    }

    fn give_up(&self, live: &Live) {
        self.broken.send_if_modified(|broken| {
            let newly = *broken < live.generation;
            *broken = live.generation.max(*broken);
            newly
        });
    }
}

async fn keep(
    params: Arc<RedisParams>,
    number: usize,
    current: watch::Sender<Option<Live>>,
    mut broken: watch::Receiver<u64>,
) {
    let (heard, _) = watch::channel(Instant::now());
    for generation in 1.. {
        let connection = tokio::select! {
            connection = reconnect(&params, number) => connection,
            () = current.closed() => return,
        };
        heard.send_replace(Instant::now());
        current.send_replace(Some(Live { connection, generation, heard: heard.clone() }));
        if broken.wait_for(|broken| *broken >= generation).await.is_err() {
            return;
        }
        current.send_replace(None);
    }
}

async fn reconnect(params: &RedisParams, number: usize) -> Connection {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        match Connection::open(params).await {
            Ok(connection) => {
                if told {
                    info!(connection = number, "the store is connected again");
                }
                return connection;
            }
            Err(error) if !told => {
                warn!(connection = number, %error, "the store is not reached; it is tried again and again");
                told = true;
            }
            Err(_) => {}
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between a half and the whole of `pause`.
pub(super) fn jittered(pause: Duration) -> Duration {
    let share = getrandom::u32().map_or(0, |random| random % 512);
    pause / 2 + pause * share / 1024
}

//! Idle connections to one endpoint.
//!
//! Owns their number and their age. The latest to come is the first to go, so that those that are not needed grow old and
//! are closed. A connection is only ever used by one request at a time: it leaves the pool to be used.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::proxy::body::RequestBody;
use crate::proxy::socket::Probe;

/// From here on a connection may be about to be closed by its upstream. Servers keep idle ones for a second or more, but on a
/// busy machine time passes between an answer's end and its being read, and between here and the write.
const STALE_IDLE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Pool {
    max_idle_connections: usize,
    max_age: Duration,
    idle: Mutex<VecDeque<Idle>>,
}

/// A connection that no request uses.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) probe: Probe,
    /// When it was made.
    pub(super) since: Instant,
    /// Whether it was idle for so long that it is looked at once more, right before it is written to.
    pub(super) is_stale: bool,
}

/// Which idle connections a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Reuse {
    /// None that was idle for longer.
    pub max_idle: Duration,
    /// One that was idle for less is not looked at again: hyper has just done so.
    pub trusted_idle: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    until: Instant,
}

impl Pool {
    pub(super) const fn new(max_idle_connections: usize, max_age: Duration) -> Self {
        Self { max_idle_connections, max_age, idle: Mutex::new(VecDeque::new()) }
    }

    /// The connection that was idle for the shortest time, if `reuse` permits. Connections that still end their last exchange
    /// are passed over.
    pub(super) fn take(&self, reuse: Reuse) -> Option<Connection> {
        let now = Instant::now();
        loop {
            let Idle { connection, since, .. } = self.latest_ready(reuse.max_idle, now)?;
            let idle = now.duration_since(since);
            // Looked at outside the lock: it is a system call.
            if idle < reuse.trusted_idle || connection.probe.is_quiet() {
                return Some(Connection { is_stale: idle >= STALE_IDLE, ..connection });
            }
        }
    }

    /// Keeps the connection for `keep`, unless it is too old. It may still have to end its last exchange.
    pub(super) fn give_back(&self, connection: Connection, keep: Duration) {
        let since = Instant::now();
        if since.duration_since(connection.since) > self.max_age {
            return;
        }
        let mut idle = self.lock();
        if idle.len() >= self.max_idle_connections {
            idle.pop_front();
        }
        if self.max_idle_connections > 0 && !connection.sender.is_closed() {
            idle.push_back(Idle { connection, since, until: since + keep });
        }
    }

    /// Closes the connection that was idle for the longest time, if there is one.
    pub(super) fn drop_idle(&self) -> bool {
        self.lock().pop_front().is_some()
    }

    /// Drops the connections that are closed or were idle for too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|idle| idle.until > now && !idle.connection.sender.is_closed());
    }

    fn latest_ready(&self, max_idle: Duration, now: Instant) -> Option<Idle> {
        let mut idle = self.lock();
        let mut index = idle.len();
        while let Some(latest) = index.checked_sub(1).and_then(|below| idle.get(below)) {
            index -= 1;
            if now.duration_since(latest.since) > max_idle {
                return None;
            }
            let is_alive = latest.until > now && !latest.connection.sender.is_closed();
            if is_alive && !latest.connection.sender.is_ready() {
                continue;
            }
            if let Some(taken) = idle.remove(index).filter(|_| is_alive) {
                return Some(taken);
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

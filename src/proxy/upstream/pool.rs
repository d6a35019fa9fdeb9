//! Idle connections to one endpoint.
//!
//! Owns their number and their age. The latest to come is the first to go, so that those that are not needed grow old and
//! are closed. A connection is only ever used by one request at a time: it leaves the pool to be used.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::proxy::body::RequestBody;
use crate::proxy::socket::Probe;

/// How long a connection may take to become ready again after its response has ended.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pool {
    max_idle_connections: usize,
    idle: Mutex<VecDeque<Idle>>,
}

/// A connection that no request uses.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) probe: Probe,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    until: Instant,
}

impl Connection {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && self.sender.is_ready() && self.probe.is_quiet()
    }
}

impl Pool {
    pub(super) const fn new(max_idle_connections: usize) -> Self {
        Self { max_idle_connections, idle: Mutex::new(VecDeque::new()) }
    }

    /// The connection that was idle for the shortest time, if that was no longer than `max_idle`.
    pub(super) fn take(&self, max_idle: Duration) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.lock();
        while let Some(latest) = idle.pop_back() {
            if latest.until <= now || !latest.connection.is_usable() {
                continue;
            }
            if now.duration_since(latest.since) > max_idle {
                idle.push_back(latest);
                return None;
            }
            return Some(latest.connection);
        }
        None
    }

    /// Keeps the connection for `keep`, as soon as it is ready for another request.
    pub(super) fn give_back(self: Arc<Self>, mut connection: Connection, keep: Duration) {
        if connection.sender.is_closed() {
            return;
        }
        if connection.sender.is_ready() {
            self.put(connection, keep);
            return;
        }
        let until_ready = async move {
            if let Ok(Ok(())) = timeout(READY_TIMEOUT, connection.sender.ready()).await {
                self.put(connection, keep);
            }
        };
        // Shutdown need not wait for an idle connection.
        drop(TaskTracker::new().spawn(until_ready));
    }

    /// Drops the connections that are closed or were idle for too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|idle| idle.until > now && !idle.connection.sender.is_closed());
    }

    fn put(&self, connection: Connection, keep: Duration) {
        let since = Instant::now();
        let mut idle = self.lock();
        if idle.len() >= self.max_idle_connections {
            idle.pop_front();
        }
        if self.max_idle_connections > 0 {
            idle.push_back(Idle { connection, since, until: since + keep });
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

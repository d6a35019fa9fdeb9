//! One endpoint: its connections, and how many there may be.
//!
//! A request takes a connection that is idle, or on which it has room beside others; else one is made, within the bound.
//! Where the bound is reached it waits for what comes back first: a connection, or the place of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Uri};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::balance::Standing;
use super::connect::{Connector, Fresh};
use super::http2;
use super::pool::{self, Pool, Reuse};
use super::tls::Tls;
use crate::idempotency::NotSentCause;
use crate::proxy::body::RequestBody;
use crate::proxy::policy::{self, UpstreamHost};

/// An endpoint and its connections.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) connector: Connector,
    pub(super) standing: Standing,
    /// The `Host` that it sees, where it is not the client's.
    pub(super) host: Option<HeaderValue>,
    pub(super) authority: String,
    /// What it is called in metrics.
    pub(super) label: Arc<str>,
    pub(super) scheme: Scheme,
    base_path: String,
    idle: Pool,
    multiplexed: Arc<http2::Connections>,
    connect_timeout: Duration,
    max_connections: usize,
    places: Arc<Semaphore>,
    /// One connection that may turn out to carry many requests is made at a time: those who wait may not need their own.
    dialing: Semaphore,
    /// How many requests wait for a connection or a place.
    waiting: AtomicUsize,
    returned: Notify,
}

/// A connection for one request.
#[derive(Debug)]
pub(super) enum Connection {
    /// The whole of it.
    Http1(pool::Connection),
    /// A stream on it.
    Http2(http2::Stream),
}

/// A connection, and whether it was made for this request.
pub(super) struct Found {
    pub(super) connection: Connection,
    pub(super) is_fresh: bool,
}

/// The target is longer than a target can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLong;

enum Room {
    Place(OwnedSemaphorePermit),
    Connection(Connection),
}

/// Counts a request that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Endpoint {
    pub(super) fn new(endpoint: &policy::Endpoint, params: &policy::Upstream, tls: Option<Tls>) -> Self {
        Self {
            connector: Connector::new(endpoint, params, tls),
            standing: Standing::default(),
            host: match params.host {
                UpstreamHost::Client => None,
                UpstreamHost::Endpoint => HeaderValue::from_str(&endpoint.authority).ok(),
            },
            authority: endpoint.authority.clone(),
            label: label(endpoint).into(),
            scheme: if endpoint.is_tls { Scheme::HTTPS } else { Scheme::HTTP },
            base_path: endpoint.base_path.clone(),
            idle: Pool::new(params.max_idle_connections, params.max_connection_age),
            multiplexed: http2::Connections::new(params),
            connect_timeout: params.connect_timeout,
            max_connections: params.max_connections.min(Semaphore::MAX_PERMITS),
            places: Arc::new(Semaphore::new(params.max_connections.min(Semaphore::MAX_PERMITS))),
            dialing: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            returned: Notify::new(),
        }
    }

    /// A connection that is there already, if `reuse` permits.
    pub(super) fn take(&self, reuse: Reuse, http1_only: bool) -> Option<Connection> {
        if self.connector.may_multiplex()
            && !http1_only
            && let Some(stream) = self.multiplexed.take(reuse.max_idle)
        {
            return Some(Connection::Http2(stream));
        }
        self.idle.take(reuse).map(Connection::Http1)
    }

    /// A connection, made now if none comes back first.
    pub(super) async fn connect(&self, reuse: Reuse, http1_only: bool) -> Result<Found, NotSentCause> {
        let deadline = Instant::now() + self.connect_timeout;
        let reused = |connection| Ok(Found { connection, is_fresh: false });
        let _dialing = if self.connector.may_multiplex() && !http1_only {
            let turn = timeout_at(deadline, self.dialing.acquire()).await;
            if let Some(connection) = self.take(reuse, http1_only) {
                return reused(connection);
            }
            Some(turn.map_err(|_| NotSentCause::ConnectTimeout)?)
        } else {
            None
        };
        let place = match self.room(reuse, http1_only, deadline).await? {
            Room::Place(place) => place,
            Room::Connection(connection) => return reused(connection),
        };
        let connection = match self.connector.connect(Some(place), http1_only, deadline).await? {
            Fresh::Http1(connection) => Connection::Http1(connection),
            Fresh::Http2(connection) => Connection::Http2(self.multiplexed.add(connection)),
        };
        Ok(Found { connection, is_fresh: true })
    }

    /// How many connections there are, and are being made.
    pub(super) fn connections(&self) -> usize {
        self.max_connections.saturating_sub(self.places.available_permits())
    }

    pub(super) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Takes back a connection at the end of an exchange, and keeps it for `keep`.
    pub(super) fn give_back(&self, connection: Connection, keep: Duration) {
        match connection {
            Connection::Http1(connection) => self.idle.give_back(connection, keep),
            Connection::Http2(stream) => drop(stream),
        }
    }

    /// Tells one of those who wait that a request has ended: its connection may have room now.
    pub(super) fn tell_returned(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.returned.notify_one();
        }
    }

    /// Closes the connections that were idle for too long.
    pub(super) fn sweep(&self) {
        self.idle.sweep();
        self.multiplexed.sweep();
    }

    /// Gives `request` the target and the `Host` that this endpoint is to see. Returns the target that it had, if that is
    /// another; fails if there is no room for the new one.
    pub(super) fn address(&self, request: &mut Request<RequestBody>) -> Result<Option<Uri>, TooLong> {
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        if self.base_path.is_empty() {
            return Ok(None);
        }
        let target = below(&self.base_path, request.uri()).ok_or(TooLong)?;
        Ok(Some(std::mem::replace(request.uri_mut(), target)))
    }

    async fn room(&self, reuse: Reuse, http1_only: bool, deadline: Instant) -> Result<Room, NotSentCause> {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return Ok(Room::Place(place));
            }
            let waiting = Waiting::begin(&self.waiting);
            // Looked at once it is known that somebody waits: what comes back from now on is told.
            if let Some(connection) = self.take(reuse, http1_only) {
                return Ok(Room::Connection(connection));
            }
            // What is idle and of no use here gives up its place.
            let _dropped = self.idle.drop_idle() || self.multiplexed.drop_idle();
            tokio::select! {
                biased;
                place = self.places.clone().acquire_owned() => {
                    return place.map(Room::Place).map_err(|_| NotSentCause::Saturated);
                }
                () = self.returned.notified() => {}
                () = sleep_until(deadline) => return Err(NotSentCause::Saturated),
            }
            drop(waiting);
        }
    }
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An endpoint's address as it is written in the file, but for its scheme.
fn label(endpoint: &policy::Endpoint) -> String {
    match &endpoint.address {
        policy::Address::Unix(path) => path.display().to_string(),
        policy::Address::Ip(_) | policy::Address::Name(..) => {
            format!("{}{}", endpoint.authority, endpoint.base_path)
        }
    }
}

/// The target below a base path: `/base` and `/v1?q` make `/base/v1?q`.
pub(super) fn below(base_path: &str, target: &Uri) -> Option<Uri> {
    let own = target.path_and_query().map_or("/", PathAndQuery::as_str);
    Uri::from_maybe_shared(format!("{base_path}{own}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_goes_before_the_target_and_changes_nothing_of_it() {
        for (target, expected) in [
            ("/", "/base/"),
            ("/v1/charges?a=%2F&b", "/base/v1/charges?a=%2F&b"),
            ("//odd/../path;x", "/base//odd/../path;x"),
        ] {
            assert_eq!(below("/base", &target.parse().unwrap()).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_target_that_would_be_too_long_is_none() {
        let target: Uri = format!("/{}", "a".repeat(65_530)).parse().unwrap();
        assert_eq!(below("/base", &target), None);
    }
}

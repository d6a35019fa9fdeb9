//! Listeners: from the socket to a request with an address.
//!
//! Owns connections, their number and their time. Knows requests only as something that the proxy answers.

mod addresses;
pub mod admin;
mod alarm;
mod connection;
pub mod framing;
mod http1;
mod http2;
pub mod metrics;
mod opening;
mod params;
mod reload;
mod stream;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use params::{
    AdminParams, CertificateParams, ClientAuthParams, Http2Params, ListenerParams, Params, TlsParams,
    TokenParams,
};
pub use reload::{Reload, ReloadRequests, Reloaded};
pub use tls::{TlsError, TlsServer};

use crate::proxy::{Background, Proxy, Quota};
use addresses::Addresses;
use connection::Connection;
use metrics::Metrics;

/// How long accepting pauses when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {cause}; is the address taken, or not this machine's?")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    cause: io::Error,
}

/// Opens a listener.
///
/// # Errors
///
/// [`BindError`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|cause| BindError { address, cause })
}

/// What all listeners for requests share.
#[derive(Debug)]
pub struct Server {
    /// What new connections go by.
    params: ArcSwap<Params>,
    /// What each request is handed to when it begins, and stays with to its end.
    proxy: ArcSwap<Proxy>,
    tls: Option<Arc<TlsServer>>,
    places: Arc<Semaphore>,
    /// Counts the connections that are open; `places` bounds them.
    open: Quota,
    metrics: Metrics,
    addresses: Option<Addresses>,
    connections: TaskTracker,
    background: Background,
    is_leaving: AtomicBool,
    /// As `is_leaving`, for connections that are told of it.
    leave: CancellationToken,
}

impl Server {
    /// A server that hands requests to `proxy`. `tls` is what those listeners speak that have TLS.
    #[must_use]
    pub fn new(params: Params, proxy: Arc<Proxy>, tls: Option<Arc<TlsServer>>) -> Self {
        let places = Arc::new(Semaphore::new(params.max_connections.min(Semaphore::MAX_PERMITS)));
        let addresses = params.max_connections_per_address.map(Addresses::new);
        let background = proxy.background().clone();
        Self {
            params: ArcSwap::from_pointee(params),
            proxy: ArcSwap::new(proxy),
            tls,
            open: Quota::new(places.available_permits() as u64),
            metrics: Metrics::default(),
            places,
            addresses,
            connections: TaskTracker::new(),
            background,
            is_leaving: AtomicBool::new(false),
            leave: CancellationToken::new(),
        }
    }

    /// The proxy that requests are handed to at present.
    #[must_use]
    pub fn proxy(&self) -> Arc<Proxy> {
        self.proxy.load_full()
    }

    /// The settings that hold at present.
    #[must_use]
    pub fn params(&self) -> Arc<Params> {
        self.params.load_full()
    }

    /// From now on requests are handed to `proxy`, and new connections go by `params`. What was begun goes on as it was. How
    /// many connections there may be, listeners and TLS stay what they were.
    pub fn renew(&self, params: Params, proxy: Arc<Proxy>) {
        self.params.store(Arc::new(params));
        self.proxy.store(proxy);
    }

    /// From now on connections are asked to go elsewhere: by `Connection: close` on their next answer, or by a GOAWAY. New
    /// ones are still taken.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.leave.cancel();
    }

    /// The connections under way.
    #[must_use]
    pub const fn connections(&self) -> &TaskTracker {
        &self.connections
    }

    /// Accepts connections and serves them until `stop`, and what was begun to its end, or until it is given up. As many as
    /// there are places at once: more wait in the kernel's queue.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, how: ListenerParams, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = accept(&listener, &self.places) => accepted,
            };
            let Some(accepted) = accepted else { continue };
            self.metrics.accepted.inc();
            let connection = Connection::new(accepted, self.clone(), how);
            // A token of its own: connections that all asked the same one would wait for each other.
            let stop = stop.child_token();
            drop(self.connections.spawn(connection.serve(stop)));
        }
    }
}

type Accepted = (tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            warn!(%error, "a connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

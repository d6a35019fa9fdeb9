//! Listeners: from the socket to a request with an address.
//!
//! Owns connections, their number and their time. Knows requests only as something that the proxy answers.

pub mod admin;
mod alarm;
mod connection;
pub mod framing;
mod params;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use params::Params;

use crate::proxy::Proxy;
use connection::Connection;

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

/// Accepts connections and serves them until `stop`. Connections run on `tracker`, and at most `places` at once: more wait
/// in the kernel's queue.
pub async fn serve(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    params: Arc<Params>,
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some(accepted) = accepted else { continue };
        let connection = Connection::new(accepted, proxy.clone(), &params);
        // A token of its own: connections that all asked the same one would wait for each other.
        let stop = stop.child_token();
        drop(tracker.spawn(connection.serve(stop)));
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

//! One client's connection.
//!
//! Owns its HTTP/1.1 settings, each set though hyper has a default. Drains without cutting a request: what was begun is
//! answered, and a connection that never began one is closed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::alarm::{Alarm, Deadline};
use super::framing::WatchedIo;
use super::{Accepted, Params};
use crate::proxy::request::Protocol;
use crate::proxy::socket::Socket;
use crate::proxy::upstream::HYPER_MAX_HEADERS;
use crate::proxy::{Client, Proxy};

/// How long a connection that has sent no request yet is kept while draining: its first request may be under way.
const DRAIN_LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    proxy: Arc<Proxy>,
    http1: http1::Builder,
    alarm: Alarm,
    write_timeout: Duration,
    place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new((stream, peer, place): Accepted, proxy: Arc<Proxy>, params: &Params) -> Self {
        let mut http1 = http1::Builder::new();
        let deadline = Deadline::default();
        http1
            .timer(deadline.clone())
            .header_read_timeout(params.header_timeout)
            .max_header_size(params.max_header_bytes)
            // A client may close its sending side after the request and still wants the answer.
            .half_close(true)
            .keep_alive(true);
        if params.max_headers != HYPER_MAX_HEADERS {
            http1.max_headers(params.max_headers);
        }
        let alarm = Alarm::new(deadline);
        Self { stream, peer, proxy, http1, alarm, write_timeout: params.write_timeout, place }
    }

    /// Serves requests until the client is done, or `stop`.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { stream, peer, proxy, http1, mut alarm, write_timeout, place } = self;
        let (socket, probe) = Socket::new(stream, write_timeout);
        let (io, findings) = WatchedIo::new(socket);
        let begun = AtomicBool::new(false);
        let client =
            Arc::new(Client { address: peer.ip(), connection: probe, place, tls: None, attempts: None });
        let service = service_fn(|request| {
            begun.store(true, Ordering::Relaxed);
            let reply = proxy.clone().handle(request, client.clone(), Protocol::Http1(findings.take()));
            async { Ok::<_, Infallible>(reply.await) }
        });
        let mut connection = pin!(http1.serve_connection(TokioIo::new(io), service).with_upgrades());
        let ended = tokio::select! {
            biased;
            ended = alarm.watch(connection.as_mut()) => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = alarm.watch(connection.as_mut()) => ended,
                    () = never_begins(&begun) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, client = %peer.ip(), "a connection ended");
        }
    }
}

/// Returns after the linger if no request was begun by then.
async fn never_begins(begun: &AtomicBool) {
    sleep(DRAIN_LINGER).await;
    if begun.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

//! One client's connection.
//!
//! Owns its HTTP/1.1 settings, each set though hyper has a default. Drains without cutting a request: what was begun is
//! answered, and a connection that never began one is closed.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::alarm::{Alarm, Deadline};
use super::framing::WatchedIo;
use super::http2::Http2;
use super::opening::{Opened, open};
use super::stream::Stream;
use super::{Accepted, Http2Params, ListenerParams, Params, Server};
use crate::proxy::request::Protocol;
use crate::proxy::upstream::HYPER_MAX_HEADERS;
use crate::proxy::{Client, Quota};

/// How long a connection that has sent no request yet is kept while draining: its first request may be under way.
const DRAIN_LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Connection {
    accepted: Accepted,
    server: Arc<Server>,
    how: ListenerParams,
}

impl Connection {
    pub(super) const fn new(accepted: Accepted, server: Arc<Server>, how: ListenerParams) -> Self {
        Self { accepted, server, how }
    }

    /// Serves requests until the client is done, or `stop`.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { accepted: (stream, peer, place), server, how } = self;
        let opened = tokio::select! {
            biased;
            opened = open(stream, peer.ip(), how, &server) => opened,
            () = lingered(&stop) => return,
        };
        let Opened { stream, probe, address, place_of_address, tls, is_http2 } = match opened {
            Ok(opened) => opened,
            Err(error) => return debug!(%error, peer = %peer.ip(), "a connection sent no request"),
        };
        let http2 = server.params.http2.filter(|_| is_http2);
        let client = Arc::new(Client {
            address,
            connection: if is_http2 { probe.shared() } else { probe },
            place,
            place_of_address,
            tls,
            attempts: http2.map(|limits| Quota::new(limits.max_attempts as u64)),
        });
        let ended = match http2 {
            // Boxed, so that connections of HTTP/1.1 need not hold what it needs.
            Some(limits) => Box::pin(serve_http2(stream, server, client, limits, stop)).await,
            None => serve_http1(stream, server, client, stop).await,
        };
        if let Err(error) = ended {
            debug!(%error, client = %address, "a connection ended");
        }
    }
}

async fn serve_http2(
    stream: Stream,
    server: Arc<Server>,
    client: Arc<Client>,
    limits: Http2Params,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let http2 = Http2::new(&limits, &server.params, server.connections.clone());
    http2.serve(stream, server.proxy.clone(), client, stop).await
}

async fn serve_http1(
    stream: Stream,
    server: Arc<Server>,
    client: Arc<Client>,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let (io, findings) = WatchedIo::new(stream);
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Ordering::Relaxed);
        let reply = server.proxy.clone().handle(request, client.clone(), Protocol::Http1(findings.take()));
        async { Ok::<_, Infallible>(reply.await) }
    });
    let deadline = Deadline::default();
    let http1 = http1(&server.params, deadline.clone());
    let mut alarm = Alarm::new(deadline);
    let mut connection = pin!(http1.serve_connection(TokioIo::new(io), service).with_upgrades());
    tokio::select! {
        biased;
        ended = alarm.watch(connection.as_mut()) => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = alarm.watch(connection.as_mut()) => ended,
                () = never_begins(&begun) => Ok(()),
            }
        }
    }
}

fn http1(params: &Params, deadline: Deadline) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(deadline)
        .header_read_timeout(params.header_timeout)
        .max_header_size(params.max_header_bytes)
        // A client may close its sending side after the request and still wants the answer.
        .half_close(true)
        .keep_alive(true);
    if params.max_headers != HYPER_MAX_HEADERS {
        http1.max_headers(params.max_headers);
    }
    http1
}

/// Returns after the linger if no request was begun by then.
async fn never_begins(begun: &AtomicBool) {
    sleep(DRAIN_LINGER).await;
    if begun.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

async fn lingered(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(DRAIN_LINGER).await;
}

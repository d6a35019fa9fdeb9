//! HTTP/1.1 on one connection.
//!
//! Owns hyper's settings, each set though hyper has a default. Drains without cutting a request: what was begun is answered,
//! and a connection that never began one is closed.
//!
//! hyper holds two buffers for every connection, the silent ones included. So a connection that rests between two requests is
//! taken out of hyper, and goes back with its next byte.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1::{Builder, Parts};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::alarm::{Alarm, Deadline};
use super::connection::DRAIN_LINGER;
use super::framing::WatchedIo;
use super::stream::Stream;
use super::{Params, Server};
use crate::proxy::Client;
use crate::proxy::reply::is_switch;
use crate::proxy::request::{InParts, Protocol};
use crate::proxy::upstream::{HYPER_MAX_HEADERS, hyper_buffer_bytes};

/// Serves requests until the client is done, sends none for too long, or `stop`.
pub(super) async fn serve(
    stream: Stream,
    server: &Server,
    params: &Params,
    client: Arc<Client>,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let (mut io, findings) = WatchedIo::new(stream);
    let begun = AtomicBool::new(false);
    let answer = |request| {
        begun.store(true, Ordering::Relaxed);
        let (proxy, client, protocol) = (server.proxy(), client.clone(), Protocol::Http1(findings.take()));
        let request = InParts::of(request);
        let findings = &findings;
        // The reply's future is made in its place: moving it would cost more than making it.
        async move {
            let mut response = proxy.handle(request, client, protocol).await;
            if server.is_leaving.load(Ordering::Relaxed) && !is_switch(response.status()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if is_switch(response.status()) {
                findings.end();
            }
            Ok::<_, Infallible>(response)
        }
    };
    let deadline = Deadline::new(params.header_timeout);
    let http1 = builder(params, deadline.clone());
    let mut alarm = Alarm::new(deadline);
    loop {
        let mut connection = http1.serve_connection(TokioIo::new(io), service_fn(&answer)).with_upgrades();
        let watched = alarm.watch(Pin::new(&mut connection), || findings.are_at_rest());
        tokio::select! {
            biased;
            ended = watched => {
                if let Some(ended) = ended {
                    return ended;
                }
            }
            () = stop.cancelled() => {
                let mut connection = pin!(connection);
                connection.as_mut().graceful_shutdown();
                return tokio::select! {
                    ended = alarm.watch(connection, || false) => ended.unwrap_or(Ok(())),
                    () = never_begins(&begun) => Ok(()),
                    () = server.background.given_up() => Ok(()),
                };
            }
        }
        let Some(Parts { io: rested, .. }) = connection.into_parts() else { return Ok(()) };
        tokio::select! {
            biased;
            readable = timeout(params.idle_timeout, client.connection.readable()) => {
                // What is wrong with the socket, if anything, is told to whoever reads it.
                if readable.is_err() {
                    return Ok(());
                }
            }
            () = stopped(&stop, &begun) => return Ok(()),
        }
        io = rested.into_inner();
    }
}

fn builder(params: &Params, deadline: Deadline) -> Builder {
    let mut http1 = Builder::new();
    http1
        .timer(deadline)
        .header_read_timeout(params.header_timeout)
        .max_header_size(params.max_header_bytes)
        .max_buf_size(hyper_buffer_bytes(params.max_header_bytes))
        // A client may close its sending side after the request and still wants the answer.
        .half_close(true)
        .keep_alive(true);
    if params.max_headers != HYPER_MAX_HEADERS {
        http1.max_headers(params.max_headers);
    }
    http1
}

/// Returns when a connection at rest is to be closed.
async fn stopped(stop: &CancellationToken, begun: &AtomicBool) {
    stop.cancelled().await;
    if !begun.load(Ordering::Relaxed) {
        sleep(DRAIN_LINGER).await;
    }
}

/// Returns after the linger if no request was begun by then.
async fn never_begins(begun: &AtomicBool) {
    sleep(DRAIN_LINGER).await;
    if begun.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

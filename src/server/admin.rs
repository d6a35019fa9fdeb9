//! The admin listener: whether the process lives, and whether it takes requests.
//!
//! Never on the address that clients use. Liveness depends on nothing but the process itself: a store that is down must not
//! have every replica restarted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::accept;
use crate::proxy::body::ReplyBody;
use crate::proxy::reply;

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `/livez` and `/readyz` for as long as it is polled. `ready` is the word on readiness.
pub async fn serve(listener: TcpListener, ready: Arc<AtomicBool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Not waited for: a probe has nothing to finish.
    let connections = TaskTracker::new();
    loop {
        let Some((stream, _, place)) = accept(&listener, &places).await else { continue };
        let ready = ready.clone();
        drop(connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path(), ready.load(Ordering::Relaxed));
                async { Ok::<_, Infallible>(answer) }
            });
            let mut http1 = http1::Builder::new();
            http1.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A probe that breaks off is asked again.
            http1.serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
            drop(place);
        }));
    }
}

fn answer(path: &str, ready: bool) -> Response<ReplyBody> {
    match path {
        "/livez" => reply::health(true, "alive\n"),
        "/readyz" => reply::health(ready, if ready { "ready\n" } else { "draining\n" }),
        _ => reply::nothing_here(),
    }
}

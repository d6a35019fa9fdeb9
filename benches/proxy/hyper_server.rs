//! A bare hyper server that answers every POST from memory: the back end of every proxy, and a row of its own, since no
//! replay can cost less.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::Result;

/// The length of every answer.
pub(crate) const BODY_BYTES: usize = 1024;

/// Serves until standard input ends, so that it never outlives the benchmark. A GET answers how many POSTs there were.
pub(crate) fn serve(address: &str) -> Result<bool> {
    let address: SocketAddr = address.parse()?;
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(0);
    });
    // The flavour, the number of workers and the socket options are Oncegate's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(accept(address))
}

async fn accept(address: SocketAddr) -> Result<bool> {
    let listener = TcpListener::bind(address).await?;
    let posts = Arc::new(AtomicU64::new(0));
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (posts, body) = (posts.clone(), body.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, posts.clone(), body.clone()));
            // A connection that breaks shows in wrk's count of errors.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    posts: Arc<AtomicU64>,
    body: Bytes,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::POST {
        let count = posts.load(Ordering::Relaxed).to_string();
        return Ok(Response::new(Full::from(count)));
    }
    posts.fetch_add(1, Ordering::Relaxed);
    let mut response = Response::new(Full::new(body));
    if request.into_body().collect().await.is_err() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::SERVER, "legacy/2.4.1 (Unix)"),
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::LOCATION, "/v1/charges/ch_3PqLkE2eZvKYlo2C1ZpXo7aN"),
        (header::CACHE_CONTROL, "no-cache, no-store"),
        (header::VARY, "Origin"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=63072000"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    // hyper adds Content-Length and Date.
    Ok(response)
}

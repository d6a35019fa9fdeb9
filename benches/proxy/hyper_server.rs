//! Two servers made of hyper and nothing else. One answers every POST from memory: the back end of every proxy, and a row
//! of its own, since no replay can cost less. The other passes every request on: no proxy on hyper can cost less.

use std::convert::Infallible;
use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::Result;

/// The length of every answer.
pub(crate) const BODY_BYTES: usize = 1024;

/// Serves on `address`, from memory or from `upstream`, until standard input ends: it never outlives the benchmark.
pub(crate) fn serve(address: &str, upstream: Option<&str>) -> Result<bool> {
    let address: SocketAddr = address.parse()?;
    let upstream: Option<SocketAddr> = upstream.map(str::parse).transpose()?;
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(0);
    });
    // The flavour, the number of workers and the socket options are Oncegate's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(accept(address, upstream))
}

async fn accept(address: SocketAddr, upstream: Option<SocketAddr>) -> Result<bool> {
    let listener = TcpListener::bind(address).await?;
    let posts = Arc::new(AtomicU64::new(0));
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (posts, body, drivers) = (posts.clone(), body.clone(), connections.clone());
        connections.spawn(async move {
            // A connection that breaks shows in wrk's count of errors.
            match upstream {
                Some(upstream) => pass_on(stream, upstream, &drivers).await.unwrap_or(()),
                None => {
                    let service = service_fn(move |request| answer(request, posts.clone(), body.clone()));
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
                }
            }
        });
    }
}

/// Passes a client's requests on, over a connection of its own: no pool, no look at any field.
async fn pass_on(
    client: TcpStream,
    upstream: SocketAddr,
    drivers: &TaskTracker,
) -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    drivers.spawn(connection);
    let sender = Mutex::new(sender);
    let service = service_fn(|request: Request<Incoming>| {
        // HTTP/1.1 without pipelining: the answer before was read whole.
        lock(&sender).send_request(request)
    });
    Ok(http1::Builder::new().serve_connection(TokioIo::new(client), service).await?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A GET answers how many POSTs there were.
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

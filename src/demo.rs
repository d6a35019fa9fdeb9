//! `oncegate demo`: a small legacy API and the proxy before it, in one process, on loopback.
//!
//! The API numbers its charges, so that a duplicate would show. Everything between client and API is the real proxy with a
//! configuration like everybody's.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, BuildError};
use crate::config::{self, ConfigError};

const KEY: &str = "order-1001";
const CHARGE: &str = r#"{"amount":4200,"currency":"eur"}"#;

/// Why the demonstration did not go well.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The proxy could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The demonstration's own configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A request could not be made.
    #[error("a request could not be made: {0}")]
    Http(#[from] http::Error),
    /// An exchange failed.
    #[error("an exchange failed: {0}")]
    Hyper(#[from] hyper::Error),
    /// A socket or standard output failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The promise was not kept.
    #[error("the duplicate was not replayed, or the charge ran {executions} times")]
    NotReplayed {
        /// How often the API was charged.
        executions: u64,
    },
}

/// Sends a POST and its duplicate through the proxy and prints both. Then stays up until `end`, or returns with `once`.
///
/// # Errors
///
/// [`DemoError`]; with it the demonstration has failed.
pub async fn run(once: bool, end: impl Future<Output = ()>, out: &mut impl Write) -> Result<(), DemoError> {
    let charges = Arc::new(AtomicU64::new(0));
    let api = TcpListener::bind(("127.0.0.1", 0)).await?;
    let api_address = api.local_addr()?;
    let tracker = TaskTracker::new();
    drop(tracker.spawn(legacy_api(api, charges.clone())));
    let app = App::build(config::parse(&configuration(api_address), "demo")?.settings).await?;
    let address = app.addresses().first().copied().unwrap_or(api_address);
    let stop = CancellationToken::new();
    let (stopped, never) = (stop.clone(), std::future::pending());
    let proxy = tracker.spawn(async move { app.run(stopped.cancelled(), never).await });

    writeln!(out, "A legacy API that charges on every POST listens on http://{api_address}.")?;
    writeln!(out, "Oncegate stands before it on http://{address}.\n")?;
    let first = exchange(address, "The first POST /v1/charges", out).await?;
    let second = exchange(address, "Its duplicate: same key, same payload", out).await?;
    let executions = charges.load(Ordering::SeqCst);
    let replayed = second.headers().get("idempotent-replayed").is_some_and(|marker| marker == "true");
    writeln!(out, "The API was charged {executions} time(s).")?;
    if executions != 1 || !replayed || first.body() != second.body() || first.status() != second.status() {
        return Err(DemoError::NotReplayed { executions });
    }
    if !once {
        write!(out, "{}", to_go_on_with(address, api_address))?;
        out.flush()?;
        end.await;
    }
    stop.cancel();
    // Whatever the drain's end, the demonstration is over.
    drop(proxy.await);
    Ok(())
}

fn configuration(api: SocketAddr) -> String {
    format!(
        r#"
[server]
listen = ["127.0.0.1:0"]
shutdown_grace = "2s"
[log]
access = false
[upstreams.legacy]
endpoints = ["http://{api}"]
[[routes]]
name = "charges"
path = "/v1/charges"
upstream = "legacy"
[[routes]]
name = "everything-else"
path = "/{{*rest}}"
upstream = "legacy"
guarded = false
"#
    )
}

async fn exchange(
    address: SocketAddr,
    title: &str,
    out: &mut impl Write,
) -> Result<Response<Bytes>, DemoError> {
    writeln!(out, "# {title}")?;
    writeln!(out, "> POST /v1/charges\n> Idempotency-Key: {KEY}\n> {CHARGE}")?;
    let (mut sender, connection) =
        client::conn::http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
    let driver = TaskTracker::new();
    drop(driver.spawn(connection));
    let request = Request::post("/v1/charges")
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", KEY)
        .body(Full::new(Bytes::from_static(CHARGE.as_bytes())))?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    writeln!(out, "< {}", parts.status)?;
    for (name, value) in &parts.headers {
        writeln!(out, "< {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
    }
    writeln!(out, "< {}\n", String::from_utf8_lossy(&body).trim_end())?;
    Ok(Response::from_parts(parts, body))
}

fn to_go_on_with(proxy: SocketAddr, api: SocketAddr) -> String {
    let post = |address: SocketAddr, key: &str| {
        format!(
            "  curl -i http://{address}/v1/charges -H 'Idempotency-Key: {key}' -H 'Content-Type: application/json' -d '{CHARGE}'\n"
        )
    };
    format!(
        "\nTo go on with (Ctrl-C ends):\n{}{}  curl -i http://{proxy}/v1/charges -H 'Idempotency-Key: {KEY}' -d 'something else'    \
         # refused: 422\n  curl -i http://{proxy}/v1/charges -d '{CHARGE}'    # refused: 400, no key\n  curl -s \
         http://{proxy}/executions    # how often the API was charged\n{}",
        post(proxy, KEY),
        post(proxy, "order-1002"),
        post(api, KEY).replace('\n', "    # past the proxy: charges every time\n"),
    )
}

async fn legacy_api(listener: TcpListener, charges: Arc<AtomicU64>) {
    let connections = TaskTracker::new();
    while let Ok((stream, _)) = listener.accept().await {
        let charges = charges.clone();
        drop(connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| legacy_answer(request, charges.clone()));
            let served = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is no news to a legacy API.
            served.await.unwrap_or(());
        }));
    }
}

async fn legacy_answer(
    request: Request<Incoming>,
    charges: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let json = |builder: http::response::Builder, text: String| {
        builder.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(text)))
    };
    let answer = match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/charges") => {
            let number = charges.fetch_add(1, Ordering::SeqCst) + 1;
            let location = format!("/v1/charges/ch_{number}");
            json(
                Response::builder().status(201).header(LOCATION, location),
                format!("{{\"id\":\"ch_{number}\",\"amount\":4200}}\n"),
            )
        }
        (_, "/executions") => json(Response::builder(), format!("{}\n", charges.load(Ordering::SeqCst))),
        _ => json(Response::builder(), "{\"hint\":\"POST /v1/charges\"}\n".to_owned()),
    };
    Ok(answer.unwrap_or_default())
}

//! What the black-box tests are made of: a scripted upstream, the proxy under test, a client that speaks bytes.
//!
//! Owns no assertion about Oncegate but those of `expect`. Moments are held by gates and feeds, never by sleeping; every
//! wait has a deadline that says what it waited for.

mod client;
mod config;
mod expect;
mod faulty_store;
pub mod frames;
mod http2;
mod http2_client;
mod other_server;
mod process;
mod proxy;
mod reply;
mod request;
mod response;
mod tls;
mod tls_front;
mod tools;
mod upstream;
mod wire;

pub use client::Client;
pub use config::Config;
pub use faulty_store::{FaultyStore, Operation};
pub use http2::{Http2Upstream, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Then};
pub use http2_client::Http2Client;
pub use other_server::OtherServer;
pub use process::Process;
pub use proxy::Proxy;
pub use reply::{Gate, Reply};
pub use request::Request;
pub use response::Response;
pub use tls::Certificates;
pub use tls_front::{Authority, Front, Shaken, TlsFront};
pub use tools::tools;
pub use upstream::{DeadEndpoint, Seen, StuckEndpoint, Upstream};

use std::future::Future;
use std::process::{Command, Output};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for anything at all before it gives up.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for `future`, and says what it was if it does not come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} in vain for: {what}"),
    }
}

/// Polls until `condition` holds: for what can only be seen from outside.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain until: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a program of other make beside the test, to its end.
pub async fn run(program: &'static str, arguments: Vec<String>) -> Output {
    let run = spawn_blocking(move || {
        tools();
        Command::new(program).args(arguments).output()
    });
    // Installing may take longer than anything else does.
    run.await.expect("no panic").unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs one side of a test beside the test itself.
#[expect(
    clippy::disallowed_methods,
    reason = "the other end of a test's socket is no work that a shutdown waits for"
)]
pub fn aside<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

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
mod log;
mod metrics;
mod other_server;
mod process;
mod proxy;
mod redis_store;
mod reply;
mod request;
mod response;
mod store;
mod tls;
mod tls_front;
mod upstream;
mod wire;

pub use client::Client;
pub use config::Config;
pub use faulty_store::{FaultyStore, Operation};
pub use http2::{Http2Upstream, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Then};
pub use http2_client::{Http2Client, Http2Stream};
pub use log::Log;
pub use metrics::Metrics;
pub use other_server::OtherServer;
pub use process::{Process, Running};
pub use proxy::Proxy;
pub use redis_store::Way;
pub use reply::{Gate, Reply};
pub use request::Request;
pub use response::Response;
pub use tls_front::{Authority, Front, Shaken, TlsFront};
pub use upstream::{DeadEndpoint, Seen, StuckEndpoint, Upstream};
pub use wire::{Framing, Head, Wire};

pub use crate::servers::{Certificates, aside, eventually, tools, within};

use std::process::{Command, Output};

use tokio::task::spawn_blocking;

/// Runs a program of other make beside the test, to its end.
pub async fn run(program: &'static str, arguments: Vec<String>) -> Output {
    let run = spawn_blocking(move || {
        tools();
        Command::new(program).args(arguments).output()
    });
    // Installing may take longer than anything else does.
    run.await.expect("no panic").unwrap_or_else(|error| panic!("{program}: {error}"))
}

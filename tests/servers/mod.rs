//! Servers that tests run against: Redis and Valkey, alone, under Sentinel and as a cluster, each a process of its own.
//!
//! Shared by test binaries, so it knows nothing of either. A server listens on a port of its own, takes nobody without the
//! password, keeps its files in a folder of its own, and ends with the test binary at the latest. `shared` has the ones that
//! all tests of a binary use; whoever stops or breaks a server starts one for itself, and the types see to that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stderr, reason = "a test says what it skips")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(dead_code, unused_imports, reason = "each test binary compiles all of it and uses its part")]

mod certificates;
mod cluster;
mod ports;
mod relay;
mod sentinels;
mod server;
mod settings;
pub mod shared;
mod supervised;
mod tools;

pub use certificates::{Certificate, Certificates};
pub use cluster::Cluster;
pub use ports::free_address;
pub use relay::Relay;
pub use sentinels::Sentinels;
pub use server::{Launch, Make, PASSWORD, PASSWORD_FILE, Server, USER};
pub use settings::store_section;
pub use supervised::Supervised;
pub use tools::tools;

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for anything at all before it gives up.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often is looked again for what can only be seen from outside.
const POLL: Duration = Duration::from_millis(5);

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
        sleep(POLL).await;
    }
}

/// Runs one side of a test beside the test itself.
#[expect(
    clippy::disallowed_methods,
    reason = "the other end of a test's socket is no work that a shutdown waits for"
)]
pub fn aside<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

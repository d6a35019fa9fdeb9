//! The replicas: the program as processes of its own, each with a wire of its own to Redis.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::servers::{Relay, Server, Supervised, USER, free_address, within};

/// The shortest there is: a replica that pauses loses its leases.
pub const LEASE: Duration = Duration::from_secs(1);

/// Of one operation of the store.
pub const STORE_TIMEOUT: Duration = Duration::from_millis(250);

/// For how long a request waits for another on `/v1/patient`.
const WAIT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a replica that was started may take to listen before it is started again.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// A replica, which ends when dropped.
#[derive(Debug)]
pub struct Replica {
    pub number: usize,
    pub redis: Relay,
    address: SocketAddr,
    admin: SocketAddr,
    process: Supervised,
}

impl Replica {
    /// Starts it before `upstream`.
    pub async fn start(number: usize, redis: &Server, upstream: SocketAddr) -> Self {
        let store = format!("lease = \"{LEASE:?}\"\ntimeout = \"{STORE_TIMEOUT:?}\"");
        Self::start_with(number, redis, upstream, ("shutdown_grace = \"2s\"", &store)).await
    }

    /// As `start`, with these lines in `[server]` and in `[store]`.
    pub async fn start_with(
        number: usize,
        redis: &Server,
        upstream: SocketAddr,
        (server, store): (&str, &str),
    ) -> Self {
        let (address, admin) = (free_address(), free_address());
        let relay = Relay::before(redis.address()).await;
        let folder = tempfile::tempdir().expect("a folder").keep();
        let config = folder.join("proxy.toml");
        let password = redis.path("password");
        let text = format!(
            r#"
[server]
listen = ["{address}"]
{server}
[admin]
listen = "{admin}"
[log]
access = false
[store]
kind = "redis"
url = "redis://{redis}"
{store}
[store.redis]
username = "{USER}"
password_file = "{password}"
[upstreams.legacy]
endpoints = ["http://{upstream}"]
[[routes]]
name = "charges"
path = "/v1/charges"
upstream = "legacy"
[[routes]]
name = "patient"
path = "/v1/patient"
upstream = "legacy"
on_in_flight = "wait"
wait_timeout = "{WAIT_TIMEOUT:?}"
"#,
            redis = relay.address(),
            password = password.display(),
        );
        fs::write(&config, text).expect("a file");
        let config = config.to_str().expect("a plain path");
        let program = Path::new(env!("CARGO_BIN_EXE_oncegate"));
        let process = Supervised::new(&folder, program, &["run", "--config", config]);
        let mut replica = Self { number, redis: relay, address, admin, process };
        replica.restart().await;
        replica
    }

    /// Where it listens, be it up or down.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it says how it is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Ends it without a chance to say anything.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
    }

    pub fn pause(&mut self) {
        self.process.signal("STOP");
    }

    pub fn resume(&mut self) {
        self.process.signal("CONT");
    }

    /// Asks it to end.
    pub fn terminate(&mut self) {
        self.process.signal("TERM");
    }

    /// Ends it if it runs, and starts it until it listens: without Redis it refuses to start, and who runs it tries again.
    pub async fn restart(&mut self) {
        let started = async {
            loop {
                self.process.signal("KILL");
                self.process.start();
                let give_up_at = Instant::now() + START_PATIENCE;
                while Instant::now() < give_up_at {
                    if TcpStream::connect(self.address).await.is_ok() {
                        return;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        within("a replica that listens", started).await;
    }

    /// Whether it does not run any more.
    pub fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

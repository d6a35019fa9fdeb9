//! A primary, its replicas, and three sentinels of which two must agree.
//!
//! Replicas log in as a user of their own. So replication can be cut at a moment that the test knows, and nothing that is
//! written afterwards reaches a replica: `cut_replication`. A wire that is cut would not do: Sentinel sends replicas to the
//! primary's own address, whichever they had.

use std::collections::HashMap;
use std::net::SocketAddr;

use redis::Value;
use tokio::time::sleep;

use super::server::{Launch, Make, PASSWORD, Server, USER};
use super::{POLL, eventually, within};

/// What the sentinels call their primary.
const NAME: &str = "oncegate-primary";

const REPLICATION_USER: &str = "replication";

/// How long a primary is silent before a sentinel takes it for down. A replica that has had no link for ten times as long is not
/// promoted, so a test has this time between cut and kill.
const DOWN_AFTER_MS: u32 = 2_000;

/// How long a step of a failover may take, and half of how long a sentinel waits after a failed one.
const FAILOVER_TIMEOUT_MS: u32 = 3_000;

/// How often sentinels ask and tell each other, in milliseconds: more often than by default, so that tests need not wait. What
/// five pings ago was heard of a replica is too old to promote it, and one that lost its primary is heard of once a second.
const HASTE: [&str; 10] = [
    "SENTINEL",
    "DEBUG",
    "INFO-PERIOD",
    "1000",
    "PUBLISH-PERIOD",
    "200",
    "ASK-PERIOD",
    "100",
    "PING-PERIOD",
    "300",
];

/// The set. All servers and sentinels know the same user and password.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinels {
    /// Returns when each sentinel knows all others, and each replica has all that the primary has.
    pub async fn start(make: Make, replicas: usize) -> Self {
        let primary = Self::server(make).start().await;
        let mut set = Self { servers: vec![primary], sentinels: Vec::new() };
        let primary = set.servers[0].address();
        for _ in 0..replicas {
            let replica = Self::server(make).with(&format!("replicaof {} {}", primary.ip(), primary.port()));
            set.servers.push(replica.start().await);
        }
        set.replicated().await;
        for _ in 0..3 {
            let lines = format!(
                "sentinel monitor {NAME} {} {} 2\nsentinel auth-user {NAME} {USER}\nsentinel auth-pass {NAME} {PASSWORD}\n\
                 sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n\
                 sentinel sentinel-user {USER}\nsentinel sentinel-pass {PASSWORD}",
                primary.ip(),
                primary.port(),
            );
            let sentinel = Launch::of(make).sentinel(&lines).start().await;
            let done: String = sentinel.command(&HASTE).await.expect("an answer");
            assert_eq!(done, "OK");
            set.sentinels.push(sentinel);
        }
        let known = async {
            while !set.is_known(replicas).await {
                sleep(POLL).await;
            }
        };
        within("sentinels that know each other and the replicas", known).await;
        set
    }

    /// What the sentinels call the primary.
    pub fn name(&self) -> &'static str {
        NAME
    }

    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The one that the sentinels take for the primary.
    pub async fn primary(&mut self) -> &mut Server {
        let address = self.primary_address().await;
        self.servers.iter_mut().find(|server| server.address() == address).expect("one of the set")
    }

    /// Waits until all replicas have all that the primary has now.
    pub async fn replicated(&mut self) {
        let replicas = self.servers.len() - 1;
        let primary = if self.sentinels.is_empty() { &mut self.servers[0] } else { self.primary().await };
        // WAIT looks at what this connection has written.
        let mut asked = redis::pipe();
        asked.cmd("PUBLISH").arg("in-step").arg("").cmd("WAIT").arg(replicas).arg(1_000);
        let in_step = async {
            loop {
                let mut connection = primary.connect().await.expect("a connection");
                let answer = asked.query_async::<(u64, usize)>(&mut connection).await.expect("an answer");
                if answer.1 == replicas {
                    return;
                }
            }
        };
        within("replicas in step", in_step).await;
    }

    /// From now on no replica gets anything, until `heal_replication`.
    pub async fn cut_replication(&mut self) {
        let primary = self.primary().await;
        let done: String =
            primary.command(&["ACL", "SETUSER", REPLICATION_USER, "off"]).await.expect("an answer");
        assert_eq!(done, "OK");
        let _closed: u64 = primary.command(&["CLIENT", "KILL", "TYPE", "replica"]).await.expect("an answer");
    }

    pub async fn heal_replication(&mut self) {
        let primary = self.primary().await;
        let done: String =
            primary.command(&["ACL", "SETUSER", REPLICATION_USER, "on"]).await.expect("an answer");
        assert_eq!(done, "OK");
    }

    /// Ends the primary, waits until a replica is in its place, and returns who was the primary.
    pub async fn fail_over(&mut self) -> SocketAddr {
        let ended = self.primary_address().await;
        self.primary().await.kill();
        eventually("there is another primary", async || self.primary_address().await != ended).await;
        let primary = self.primary().await;
        eventually("the replica is promoted", async || {
            let role: Vec<Value> = primary.command(&["ROLE"]).await.expect("an answer");
            role.first() == Some(&Value::BulkString(b"master".to_vec()))
        })
        .await;
        ended
    }

    /// Has the sentinels put a replica in the primary's place, which lives on as a replica; returns who was the primary.
    pub async fn switch_over(&mut self) -> SocketAddr {
        let before = self.primary_address().await;
        let done: String =
            self.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]).await.expect("an answer");
        assert_eq!(done, "OK");
        eventually("there is another primary", async || self.primary_address().await != before).await;
        before
    }

    /// One that is not the primary at the start.
    pub fn replica(&self) -> &Server {
        &self.servers[1]
    }

    /// The server at an address, up or down: to start a former primary again.
    pub fn server_at(&mut self, address: SocketAddr) -> &mut Server {
        self.servers.iter_mut().find(|server| server.address() == address).expect("one of the set")
    }

    /// A server of the set. Each may become the primary of the others.
    fn server(make: Make) -> Launch {
        Launch::of(make).with(&format!(
            "user {REPLICATION_USER} on >{PASSWORD} +psync +replconf +ping\n\
             masteruser {REPLICATION_USER}\nmasterauth {PASSWORD}\nrepl-diskless-sync-delay 0"
        ))
    }

    async fn primary_address(&self) -> SocketAddr {
        let asked = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
        let (ip, port): (String, String) = self.sentinels[0].command(&asked).await.expect("an answer");
        format!("{ip}:{port}").parse().expect("an address")
    }

    /// Whether every sentinel knows the two others and all replicas.
    async fn is_known(&self, replicas: usize) -> bool {
        for sentinel in &self.sentinels {
            let known: HashMap<String, String> =
                sentinel.command(&["SENTINEL", "MASTER", NAME]).await.expect("an answer");
            let number = |name: &str| known.get(name).map(String::as_str);
            if number("num-other-sentinels") != Some("2")
                || number("num-slaves") != Some(&replicas.to_string())
            {
                return false;
            }
        }
        true
    }
}

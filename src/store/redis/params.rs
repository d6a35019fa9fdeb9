//! What an operator may choose about the Redis store.

use std::fmt;
use std::time::Duration;

/// Where the store is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisParams {
    /// The servers.
    pub topology: Topology,
    /// TLS to every server, sentinels included; `None` for plain TCP.
    pub tls: Option<TlsParams>,
    /// How the servers are logged in to.
    pub login: Login,
    /// The database's number; a cluster has only 0.
    pub database: u32,
    /// What every key begins with.
    pub key_prefix: String,
    /// How many connections small operations share. Big answers have one more of their own.
    pub connections: usize,
    /// How long one operation may take, a reconnection included. Answers get more by their size.
    pub timeout: Duration,
    /// How long connecting, TLS and login included, may take.
    pub connect_timeout: Duration,
    /// How many operations may wait for a connection while there is none.
    pub max_waiting: usize,
    /// How many replicas have to have a claim before its request is sent.
    pub wait_replicas: u32,
    /// How long they may take.
    pub wait_timeout: Duration,
    /// How many claims may wait for them at once, each on a connection of its own.
    pub wait_connections: usize,
    /// How often the server is looked after.
    pub watch_interval: Duration,
    /// What copies of completed entries may take in memory, in bytes; 0 for none.
    pub cache_max_bytes: u64,
    /// How long a copy is kept, and so how late a release is known at the most, should no word of it arrive.
    pub cache_ttl: Duration,
}

/// The servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Standalone(Node),
    /// Whichever server the sentinels name.
    Sentinel {
        /// The sentinels, in the order in which they are asked.
        sentinels: Vec<Node>,
        /// The name under which they know the servers.
        master: String,
        /// How the sentinels are logged in to.
        login: Login,
    },
    /// Every server of a cluster that one of these belongs to.
    Cluster(Vec<Node>),
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name or IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A name and a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The ACL user; the default user if absent.
    pub username: Option<String>,
    /// Its password; no login if absent.
    pub password: Option<Password>,
}

/// A password, which never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// The files by which both sides prove who they are, as PEM text that was read already.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsParams {
    /// What the servers' certificates are signed by; the system's roots if absent.
    pub ca: Option<Vec<u8>>,
    /// The certificate and the key that the servers are shown.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Password {
    /// A password.
    #[must_use]
    pub const fn new(password: String) -> Self {
        Self(password)
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Debug for TlsParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, client) = (self.ca.is_some(), self.client.is_some());
        f.debug_struct("TlsParams").field("ca", &ca).field("client", &client).finish()
    }
}

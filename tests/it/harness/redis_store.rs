//! The Redis store before a server of a test's own, and a proxy over it.

use std::net::SocketAddr;
use std::sync::Arc;

use oncegate::config::{self, StoreSettings};
use oncegate::store::codec::Codec;
use oncegate::store::redis::RedisStore;
use oncegate::store::{Store, StoreError};

use super::{Config, Proxy, Upstream};
use crate::servers::{Cluster, PASSWORD, Sentinels, Server, USER};

/// For a machine under load: a sentinel, the primary that it names and a login are several answers.
const CONNECTS: &str = "connect_timeout = \"3s\"";

/// How the store is reached, in the words of the file.
#[derive(Clone, Debug)]
pub struct Way {
    urls: String,
    lines: String,
    of_store: String,
}

impl Way {
    /// To one server, maybe through a relay.
    pub fn to(address: SocketAddr) -> Self {
        Self::of([address], "")
    }

    pub fn to_server(server: &Server) -> Self {
        Self::to(server.address())
    }

    pub fn to_sentinels(set: &Sentinels) -> Self {
        let lines = format!(
            "sentinel_master = \"{}\"\nsentinel_username = \"{USER}\"\nsentinel_password_file = \"password\"",
            set.name()
        );
        Self::of(set.sentinels().iter().map(Server::address), &lines)
    }

    pub fn to_cluster(cluster: &Cluster) -> Self {
        Self::of(cluster.nodes().iter().map(Server::address), "cluster = true")
    }

    fn of(addresses: impl IntoIterator<Item = SocketAddr>, lines: &str) -> Self {
        let urls: Vec<String> =
            addresses.into_iter().map(|address| format!("\"redis://{address}\"")).collect();
        Self { urls: urls.join(", "), lines: lines.to_owned(), of_store: String::new() }
    }

    /// Adds lines to `[store.redis]`.
    pub fn with(mut self, lines: &str) -> Self {
        self.lines = format!("{}\n{lines}", self.lines);
        self
    }

    /// Adds lines to `[store]`, of the proxy, too.
    pub fn store(mut self, lines: &str) -> Self {
        self.of_store = format!("{}\n{lines}", self.of_store);
        self
    }

    /// The store, as the tests' user.
    pub fn open(&self) -> Arc<RedisStore> {
        self.open_as(USER, PASSWORD)
    }

    pub fn open_as(&self, user: &str, password: &str) -> Arc<RedisStore> {
        let toml = format!(
            "[store]\nkind = \"redis\"\nurl = [{}]\n{}\n[store.redis]\n{CONNECTS}\n{}\nusername = \"{user}\"\n\
             password_file = \"password\"\n[upstreams.legacy]\nendpoints = [\"http://127.0.0.1:9\"]\n\
             [[routes]]\nname = \"charges\"\npath = \"/v1/charges\"\nupstream = \"legacy\"\n",
            self.urls,
            self.of_store(),
            self.lines
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), password).unwrap();
        let file = folder.path().join("proxy.toml").display().to_string();
        let loaded = config::parse(&toml, &file).unwrap_or_else(|mistakes| panic!("{mistakes}\n{toml}"));
        let StoreSettings::Redis(params, _) = loaded.settings.store else { panic!("no Redis store") };
        Arc::new(RedisStore::new(*params, Codec::default()))
    }

    /// Why the store cannot be used.
    pub async fn setup_error(&self) -> String {
        self.setup_as(USER, PASSWORD).await.expect_err("the store should not be taken").to_string()
    }

    pub async fn setup_as(&self, user: &str, password: &str) -> Result<(), StoreError> {
        self.open_as(user, password).setup().await
    }

    /// A proxy over the store.
    pub async fn start(&self, upstream: &Upstream) -> (Proxy, Arc<RedisStore>) {
        self.start_as(Config::before(upstream)).await
    }

    pub async fn start_as(&self, config: Config) -> (Proxy, Arc<RedisStore>) {
        let store = self.open();
        let proxy = config.store(&self.of_store()).start_with_store(Arc::clone(&store) as _).await;
        (proxy, store)
    }

    /// A machine under load is slower than a server may be.
    fn of_store(&self) -> String {
        if self.of_store.contains("timeout") {
            self.of_store.clone()
        } else {
            format!("timeout = \"1s\"\n{}", self.of_store)
        }
    }
}

//! Every store keeps the contract. The memory store: under paused time, where leases end to the millisecond, and on several
//! threads, where races are races. The Redis store: against real servers of every kind.

use std::sync::Arc;
use std::time::Duration;

use oncegate::config::{self, StoreSettings};
use oncegate::store::codec::Codec;
use oncegate::store::memory::{MemoryParams, MemoryStore};
use oncegate::store::redis::RedisStore;
use oncegate::store::{Store, contract};

#[path = "servers/mod.rs"]
mod servers;

use servers::{PASSWORD, USER, shared};

const BOUND: u64 = 8;

fn memory(max_entries: u64) -> Arc<dyn Store> {
    let prune_interval = Duration::from_secs(60);
    Arc::new(MemoryStore::new(MemoryParams { max_bytes: 64 << 20, max_entries, prune_interval }))
}

#[tokio::test(start_paused = true)]
async fn the_memory_store_keeps_the_contract_to_the_millisecond() {
    contract::conformance(async || memory(10_000)).await;
    contract::conformance_at_the_bound(async || memory(BOUND), BOUND as usize).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_store_keeps_the_contract_on_several_threads() {
    let shared = memory(100_000);
    contract::conformance(async || Arc::clone(&shared)).await;
    contract::conformance_at_the_bound(async || memory(BOUND), BOUND as usize).await;
}

/// A store over servers that `lines` name, in the words of the file.
async fn redis(lines: &str) -> Arc<dyn Store> {
    let toml = format!(
        "[store]\nkind = \"redis\"\ntimeout = \"3s\"\n{lines}\nusername = \"{USER}\"\npassword_file = \"password\"\n\
         [upstreams.legacy]\nendpoints = [\"http://127.0.0.1:9\"]\n\
         [[routes]]\nname = \"charges\"\npath = \"/v1/charges\"\nupstream = \"legacy\"\n"
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
    std::fs::write(folder.path().join("records.key"), [201; 32]).unwrap();
    let file = folder.path().join("proxy.toml");
    let loaded = config::parse(&toml, &file.display().to_string()).unwrap_or_else(|error| panic!("{error}"));
    let StoreSettings::Redis(params, records) = loaded.settings.store else {
        panic!("another store than was asked for")
    };
    let store = Arc::new(RedisStore::new(*params, Codec::new(&records).unwrap()));
    store.setup().await.unwrap();
    store
}

async fn keeps_the_contract(lines: &str) {
    let store = redis(lines).await;
    contract::conformance(async || Arc::clone(&store)).await;
}

fn urls(addresses: &[std::net::SocketAddr]) -> String {
    let urls: Vec<String> = addresses.iter().map(|address| format!("\"redis://{address}\"")).collect();
    format!("url = [{}]", urls.join(", "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract() {
    let server = shared::redis().await;
    keeps_the_contract(&format!("url = \"{}\"\n[store.redis]", server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_over_tls() {
    let server = shared::redis_tls().await;
    let ca = server.path("ca.crt");
    keeps_the_contract(&format!("url = \"{}\"\n[store.redis]\ntls = {{ ca = {ca:?} }}", server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_with_sealed_and_compressed_records() {
    let server = shared::redis().await;
    keeps_the_contract(&format!(
        "url = \"{}\"\n[store.redis]\nkey_prefix = \"sealed:\"\ncompress_above = \"0B\"\n\
         encryption_keys = [{{ id = \"2026-11\", file = \"records.key\" }}]",
        server.url()
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_on_valkey() {
    let Some(server) = shared::valkey().await else { return };
    keeps_the_contract(&format!("url = \"{}\"\n[store.redis]", server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_under_sentinel() {
    let set = shared::sentinels().await;
    keeps_the_contract(&format!(
        "{}\n[store.redis]\nsentinel_master = \"{}\"\nsentinel_username = \"{USER}\"\n\
         sentinel_password_file = \"password\"",
        urls(&set.addresses()),
        set.name()
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_on_a_cluster() {
    let cluster = shared::cluster().await;
    keeps_the_contract(&format!("{}\n[store.redis]\ncluster = true", urls(&cluster.addresses()))).await;
}

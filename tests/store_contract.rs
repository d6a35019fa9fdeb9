//! Every store keeps the contract. The memory store: under paused time, where leases end to the millisecond, and on several
//! threads, where races are races. The Redis store: against real servers of every kind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use oncegate::config::{self, StoreSettings};
use oncegate::store::codec::Codec;
use oncegate::store::memory::{MemoryParams, MemoryStore};
use oncegate::store::redis::RedisStore;
use oncegate::store::{Store, contract};

#[path = "servers/mod.rs"]
mod servers;

use servers::store_section;

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

/// A store over servers of a kind, with these lines in `[store.redis]`; `None` where there are no such servers.
async fn redis(kind: &str, lines: &str) -> Option<Arc<dyn Store>> {
    let section = store_section(kind, "").await?;
    let toml = format!(
        "{section}{lines}\n[upstreams.legacy]\nendpoints = [\"http://127.0.0.1:9\"]\n\
         [[routes]]\nname = \"charges\"\npath = \"/v1/charges\"\nupstream = \"legacy\"\n"
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("records.key"), [201; 32]).unwrap();
    let file = folder.path().join("proxy.toml");
    let loaded = config::parse(&toml, &file.display().to_string()).unwrap_or_else(|error| panic!("{error}"));
    let StoreSettings::Redis(params, records) = loaded.settings.store else {
        panic!("another store than was asked for")
    };
    let store = Arc::new(RedisStore::new(*params, Codec::new(&records).unwrap()));
    store.setup().await.unwrap();
    Some(store)
}

async fn keeps_the_contract(kind: &str, lines: &str) {
    let Some(store) = redis(kind, lines).await else { return };
    contract::conformance(async || Arc::clone(&store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract() {
    keeps_the_contract("redis", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_over_tls() {
    keeps_the_contract("redis-tls", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_with_sealed_and_compressed_records() {
    let lines = "key_prefix = \"sealed:\"\ncompress_above = \"0B\"\n\
                 encryption_keys = [{ id = \"2026-11\", file = \"records.key\" }]";
    keeps_the_contract("redis", lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_on_valkey() {
    keeps_the_contract("valkey", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_under_sentinel() {
    keeps_the_contract("sentinel", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_keeps_the_contract_on_a_cluster() {
    keeps_the_contract("cluster", "").await;
}

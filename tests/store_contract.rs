//! The memory store keeps the contract: under paused time, where leases end to the millisecond, and on several threads,
//! where races are races.

use std::sync::Arc;
use std::time::Duration;

use oncegate::store::memory::{MemoryParams, MemoryStore};
use oncegate::store::{Store, contract};

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

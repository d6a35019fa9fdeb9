//! What only a memory store promises.

use std::sync::Arc;

use super::*;
use crate::idempotency::{Answer, Fingerprint};

const MINUTE: Duration = Duration::from_secs(60);

fn store(max_bytes: u64, max_entries: u64) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(MemoryParams { max_bytes, max_entries, prune_interval: MINUTE }))
}

fn id(number: u64) -> RequestId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[31] = number as u8;
    RequestId::from_bytes(bytes)
}

fn claim(number: u64) -> Claim {
    Claim {
        owner: Owner::new(number.into()),
        caller: None,
        fingerprint: Fingerprint::from_parts(1, [7; 16]),
        lease: MINUTE,
        ttl: 10 * MINUTE,
        replaces: None,
    }
}

fn answer(bytes: usize) -> Answer {
    Answer::new(201, [].into_iter(), &vec![b'a'; bytes], [].into_iter()).unwrap()
}

async fn complete(store: &MemoryStore, number: u64, answer: &Answer) {
    assert_eq!(store.insert(&id(number), &claim(number)).await.unwrap(), Insert::Inserted, "entry {number}");
    let outcome = Outcome::Completed(answer.clone());
    let update = store.update(&id(number), Owner::new(number.into()), &outcome, 10 * MINUTE).await.unwrap();
    assert!(matches!(update, Update::Applied { .. }), "entry {number}: {update:?}");
}

async fn state(store: &MemoryStore, number: u64) -> Option<State> {
    store.lookup(&id(number)).await.unwrap().map(|entry| entry.state)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_replayed_until_its_entry_expires() {
    let store = store(1 << 20, 10);
    complete(&store, 1, &answer(100)).await;
    assert_eq!(state(&store, 1).await, Some(State::Completed { status: 201, answer: Some(answer(100)) }));
    tokio::time::advance(10 * MINUTE).await;
    assert_eq!(state(&store, 1).await, None);
    assert_eq!(store.prune().await.unwrap(), 1);
    assert_eq!(store.stats(), MemoryStats { entries: 0, answers_bytes: 0, answers_evicted: 0 });
}

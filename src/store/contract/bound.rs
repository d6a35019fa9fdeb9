//! A full store refuses new keys, and nothing else.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::idempotency::{Claim, Outcome, RequestId, UnknownCause};
use crate::store::{Insert, StoreError, Write};

use super::{LONG, Subject, TICK, applied, completed, new_claim, new_claim_for, new_id, sleep};

async fn fill(subject: &Subject, max_entries: usize) -> Vec<(RequestId, Claim)> {
    let mut claims = Vec::new();
    for _ in 0..max_entries {
        let claim = new_claim();
        claims.push((subject.claimed(&claim).await, claim));
    }
    claims
}

async fn is_full(subject: &Subject) -> bool {
    matches!(subject.0.insert(&new_id(), &new_claim()).await, Err(StoreError::Full { .. }))
}

pub(super) async fn a_full_store_refuses_new_keys_only(subject: &Subject, max_entries: usize) {
    let claims = fill(subject, max_entries).await;
    assert!(is_full(subject).await, "a key beyond {max_entries} was not refused as one too many");
    for (id, claim) in &claims {
        let entry = subject.lookup(id).await.expect("a live entry had to make room");
        assert_eq!(entry.owner, claim.owner, "a full store shows another entry");
        assert_eq!(
            subject.insert(id, claim).await,
            Insert::Inserted,
            "a full store refused a claim sent again"
        );
        let duplicate = subject.insert(id, &new_claim()).await;
        assert_eq!(duplicate, Insert::Exists(entry), "a full store does not know its own");
        let unknown = Outcome::Unknown(UnknownCause::ConnectionLost);
        applied(subject.update(id, claim.owner, &unknown, LONG).await, "an update in a full store");
        let replacing = Claim { replaces: Some(claim.owner), ..new_claim() };
        assert_eq!(
            subject.insert(id, &replacing).await,
            Insert::Inserted,
            "a full store refused a replacement"
        );
        let done = completed(201, b"made");
        applied(subject.update(id, replacing.owner, &done, LONG).await, "an update in a full store");
    }
    assert!(is_full(subject).await, "a store at its bound took another key after {max_entries} updates");
}

pub(super) async fn what_is_removed_makes_room(subject: &Subject, max_entries: usize) {
    let claims = fill(subject, max_entries).await;
    for (id, claim) in &claims {
        assert_eq!(
            subject.remove(id, claim.owner).await,
            Write::Applied,
            "its owner could not remove an entry"
        );
        subject.claimed(&new_claim()).await;
        assert!(is_full(subject).await, "one entry was removed, and two found room");
    }
}

pub(super) async fn what_has_expired_makes_room(subject: &Subject, max_entries: usize) {
    // Beside an entry that stays in flight: it may not be the one that goes.
    let claim = new_claim_for(LONG, TICK);
    let in_flight = subject.claimed(&claim).await;
    for _ in 1..max_entries {
        subject.settled_as(&new_claim(), &completed(201, b"made"), 2 * TICK).await;
    }
    sleep(3).await;
    for _ in 1..max_entries {
        subject.claimed(&new_claim()).await;
    }
    assert!(is_full(subject).await, "an entry beyond the bound found room");
    let entry = subject.lookup(&in_flight).await.expect("an entry in flight had to make room");
    assert_eq!(entry.owner, claim.owner, "an entry in flight had to make room");
}

pub(super) async fn no_race_exceeds_the_bound(subject: &Subject, max_entries: usize) {
    let rivals = 2 * max_entries;
    let start = Arc::new(Barrier::new(rivals));
    let mut tasks = JoinSet::new();
    for _ in 0..rivals {
        let (subject, start) = (subject.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            subject.0.insert(&new_id(), &new_claim()).await
        });
    }
    let inserted = tasks.join_all().await.iter().filter(|insert| insert.is_ok()).count();
    assert_eq!(inserted, max_entries, "so many of {rivals} racing keys found room");
}

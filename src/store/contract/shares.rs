//! How many entries one caller may have.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::idempotency::{CallerHash, CallerShare, Claim, Outcome, UnknownCause};
use crate::store::{Insert, StoreError, Write};

use super::{LONG, Subject, TICK, applied, completed, new_claim, new_id, random, sleep};

fn new_share(max_entries: u64) -> CallerShare {
    CallerShare { caller: CallerHash::from_bytes(random()), max_entries }
}

fn claim_of(share: CallerShare) -> Claim {
    Claim { share: Some(share), ..new_claim() }
}

async fn is_full(subject: &Subject, share: CallerShare) -> bool {
    matches!(subject.0.insert(&new_id(), &claim_of(share)).await, Err(StoreError::CallerFull { .. }))
}

pub(super) async fn a_caller_with_a_full_share_gets_no_new_keys_and_keeps_his_own(subject: &Subject) {
    let share = new_share(3);
    for _ in 0..2 {
        subject.claimed(&claim_of(share)).await;
    }
    let claim = claim_of(share);
    let id = subject.claimed(&claim).await;
    assert!(is_full(subject, share).await, "a fourth key of three was not refused");
    subject.claimed(&claim_of(new_share(1))).await;
    subject.claimed(&new_claim()).await;
    assert!(
        matches!(subject.insert(&id, &claim_of(share)).await, Insert::Exists(_)),
        "his own key is not known"
    );
    assert_eq!(subject.insert(&id, &claim).await, Insert::Inserted, "his claim sent again was refused");
    let unknown = Outcome::Unknown(UnknownCause::ConnectionLost);
    applied(subject.update(&id, claim.owner, &unknown, LONG).await, "its owner's update");
    let replacing = Claim { replaces: Some(claim.owner), ..claim_of(share) };
    assert_eq!(subject.insert(&id, &replacing).await, Insert::Inserted, "a replacement was refused");
    applied(subject.update(&id, replacing.owner, &completed(201, b"made"), LONG).await, "its owner's update");
    assert!(is_full(subject, share).await, "a key was added after one was replaced and settled");
    assert_eq!(subject.remove(&id, replacing.owner).await, Write::Applied, "its owner's removal");
    subject.claimed(&claim_of(share)).await;
    assert!(is_full(subject, share).await, "one key was removed, and two found room");
}

pub(super) async fn what_has_expired_leaves_its_callers_share(subject: &Subject) {
    let share = new_share(2);
    let going = async || subject.settled_as(&claim_of(share), &completed(201, b"made"), 2 * TICK).await;
    let (id, _) = (going().await, going().await);
    sleep(3).await;
    assert_eq!(subject.insert(&id, &claim_of(share)).await, Insert::Inserted, "an expired key is not free");
    subject.claimed(&claim_of(share)).await;
    assert!(is_full(subject, share).await, "two keys have expired, and three found room");
}

pub(super) async fn a_removal_takes_no_place_from_the_next_claim(subject: &Subject) {
    let share = new_share(1);
    for _ in 0..20 {
        let (claim, next) = (claim_of(share), claim_of(share));
        let id = subject.claimed(&claim).await;
        let claimed_anew =
            async { while !matches!(subject.0.insert(&id, &next).await, Ok(Insert::Inserted)) {} };
        let (removed, ()) = tokio::join!(subject.remove(&id, claim.owner), claimed_anew);
        assert_eq!(removed, Write::Applied, "its owner's removal");
        assert!(
            is_full(subject, share).await,
            "a key was claimed anew while it was removed, and two found room"
        );
        assert_eq!(subject.remove(&id, next.owner).await, Write::Applied, "its owner's removal");
    }
}

pub(super) async fn no_race_exceeds_a_callers_share(subject: &Subject) {
    let share = new_share(5);
    let start = Arc::new(Barrier::new(16));
    let mut rivals = JoinSet::new();
    for _ in 0..16 {
        let (subject, start) = (subject.clone(), Arc::clone(&start));
        rivals.spawn(async move {
            start.wait().await;
            subject.0.insert(&new_id(), &claim_of(share)).await.is_ok()
        });
    }
    let made = rivals.join_all().await.into_iter().filter(|made| *made).count();
    assert_eq!(made, 5, "keys of a caller who may have five");
}

//! One key, many claims.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::idempotency::{Claim, Outcome, RequestId, State, UnknownCause};
use crate::store::Insert;

use super::{LONG, Subject, TICK, completed, new_claim, new_id, sleep};

const ROUNDS: usize = 20;
const RIVALS: usize = 64;

pub(super) async fn one_of_many_racing_claims_wins(subject: &Subject) {
    for _ in 0..ROUNDS {
        race(subject, new_id(), std::iter::repeat_with(new_claim).take(RIVALS)).await;
    }
}

pub(super) async fn one_of_many_racing_replacements_wins(subject: &Subject) {
    for _ in 0..ROUNDS {
        let first = new_claim();
        let unknown = Outcome::Unknown(UnknownCause::ConnectionLost);
        let id = subject.settled_as(&first, &unknown, LONG).await;
        let replacing = || Claim { replaces: Some(first.owner), ..new_claim() };
        race(subject, id, std::iter::repeat_with(replacing).take(RIVALS)).await;
        let late = subject.update(&id, first.owner, &completed(201, b"late"), LONG).await;
        assert_eq!(late, crate::store::Update::Lost, "an owner who was replaced could still update");
    }
}

/// Makes all claims at once: one is inserted, and all others get the entry that it made.
async fn race(subject: &Subject, id: RequestId, claims: impl Iterator<Item = Claim>) {
    let start = Arc::new(Barrier::new(RIVALS));
    let mut rivals = JoinSet::new();
    for claim in claims {
        let (subject, start) = (subject.clone(), Arc::clone(&start));
        rivals.spawn(async move {
            start.wait().await;
            let insert = subject.insert(&id, &claim).await;
            (claim, insert)
        });
    }
    let results = rivals.join_all().await;
    let winners: Vec<&Claim> =
        results.iter().filter(|(_, insert)| *insert == Insert::Inserted).map(|(claim, _)| claim).collect();
    let [winner] = winners.as_slice() else {
        panic!("{} of {RIVALS} racing claims were inserted, and it has to be one", winners.len());
    };
    let standing = subject.lookup(&id).await.expect("the claim that won is gone");
    assert_eq!(standing.owner, winner.owner, "another claim stands than the one that was inserted");
    assert_eq!(standing.caller, winner.caller, "the caller is not the winner's");
    assert_eq!(standing.fingerprint, winner.fingerprint, "the fingerprint is not the winner's");
    assert_eq!(standing.state, State::InFlight, "the winner's claim is not in flight");
    assert_eq!(standing.expires_at, None, "an entry in flight names a time of expiry");
    for (claim, insert) in &results {
        if let Insert::Exists(entry) = insert {
            assert_eq!(*entry, standing, "the loser {:?} got another entry than the winner's", claim.owner);
        }
    }
}

pub(super) async fn a_claim_resent_is_inserted_again(subject: &Subject) {
    let claim = new_claim();
    let id = subject.claimed(&claim).await;
    let before = subject.lookup(&id).await;
    assert_eq!(
        subject.insert(&id, &claim).await,
        Insert::Inserted,
        "a claim that was sent twice was refused"
    );
    assert_eq!(subject.lookup(&id).await, before, "a claim that was sent twice changed its entry");
}

pub(super) async fn pruning_takes_no_claim_that_was_just_made(subject: &Subject) {
    for _ in 0..ROUNDS / 4 {
        let mut ids = Vec::new();
        for _ in 0..RIVALS / 2 {
            ids.push(subject.settled_as(&new_claim(), &completed(201, b"old"), TICK).await);
        }
        sleep(2).await;
        let start = Arc::new(Barrier::new(RIVALS));
        let mut tasks = JoinSet::new();
        for id in ids {
            let (one, other) = (subject.clone(), subject.clone());
            let (here, there) = (Arc::clone(&start), Arc::clone(&start));
            tasks.spawn(async move {
                here.wait().await;
                one.prune().await;
                None
            });
            tasks.spawn(async move {
                there.wait().await;
                let claim = new_claim();
                let insert = other.insert(&id, &claim).await;
                assert_eq!(insert, Insert::Inserted, "an expired entry was in the way of a new claim");
                Some((id, claim))
            });
        }
        for (id, claim) in tasks.join_all().await.into_iter().flatten() {
            let standing =
                subject.lookup(&id).await.expect("a claim was pruned together with what it followed");
            assert_eq!(standing.owner, claim.owner, "an expired entry came back over a new claim");
            assert_eq!(standing.state, State::InFlight, "a new claim is not in flight");
        }
    }
}

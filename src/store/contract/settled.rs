//! Those who wait for another's answer. To return early is allowed, so only being late is a fault.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::idempotency::{Outcome, RequestId, UnknownCause};
use crate::store::Write;

use super::{LONG, Subject, TICK, applied, completed, is_over, new_claim, new_claim_for, new_id, sleep};

/// So late may a waiter be woken: far less than what he would wait otherwise.
const LATE: Duration = Duration::from_secs(5);

/// Waiters that stand there already when this returns.
async fn waiters(subject: &Subject, id: RequestId) -> JoinSet<()> {
    let mut waiters = JoinSet::new();
    for _ in 0..8 {
        let subject = subject.clone();
        waiters.spawn(async move { subject.settled(&id, LONG).await });
    }
    sleep(1).await;
    waiters
}

async fn all_return(waiters: JoinSet<()>, when: &str) {
    let returned = tokio::time::timeout(LATE, waiters.join_all()).await;
    assert!(returned.is_ok(), "someone still waited {LATE:?} after {when}");
}

pub(super) async fn waiters_return_when_the_entry_is_settled(subject: &Subject) {
    for outcome in [
        completed(201, b"made"),
        Outcome::NotRetained { status: 201 },
        Outcome::Unknown(UnknownCause::ConnectionLost),
    ] {
        let claim = new_claim();
        let id = subject.claimed(&claim).await;
        let waiters = waiters(subject, id).await;
        applied(subject.update(&id, claim.owner, &outcome, LONG).await, "its owner's first update");
        all_return(waiters, "the entry was settled").await;
    }
}

pub(super) async fn waiters_return_when_the_entry_is_removed(subject: &Subject) {
    let claim = new_claim();
    let id = subject.claimed(&claim).await;
    let waiters = waiters(subject, id).await;
    assert_eq!(subject.remove(&id, claim.owner).await, Write::Applied, "its owner could not remove an entry");
    all_return(waiters, "the entry was removed").await;
}

pub(super) async fn waiters_return_when_the_lease_ends(subject: &Subject) {
    let id = subject.claimed(&new_claim_for(3 * TICK, LONG)).await;
    all_return(waiters(subject, id).await, "the lease ended").await;
}

pub(super) async fn waiters_return_when_a_renewed_lease_ends(subject: &Subject) {
    let claim = new_claim_for(6 * TICK, LONG);
    let since = Instant::now();
    let id = subject.claimed(&claim).await;
    let waiters = waiters(subject, id).await;
    sleep(2).await;
    let renewed = subject.renew(&id, claim.owner, 6 * TICK).await;
    assert!(is_over(since, 6 * TICK) || renewed == Write::Applied, "a lease that runs was not renewed");
    all_return(waiters, "the renewed lease ended").await;
}

pub(super) async fn waiters_return_when_their_patience_ends(subject: &Subject) {
    let id = subject.claimed(&new_claim()).await;
    for patience in [Duration::ZERO, 2 * TICK] {
        let waited = tokio::time::timeout(patience + LATE, subject.settled(&id, patience)).await;
        assert!(
            waited.is_ok(),
            "someone with a patience of {patience:?} still waited {LATE:?} after its end"
        );
    }
}

pub(super) async fn nobody_waits_for_what_is_not_in_flight(subject: &Subject) {
    let lapsed = subject.claimed(&new_claim_for(TICK, LONG)).await;
    sleep(2).await;
    let unknown = Outcome::Unknown(UnknownCause::ConnectionLost);
    for (what, id) in [
        ("absent", new_id()),
        ("completed", subject.settled_as(&new_claim(), &completed(201, b"made"), LONG).await),
        ("unknown", subject.settled_as(&new_claim(), &unknown, LONG).await),
        ("without an owner", lapsed),
    ] {
        let waited = tokio::time::timeout(LATE, subject.settled(&id, LONG)).await;
        assert!(waited.is_ok(), "someone waited for an entry that is {what}");
    }
}

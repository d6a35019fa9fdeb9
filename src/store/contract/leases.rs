//! Signs of life, and their end.

use tokio::time::Instant;

use crate::idempotency::State;
use crate::store::{Insert, Write};

use super::{LONG, OWNER_LOST, Subject, TICK, applied, completed, is_over, new_claim_for, sleep, state_of};

pub(super) async fn a_lapsed_lease_reads_as_owner_lost(subject: &Subject) {
    let since = Instant::now();
    let id = subject.claimed(&new_claim_for(2 * TICK, LONG)).await;
    let state = subject.state(&id).await;
    assert!(is_over(since, 2 * TICK) || state == Some(State::InFlight), "a new claim reads as {state:?}");
    sleep(3).await;
    let entry = subject.lookup(&id).await.expect("an entry went with its lease");
    assert_eq!(entry.state, OWNER_LOST, "the lease is over");
    assert!(entry.expires_at.is_some(), "a dead owner's entry names no time of expiry");
}

pub(super) async fn a_renewed_lease_runs_on(subject: &Subject) {
    let claim = new_claim_for(6 * TICK, LONG);
    let mut since = Instant::now();
    let id = subject.claimed(&claim).await;
    for _ in 0..3 {
        sleep(4).await;
        let renewing = Instant::now();
        let renewed = subject.renew(&id, claim.owner, 6 * TICK).await;
        if is_over(since, 6 * TICK) {
            return;
        }
        assert_eq!(renewed, Write::Applied, "a lease that runs was not renewed");
        since = renewing;
    }
    sleep(4).await;
    let state = subject.state(&id).await;
    assert!(is_over(since, 6 * TICK) || state == Some(State::InFlight), "a renewed lease reads as {state:?}");
    sleep(3).await;
    let state = subject.state(&id).await;
    assert_eq!(state, Some(OWNER_LOST), "a renewed lease runs longer than it was renewed for");
}

pub(super) async fn a_lapsed_lease_is_not_renewed(subject: &Subject) {
    let claim = new_claim_for(TICK, LONG);
    let id = subject.claimed(&claim).await;
    sleep(2).await;
    assert_eq!(subject.renew(&id, claim.owner, LONG).await, Write::Lost, "a lapsed lease was renewed");
    assert_eq!(subject.state(&id).await, Some(OWNER_LOST), "a lost renewal brought the lease back");
}

pub(super) async fn a_late_completion_heals(subject: &Subject) {
    let claim = new_claim_for(TICK, LONG);
    let id = subject.claimed(&claim).await;
    sleep(2).await;
    assert_eq!(subject.state(&id).await, Some(OWNER_LOST), "the lease is over");
    let outcome = completed(201, b"late");
    applied(subject.update(&id, claim.owner, &outcome, LONG).await, "the late completion by the owner");
    assert_eq!(subject.state(&id).await, Some(state_of(&outcome)), "a late completion does not read as such");
}

pub(super) async fn a_resent_claim_begins_its_lease_anew(subject: &Subject) {
    let claim = new_claim_for(6 * TICK, LONG);
    let first = Instant::now();
    let id = subject.claimed(&claim).await;
    sleep(4).await;
    let second = Instant::now();
    assert_eq!(
        subject.insert(&id, &claim).await,
        Insert::Inserted,
        "a claim that was sent twice was refused"
    );
    if is_over(first, 6 * TICK) {
        return;
    }
    sleep(4).await;
    let state = subject.state(&id).await;
    let runs = is_over(second, 6 * TICK) || state == Some(State::InFlight);
    assert!(runs, "a claim that was sent again still has its first lease: it reads as {state:?}");
}

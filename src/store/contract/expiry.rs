//! What goes with time, and what stays.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::idempotency::{Outcome, State, UnknownCause};
use crate::store::{Insert, Update, Write};

use super::{LONG, OWNER_LOST, Subject, TICK, applied, completed, is_over, new_claim, new_claim_for, sleep};

fn outcomes() -> [Outcome; 3] {
    [
        completed(201, b"made"),
        Outcome::NotRetained { status: 201 },
        Outcome::Unknown(UnknownCause::AttemptTimeout),
    ]
}

pub(super) async fn an_entry_in_flight_outlives_its_ttl(subject: &Subject) {
    let claim = new_claim_for(6 * TICK, TICK);
    let mut since = Instant::now();
    let id = subject.claimed(&claim).await;
    for _ in 0..4 {
        sleep(3).await;
        subject.prune().await;
        let renewing = Instant::now();
        let renewed = subject.renew(&id, claim.owner, 6 * TICK).await;
        if is_over(since, 6 * TICK) {
            return;
        }
        since = renewing;
        assert_eq!(renewed, Write::Applied, "an entry whose lease runs was not renewed");
    }
    let state = subject.state(&id).await;
    assert!(
        is_over(since, 6 * TICK) || state == Some(State::InFlight),
        "an entry in flight reads as {state:?}"
    );
}

pub(super) async fn the_ttl_begins_with_the_settlement(subject: &Subject) {
    for outcome in outcomes() {
        // The ttl of the claim is a dead owner's; a settlement brings its own.
        let brief = new_claim_for(4 * TICK, TICK);
        let since = Instant::now();
        let staying = subject.claimed(&brief).await;
        let going = subject.claimed(&new_claim()).await;
        let owner = subject.lookup(&going).await.expect("a new claim is gone").owner;
        sleep(2).await;
        let updated = subject.update(&staying, brief.owner, &outcome, LONG).await;
        if is_over(since, 4 * TICK) {
            return;
        }
        applied(updated, "its owner's first update");
        let since = Instant::now();
        applied(subject.update(&going, owner, &outcome, 3 * TICK).await, "its owner's first update");
        sleep(2).await;
        let lives = subject.lookup(&going).await.is_some();
        assert!(is_over(since, 3 * TICK) || lives, "{outcome:?} expired before its ttl was over");
        sleep(2).await;
        assert_eq!(subject.lookup(&going).await, None, "{outcome:?} outlived its ttl");
        let late = subject.update(&going, owner, &completed(201, b"late"), LONG).await;
        assert_eq!(late, Update::Lost, "an expired entry was updated");
        assert_eq!(subject.remove(&going, owner).await, Write::Lost, "an expired entry was removed");
        sleep(2).await;
        assert!(subject.lookup(&staying).await.is_some(), "{outcome:?} expired by the ttl of its claim");
    }
}

pub(super) async fn a_dead_owners_entry_expires_one_ttl_after_its_lease(subject: &Subject) {
    let claim = new_claim_for(2 * TICK, 4 * TICK);
    let since = Instant::now();
    let id = subject.claimed(&claim).await;
    sleep(3).await;
    let early = subject.lookup(&id).await;
    sleep(2).await;
    let late = subject.lookup(&id).await;
    if !is_over(since, 6 * TICK) {
        let entry = early.expect("a dead owner's entry went with its lease");
        assert_eq!(entry.state, OWNER_LOST, "the lease is over");
        assert_eq!(late, Some(entry), "a dead owner's entry does not read the same every time");
    }
    sleep(2).await;
    assert_eq!(subject.lookup(&id).await, None, "a dead owner's entry outlived its ttl");
    let late = subject.update(&id, claim.owner, &completed(201, b"late"), LONG).await;
    assert_eq!(late, Update::Lost, "an expired entry was updated");
}

pub(super) async fn what_has_expired_is_pruned_and_can_be_claimed(subject: &Subject) {
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for outcome in outcomes() {
        going.push(subject.settled_as(&new_claim(), &outcome, TICK).await);
        staying.push(subject.settled_as(&new_claim(), &outcome, LONG).await);
    }
    going.push(subject.claimed(&new_claim_for(TICK / 2, TICK / 2)).await);
    staying.push(subject.claimed(&new_claim()).await);
    staying.push(subject.claimed(&new_claim_for(TICK, LONG)).await);
    sleep(2).await;
    // No less than none: a server may have dropped them on its own, and other replicas may prune as well.
    subject.prune().await;
    for id in staying {
        assert!(subject.lookup(&id).await.is_some(), "a live entry was pruned");
    }
    for id in going {
        assert_eq!(subject.lookup(&id).await, None, "an expired entry is still there");
        let claim = new_claim();
        assert_eq!(subject.insert(&id, &claim).await, Insert::Inserted, "an expired entry is in the way");
        assert_eq!(subject.state(&id).await, Some(State::InFlight), "a new claim is not in flight");
    }
}

pub(super) async fn every_reader_sees_the_same_expiry(subject: &Subject) {
    /// How far the clocks of a server and of this machine may be apart.
    const CLOCKS: Duration = Duration::from_secs(600);
    for outcome in outcomes() {
        let claim = new_claim();
        let id = subject.claimed(&claim).await;
        let expires_at =
            applied(subject.update(&id, claim.owner, &outcome, LONG).await, "its owner's first update");
        let expected = SystemTime::now() + LONG;
        assert!(
            expected - CLOCKS < expires_at && expires_at < expected + CLOCKS,
            "an entry that lives for {LONG:?} from now expires at {expires_at:?}"
        );
        for _ in 0..3 {
            tokio::time::sleep(TICK / 3).await;
            let entry = subject.lookup(&id).await.expect("a live entry is gone");
            assert_eq!(entry.expires_at, Some(expires_at), "lookup names another time of expiry than update");
            let Insert::Exists(entry) = subject.insert(&id, &new_claim()).await else {
                panic!("a settled entry was claimed anew");
            };
            assert_eq!(entry.expires_at, Some(expires_at), "insert names another time of expiry than update");
            let again =
                applied(subject.update(&id, claim.owner, &outcome, LONG * 2).await, "the same update again");
            assert_eq!(again, expires_at, "the same update again names another time of expiry");
        }
    }
}

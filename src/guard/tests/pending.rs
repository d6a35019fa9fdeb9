//! Records and removals that the store did not take at once.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::bench::*;
use crate::idempotency::{State, UnknownCause};
use crate::store::StoreError;

const OWNER_LOST: Option<State> = Some(State::Unknown(UnknownCause::OwnerLost));

/// The longest pause between two tries, and then some.
const A_TRY: Duration = Duration::from_secs(6);

#[tokio::test(start_paused = true)]
async fn settling_goes_on_until_the_store_takes_it_and_holds_no_client_up() {
    for mood in [Mood::Fails, Mood::Hangs] {
        let bench = Bench::new();
        let permit = bench.granted(&presented(1, 1)).await;
        bench.store.set(Op::Update, mood);
        let asked = Instant::now();
        let settled = permit.settle(answered(201)).await;
        assert!(asked.elapsed() <= STORE_TIMEOUT, "{mood:?}: the client waits for one try at most");
        assert_eq!(settled.expires_at, None, "{mood:?}: nothing is recorded yet");
        sleep(LEASE / 2).await;
        assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight), "{mood:?}");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(bench.state(&presented(1, 1)).await, OWNER_LOST, "{mood:?}");
        bench.store.set(Op::Update, Mood::Works);
        sleep(A_TRY).await;
        assert_eq!(bench.state(&presented(1, 1)).await, completed(201), "{mood:?}: it heals");
        assert!(bench.tracker.is_empty(), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_landed_though_its_update_timed_out_stays_as_it_is() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    bench.store.set(Op::Update, Mood::LandsAndHangs);
    let settled = permit.settle(answered(201)).await;
    assert_eq!(settled.expires_at, None);
    bench.store.set(Op::Update, Mood::Works);
    sleep(A_TRY).await;
    assert_eq!(bench.state(&presented(1, 1)).await, completed(201));
    assert!(bench.tracker.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_written_reads_as_in_flight_then_unknown_and_never_as_absent() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let lease_ends = Instant::now() + LEASE;
    bench.store.set(Op::Update, Mood::Fails);
    let _settled = permit.settle(answered(201)).await;
    let given_up = Instant::now() + SETTLE_RETRY + A_TRY;
    while Instant::now() < given_up {
        let expected = if Instant::now() < lease_ends { Some(State::InFlight) } else { OWNER_LOST };
        assert_eq!(bench.state(&presented(1, 1)).await, expected);
        sleep(LEASE / 10).await;
    }
    assert!(bench.tracker.is_empty(), "after settle_retry the record is given up");
    bench.store.set(Op::Update, Mood::Works);
    sleep(TTL - SETTLE_RETRY - A_TRY).await;
    assert_eq!(bench.state(&presented(1, 1)).await, OWNER_LOST, "until the ttl ends");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_could_not_be_freed_is_freed_when_the_store_is_back() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    bench.store.set(Op::Remove, Mood::Fails);
    let settled = permit.settle(NOT_SENT).await;
    assert!(settled.release.is_some());
    sleep(LEASE * 2).await;
    assert_eq!(bench.state(&presented(1, 1)).await, OWNER_LOST);
    bench.store.set(Op::Remove, Mood::Works);
    sleep(A_TRY).await;
    assert_eq!(bench.state(&presented(1, 1)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_landed_though_its_insert_timed_out_is_withdrawn() {
    let bench = Bench::new();
    bench.store.set(Op::Insert, Mood::LandsAndHangs);
    bench.store.set(Op::Remove, Mood::Fails);
    let refused = bench.guard.admit(&presented(1, 1), &rejecting()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "nothing may be sent: {refused:?}");
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight), "the claim has landed");
    sleep(LEASE * 3).await;
    bench.store.set(Op::Remove, Mood::Works);
    sleep(A_TRY).await;
    assert_eq!(bench.state(&presented(1, 1)).await, None, "however long the store was away");
    assert!(bench.tracker.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_lands_late_is_withdrawn_too() {
    for landing in [LEASE / 2, LEASE + LEASE / 2] {
        let bench = Bench::new();
        bench.store.set(Op::Insert, Mood::LandsAfter(landing));
        assert!(bench.guard.admit(&presented(1, 1), &rejecting()).await.is_err());
        let mut landed = false;
        for _ in 0..A_TRY.as_millis() * 3 {
            landed |= bench.state(&presented(1, 1)).await.is_some();
            sleep(Duration::from_millis(1)).await;
        }
        assert!(landed, "the claim lands after {landing:?}");
        assert_eq!(bench.state(&presented(1, 1)).await, None, "it landed after {landing:?}");
        assert!(bench.tracker.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_never_lands_is_looked_for_no_longer_than_it_could_take() {
    let bench = Bench::new();
    bench.store.set(Op::Insert, Mood::Fails);
    assert!(bench.guard.admit(&presented(1, 1), &rejecting()).await.is_err());
    bench.tracker.close();
    assert!(timeout(LEASE * 2 + A_TRY, bench.tracker.wait()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_pending_writes_wait_for_the_store() {
    let bench = Bench::new();
    let mut permits = Vec::new();
    let keys = 1..=u8::try_from(MAX_PENDING_WRITES).unwrap() + 1;
    for key in keys.clone() {
        permits.push(bench.granted(&presented(key, 1)).await);
    }
    bench.store.set(Op::Update, Mood::Fails);
    for permit in permits {
        let _settled = permit.settle(answered(201)).await;
    }
    assert_eq!(bench.tracker.len(), MAX_PENDING_WRITES);
    sleep(LEASE).await;
    bench.store.set(Op::Update, Mood::Works);
    sleep(A_TRY).await;
    for key in keys {
        let dropped = usize::from(key) > MAX_PENDING_WRITES;
        let expected = if dropped { OWNER_LOST } else { completed(201) };
        assert_eq!(bench.state(&presented(key, 1)).await, expected, "key {key}");
    }
    let again = bench.granted(&presented(8, 1)).await;
    bench.store.set(Op::Update, Mood::Fails);
    let _settled = again.settle(answered(201)).await;
    assert_eq!(bench.tracker.len(), 1, "the places are given back");
}

#[tokio::test(start_paused = true)]
async fn claims_to_withdraw_count_among_the_pending_writes() {
    let bench = Bench::new();
    bench.store.set(Op::Insert, Mood::Fails);
    for key in 1..=u8::try_from(MAX_PENDING_WRITES).unwrap() + 2 {
        assert!(bench.guard.admit(&presented(key, 1), &rejecting()).await.is_err());
    }
    assert_eq!(bench.tracker.len(), MAX_PENDING_WRITES);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_pruned_at_every_interval_failures_or_not() {
    let bench = Bench::new();
    let (guard, clients) = (bench.guard.clone(), tokio_util::task::TaskTracker::new());
    drop(clients.spawn(async move { guard.prune_forever().await }));
    sleep(PRUNE_INTERVAL / 2).await;
    for (pruned, mood) in [Mood::Works, Mood::Fails, Mood::Works].into_iter().enumerate() {
        assert_eq!(bench.store.calls(Op::Prune), pruned);
        bench.store.set(Op::Prune, mood);
        sleep(PRUNE_INTERVAL).await;
    }
    assert_eq!(bench.store.calls(Op::Prune), 3);
}

//! What holding, settling and dropping a permit does.

use std::time::Duration;

use tokio::time::{advance, sleep};

use super::bench::*;
use crate::guard::Settled;
use crate::idempotency::{Attempt, NotSentCause, ReleaseReason, State, UnknownCause};
use crate::store::Store;

const ABANDONED: Option<State> = Some(State::Unknown(UnknownCause::Abandoned));
const OWNER_LOST: Option<State> = Some(State::Unknown(UnknownCause::OwnerLost));

/// The clock's smallest step.
const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_settles_its_key_as_unknown() {
    let bench = Bench::new();
    drop(bench.granted(&presented(1, 1)).await);
    all_have_moved().await;
    assert_eq!(bench.state(&presented(1, 1)).await, ABANDONED);
    assert!(bench.tracker.is_empty(), "the record is written and nothing is left running");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_is_recorded_once_the_store_is_back() {
    let bench = Bench::new();
    bench.store.set(Op::Update, Mood::Fails);
    drop(bench.granted(&presented(1, 1)).await);
    sleep(LEASE / 2).await;
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight));
    bench.store.set(Op::Update, Mood::Works);
    sleep(LEASE / 2).await;
    assert_eq!(bench.state(&presented(1, 1)).await, ABANDONED);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_panics_settles_its_key_as_unknown() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let work = bench.tracker.spawn(async move {
        hold(&permit, async { std::panic::resume_unwind(Box::new("the work panics")) }).await
    });
    assert!(work.await.is_err_and(|error| error.is_panic()));
    all_have_moved().await;
    assert_eq!(bench.state(&presented(1, 1)).await, ABANDONED);
}

#[tokio::test(start_paused = true)]
async fn a_permit_dropped_outside_the_runtime_leaves_its_key_to_the_lease() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    std::thread::spawn(move || drop(permit)).join().expect("a drop does not panic");
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight));
    sleep(LEASE).await;
    assert_eq!(bench.state(&presented(1, 1)).await, OWNER_LOST);
}

#[tokio::test(start_paused = true)]
async fn work_of_ten_leases_stays_in_flight() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let looks = hold(&permit, async {
        for look in 0..20 {
            sleep(LEASE / 2).await;
            assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight), "look {look}");
            assert!(permit.is_held(), "look {look}");
        }
    });
    looks.await;
    let settled = permit.settle(answered(201)).await;
    assert!(settled.expires_at.is_some());
    assert_eq!(bench.state(&presented(1, 1)).await, completed(201));
}

#[tokio::test(start_paused = true)]
async fn one_renewal_that_fails_or_hangs_costs_no_lease() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let work = async {
        // Renewals go out after 1, 2, 3 and, after a timeout, 4.25 thirds of a lease.
        sleep(LEASE / 6).await;
        for mood in [Mood::Fails, Mood::Works, Mood::Hangs, Mood::Works, Mood::Works] {
            bench.store.set(Op::Renew, mood);
            sleep(LEASE / 3).await;
            assert!(permit.is_held(), "{mood:?}");
            assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight), "{mood:?}");
        }
    };
    hold(&permit, work).await;
    let _settled = permit.settle(NOT_SENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_lapses_when_renewals_fail_and_the_late_answer_is_recorded_all_the_same() {
    for mood in [Mood::Fails, Mood::Hangs] {
        let bench = Bench::new();
        bench.store.set(Op::Renew, mood);
        let permit = bench.granted(&presented(1, 1)).await;
        hold(&permit, sleep(LEASE - MOMENT)).await;
        assert!(permit.is_held());
        assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight));
        hold(&permit, sleep(MOMENT)).await;
        assert!(!permit.is_held(), "{mood:?}");
        assert_eq!(bench.state(&presented(1, 1)).await, OWNER_LOST, "{mood:?}");
        let settled = permit.settle(answered(201)).await;
        assert!(settled.expires_at.is_some());
        assert_eq!(bench.state(&presented(1, 1)).await, completed(201));
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_no_longer_held_after_a_pause_of_a_lease() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    advance(LEASE - MOMENT).await;
    assert!(permit.is_held());
    advance(MOMENT).await;
    assert!(!permit.is_held());
    let _settled = permit.settle(Attempt::NotSent(NotSentCause::LeaseLapsed)).await;
    assert_eq!(bench.state(&presented(1, 1)).await, None, "nothing was sent, so the key is free");
}

#[tokio::test(start_paused = true)]
async fn the_owner_counts_its_lease_from_before_it_asked() {
    let bench = Bench::new();
    let journey = STORE_TIMEOUT / 2;
    bench.store.set(Op::Insert, Mood::AnswersAfter(journey));
    let permit = bench.granted(&presented(1, 1)).await;
    advance(LEASE - journey).await;
    assert!(!permit.is_held(), "the claim counts from when it was sent");

    bench.store.set(Op::Insert, Mood::Works);
    let permit_2 = bench.granted(&presented(2, 1)).await;
    bench.store.set(Op::Renew, Mood::AnswersAfter(journey));
    hold(&permit_2, sleep(LEASE / 3 + journey + MOMENT)).await;
    assert_eq!(bench.store.calls(Op::Renew), 1);
    advance(LEASE - journey - MOMENT * 2).await;
    assert!(permit_2.is_held(), "the renewal counts");
    advance(MOMENT).await;
    assert!(!permit_2.is_held(), "the renewal counts from when it was sent");
    drop((permit, permit_2));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_not_renewed_again_and_the_work_goes_on() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let owner = bench.store.lookup(&presented(1, 1).id).await.unwrap().unwrap().owner;
    let _write = bench.store.remove(&presented(1, 1).id, owner).await.unwrap();
    let done = hold(&permit, async {
        sleep(LEASE * 5).await;
        "done"
    });
    assert_eq!(done.await, "done");
    assert_eq!(bench.store.calls(Op::Renew), 1);
    assert!(!permit.is_held());
    let settled = permit.settle(answered(201)).await;
    assert_eq!(settled, Settled { release: None, expires_at: None });
    assert_eq!(bench.state(&presented(1, 1)).await, None, "a stale owner's write is refused (I6)");
}

#[tokio::test(start_paused = true)]
async fn a_settled_answer_is_recorded_before_the_owner_may_respond() {
    let bench = Bench::new();
    let settled = bench.granted(&presented(1, 1)).await.settle(answered(201)).await;
    let entry = bench.store.lookup(&presented(1, 1).id).await.unwrap().unwrap();
    assert!(settled.expires_at.is_some());
    assert_eq!(settled, Settled { release: None, expires_at: entry.expires_at });
    assert_eq!(Some(entry.state), completed(201));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_or_not_done_frees_the_key() {
    let bench = Bench::new();
    let released = [
        (NOT_SENT, ReleaseReason::NotSent(NotSentCause::ConnectFailed)),
        (answered(429), ReleaseReason::Status(429)),
        (Attempt::NotKept { status: 425 }, ReleaseReason::Status(425)),
    ];
    for (attempt, reason) in released {
        let settled = bench.granted(&presented(1, 1)).await.settle(attempt).await;
        assert_eq!(settled, Settled { release: Some(reason), expires_at: None });
        assert_eq!(bench.state(&presented(1, 1)).await, None, "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_cancelled_is_written_all_the_same() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    bench.store.set(Op::Update, Mood::Hangs);
    let cancelled = tokio::time::timeout(STORE_TIMEOUT / 2, permit.settle(answered(201))).await;
    assert!(cancelled.is_err(), "the store hangs");
    bench.store.set(Op::Update, Mood::Works);
    all_have_moved().await;
    assert_eq!(bench.state(&presented(1, 1)).await, completed(201));
}

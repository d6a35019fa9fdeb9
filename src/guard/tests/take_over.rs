//! Running again what is unknown, where the operator wants that.

use super::bench::*;
use crate::guard::{Admission, Permit, Rules};
use crate::idempotency::{Attempt, MismatchCause, OnUnknown, State, UnknownCause, Verdict};

const LOST: UnknownCause = UnknownCause::ConnectionLost;

fn retrying() -> Rules {
    Rules { on_unknown: OnUnknown::Retry, ..rejecting() }
}

async fn bench_with_an_unknown_outcome() -> Bench {
    let bench = Bench::new();
    let _settled = bench.granted(&presented(1, 1)).await.settle(Attempt::Unknown(LOST)).await;
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::Unknown(LOST)));
    bench
}

async fn take_over(bench: &Bench) -> Permit {
    granted(bench.guard.admit(&presented(1, 1), &retrying()).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn of_racing_duplicates_exactly_one_takes_over() {
    let bench = bench_with_an_unknown_outcome().await;
    let rounds = [retrying(), Rules { on_unknown: OnUnknown::Retry, ..waiting(LEASE) }];
    let mut requests = Vec::new();
    for rules in rounds.iter().cycle().take(20) {
        let (guard, rules) = (bench.guard.clone(), rules.clone());
        requests.push(bench.tracker.spawn(async move { guard.admit(&presented(1, 1), &rules).await }));
    }
    all_have_moved().await;
    let (mut permits, mut in_flight, mut waiting) = (Vec::new(), 0, Vec::new());
    for request in requests {
        if !request.is_finished() {
            waiting.push(request);
            continue;
        }
        match request.await.unwrap().unwrap() {
            Admission::Granted(permit) => permits.push(permit),
            Admission::Standing { verdict: Verdict::InFlight, waited: false } => in_flight += 1,
            other @ (Admission::Standing { .. } | Admission::Released(_)) => {
                panic!("neither granted nor in flight: {other:?}")
            }
        }
    }
    assert_eq!(permits.len(), 1, "exactly one takes over");
    assert_eq!((in_flight, waiting.len()), (9, 10));
    let _settled = permits.pop().unwrap().settle(answered(201)).await;
    for request in waiting {
        let admission = request.await.unwrap().unwrap();
        let replayed =
            matches!(admission, Admission::Standing { verdict: Verdict::Replay { .. }, waited: true });
        assert!(replayed, "{admission:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_payload_never_takes_over() {
    let bench = bench_with_an_unknown_outcome().await;
    let admission = bench.guard.admit(&presented(1, 2), &retrying()).await.unwrap();
    let mismatch = Verdict::Mismatch(MismatchCause::Payload);
    assert!(matches!(admission, Admission::Standing { verdict, .. } if verdict == mismatch));
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_replayed_and_not_run_again() {
    let bench = Bench::new();
    let _settled = bench.granted(&presented(1, 1)).await.settle(answered(500)).await;
    let admission = bench.guard.admit(&presented(1, 1), &retrying()).await.unwrap();
    assert!(matches!(admission, Admission::Standing { verdict: Verdict::Replay { .. }, waited: false }));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_replaced_can_no_longer_record_anything() {
    let bench = Bench::new();
    let first = bench.granted(&presented(1, 1)).await;
    tokio::time::sleep(LEASE).await;
    let second = take_over(&bench).await;
    assert_eq!(first.settle(answered(500)).await.expires_at, None);
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight), "the second owner is at work");
    let _settled = second.settle(answered(201)).await;
    assert_eq!(bench.state(&presented(1, 1)).await, completed(201));
}

#[tokio::test(start_paused = true)]
async fn a_take_over_that_was_not_carried_out_leaves_the_key_as_unknown_as_before() {
    for attempt in [NOT_SENT, answered(429)] {
        let bench = bench_with_an_unknown_outcome().await;
        let settled = take_over(&bench).await.settle(attempt).await;
        assert!(settled.release.is_some());
        assert_eq!(bench.state(&presented(1, 1)).await, Some(State::Unknown(LOST)));
        let mismatch = Verdict::Mismatch(MismatchCause::Payload);
        assert_eq!(bench.verdict(&presented(1, 2)).await, mismatch, "the first payload may have run (I4)");
        drop(take_over(&bench).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_take_over_that_landed_though_its_claim_timed_out_reads_as_unknown_after_the_lease() {
    let bench = bench_with_an_unknown_outcome().await;
    // The first claim is told what stands; the second, which takes it over, lands unheard.
    bench.store.set(Op::Insert, Mood::AnswersAfter(STORE_TIMEOUT / 2));
    let request = bench.asks(presented(1, 1), retrying()).await;
    bench.store.set(Op::Insert, Mood::LandsAndHangs);
    assert!(request.await.unwrap().is_err());
    bench.store.set(Op::Insert, Mood::Works);
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight), "the take-over has landed");
    tokio::time::sleep(LEASE * 3).await;
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::Unknown(UnknownCause::OwnerLost)));
    assert_eq!(bench.verdict(&presented(1, 2)).await, Verdict::Mismatch(MismatchCause::Payload));
    drop(take_over(&bench).await);
}

//! What admission says where nothing runs.

use std::num::NonZeroU32;

use super::bench::*;
use crate::guard::Admission;
use crate::idempotency::{Attempt, CallerHash, Fingerprint, MismatchCause, Presented, UnknownCause, Verdict};
use crate::store::StoreError;

#[tokio::test(start_paused = true)]
async fn of_many_at_once_exactly_one_is_granted() {
    let bench = Bench::new();
    let mut requests = Vec::new();
    for _ in 0..50 {
        requests.push(bench.asks(presented(1, 1), rejecting()).await);
    }
    let (mut permits, mut in_flight) = (Vec::new(), 0);
    for request in requests {
        match request.await.unwrap().unwrap() {
            Admission::Granted(permit) => permits.push(permit),
            Admission::Standing { verdict: Verdict::InFlight, waited: false } => in_flight += 1,
            other @ (Admission::Standing { .. } | Admission::Released(_)) => {
                panic!("neither granted nor in flight: {other:?}")
            }
        }
    }
    assert_eq!((permits.len(), in_flight), (1, 49));
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_what_was_answered_is_replayed_with_the_same_end() {
    let bench = Bench::new();
    let settled = bench.granted(&presented(1, 1)).await.settle(answered(201)).await;
    let replay = Verdict::Replay { answer: answer(201), expires_at: settled.expires_at };
    assert_eq!(bench.verdict(&presented(1, 1)).await, replay);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_not_kept_is_told_by_its_status() {
    let bench = Bench::new();
    let _settled = bench.granted(&presented(1, 1)).await.settle(Attempt::NotKept { status: 201 }).await;
    assert_eq!(bench.verdict(&presented(1, 1)).await, Verdict::NotRetained { status: 201 });
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_told_and_not_run_again() {
    let bench = Bench::new();
    let lost = UnknownCause::ConnectionLost;
    let _settled = bench.granted(&presented(1, 1)).await.settle(Attempt::Unknown(lost)).await;
    assert_eq!(bench.verdict(&presented(1, 1)).await, Verdict::Unknown(lost));
}

#[tokio::test(start_paused = true)]
async fn another_payload_is_refused_in_every_state() {
    let bench = Bench::new();
    let other_rule =
        Presented { fingerprint: Some(Fingerprint::from_parts(NonZeroU32::MAX, [1; 16])), ..presented(1, 1) };
    let permit = bench.granted(&presented(1, 1)).await;
    assert_eq!(bench.verdict(&presented(1, 2)).await, Verdict::Mismatch(MismatchCause::Payload));
    assert_eq!(bench.verdict(&other_rule).await, Verdict::Mismatch(MismatchCause::Rule));
    let _settled = permit.settle(answered(201)).await;
    assert_eq!(bench.verdict(&presented(1, 2)).await, Verdict::Mismatch(MismatchCause::Payload));
    assert_eq!(bench.verdict(&other_rule).await, Verdict::Mismatch(MismatchCause::Rule));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_learns_nothing_but_that_the_key_is_anothers() {
    let bench = Bench::new();
    let of = |caller, payload| Presented {
        caller: Some(CallerHash::from_bytes([caller; 32])),
        ..presented(1, payload)
    };
    let permit = bench.granted(&of(1, 1)).await;
    for payload in [1, 2] {
        assert_eq!(bench.verdict(&of(2, payload)).await, Verdict::OtherCaller);
    }
    let _settled = permit.settle(answered(201)).await;
    for payload in [1, 2] {
        assert_eq!(bench.verdict(&of(2, payload)).await, Verdict::OtherCaller);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_new_keys_and_leaves_nothing_to_withdraw() {
    let bench = Bench::new();
    let mut permits = Vec::new();
    for key in 0..u8::try_from(MAX_ENTRIES).unwrap() {
        permits.push(bench.granted(&presented(key, 1)).await);
    }
    let refused = bench.guard.admit(&presented(99, 1), &rejecting()).await;
    assert!(matches!(refused, Err(StoreError::Full { max_entries: MAX_ENTRIES })), "{refused:?}");
    assert!(bench.tracker.is_empty());
    assert_eq!(bench.verdict(&presented(0, 1)).await, Verdict::InFlight, "duplicates are still known");
}

#[tokio::test(start_paused = true)]
async fn beyond_its_ttl_a_key_may_run_again() {
    let bench = Bench::new();
    let _settled = bench.granted(&presented(1, 1)).await.settle(answered(201)).await;
    tokio::time::sleep(TTL - std::time::Duration::from_millis(1)).await;
    assert!(matches!(bench.verdict(&presented(1, 1)).await, Verdict::Replay { .. }));
    all_have_moved().await;
    drop(bench.granted(&presented(1, 2)).await);
}

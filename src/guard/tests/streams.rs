//! Requests whose body streams: claimed before their payload is known.

use super::bench::*;
use crate::guard::{Admission, Rules};
use crate::idempotency::{
    Attempt, MismatchCause, OnUnknown, ReleaseReason, State, UnknownCause, Verdict, judge,
};
use crate::store::Store;

const BROKEN: UnknownCause = UnknownCause::UploadBroken;

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_a_stream_in_flight_is_refused_whatever_its_payload() {
    let bench = Bench::new();
    let permit = bench.granted(&streaming(1)).await;
    for duplicate in [streaming(1), presented(1, 1), presented(1, 2)] {
        assert_eq!(bench.verdict(&duplicate).await, Verdict::InFlight, "{duplicate:?}");
    }
    let _settled = permit.settle(NOT_SENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_read_whole_is_settled_with_its_fingerprint() {
    let bench = Bench::new();
    let mut permit = bench.granted(&streaming(1)).await;
    permit.read_whole(fingerprint(1));
    permit.read_whole(fingerprint(2));
    let settled = permit.settle(answered(201)).await;
    let replay = Verdict::Replay { answer: answer(201), expires_at: settled.expires_at };
    assert_eq!(bench.verdict(&presented(1, 1)).await, replay);
    assert_eq!(bench.verdict(&presented(1, 2)).await, Verdict::Mismatch(MismatchCause::Payload));
    let Verdict::Compare(standing) = bench.verdict(&streaming(1)).await else {
        panic!("a stream's duplicate is judged before its payload is known");
    };
    assert_eq!(judge(*standing, &presented(1, 1), OnUnknown::Reject), replay);
}

#[tokio::test(start_paused = true)]
async fn half_a_stream_is_unknown_whatever_the_upstream_says_but_that_it_did_nothing() {
    for attempt in [answered(201), Attempt::NotKept { status: 413 }] {
        let bench = Bench::new();
        let settled = bench.granted(&streaming(1)).await.settle(attempt).await;
        assert_eq!(settled.release, None);
        for duplicate in [streaming(1), presented(1, 1)] {
            assert_eq!(bench.verdict(&duplicate).await, Verdict::Unknown(BROKEN));
        }
    }
    let bench = Bench::new();
    let settled = bench.granted(&streaming(1)).await.settle(answered(429)).await;
    assert_eq!(settled.release, Some(ReleaseReason::Status(429)));
    assert_eq!(bench.state(&presented(1, 1)).await, None);
}

#[tokio::test(start_paused = true)]
async fn half_a_stream_may_run_again_where_the_operator_wants_that() {
    let bench = Bench::new();
    let retrying = Rules { on_unknown: OnUnknown::Retry, ..rejecting() };
    let _settled = bench.granted(&streaming(1)).await.settle(Attempt::Unknown(BROKEN)).await;
    let mut again = granted(bench.guard.admit(&streaming(1), &retrying).await.unwrap());
    again.read_whole(fingerprint(1));
    let _settled = again.settle(Attempt::Unknown(UnknownCause::ConnectionLost)).await;
    // Now its payload is known: it has to be compared first, and another is refused.
    let admission = bench.guard.admit(&streaming(1), &retrying).await.unwrap();
    let compares = matches!(admission, Admission::Standing { verdict: Verdict::Compare(_), .. });
    assert!(compares, "{admission:?}");
    let admission = bench.guard.admit(&presented(1, 2), &retrying).await.unwrap();
    let refused = matches!(admission, Admission::Standing { verdict: Verdict::Mismatch(_), .. });
    assert!(refused, "{admission:?}");
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_for_a_stream_compares_his_payload_once_it_is_there() {
    let bench = Bench::new();
    let mut permit = bench.granted(&streaming(1)).await;
    let patience = std::time::Duration::from_secs(1);
    let waiters = [
        bench.asks(streaming(1), waiting(patience)).await,
        bench.asks(presented(1, 1), waiting(patience)).await,
        bench.asks(presented(1, 2), waiting(patience)).await,
    ];
    permit.read_whole(fingerprint(1));
    let _settled = permit.settle(answered(201)).await;
    let mut verdicts = Vec::new();
    for waiter in waiters {
        match waiter.await.unwrap().unwrap() {
            Admission::Standing { verdict, waited: true } => verdicts.push(verdict),
            other @ (Admission::Granted(_) | Admission::Standing { .. } | Admission::Released(_)) => {
                panic!("not a verdict after waiting: {other:?}")
            }
        }
    }
    let [Verdict::Compare(_), Verdict::Replay { .. }, Verdict::Mismatch(_)] = verdicts.as_slice() else {
        panic!("{verdicts:?}");
    };
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_owner_is_lost_is_unknown_and_heals_with_its_late_answer() {
    let bench = Bench::new();
    let mut permit = bench.granted(&streaming(1)).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(bench.verdict(&presented(1, 1)).await, Verdict::Unknown(UnknownCause::OwnerLost));
    permit.read_whole(fingerprint(1));
    let _settled = permit.settle(answered(201)).await;
    assert!(matches!(bench.verdict(&presented(1, 1)).await, Verdict::Replay { .. }));
    assert_eq!(bench.verdict(&presented(1, 2)).await, Verdict::Mismatch(MismatchCause::Payload));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_leaves_no_fingerprint() {
    let bench = Bench::new();
    drop(bench.granted(&streaming(1)).await);
    all_have_moved().await;
    let entry = bench.store.lookup(&presented(1, 1).id).await.unwrap().unwrap();
    assert_eq!(entry.state, State::Unknown(UnknownCause::Abandoned));
    assert_eq!(entry.fingerprint, None);
}

//! Requests that wait for the one in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::bench::*;
use crate::guard::Admission;
use crate::idempotency::{Attempt, MismatchCause, NotSentCause, ReleaseReason, State, UnknownCause, Verdict};
use crate::store::StoreError;

const PATIENCE: Duration = Duration::from_secs(20);

type Request = JoinHandle<Result<Admission, StoreError>>;

async fn waiters(bench: &Bench, number: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    for _ in 0..number {
        requests.push(bench.asks(presented(1, 1), waiting(PATIENCE)).await);
    }
    assert!(requests.iter().all(|request| !request.is_finished()), "all wait");
    requests
}

/// Those that have their admission, and those that still wait.
async fn sort(requests: Vec<Request>) -> (Vec<Admission>, Vec<Request>) {
    all_have_moved().await;
    let (done, still) = requests.into_iter().partition::<Vec<_>, _>(JoinHandle::is_finished);
    let mut admissions = Vec::new();
    for request in done {
        admissions.push(request.await.unwrap().unwrap());
    }
    (admissions, still)
}

fn is_replay(admission: &Admission) -> bool {
    matches!(admission, Admission::Standing { verdict: Verdict::Replay { .. }, waited: true })
}

#[tokio::test(start_paused = true)]
async fn waiters_get_the_replay_when_the_owner_settles() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 10).await;
    let before = bench.store.calls(Op::Insert);
    hold(&permit, sleep(PATIENCE / 2)).await;
    assert_eq!(bench.store.calls(Op::Insert), before, "waiters are pushed, they do not poll");
    let settled = permit.settle(answered(201)).await;
    let (admissions, still) = sort(requests).await;
    assert!(still.is_empty());
    for admission in admissions {
        let Admission::Standing { verdict, waited: true } = admission else { panic!("{admission:?}") };
        assert_eq!(verdict, Verdict::Replay { answer: answer(201), expires_at: settled.expires_at });
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_on_an_unknown_outcome_are_told_so() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 2).await;
    let _settled = permit.settle(Attempt::Unknown(UnknownCause::ConnectionLost)).await;
    let (admissions, still) = sort(requests).await;
    assert!(still.is_empty());
    for admission in admissions {
        let Admission::Standing { verdict, waited: true } = admission else { panic!("{admission:?}") };
        assert_eq!(verdict, Verdict::Unknown(UnknownCause::ConnectionLost));
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_on_a_dead_owner_are_told_at_the_end_of_the_lease() {
    let bench = Bench::new();
    std::mem::forget(bench.granted(&presented(1, 1)).await);
    let asked = Instant::now();
    let request = bench.asks(presented(1, 1), waiting(PATIENCE)).await;
    let admission = request.await.unwrap().unwrap();
    assert!(
        matches!(
            admission,
            Admission::Standing { verdict: Verdict::Unknown(UnknownCause::OwnerLost), waited: true }
        ),
        "{admission:?}"
    );
    assert!(asked.elapsed() <= LEASE + Duration::from_millis(10), "not only when patience ends");
}

#[tokio::test(start_paused = true)]
async fn another_payload_is_told_before_it_waits() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let (mut admissions, _) = sort(vec![bench.asks(presented(1, 2), waiting(PATIENCE)).await]).await;
    let admission = admissions.pop().expect("it does not wait");
    let mismatch = Verdict::Mismatch(MismatchCause::Payload);
    assert!(matches!(admission, Admission::Standing { verdict, waited: false } if verdict == mismatch));
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_woken_waiter_is_judged_anew() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 2).await;
    let _settled = permit.settle(NOT_SENT).await;
    // The waiters have not run yet: this task has not let go of the thread.
    let other = bench.granted(&presented(1, 2)).await;
    let (admissions, still) = sort(requests).await;
    assert!(still.is_empty());
    for admission in admissions {
        let Admission::Standing { verdict, waited: true } = admission else { panic!("{admission:?}") };
        assert_eq!(verdict, Verdict::Mismatch(MismatchCause::Payload), "the key is another payload's now");
    }
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_waiters_wait_for_a_key() {
    let bench = Bench::with_max_waiters(2);
    let permit = bench.granted(&presented(1, 1)).await;
    let other_permit = bench.granted(&presented(2, 1)).await;
    let requests = waiters(&bench, 2).await;
    let (refused, _) = sort(vec![bench.asks(presented(1, 1), waiting(PATIENCE)).await]).await;
    assert!(matches!(refused[..], [Admission::Standing { verdict: Verdict::InFlight, waited: false }]));
    let other_key = bench.asks(presented(2, 1), waiting(PATIENCE)).await;
    assert!(!other_key.is_finished(), "the bound is per key");
    for request in requests {
        request.abort();
        assert!(request.await.is_err_and(|error| error.is_cancelled()));
    }
    let _places_again = waiters(&bench, 2).await;
    drop((permit, other_permit));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_may_wait_all_are_refused_at_once() {
    let bench = Bench::with_max_waiters(0);
    let permit = bench.granted(&presented(1, 1)).await;
    let (refused, _) = sort(vec![bench.asks(presented(1, 1), waiting(PATIENCE)).await]).await;
    assert!(matches!(refused[..], [Admission::Standing { verdict: Verdict::InFlight, waited: false }]));
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn patience_ends_with_in_flight() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let asked = Instant::now();
    let request = bench.asks(presented(1, 1), waiting(PATIENCE)).await;
    hold(&permit, sleep(PATIENCE * 2)).await;
    let (admissions, _) = sort(vec![request]).await;
    assert!(matches!(admissions[..], [Admission::Standing { verdict: Verdict::InFlight, waited: true }]));
    drop(permit);

    let permit = bench.granted(&presented(2, 1)).await;
    let request = bench.asks(presented(2, 1), waiting(LEASE / 2)).await;
    let started = Instant::now();
    drop(request.await.unwrap().unwrap());
    assert!(started.elapsed() <= LEASE / 2, "it waits no longer than it may");
    assert!(asked.elapsed() >= PATIENCE);
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_no_waiter_beyond_its_patience() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    bench.store.set(Op::Settled, Mood::Hangs);
    let request = bench.asks(presented(1, 1), waiting(LEASE)).await;
    hold(&permit, sleep(LEASE + STORE_TIMEOUT)).await;
    all_have_moved().await;
    assert!(request.is_finished());
    assert!(matches!(request.await.unwrap(), Err(StoreError::Unavailable(_))));
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_never_sent_lets_exactly_one_waiter_take_over() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 5).await;
    let _settled = permit.settle(NOT_SENT).await;
    let (mut admissions, still) = sort(requests).await;
    assert_eq!((admissions.len(), still.len()), (1, 4));
    let taken_over = granted(admissions.pop().unwrap());
    assert_eq!(bench.state(&presented(1, 1)).await, Some(State::InFlight));
    let _settled = taken_over.settle(answered(201)).await;
    let (replays, still) = sort(still).await;
    assert!(still.is_empty() && replays.iter().all(is_replay), "{replays:?}");
}

#[tokio::test(start_paused = true)]
async fn after_two_never_sents_the_rest_give_up() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 5).await;
    let _settled = permit.settle(NOT_SENT).await;
    let (mut admissions, still) = sort(requests).await;
    let taken_over = granted(admissions.pop().unwrap());
    let timed_out = NotSentCause::ConnectTimeout;
    let _settled = taken_over.settle(Attempt::NotSent(timed_out)).await;
    let (released, still) = sort(still).await;
    assert_eq!((released.len(), still.len()), (4, 0));
    for admission in released {
        assert!(
            matches!(admission, Admission::Released(ReleaseReason::NotSent(cause)) if cause == timed_out),
            "{admission:?}"
        );
    }
    assert_eq!(bench.state(&presented(1, 1)).await, None, "the key is free");
}

#[tokio::test(start_paused = true)]
async fn after_a_release_status_no_waiter_takes_over() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 5).await;
    let _settled = permit.settle(answered(429)).await;
    let (released, still) = sort(requests).await;
    assert_eq!((released.len(), still.len()), (5, 0));
    for admission in released {
        assert!(matches!(admission, Admission::Released(ReleaseReason::Status(429))), "{admission:?}");
    }
    drop(bench.granted(&presented(1, 1)).await);
}

#[tokio::test(start_paused = true)]
async fn many_waiters_over_a_dead_upstream_make_exactly_two_attempts() {
    let bench = Bench::new();
    let attempts = Arc::new(AtomicUsize::new(0));
    let clients = tokio_util::task::TaskTracker::new();
    for _ in 0..MAX_WAITERS {
        let (guard, attempts) = (bench.guard.clone(), attempts.clone());
        drop(clients.spawn(async move {
            match guard.admit(&presented(1, 1), &waiting(PATIENCE)).await.unwrap() {
                Admission::Granted(permit) => {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    hold(&permit, sleep(Duration::from_secs(1))).await;
                    let _settled = permit.settle(NOT_SENT).await;
                }
                Admission::Released(ReleaseReason::NotSent(_)) => {}
                other @ (Admission::Standing { .. } | Admission::Released(_)) => {
                    panic!("neither granted nor released: {other:?}")
                }
            }
        }));
    }
    clients.close();
    clients.wait().await;
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn what_became_of_one_crowd_is_not_told_to_the_next() {
    let bench = Bench::new();
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 2).await;
    let _settled = permit.settle(answered(429)).await;
    drop(sort(requests).await);
    let permit = bench.granted(&presented(1, 1)).await;
    let requests = waiters(&bench, 2).await;
    let _settled = permit.settle(answered(201)).await;
    let (replays, still) = sort(requests).await;
    assert!(still.is_empty() && replays.iter().all(is_replay), "{replays:?}");
}

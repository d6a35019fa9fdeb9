use super::bench::*;
use crate::guard::ChangeError;
use crate::idempotency::{Attempt, State, UnknownCause, Verdict};

async fn unknown(bench: &Bench) -> crate::idempotency::Presented {
    let presented = presented(1, 1);
    let _settled =
        bench.granted(&presented).await.settle(Attempt::Unknown(UnknownCause::ConnectionLost)).await;
    presented
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_that_is_released_runs_again() {
    let bench = Bench::new();
    let presented = unknown(&bench).await;
    let before = bench.guard.release(&presented.id, false, TTL).await.unwrap();
    assert_eq!(before.state, State::Unknown(UnknownCause::ConnectionLost));
    let _settled = bench.granted(&presented).await.settle(answered(201)).await;
    assert!(matches!(bench.verdict(&presented).await, Verdict::Replay { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_or_completed_is_released_by_force_only() {
    let bench = Bench::new();
    let presented = presented(1, 1);
    let permit = bench.granted(&presented).await;
    let refused = bench.guard.release(&presented.id, false, TTL).await;
    assert!(matches!(refused, Err(ChangeError::InFlight)), "{refused:?}");
    bench.guard.release(&presented.id, true, TTL).await.unwrap();
    let second = bench.granted(&presented).await;
    let settled = permit.settle(answered(500)).await;
    assert_eq!(settled.expires_at, None, "an owner whose key was released records nothing");
    let _settled = second.settle(answered(201)).await;
    assert_eq!(bench.state(&presented).await, completed(201));

    let refused = bench.guard.release(&presented.id, false, TTL).await;
    assert!(matches!(refused, Err(ChangeError::Completed)), "{refused:?}");
    bench.guard.release(&presented.id, true, TTL).await.unwrap();
    assert_eq!(bench.state(&presented).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_between_look_and_release_is_kept() {
    let bench = Bench::new();
    let presented = presented(1, 1);
    let permit = bench.granted(&presented).await;
    // The lease runs out while the store takes its time over the claim that would replace the entry.
    tokio::time::advance(LEASE).await;
    assert_eq!(bench.state(&presented).await, Some(State::Unknown(UnknownCause::OwnerLost)));
    bench.store.set(Op::Insert, Mood::LandsAfter(STORE_TIMEOUT / 2));
    let (released, _) =
        tokio::join!(bench.guard.release(&presented.id, false, TTL), permit.settle(answered(201)));
    assert!(released.is_err(), "{released:?}");
    assert_eq!(bench.state(&presented).await, completed(201));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_settled_as_carried_out_and_no_other() {
    let bench = Bench::new();
    let presented = unknown(&bench).await;
    bench.guard.settle_unknown(&presented.id, 201, TTL).await.unwrap();
    assert_eq!(bench.verdict(&presented).await, Verdict::NotRetained { status: 201 });
    let again = bench.guard.settle_unknown(&presented.id, 201, TTL).await;
    assert!(matches!(again, Err(ChangeError::NotUnknown)), "{again:?}");

    let at_work = super::bench::presented(2, 1);
    let _permit = bench.granted(&at_work).await;
    let refused = bench.guard.settle_unknown(&at_work.id, 201, TTL).await;
    assert!(matches!(refused, Err(ChangeError::InFlight)), "{refused:?}");

    let absent = bench.guard.settle_unknown(&super::bench::presented(3, 1).id, 201, TTL).await;
    assert!(matches!(absent, Err(ChangeError::Absent)), "{absent:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_has_settled_its_first_owner_neither_frees_nor_overwrites() {
    for late in [answered(429), answered(500), NOT_SENT, Attempt::Unknown(UnknownCause::AttemptTimeout)] {
        let bench = Bench::new();
        let presented = presented(1, 1);
        let permit = bench.granted(&presented).await;
        tokio::time::advance(LEASE).await;
        bench.guard.settle_unknown(&presented.id, 201, TTL).await.unwrap();
        let what = format!("{late:?}");
        let settled = permit.settle(late).await;
        assert_eq!(settled.expires_at, None, "{what} was recorded");
        assert_eq!(bench.verdict(&presented).await, Verdict::NotRetained { status: 201 }, "after {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_never_shortens_a_keys_life() {
    let bench = Bench::new();
    let [settled, released] = [unknown(&bench).await, presented(2, 1)];
    let attempt = Attempt::Unknown(UnknownCause::ConnectionLost);
    let _settled = bench.granted(&released).await.settle(attempt).await;
    let short = TTL / 100;
    bench.guard.settle_unknown(&settled.id, 201, short).await.unwrap();
    bench.store.set(Op::Remove, Mood::Fails);
    let failed = bench.guard.release(&released.id, false, short).await;
    assert!(matches!(failed, Err(ChangeError::Store(_))), "{failed:?}");
    tokio::time::advance(TTL - LEASE).await;
    assert_eq!(bench.verdict(&settled).await, Verdict::NotRetained { status: 201 });
    assert_eq!(bench.state(&released).await, Some(State::Unknown(UnknownCause::OwnerLost)));
}

#[tokio::test(start_paused = true)]
async fn what_this_process_is_still_to_record_is_released_by_force_only() {
    let bench = Bench::new();
    let presented = presented(1, 1);
    let permit = bench.granted(&presented).await;
    let is_refused = async |when: &str| {
        assert_eq!(bench.state(&presented).await, Some(State::Unknown(UnknownCause::OwnerLost)), "{when}");
        let refused = bench.guard.release(&presented.id, false, TTL).await;
        assert!(matches!(refused, Err(ChangeError::InFlight)), "{when}: {refused:?}");
    };
    bench.store.set(Op::Renew, Mood::Fails);
    hold(&permit, tokio::time::sleep(LEASE * 2)).await;
    is_refused("while it is at work").await;
    bench.store.set(Op::Update, Mood::Fails);
    let _settled = permit.settle(answered(201)).await;
    is_refused("while its record is to be written").await;
    bench.store.set(Op::Update, Mood::Works);
    tokio::time::sleep(LEASE * 3).await;
    assert_eq!(bench.state(&presented).await, completed(201));

    let forced = super::bench::presented(2, 1);
    let permit = bench.granted(&forced).await;
    hold(&permit, tokio::time::sleep(LEASE * 2)).await;
    bench.guard.release(&forced.id, true, TTL).await.unwrap();
    let _settled = permit.settle(answered(201)).await;
    assert_eq!(bench.state(&forced).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_broke_off_cannot_be_settled() {
    let bench = Bench::new();
    let presented = streaming(1);
    let _settled = bench.granted(&presented).await.settle(Attempt::Unknown(UnknownCause::UploadBroken)).await;
    let refused = bench.guard.settle_unknown(&presented.id, 201, TTL).await;
    assert!(matches!(refused, Err(ChangeError::Unread)), "{refused:?}");
    bench.guard.release(&presented.id, false, TTL).await.unwrap();
    assert_eq!(bench.state(&presented).await, None);
}

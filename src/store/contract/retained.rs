//! What is put in comes out.

use crate::idempotency::{Answer, Claim, Outcome, State, UnknownCause};

use crate::store::{Insert, Update};

use super::{LONG, Subject, applied, completed, new_claim, new_fingerprint, new_owner, state_of};

pub(super) async fn answers_come_back_byte_for_byte(subject: &Subject) {
    let every_byte: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let names: Vec<String> = (0..100).map(|number| format!("x-field-{number}")).collect();
    let value = [b'v'; 200];
    let fields = [
        ("set-cookie", b"a=1".as_slice()),
        ("set-cookie", b"a=1"),
        ("x-empty", b""),
        ("x-odd", b"\xff\xfe\t"),
    ];
    let many = names.iter().map(|name| (name.as_str(), value.as_slice())).chain(fields);
    let trailers = [("x-checksum", b"1".as_slice())];
    let build = |answer: Result<Answer, _>| answer.expect("the answer cannot be built");
    for answer in [
        build(Answer::new(204, [].into_iter(), b"", [].into_iter())),
        build(Answer::new(599, fields.into_iter(), b"\0\r\n\xff", trailers.into_iter())),
        build(Answer::new(200, many, &every_byte, trailers.into_iter())),
    ] {
        let outcome = Outcome::Completed(answer.clone());
        let id = subject.settled_as(&new_claim(), &outcome, LONG).await;
        for _ in 0..2 {
            let Some(State::Completed { status, answer: Some(kept) }) = subject.state(&id).await else {
                panic!("an answer of {} bytes is not there", answer.as_bytes().len());
            };
            assert_eq!(status, answer.status(), "the status is not the answer's");
            assert!(kept == answer, "an answer of {} bytes came back otherwise", answer.as_bytes().len());
        }
    }
}

pub(super) async fn fingerprint_and_caller_outlive_every_change(subject: &Subject) {
    for with_caller in [true, false] {
        let claim = new_claim();
        let claim = Claim { caller: claim.caller.filter(|_| with_caller), ..claim };
        let id = subject.claimed(&claim).await;
        let unknown = Outcome::Unknown(UnknownCause::Abandoned);
        for change in [None, Some(unknown), Some(completed(201, b"made"))] {
            if let Some(outcome) = &change {
                applied(subject.update(&id, claim.owner, outcome, LONG).await, "its owner's update");
            }
            let entry = subject.lookup(&id).await.expect("a live entry is gone");
            assert_eq!(entry.owner, claim.owner, "the owner after {change:?}");
            assert_eq!(entry.caller, claim.caller, "the caller after {change:?}");
            assert_eq!(entry.fingerprint, claim.fingerprint, "the fingerprint after {change:?}");
            let expected = change.as_ref().map_or(State::InFlight, state_of);
            assert_eq!(entry.state, expected, "the state after {change:?}");
        }
    }
}

pub(super) async fn a_fingerprint_that_was_left_open_is_set_by_the_settlement(subject: &Subject) {
    let (set, other) = (Some(new_fingerprint()), Some(new_fingerprint()));
    let done = completed(201, b"made");
    let unknown = Outcome::Unknown(UnknownCause::UploadBroken);
    // Each update with the fingerprint that it carries, and the one that stands then.
    for updates in [
        vec![(&done, set, set), (&done, other, set)],
        vec![(&unknown, set, set), (&done, other, set)],
        vec![(&unknown, None, None), (&done, set, set)],
        vec![(&unknown, None, None)],
    ] {
        let claim = Claim { fingerprint: None, ..new_claim() };
        let id = subject.claimed(&claim).await;
        let fingerprint = async || subject.lookup(&id).await.expect("a live entry is gone").fingerprint;
        assert_eq!(fingerprint().await, None, "a claim without a fingerprint has one");
        let Insert::Exists(standing) = subject.insert(&id, &new_claim()).await else {
            panic!("a claim in flight was claimed again");
        };
        assert_eq!(standing.fingerprint, None, "a claim without a fingerprint shows one to the next");
        let stranger = subject.update_with(&id, new_owner(), &done, other, LONG).await;
        assert_eq!(stranger, Update::Lost, "another owner's update was applied");
        assert_eq!(fingerprint().await, None, "another owner's lost update set the fingerprint");
        for (outcome, brought, stands) in updates {
            applied(
                subject.update_with(&id, claim.owner, outcome, brought, LONG).await,
                "its owner's update",
            );
            assert_eq!(fingerprint().await, stands, "after {outcome:?} with {brought:?}");
        }
    }
}

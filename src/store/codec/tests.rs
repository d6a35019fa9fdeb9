mod encryption;
mod fixtures;

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::idempotency::{CallerShare, Owner, UnknownCause};

const ID: RequestId = RequestId::from_bytes([7; 32]);

fn compressing() -> Codec {
    Codec { compress_above_bytes: 100, ..Codec::default() }
}

fn claim(caller: Option<CallerHash>, fingerprint: Option<Fingerprint>, share: Option<CallerHash>) -> Claim {
    Claim {
        owner: Owner::new(1),
        caller,
        fingerprint,
        lease: Duration::from_secs(10),
        ttl: Duration::from_secs(100),
        share: share.map(|caller| CallerShare { caller, max_entries: 9 }),
        replaces: None,
    }
}

fn answer_of(body: &[u8]) -> Answer {
    let fields = [("content-type", b"application/json".as_slice()), ("x-own", b"1")];
    Answer::new(201, fields.into_iter(), body, [("x-sum", b"2".as_slice())].into_iter()).unwrap()
}

fn state_of(outcome: &Outcome) -> State {
    match outcome {
        Outcome::Completed(answer) => {
            State::Completed { status: answer.status(), answer: Some(answer.clone()) }
        }
        Outcome::NotRetained { status } => State::Completed { status: *status, answer: None },
        Outcome::Unknown(cause) => State::Unknown(*cause),
    }
}

/// A record of format 1 with fields as protobuf writes them.
fn record(fields: &[&[u8]]) -> Vec<u8> {
    [&[PLAIN], fields.concat().as_slice()].concat()
}

fn caller_hash() -> impl Strategy<Value = CallerHash> {
    any::<[u8; 32]>().prop_map(CallerHash::from_bytes)
}

fn fingerprint() -> impl Strategy<Value = Option<Fingerprint>> {
    let known = (1u32.., any::<[u8; 16]>())
        .prop_map(|(rule, digest)| Fingerprint::from_parts(NonZeroU32::new(rule).unwrap(), digest));
    proptest::option::of(known)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let noise = prop::collection::vec(any::<u8>(), 0..2000);
    let text = "[a-c]{0,40}".prop_map(|text| text.repeat(60).into_bytes());
    prop_oneof![
        prop_oneof![noise, text].prop_map(|body| Outcome::Completed(answer_of(&body))),
        (100u16..1000).prop_map(|status| Outcome::NotRetained { status }),
        prop::sample::select(UnknownCause::ALL.to_vec()).prop_map(Outcome::Unknown),
    ]
}

proptest! {
    #[test]
    fn what_was_claimed_is_read_back(
        caller in proptest::option::of(caller_hash()), fingerprint in fingerprint(), share in proptest::option::of(caller_hash()),
    ) {
        for codec in [Codec::default(), compressing(), encryption::sealing()] {
            let bytes = codec.claim(&ID, &claim(caller, fingerprint, share)).unwrap();
            prop_assert_eq!(codec.claimed(&ID, &bytes).unwrap(), Claimed { caller, fingerprint, share });
        }
    }

    #[test]
    fn how_it_ended_is_read_back(outcome in outcome(), fingerprint in fingerprint()) {
        for codec in [Codec::default(), compressing(), encryption::sealing()] {
            let bytes = codec.outcome(&ID, &outcome, fingerprint).unwrap();
            prop_assert_eq!(codec.ended(&ID, &bytes).unwrap(), Ended { state: state_of(&outcome), fingerprint });
        }
    }

    #[test]
    fn no_bytes_are_too_much(format in 0u8..4, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[format], rest.as_slice()].concat();
        for codec in [Codec::default(), encryption::sealing()] {
            let claimed = codec.claimed(&ID, &bytes);
            let ended = codec.ended(&ID, &bytes);
            prop_assert!(format == PLAIN || claimed.is_err() && ended.is_err());
        }
    }

    #[test]
    fn no_compressed_answer_is_too_much(frame in prop::collection::vec(any::<u8>(), 0..200), length: u64) {
        let length = protobuf_number(2, length);
        let frame = protobuf_bytes(1, &frame);
        prop_assert!(Codec::default().ended(&ID, &record(&[&protobuf_bytes(3, &[frame, length].concat())])).is_err());
    }
}

#[test]
fn an_outcome_that_is_cut_short_is_refused() {
    let outcome = Outcome::Completed(answer_of(&b"abc".repeat(300)));
    for codec in [Codec::default(), compressing(), encryption::sealing()] {
        let whole = codec.outcome(&ID, &outcome, None).unwrap();
        for length in 0..whole.len() {
            assert!(codec.ended(&ID, &whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn an_unknown_format_is_refused_by_its_number() {
    let codec = Codec::default();
    let mut bytes = codec.claim(&ID, &claim(None, None, None)).unwrap();
    bytes[0] = 9;
    for said in [codec.claimed(&ID, &bytes).unwrap_err(), codec.ended(&ID, &bytes).unwrap_err()] {
        assert!(matches!(said, CodecError::UnknownFormat(9)), "{said}");
        assert!(said.to_string().contains("format 9"), "{said}");
    }
}

#[test]
fn fields_that_a_newer_build_added_are_overlooked() {
    let codec = Codec::default();
    let added = [protobuf_bytes(99, b"something new"), protobuf_number(100, 5)].concat();
    let share = Some(CallerHash::from_bytes([3; 32]));
    let claimed = codec.claim(&ID, &claim(None, None, share)).unwrap();
    let claimed = codec.claimed(&ID, &[claimed, added.clone()].concat()).unwrap();
    assert_eq!(claimed, Claimed { caller: None, fingerprint: None, share });
    let ended = codec.outcome(&ID, &Outcome::NotRetained { status: 200 }, None).unwrap();
    let ended = codec.ended(&ID, &[ended, added].concat()).unwrap();
    assert_eq!(ended.state, State::Completed { status: 200, answer: None });
}

#[test]
fn an_ending_that_a_newer_build_added_is_refused_and_no_other() {
    let codec = Codec::default();
    let said = codec.ended(&ID, &record(&[&protobuf_bytes(6, b"an answer in a new form")])).unwrap_err();
    assert!(matches!(said, CodecError::UnknownEnding), "{said}");
}

#[test]
fn a_cause_that_a_newer_build_added_reads_as_unknown() {
    let ended = Codec::default().ended(&ID, &record(&[&protobuf_bytes(5, b"struck_by_lightning")])).unwrap();
    assert_eq!(ended.state, State::Unknown(UnknownCause::Abandoned));
}

#[test]
fn an_answer_of_another_version_is_refused() {
    let mut bytes = answer_of(b"body").as_bytes().to_vec();
    bytes[0] += 1;
    let said = Codec::default().ended(&ID, &record(&[&protobuf_bytes(2, &bytes)])).unwrap_err();
    assert!(matches!(said, CodecError::Answer(_)), "{said}");
    assert!(said.to_string().contains("version"), "{said}");
}

#[test]
fn what_no_build_writes_is_refused() {
    let status = |status: u64| record(&[&protobuf_number(4, status)]);
    let mut odd = answer_of(b"body").as_bytes().to_vec();
    odd[1..3].copy_from_slice(&0u16.to_le_bytes());
    let outcomes =
        [vec![], record(&[]), status(0), status(99), status(1000), record(&[&protobuf_bytes(2, &odd)])];
    for bytes in outcomes {
        let said = Codec::default().ended(&ID, &bytes).unwrap_err();
        assert!(matches!(said, CodecError::Damaged(_) | CodecError::UnknownEnding), "{bytes:?}: {said}");
    }
    for bytes in [vec![], record(&[&protobuf_bytes(1, b"short")]), record(&[&protobuf_bytes(2, b"")])] {
        let said = Codec::default().claimed(&ID, &bytes).unwrap_err();
        assert!(matches!(said, CodecError::Damaged(_)), "{bytes:?}: {said}");
    }
}

#[test]
fn only_answers_above_the_threshold_are_compressed() {
    let bytes = answer_of(&b"abc".repeat(300)).as_bytes().len() as u64;
    let outcome = Outcome::Completed(answer_of(&b"abc".repeat(300)));
    let written = |compress_above_bytes| {
        let codec = Codec { compress_above_bytes, ..Codec::default() };
        codec.outcome(&ID, &outcome, None).unwrap().len() as u64
    };
    assert!(written(u64::MAX) > bytes);
    assert!(written(bytes) > bytes, "an answer of just so many bytes stays as it is");
    assert!(written(bytes - 1) < bytes / 5, "{}", written(bytes - 1));
}

#[test]
fn what_compression_does_not_shorten_is_kept_as_it_is() {
    let mut body = vec![0; 5000];
    getrandom::fill(&mut body).unwrap();
    let outcome = Outcome::Completed(answer_of(&body));
    let plain = Codec::default().outcome(&ID, &outcome, None).unwrap();
    assert_eq!(compressing().outcome(&ID, &outcome, None).unwrap(), plain);
}

#[test]
fn an_answer_that_expands_beyond_belief_is_neither_written_nor_read() {
    let zeros = Outcome::Completed(answer_of(&vec![0; 8 << 20]));
    let written = compressing().outcome(&ID, &zeros, None).unwrap();
    assert!(written.len() > 8 << 20, "{} bytes could not be read back", written.len());
    assert_eq!(compressing().ended(&ID, &written).unwrap().state, state_of(&zeros));

    let frame = zstd::bulk::compress(answer_of(&vec![0; 8 << 20]).as_bytes(), 1).unwrap();
    let length = answer_of(&vec![0; 8 << 20]).as_bytes().len() as u64;
    // The truth, a lie that is believed and does not hold the frame, and what no memory holds.
    for length in [length, frame.len() as u64 * 1000, u64::MAX] {
        let answer = [protobuf_bytes(1, &frame), protobuf_number(2, length)].concat();
        let said = compressing().ended(&ID, &record(&[&protobuf_bytes(3, &answer)])).unwrap_err();
        assert!(matches!(said, CodecError::Damaged(_)), "{length}: {said}");
    }
}

#[test]
fn a_thread_compresses_on_after_what_does_not_compress_and_what_is_damaged() {
    what_compression_does_not_shorten_is_kept_as_it_is();
    an_answer_that_expands_beyond_belief_is_neither_written_nor_read();
    only_answers_above_the_threshold_are_compressed();
    let outcome = Outcome::Completed(answer_of(&b"abc".repeat(300)));
    let written = compressing().outcome(&ID, &outcome, None).unwrap();
    assert_eq!(compressing().ended(&ID, &written).unwrap().state, state_of(&outcome));
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn protobuf_number(tag: u64, number: u64) -> Vec<u8> {
    [varint(tag << 3), varint(number)].concat()
}

fn protobuf_bytes(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

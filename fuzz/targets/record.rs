//! Records of a shared store: any bytes are read or refused, and what is read is written to the same meaning.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::idempotency::{Outcome, RequestId, State};
use oncegate::store::codec::Codec;

fuzz_target!(|input: &[u8]| {
    let (codec, id) = (Codec::default(), RequestId::from_bytes([7; 32]));
    drop(codec.claimed(&id, input));
    let Ok(ended) = codec.ended(&id, input) else { return };
    let outcome = match ended.state.clone() {
        State::Completed { answer: Some(answer), .. } => Outcome::Completed(answer),
        State::Completed { status, answer: None } => Outcome::NotRetained { status },
        State::Unknown(cause) => Outcome::Unknown(cause),
        State::InFlight => panic!("an ending is an end"),
    };
    let written = codec.outcome(&id, &outcome, ended.fingerprint).expect("what was read can be written");
    assert!(codec.ended(&id, &written).expect("what was written can be read") == ended);
});

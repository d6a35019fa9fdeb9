//! Records of earlier builds, which every later one reads.

use std::fs;
use std::path::PathBuf;

use super::*;

const MEANING: &str = "during a rolling upgrade replicas of two builds share a store: whatever a released build wrote must \
                       be read for ever, and what this one writes must be read by the one before. Leave the fixture as it \
                       is, and mend the codec; a form that the build before cannot read has to be read by one release \
                       before the next one writes it";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(name)
}

/// The record in the file. With `ONCEGATE_BLESS=1` one that is missing is written, and none is ever replaced.
fn fixture(name: &str, written: &[u8]) -> Vec<u8> {
    let file = file(name);
    if std::env::var_os("ONCEGATE_BLESS").is_some() && !file.exists() {
        fs::write(&file, written).unwrap();
    }
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn codec(compress_above_bytes: u64, encrypt: bool) -> Codec {
    let key = |id: &str| EncryptionKeyParams { id: id.to_owned(), file: file(&format!("{id}.key")) };
    let params = CodecParams { compress_above_bytes, encryption_keys: vec![key("test-key")], encrypt };
    Codec::new(&params).unwrap()
}

fn claims() -> [(&'static str, Claim); 3] {
    let caller = |byte| Some(CallerHash::from_bytes([byte; 32]));
    let fingerprint =
        NonZeroU32::new(0x4ec2_11c7).map(|rule| Fingerprint::from_parts(rule, *b"0123456789abcdef"));
    [
        ("claim", claim(None, fingerprint, None)),
        ("claim-open", claim(None, None, None)),
        ("claim-caller-share", claim(caller(1), fingerprint, caller(2))),
    ]
}

fn outcomes() -> [(&'static str, Outcome, Option<Fingerprint>); 9] {
    let fingerprint =
        NonZeroU32::new(0x4ec2_11c7).map(|rule| Fingerprint::from_parts(rule, *b"0123456789abcdef"));
    let cause = Outcome::Unknown;
    [
        ("completed", Outcome::Completed(answer_of(br#"{"id":"ch_1","amount":1200}"#)), None),
        ("completed-stream", Outcome::Completed(answer_of(b"")), fingerprint),
        ("not-retained", Outcome::NotRetained { status: 207 }, None),
        ("unknown-abandoned", cause(UnknownCause::Abandoned), None),
        ("unknown-attempt-timeout", cause(UnknownCause::AttemptTimeout), None),
        ("unknown-connection-lost", cause(UnknownCause::ConnectionLost), None),
        ("unknown-invalid-answer", cause(UnknownCause::InvalidAnswer), None),
        ("unknown-owner-lost", cause(UnknownCause::OwnerLost), None),
        ("unknown-upload-broken", cause(UnknownCause::UploadBroken), fingerprint),
    ]
}

fn long_answer() -> Outcome {
    let body: String = (0..200).map(|number| format!("{{\"id\":\"ch_{number}\",\"paid\":true}},")).collect();
    Outcome::Completed(answer_of(body.as_bytes()))
}

fn claimed(claim: &Claim) -> Claimed {
    let share = claim.share.map(|share| share.caller);
    Claimed { caller: claim.caller, fingerprint: claim.fingerprint, share }
}

#[test]
fn records_of_format_1_are_read_and_written_as_ever() {
    let codec = Codec::default();
    for (name, claim) in claims() {
        let written = codec.claim(&ID, &claim).unwrap();
        let kept = fixture(&format!("1-{name}.bin"), &written);
        assert_eq!(
            codec.claimed(&ID, &kept).ok(),
            Some(claimed(&claim)),
            "{name} reads otherwise: {MEANING}"
        );
        assert_eq!(written, kept, "{name} is written otherwise: {MEANING}");
    }
    for (name, outcome, fingerprint) in outcomes() {
        let written = codec.outcome(&ID, &outcome, fingerprint).unwrap();
        let kept = fixture(&format!("1-{name}.bin"), &written);
        let expected = Ended { state: state_of(&outcome), fingerprint };
        assert_eq!(codec.ended(&ID, &kept).ok(), Some(expected), "{name} reads otherwise: {MEANING}");
        assert_eq!(written, kept, "{name} is written otherwise: {MEANING}");
    }
}

#[test]
fn compressed_records_of_format_1_are_read_as_ever() {
    let written = codec(1024, false).outcome(&ID, &long_answer(), None).unwrap();
    let kept = fixture("1-completed-compressed.bin", &written);
    assert!(kept.len() < 2000, "the fixture is not compressed");
    let ended = Codec::default().ended(&ID, &kept).ok().map(|ended| ended.state);
    assert_eq!(ended, Some(state_of(&long_answer())), "a compressed answer reads otherwise: {MEANING}");
}

#[test]
fn records_of_format_2_are_read_as_ever() {
    let codec = codec(1024, true);
    let [.., (_, claim)] = claims();
    let kept = fixture("2-claim.bin", &codec.claim(&ID, &claim).unwrap());
    assert_eq!(
        codec.claimed(&ID, &kept).ok(),
        Some(claimed(&claim)),
        "a sealed claim reads otherwise: {MEANING}"
    );
    let kept = fixture("2-completed-compressed.bin", &codec.outcome(&ID, &long_answer(), None).unwrap());
    let ended = codec.ended(&ID, &kept).ok().map(|ended| ended.state);
    assert_eq!(ended, Some(state_of(&long_answer())), "a sealed outcome reads otherwise: {MEANING}");
}

use std::fs;
use std::sync::LazyLock;

use super::*;

const OTHER_ID: RequestId = RequestId::from_bytes([8; 32]);

/// An id, and what stands in the file.
type Key<'a> = (&'a str, &'a [u8]);

fn codec(keys: &[Key<'_>], encrypt: bool) -> Result<Codec, KeyError> {
    let folder = tempfile::tempdir().unwrap();
    let file = |(number, (id, contents)): (usize, &Key<'_>)| {
        let file = folder.path().join(number.to_string());
        fs::write(&file, contents).unwrap();
        EncryptionKeyParams { id: (*id).to_owned(), file }
    };
    let encryption_keys = keys.iter().enumerate().map(file).collect();
    Codec::new(&CodecParams { compress_above_bytes: 100, encryption_keys, encrypt })
}

pub(super) fn sealing() -> Codec {
    static SEALING: LazyLock<Codec> = LazyLock::new(|| codec(&[("2026-11", &[201; 32])], true).unwrap());
    SEALING.clone()
}

fn told() -> (Claim, Claimed) {
    let fingerprint = Some(Fingerprint::from_parts(NonZeroU32::MIN, *b"low-entropy hash"));
    (claim(None, fingerprint, None), Claimed { caller: None, fingerprint, share: None })
}

#[test]
fn neither_fingerprints_nor_answers_can_be_read_from_a_dump() {
    let outcome = Outcome::Completed(answer_of(b"the account's balance"));
    let written = [sealing().claim(&ID, &told().0).unwrap(), sealing().outcome(&ID, &outcome, None).unwrap()];
    for bytes in written {
        for secret in ["low-entropy", "balance", "application/json"] {
            let holds = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!holds, "{secret} is to be read in {bytes:?}");
        }
        assert!(bytes.windows(7).any(|window| window == b"2026-11"), "the key is not named in {bytes:?}");
    }
}

#[test]
fn the_same_record_is_never_sealed_to_the_same_bytes() {
    assert_ne!(sealing().claim(&ID, &told().0).unwrap(), sealing().claim(&ID, &told().0).unwrap());
}

#[test]
fn any_flipped_bit_makes_a_sealed_record_unreadable() {
    let codec = sealing();
    let claim = codec.claim(&ID, &told().0).unwrap();
    let outcome = codec.outcome(&ID, &Outcome::Completed(answer_of(b"body")), None).unwrap();
    for bit in 0..claim.len().max(outcome.len()) * 8 {
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.get_mut(bit / 8).map(|byte| *byte ^= 1 << (bit % 8)).map(|()| bytes)
        };
        assert!(flipped(&claim).is_none_or(|bytes| codec.claimed(&ID, &bytes).is_err()), "bit {bit}");
        assert!(flipped(&outcome).is_none_or(|bytes| codec.ended(&ID, &bytes).is_err()), "bit {bit}");
    }
}

#[test]
fn a_sealed_record_opens_only_where_it_was_written() {
    let codec = sealing();
    let claim = codec.claim(&ID, &told().0).unwrap();
    let outcome = codec.outcome(&ID, &Outcome::NotRetained { status: 200 }, None).unwrap();
    assert!(codec.claimed(&ID, &claim).is_ok() && codec.ended(&ID, &outcome).is_ok());
    let elsewhere = [
        codec.claimed(&OTHER_ID, &claim).unwrap_err(),
        codec.ended(&OTHER_ID, &outcome).unwrap_err(),
        codec.claimed(&ID, &outcome).unwrap_err(),
        codec.ended(&ID, &claim).unwrap_err(),
    ];
    for said in elsewhere {
        assert!(matches!(&said, CodecError::NotOpened(key) if key == "2026-11"), "{said}");
    }
}

#[test]
fn a_rotated_key_opens_what_it_sealed_until_it_is_removed() {
    let old: Key<'_> = ("2026-11", &[201; 32]);
    let new: Key<'_> = ("2027-01", &[202; 32]);
    let (claim, claimed) = told();
    let written = codec(&[old], true).unwrap().claim(&ID, &claim).unwrap();

    let learning = codec(&[old, new], true).unwrap();
    let rotated = codec(&[new, old], true).unwrap();
    let after = codec(&[new], true).unwrap();
    assert_eq!(rotated.claimed(&ID, &written).unwrap(), claimed, "an old record no longer opens");
    let rewritten = rotated.claim(&ID, &claim).unwrap();
    for codec in [&learning, &rotated, &after] {
        assert_eq!(codec.claimed(&ID, &rewritten).unwrap(), claimed, "{codec:?}");
    }
    let said = after.claimed(&ID, &written).unwrap_err();
    assert!(matches!(&said, CodecError::MissingKey(key) if key == "2026-11"), "{said}");
    assert!(said.to_string().contains("\"2026-11\""), "{said}");
}

#[test]
fn another_key_of_the_same_name_is_told_from_a_missing_one() {
    let written = codec(&[("a", &[201; 32])], true).unwrap().claim(&ID, &told().0).unwrap();
    let said = codec(&[("a", &[202; 32])], true).unwrap().claimed(&ID, &written).unwrap_err();
    assert!(matches!(&said, CodecError::NotOpened(key) if key == "a"), "{said}");
}

#[test]
fn encryption_can_be_switched_on_and_off_with_records_alive() {
    let (claim, claimed) = told();
    let plain = Codec::default();
    let opening = codec(&[("a", &[201; 32])], false).unwrap();
    let sealing = codec(&[("a", &[201; 32])], true).unwrap();
    for (writer, readers) in
        [(&plain, vec![&plain, &opening, &sealing]), (&opening, vec![&plain]), (&sealing, vec![&opening])]
    {
        let written = writer.claim(&ID, &claim).unwrap();
        for reader in readers {
            assert_eq!(reader.claimed(&ID, &written).unwrap(), claimed, "{writer:?} to {reader:?}");
        }
    }
    let said = plain.claimed(&ID, &sealing.claim(&ID, &claim).unwrap()).unwrap_err();
    assert!(matches!(&said, CodecError::MissingKey(key) if key == "a"), "{said}");
}

#[test]
fn a_key_may_be_written_in_three_ways() {
    let key: Vec<u8> = (0..32).map(|number| number * 8 + 3).collect();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = data_encoding::BASE64.encode(&key);
    let (claim, claimed) = told();
    let written = codec(&[("a", &key)], true).unwrap().claim(&ID, &claim).unwrap();
    for contents in
        [hex.clone(), hex.to_uppercase(), format!("{hex}\n"), base64.clone(), format!(" {base64}\r\n")]
    {
        let read = codec(&[("a", contents.as_bytes())], true).unwrap().claimed(&ID, &written);
        assert_eq!(read.unwrap(), claimed, "{contents}");
    }
}

#[test]
fn a_file_that_holds_no_key_is_named_and_never_shown() {
    let raw = [201; 33];
    let cases: [&[u8]; 9] = [
        b"",
        b"\n",
        b"a passphrase of 32 characters...",
        b"00112233445566778899aabbccddeeff",
        b"00112233445566778899aabbccddeeff00112233445566778899aabbccddee",
        b"00112233445566778899aabbccddeeff00112233445566778899aabbccddeefg",
        b"c2hvcnQ=",
        &raw[..31],
        &raw,
    ];
    for contents in cases {
        let said = codec(&[("a", contents)], true).unwrap_err();
        let KeyError::NoKey(path) = &said else { panic!("{contents:?}: {said}") };
        let text = format!("{said} {said:?}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        let shown = String::from_utf8_lossy(contents).trim().to_owned();
        assert!(shown.is_empty() || !text.contains(&shown), "{text}");
    }
    let missing = EncryptionKeyParams { id: "a".into(), file: "/nonexistent/key".into() };
    let said = missing.check().unwrap_err();
    assert!(
        matches!(said, KeyError::Unreadable { .. }) && said.to_string().contains("/nonexistent/key"),
        "{said}"
    );
}

#[test]
fn ids_are_words_and_keys_differ() {
    for id in ["", "a b", "ä", "a\n", &"a".repeat(65)] {
        let said = codec(&[(id, &[201; 32])], true).unwrap_err();
        assert!(matches!(said, KeyError::BadId(_)), "{said}");
    }
    assert!(codec(&[(&"a".repeat(64), &[201; 32]), ("A.b_c-0", &[202; 32])], true).is_ok());
    let said = codec(&[("a", &[201; 32]), ("a", &[202; 32])], true).unwrap_err();
    assert!(matches!(said, KeyError::SameId(_)), "{said}");
    let said = codec(&[("a", &[201; 32]), ("b", &[201; 32])], true).unwrap_err();
    assert!(matches!(said, KeyError::SameKey(..)), "{said}");
}

#[test]
fn keys_are_shown_by_their_ids_only() {
    let shown = format!("{:?}", sealing());
    assert!(shown.contains("2026-11") && !shown.contains("201"), "{shown}");
}

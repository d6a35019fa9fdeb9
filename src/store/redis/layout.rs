//! A record as it lies in the server: a head that the scripts read, the claim, the outcomes.
//!
//! Owns the keys and the reading of what scripts return. The head is written by the scripts alone (`prelude.lua`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;

use crate::idempotency::{Entry, Owner, RequestId, State, UnknownCause};
use crate::store::codec::{Codec, CodecError};

/// Keys are spread over so many slots of a cluster. A bucket's records and its index share one.
pub(super) const BUCKETS: u8 = 64;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 47;

pub(super) const IN_FLIGHT: u8 = 1;
pub(super) const UNKNOWN: u8 = 2;
pub(super) const COMPLETED: u8 = 3;

/// The flag of an entry that counts in its caller's share.
pub(super) const SHARED: u8 = 2;

/// What every key of this store begins with.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    channel: String,
}

/// What the scripts know of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    state: u8,
    owner: Owner,
    pub(super) claimed_at_ms: u64,
    /// The lease's end while in flight, the expiry after.
    ends_at_ms: u64,
    ttl_ms: u64,
    claim_bytes: usize,
}

impl Keys {
    pub(super) fn new(prefix: String) -> Self {
        Self { channel: format!("{prefix}events"), prefix }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn record(&self, id: &RequestId) -> String {
        let mut key = self.records(bucket(id));
        HEXLOWER.encode_append(id.as_bytes(), &mut key);
        key
    }

    /// What the records of a bucket begin with.
    pub(super) fn records(&self, bucket: u8) -> String {
        // A record's whole key needs no more room.
        let mut key = String::with_capacity(self.prefix.len() + 5 + 64);
        key.push_str(&self.prefix);
        key.push('{');
        HEXLOWER.encode_append(&[bucket], &mut key);
        key.push_str("}:");
        key
    }

    /// The index of what is in flight or unknown in the bucket, by the time of the claim.
    pub(super) fn open(&self, bucket: u8) -> String {
        let mut key = self.records(bucket);
        key.push_str("open");
        key
    }

    /// What is lost with the records: one for all, or one for each bucket where they lie on several servers.
    pub(super) fn epochs(&self, of_each_bucket: bool) -> Vec<String> {
        if of_each_bucket {
            (0..BUCKETS).map(|bucket| format!("{}{{{bucket:02x}}}:epoch", self.prefix)).collect()
        } else {
            vec![format!("{}epoch", self.prefix)]
        }
    }

    /// Where settlements that someone waits for, and releases, are made known.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }
}

pub(super) fn bucket(id: &RequestId) -> u8 {
    let [.., last] = *id.as_bytes();
    last % BUCKETS
}

impl Head {
    /// The head of a record, and the rest of it.
    pub(super) fn split(record: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (head, rest) =
            record.split_at_checked(HEAD_BYTES).ok_or(CodecError::Damaged("it is too short"))?;
        let (format, state) = (number::<1>(head, 0), number::<1>(head, 1));
        if format != u64::from(FORMAT) {
            return Err(CodecError::UnknownFormat(format.try_into().unwrap_or(u8::MAX)));
        }
        let owner = head.get(3..19).and_then(|owner| owner.try_into().ok()).map_or(0, u128::from_be_bytes);
        let head = Self {
            state: u8::try_from(state).unwrap_or(0),
            owner: Owner::new(owner),
            claimed_at_ms: number::<8>(head, 19),
            ends_at_ms: number::<8>(head, 27),
            ttl_ms: number::<8>(head, 35),
            claim_bytes: usize::try_from(number::<4>(head, 43)).unwrap_or(usize::MAX),
        };
        Ok((head, rest))
    }

    /// When the record is gone, if nothing more is heard of it.
    pub(super) const fn expires_at_ms(&self) -> u64 {
        if self.state == IN_FLIGHT { self.ends_at_ms.saturating_add(self.ttl_ms) } else { self.ends_at_ms }
    }
}

/// What a reader is shown of the record under `id`.
pub(super) fn entry(codec: &Codec, id: &RequestId, now_ms: u64, record: &[u8]) -> Result<Entry, CodecError> {
    let (head, rest) = Head::split(record)?;
    let (claim, mut outcomes) =
        rest.split_at_checked(head.claim_bytes).ok_or(CodecError::Damaged("its claim is cut"))?;
    let claimed = codec.claimed(id, claim)?;
    let mut fingerprint = claimed.fingerprint;
    let mut ended = None;
    while let Some((length, rest)) = outcomes.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let (outcome, rest) =
            rest.split_at_checked(length).ok_or(CodecError::Damaged("its outcome is cut"))?;
        let outcome = codec.ended(id, outcome)?;
        fingerprint = fingerprint.or(outcome.fingerprint);
        (ended, outcomes) = (Some(outcome.state), rest);
    }
    let state = match head.state {
        IN_FLIGHT if now_ms < head.ends_at_ms => State::InFlight,
        IN_FLIGHT => State::Unknown(UnknownCause::OwnerLost),
        _ => ended.ok_or(CodecError::Damaged("it has no outcome"))?,
    };
    let expires_at = (state != State::InFlight).then(|| system_time(head.expires_at_ms()));
    Ok(Entry { owner: head.owner, caller: claimed.caller, fingerprint, state, expires_at })
}

/// A moment of the server's clock.
pub(super) fn system_time(ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
}

/// The owner's token as the scripts compare it.
pub(super) const fn token(owner: Owner) -> [u8; 16] {
    owner.token().to_be_bytes()
}

pub(super) fn millis(duration: Duration) -> u64 {
    // So far ahead that no clock of a server overflows: 35,000 years in ms.
    const MOST: u128 = 1 << 50;
    u64::try_from(duration.as_millis().min(MOST)).unwrap_or(u64::MAX)
}

/// A number of `N` bytes, the highest first.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..at + N).unwrap_or_default();
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::idempotency::Outcome;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn record(state: u8, ends_at_ms: u64, claim: &[u8], outcomes: &[&[u8]]) -> Vec<u8> {
        let mut record = vec![FORMAT, state, 0];
        record.extend(token(Owner::new(7)));
        for number in [NOW_MS - 1_000, ends_at_ms, 60_000] {
            record.extend(number.to_be_bytes());
        }
        record.extend(u32::try_from(claim.len()).unwrap().to_be_bytes());
        record.extend(claim);
        for outcome in outcomes {
            record.extend(u32::try_from(outcome.len()).unwrap().to_be_bytes());
            record.extend(*outcome);
        }
        record
    }

    #[test]
    fn a_lease_that_is_over_reads_as_owner_lost_until_its_ttl_is() {
        let id = RequestId::from_bytes([1; 32]);
        let in_flight = record(IN_FLIGHT, NOW_MS, &[1], &[]);
        let read = |now| entry(&Codec::default(), &id, now, &in_flight).unwrap();
        let (before, after) = (read(NOW_MS - 1), read(NOW_MS));
        assert_eq!((before.state, before.expires_at), (State::InFlight, None));
        assert_eq!(after.state, State::Unknown(UnknownCause::OwnerLost));
        assert_eq!(after.expires_at, Some(system_time(NOW_MS + 60_000)));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_never_a_free_key() {
        let id = RequestId::from_bytes([1; 32]);
        let read = |record: &[u8]| entry(&Codec::default(), &id, NOW_MS, record);
        assert!(read(&[]).is_err(), "nothing");
        assert!(read(&record(COMPLETED, NOW_MS, &[1], &[])).is_err(), "completed without an outcome");
        assert!(read(&record(9, NOW_MS, &[1], &[])).is_err(), "a state that there is not");
        let whole = record(IN_FLIGHT, NOW_MS, &[1], &[]);
        let mut newer = whole.clone();
        newer[0] = FORMAT + 1;
        assert!(matches!(read(&newer), Err(CodecError::UnknownFormat(2))), "a newer format");
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut to {cut} bytes");
        }
    }

    /// A build that changes any of this finds what others wrote absent, and runs it again: it needs another `key_prefix`, or
    /// a store of its own.
    #[test]
    fn every_build_looks_in_the_same_places() {
        let (keys, id) = (Keys::new("oncegate:".to_owned()), RequestId::from_bytes([0xab; 32]));
        assert_eq!(keys.record(&id), format!("oncegate:{{2b}}:{}", "ab".repeat(32)));
        assert_eq!(keys.open(bucket(&id)), "oncegate:{2b}:open");
        assert_eq!(keys.epochs(false), ["oncegate:epoch"]);
        assert_eq!(keys.epochs(true).last().map(String::as_str), Some("oncegate:{3f}:epoch"));
        assert_eq!(keys.channel(), "oncegate:events");
    }

    #[test]
    fn every_build_reads_the_same_head() {
        let id = RequestId::from_bytes([1; 32]);
        let owner = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let mut record = vec![1, 2, 0];
        record.extend(owner);
        record.extend([0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0]);
        record.extend([0, 0, 1, 0x8b, 0xd5, 0x0b, 0xc4, 0]);
        record.extend([0, 0, 0, 0, 5, 0x26, 0x5c, 0]);
        record.extend([0, 0, 0, 1, 1]);
        let unknown = Outcome::Unknown(UnknownCause::ConnectionLost);
        let outcome = Codec::default().outcome(&id, &unknown, None).unwrap();
        record.extend([0, 0, 0, u8::try_from(outcome.len()).unwrap()]);
        record.extend(outcome);
        let entry = entry(&Codec::default(), &id, NOW_MS, &record).unwrap();
        assert_eq!(entry.owner, Owner::new(u128::from_be_bytes(owner)));
        assert_eq!(entry.state, State::Unknown(UnknownCause::ConnectionLost));
        assert_eq!(entry.expires_at, Some(system_time(1_700_086_400_000)));
    }

    proptest! {
        #[test]
        fn reading_never_panics_on_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(format) = bytes.first_mut() {
                *format = FORMAT;
            }
            let id = RequestId::from_bytes([1; 32]);
            let read = entry(&Codec::default(), &id, NOW_MS, &bytes);
            prop_assert!(bytes.len() >= HEAD_BYTES || read.is_err());
        }

        #[test]
        fn an_id_is_read_back_from_its_key(bytes in any::<[u8; 32]>()) {
            let id = RequestId::from_bytes(bytes);
            prop_assert_eq!(RequestId::from_hex(id.to_hex()), Some(id));
            let key = Keys::new("p:".to_owned()).record(&id);
            let is_whole = key.starts_with("p:{") && key.ends_with(&id.to_hex());
            prop_assert!(is_whole, "{}", key);
            prop_assert_eq!(RequestId::from_hex(bytes), None);
        }
    }
}

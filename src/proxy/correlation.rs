//! `X-Request-Id`: one name for a request in the upstream's log, in ours and at the client.
//!
//! Taken from a trusted peer, or made here: two counters behind a bijective mixer, each from a random start, so that making
//! one takes no system call and no two requests of a process share one. An id tells requests apart; it is no secret, and it has
//! no part in idempotency.

use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The field that carries the id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a trusted peer, in bytes.
const MAX_LENGTH_BYTES: usize = 128;

/// Steps between two states of the mixer: odd, so that each counter takes every value before one comes again.
const STEPS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03];

/// Gives requests their ids.
#[derive(Debug)]
pub struct RequestIds {
    starts: [u64; 2],
    count: AtomicU64,
}

impl RequestIds {
    /// Ids that no other process gives, with a chance of 2^-128.
    #[must_use]
    pub fn new() -> Self {
        // Without randomness from the system, the hasher's seed is what is left: it is random too.
        let random = |salt: u64| {
            use std::hash::{BuildHasher, RandomState};
            getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(salt))
        };
        Self { starts: [random(0), random(1)], count: AtomicU64::new(0) }
    }

    /// Sees to it that the request has one id, and returns it. Only that of a trusted peer is taken, if it is plain.
    pub fn give(&self, headers: &mut HeaderMap, is_trusted: bool) -> HeaderValue {
        if is_trusted && let Some(id) = taken(headers) {
            return id.clone();
        }
        let id = self.next();
        headers.insert(X_REQUEST_ID, id.clone());
        id
    }

    fn next(&self) -> HeaderValue {
        let mut id = [0; 32];
        for (half, number) in id.chunks_exact_mut(16).zip(self.numbers()) {
            write_hex(number, half);
        }
        // Hexadecimal digits are a field's value.
        HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }

    /// Two numbers, none of which comes again in its place.
    pub(super) fn numbers(&self) -> [u64; 2] {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let [first, second] = self.starts;
        let [first_step, second_step] = STEPS;
        let number = |start: u64, step| mix(start.wrapping_add(count.wrapping_mul(step)));
        [number(first, first_step), number(second, second_step)]
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

/// The id of the request, if it has exactly one and that is short and made of characters that no log and no field stumbles
/// over.
fn taken(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(X_REQUEST_ID).into_iter();
    let id = lines.next().filter(|_| lines.next().is_none())?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte);
    let is_short = (1..=MAX_LENGTH_BYTES).contains(&id.len());
    (is_short && id.as_bytes().iter().all(is_plain)).then_some(id)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection.
const fn mix(state: u64) -> u64 {
    let state = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ state >> 31
}

pub(super) fn write_hex(number: u64, digits: &mut [u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 0xF]) {
            *digit = nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn given(lines: &[&str], is_trusted: bool) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_REQUEST_ID, HeaderValue::from_str(line).unwrap());
        }
        let id = RequestIds::new().give(&mut headers, is_trusted);
        assert_eq!(headers.get_all(X_REQUEST_ID).iter().collect::<Vec<_>>(), [&id], "one id, and the same");
        id.to_str().unwrap().to_owned()
    }

    #[test]
    fn no_two_requests_share_an_id_made_here() {
        let (one, other) = (RequestIds::new(), RequestIds::new());
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            for ids in [&one, &other] {
                let id = ids.next();
                assert!(id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit), "{id:?}");
                assert!(seen.insert(id));
            }
        }
    }

    #[test]
    fn numbers_are_written_in_hexadecimal() {
        let mut digits = [0; 16];
        write_hex(0x0123_4567_89AB_CDEF, &mut digits);
        assert_eq!(&digits, b"0123456789abcdef");
    }

    #[test]
    fn a_trusted_peer_s_plain_id_is_kept_and_any_other_is_replaced() {
        let long = "a".repeat(129);
        assert_eq!(given(&["trace-1:a/b+c=_.~@"], true), "trace-1:a/b+c=_.~@");
        assert_eq!(given(&[&long[1..]], true), long[1..]);
        for (lines, is_trusted) in [
            (&["trace-1"][..], false),
            (&[], true),
            (&[], false),
            (&[""], true),
            (&[&long], true),
            (&["a b"], true),
            (&["a\"b"], true),
            (&["a,b"], true),
            (&["a\tb"], true),
            (&["one", "two"], true),
        ] {
            let id = given(lines, is_trusted);
            assert!(id.len() == 32 && !lines.contains(&id.as_str()), "{lines:?} {is_trusted}: {id}");
        }
    }
}

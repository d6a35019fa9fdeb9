//! Who calls, reduced to a hash.
//!
//! Owns the rule that no tenant can read another's answers: whatever the operator names as the caller's mark enters the
//! scope, or the entry, only as a SHA-256. It does not fetch the marks: the edge hands them in.

use std::fmt;

use sha2::{Digest, Sha256};

/// The hash of everything that tells one caller from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerHash([u8; 32]);

impl CallerHash {
    /// The hash's bytes, for a store that has to keep it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash that a store kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CallerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "CallerHash({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// Gathers the caller's marks in the order in which the operator listed them.
#[derive(Debug)]
pub struct CallerHasher(Sha256);

impl CallerHasher {
    const VERSION: u8 = 1;

    /// A hasher that has seen no mark yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Sha256::new().chain_update([Self::VERSION]))
    }

    /// Adds one mark with all the values it was sent with. No value (absent) differs from one empty value, and every
    /// value of a doubled field counts.
    pub fn mark<'a>(&mut self, source: &str, values: impl IntoIterator<Item = &'a [u8]>) {
        self.part(source.as_bytes());
        for value in values {
            self.0.update([1]);
            self.part(value);
        }
        self.0.update([0]);
    }

    /// The hash of all marks so far.
    #[must_use]
    pub fn finish(self) -> CallerHash {
        CallerHash(self.0.finalize().into())
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

impl Default for CallerHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// The scheme's name if this `Authorization` value is new on every try by its nature (a signature over time or nonce), so
/// that it cannot tell a caller: under it each retry would be another caller's.
#[must_use]
pub fn unstable_authorization(value: &[u8]) -> Option<&'static str> {
    const SCHEMES: [&str; 7] =
        ["AWS", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "Digest", "OAuth", "Hawk", "Negotiate"];
    let scheme = value.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | b',')).next()?;
    SCHEMES.into_iter().find(|name| scheme.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(marks: &[(&str, &[&[u8]])]) -> CallerHash {
        let mut hasher = CallerHasher::new();
        for (source, values) in marks {
            hasher.mark(source, values.iter().copied());
        }
        hasher.finish()
    }

    #[test]
    fn the_same_marks_give_the_same_caller() {
        assert_eq!(
            hash(&[("header:authorization", &[b"Bearer a"])]),
            hash(&[("header:authorization", &[b"Bearer a"])])
        );
    }

    #[test]
    fn every_difference_in_marks_gives_another_caller() {
        let callers = [
            hash(&[]),
            hash(&[("header:a", &[])]),
            hash(&[("header:a", &[b""])]),
            hash(&[("header:a", &[b"x"])]),
            hash(&[("header:a", &[b"x", b"x"])]),
            hash(&[("header:a", &[b"xx"])]),
            hash(&[("header:a", &[b"x, x"])]),
            hash(&[("cookie:a", &[b"x"])]),
            hash(&[("header:a", &[b"x"]), ("header:b", &[])]),
            hash(&[("header:b", &[]), ("header:a", &[b"x"])]),
        ];
        for (i, one) in callers.iter().enumerate() {
            for (j, other) in callers.iter().enumerate() {
                assert_eq!(i == j, one == other, "callers {i} and {j}");
            }
        }
    }

    #[test]
    fn an_authorization_that_is_new_on_every_try_is_named() {
        for (value, scheme) in [
            (&b"AWS4-HMAC-SHA256 Credential=AKIA/2026"[..], Some("AWS4-HMAC-SHA256")),
            (b"aws4-hmac-sha256 Credential=AKIA/2026", Some("AWS4-HMAC-SHA256")),
            (b"Digest username=\"u\"", Some("Digest")),
            (b"OAuth oauth_nonce=\"1\"", Some("OAuth")),
            (b"Hawk id=\"1\"", Some("Hawk")),
            (b"Bearer OAuth", None),
            (b"Basic dTpw", None),
            (b"DigestLike x", None),
            (b"", None),
        ] {
            assert_eq!(unstable_authorization(value), scheme, "{}", String::from_utf8_lossy(value));
        }
    }
}

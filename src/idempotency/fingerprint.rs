//! What a retry must have in common with its first request.
//!
//! Owns the hash over a request's payload. A fingerprint carries the rule it was made under, so that entries written under
//! another rule are told apart from other payloads and never silently mismatched.

use std::fmt;
use std::num::NonZeroU32;

use sha2::{Digest, Sha256};

use super::{JsonError, Selection};

/// The hash of a payload, and the rule by which it was taken.
///
/// The digest is the first 128 bits of SHA-256: 2^-128 for a changed payload to pass as a retry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Never zero, so that a fingerprint that is not known yet takes no more room than one that is.
    rule: NonZeroU32,
    digest: [u8; 16],
}

/// What of the body counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BodyRule {
    /// Every byte.
    #[default]
    Raw,
    /// The canonical form of the selected parts of a JSON text.
    Json(Selection),
    /// Nothing at all, nor query, content type and fields: the key alone tells requests apart.
    None,
}

/// How fingerprints are taken on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FingerprintRule {
    id: NonZeroU32,
    body: BodyRule,
}

/// The parts of a request that a fingerprint may cover.
#[derive(Debug)]
pub struct Payload<'a> {
    /// The query without its question mark; `None` if there is no question mark.
    pub query: Option<&'a str>,
    /// The `Content-Type` lines, then those of every field that counts on the route, each with its name.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
    /// What came behind the body.
    pub trailers: &'a [(&'a str, &'a [u8])],
}

/// The fingerprint of a payload whose body is read piece by piece, and need not be held.
#[derive(Clone, Debug)]
pub struct FingerprintHasher {
    rule: NonZeroU32,
    /// Whether anything counts.
    counts: bool,
    hasher: Sha256,
    body_bytes: u64,
}

impl Fingerprint {
    /// Whether `other` was taken by the same rule, so that the two can be compared.
    #[must_use]
    pub const fn is_comparable_to(&self, other: &Self) -> bool {
        self.rule.get() == other.rule.get()
    }

    /// The rule's id and the digest, for a store that has to keep them.
    #[must_use]
    pub const fn to_parts(self) -> (NonZeroU32, [u8; 16]) {
        (self.rule, self.digest)
    }

    /// The fingerprint that a store kept.
    #[must_use]
    pub const fn from_parts(rule: NonZeroU32, digest: [u8; 16]) -> Self {
        Self { rule, digest }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.digest;
        write!(f, "Fingerprint({:08x}:{a:02x}{b:02x}{c:02x}{d:02x})", self.rule)
    }
}

impl FingerprintRule {
    const VERSION: u8 = 1;

    /// The rule that covers what `body` says, and of the header the `fields` that the edge will hand in. Every build gives
    /// it the same id: a shared store holds fingerprints of several.
    #[must_use]
    pub fn new(body: BodyRule, fields: &[&str]) -> Self {
        let mut hasher = Sha256::new().chain_update([Self::VERSION]);
        match &body {
            BodyRule::Raw => hasher.update([1]),
            BodyRule::Json(selection) => {
                hasher.update([2]);
                list(&mut hasher, &selection.include());
                list(&mut hasher, &selection.exclude());
            }
            BodyRule::None => hasher.update([3]),
        }
        list(&mut hasher, fields);
        let id = hasher.finalize().iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte));
        Self { id: NonZeroU32::new(id).unwrap_or(NonZeroU32::MIN), body }
    }

    /// What of the body counts.
    #[must_use]
    pub const fn body(&self) -> &BodyRule {
        &self.body
    }

    /// The fingerprint of `payload`.
    ///
    /// # Errors
    ///
    /// [`JsonError`] if the rule reads JSON and the body has no canonical form.
    pub fn fingerprint(&self, payload: &Payload<'_>) -> Result<Fingerprint, JsonError> {
        let mut hasher = self.hasher(payload.query, payload.fields.iter().copied());
        match &self.body {
            BodyRule::Raw => hasher.update(payload.body),
            BodyRule::Json(selection) => hasher.update(&selection.canonicalize(payload.body)?),
            BodyRule::None => {}
        }
        Ok(hasher.finish(payload.trailers.iter().copied()))
    }

    /// Begins the fingerprint of a payload with this query and these fields (see [`Payload`]) whose body is yet to come;
    /// `None` if the rule reads JSON, whose canonical form needs the whole body. A body gets the same fingerprint in any
    /// pieces, and in one with [`FingerprintRule::fingerprint`].
    pub fn begin<'a>(
        &self,
        query: Option<&str>,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Option<FingerprintHasher> {
        match self.body {
            BodyRule::Raw | BodyRule::None => Some(self.hasher(query, fields)),
            BodyRule::Json(_) => None,
        }
    }

    fn hasher<'a>(
        &self,
        query: Option<&str>,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> FingerprintHasher {
        let counts = self.body != BodyRule::None;
        let mut hasher = Sha256::new().chain_update([Self::VERSION]);
        if counts {
            part(&mut hasher, &[u8::from(query.is_some())]);
            part(&mut hasher, query.unwrap_or_default().as_bytes());
            for (name, value) in fields {
                part(&mut hasher, name.as_bytes());
                part(&mut hasher, value);
            }
            // No field has an empty name.
            part(&mut hasher, b"");
        }
        FingerprintHasher { rule: self.id, counts, hasher, body_bytes: 0 }
    }
}

impl FingerprintHasher {
    /// Takes the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        if self.counts {
            self.body_bytes += piece.len() as u64;
            self.hasher.update(piece);
        }
    }

    /// The fingerprint, now that the body has ended with these trailers.
    #[must_use]
    pub fn finish<'a>(mut self, trailers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Fingerprint {
        if self.counts {
            // The lengths stand behind what they measure, since the body's is known only now. Read from the end they are as
            // good as in front.
            self.hasher.update(self.body_bytes.to_le_bytes());
            let mut trailer_bytes = 0;
            for (name, value) in trailers {
                trailer_bytes += part(&mut self.hasher, name.as_bytes()) + part(&mut self.hasher, value);
            }
            self.hasher.update(trailer_bytes.to_le_bytes());
        }
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            <[u8; 32]>::from(self.hasher.finalize());
        Fingerprint { rule: self.rule, digest }
    }
}

/// Takes parts behind their number.
fn list(hasher: &mut Sha256, parts: &[impl AsRef<str>]) {
    hasher.update((parts.len() as u64).to_le_bytes());
    for text in parts {
        part(hasher, text.as_ref().as_bytes());
    }
}

/// Takes a part behind its length, and returns how many bytes that were.
fn part(hasher: &mut Sha256, bytes: &[u8]) -> u64 {
    let length = bytes.len() as u64;
    hasher.update(length.to_le_bytes());
    hasher.update(bytes);
    length + 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Fields<'a> = &'a [(&'a str, &'a [u8])];
    type Parts<'a> = (Option<&'a str>, Fields<'a>, &'a str, Fields<'a>);

    fn take(rule: &FingerprintRule, (query, fields, body, trailers): Parts<'_>) -> Fingerprint {
        rule.fingerprint(&Payload { query, fields, body: body.as_bytes(), trailers }).unwrap()
    }

    #[test]
    fn every_covered_part_changes_the_fingerprint() {
        let rule = FingerprintRule::new(BodyRule::Raw, &[]);
        let payloads: [Parts<'_>; 12] = [
            (None, &[], "", &[]),
            (Some(""), &[], "", &[]),
            (Some("a=1"), &[], "", &[]),
            (None, &[], "a=1", &[]),
            (None, &[("content-type", b"text/plain")], "", &[]),
            (None, &[("content-type", b"")], "text/plain", &[]),
            (None, &[("content-type", b"a"), ("content-type", b"b")], "", &[]),
            (None, &[("content-type", b"ab")], "", &[]),
            (None, &[("x-tenant", b"ab")], "", &[]),
            (None, &[], "", &[("x-tenant", b"ab")]),
            (None, &[], "", &[("x-tenant", b""), ("ab", b"")]),
            // What a body without trailers hashes to, as the body itself.
            (None, &[], "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &[]),
        ];
        for (i, one) in payloads.iter().enumerate() {
            for (j, other) in payloads.iter().enumerate() {
                assert_eq!(i == j, take(&rule, *one) == take(&rule, *other), "payloads {i} and {j}");
            }
        }
    }

    #[test]
    fn the_rule_none_makes_all_payloads_equal() {
        let rule = FingerprintRule::new(BodyRule::None, &[]);
        assert_eq!(
            take(&rule, (None, &[], "a", &[])),
            take(&rule, (Some("q"), &[("content-type", b"x")], "b", &[("t", b"")]))
        );
    }

    #[test]
    fn the_rule_json_reads_json_and_refuses_the_rest() {
        let rule = FingerprintRule::new(BodyRule::Json(Selection::default()), &[]);
        assert_eq!(
            take(&rule, (None, &[], r#"{"a":1,"b":2}"#, &[])),
            take(&rule, (None, &[], r#"{ "b": 2, "a": 1 }"#, &[]))
        );
        assert_ne!(take(&rule, (None, &[], r#"{"a":1}"#, &[])), take(&rule, (None, &[], r#"{"a":2}"#, &[])));
        let refused = rule.fingerprint(&Payload { query: None, fields: &[], body: b"a=1", trailers: &[] });
        assert_eq!(refused, Err(JsonError::NotJson));
    }

    fn json(include: &[&'static str], exclude: &[&'static str]) -> BodyRule {
        BodyRule::Json(Selection::new(include, exclude).unwrap())
    }

    #[test]
    fn fingerprints_of_different_rules_cannot_be_compared() {
        let rules = [
            FingerprintRule::new(BodyRule::Raw, &[]),
            FingerprintRule::new(BodyRule::Raw, &["x-tenant"]),
            FingerprintRule::new(BodyRule::Raw, &["x-tenant", "x-shop"]),
            FingerprintRule::new(BodyRule::Raw, &["x-tenantx-shop"]),
            FingerprintRule::new(BodyRule::None, &[]),
            FingerprintRule::new(json(&[], &[]), &[]),
            FingerprintRule::new(json(&["/a"], &[]), &[]),
            FingerprintRule::new(json(&["/a", "/b"], &[]), &[]),
            FingerprintRule::new(json(&["/a/b"], &[]), &[]),
            FingerprintRule::new(json(&["/a"], &["/b"]), &[]),
            FingerprintRule::new(json(&[], &["/a"]), &[]),
            FingerprintRule::new(json(&[], &[]), &["/a"]),
        ];
        for (i, one) in rules.iter().enumerate() {
            for (j, other) in rules.iter().enumerate() {
                let (one, other) = (take(one, (None, &[], "{}", &[])), take(other, (None, &[], "{}", &[])));
                assert_eq!(i == j, one.is_comparable_to(&other), "rules {i} and {j}");
            }
        }
    }

    #[test]
    fn the_id_of_a_known_rule_never_changes() {
        let rules = [
            (FingerprintRule::new(BodyRule::Raw, &[]), 0x627d_256f),
            (FingerprintRule::new(BodyRule::Raw, &["x-tenant"]), 0x4ec2_11c7),
            (FingerprintRule::new(json(&["/a", "/b~1c"], &["/a/d"]), &["x-tenant"]), 0x8ed2_eff1),
            (FingerprintRule::new(BodyRule::None, &[]), 0x0bc2_e2bc),
        ];
        for (rule, id) in rules {
            let message = "another id makes replicas of two builds refuse each other's retries";
            assert_eq!(rule.id.get(), id, "{rule:?}: {message}");
        }
    }

    #[test]
    fn the_fingerprint_of_a_known_payload_never_changes() {
        let payload: Parts<'_> =
            (Some("a=1"), &[("content-type", b"text/plain")], "body", &[("x-sum", b"1")]);
        let (_, digest) = take(&FingerprintRule::new(BodyRule::Raw, &[]), payload).to_parts();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "55355f0929af7a5a4c1e5ed0125025b0");
    }

    proptest! {
        #[test]
        fn a_body_in_pieces_has_the_fingerprint_of_the_whole(
            body in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(0usize..300, 0..5), none: bool,
        ) {
            let rule = FingerprintRule::new(if none { BodyRule::None } else { BodyRule::Raw }, &[]);
            let (query, fields, trailers) = (Some("q"), [("content-type", b"a".as_slice())], [("t", b"v".as_slice())]);
            let payload = Payload { query, fields: &fields, body: &body, trailers: &trailers };
            let mut hasher = rule.begin(query, fields.into_iter()).unwrap();
            let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([body.len()]).collect();
            ends.sort_unstable();
            let mut begin = 0;
            for end in ends {
                hasher.update(&body[begin..end]);
                begin = end;
            }
            prop_assert_eq!(hasher.finish(trailers.into_iter()), rule.fingerprint(&payload).unwrap());
        }
    }

    #[test]
    fn json_is_not_read_in_pieces() {
        let rule = FingerprintRule::new(BodyRule::Json(Selection::default()), &[]);
        assert!(rule.begin(None, [].into_iter()).is_none());
    }
}

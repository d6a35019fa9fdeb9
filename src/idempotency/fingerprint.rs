//! What a retry must have in common with its first request.
//!
//! Owns the hash over a request's payload. A fingerprint carries the rule it was made under, so that entries written under
//! another rule are told apart from other payloads and never silently mismatched.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{JsonError, Selection};

/// The hash of a payload, and the rule by which it was taken.
///
/// The digest is the first 128 bits of SHA-256: 2^-128 for a changed payload to pass as a retry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    rule: u32,
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
    id: u32,
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
}

impl Fingerprint {
    /// Whether `other` was taken by the same rule, so that the two can be compared.
    #[must_use]
    pub const fn is_comparable_to(&self, other: &Self) -> bool {
        self.rule == other.rule
    }

    /// The rule's id and the digest, for a store that has to keep them.
    #[must_use]
    pub const fn to_parts(self) -> (u32, [u8; 16]) {
        (self.rule, self.digest)
    }

    /// The fingerprint that a store kept.
    #[must_use]
    pub const fn from_parts(rule: u32, digest: [u8; 16]) -> Self {
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

    /// The rule that covers what `body` says, and of the header the `fields` that the edge will hand in.
    #[must_use]
    pub fn new(body: BodyRule, fields: &[&str]) -> Self {
        let spelled = format!("{body:?} {fields:?}");
        let digest = Sha256::new().chain_update([Self::VERSION]).chain_update(spelled).finalize();
        let id = digest.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte));
        Self { id, body }
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
        let mut hasher = Sha256::new().chain_update([Self::VERSION]);
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        if self.body != BodyRule::None {
            part(&[u8::from(payload.query.is_some())]);
            part(payload.query.unwrap_or_default().as_bytes());
            for (name, value) in payload.fields {
                part(name.as_bytes());
                part(value);
            }
            part(b"");
        }
        match &self.body {
            BodyRule::Raw => part(payload.body),
            BodyRule::Json(selection) => part(&selection.canonicalize(payload.body)?),
            BodyRule::None => {}
        }
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            <[u8; 32]>::from(hasher.finalize());
        Ok(Fingerprint { rule: self.id, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = (Option<&'a str>, &'a [(&'a str, &'a [u8])], &'a str);

    fn take(rule: &FingerprintRule, (query, fields, body): Parts<'_>) -> Fingerprint {
        rule.fingerprint(&Payload { query, fields, body: body.as_bytes() }).unwrap()
    }

    #[test]
    fn every_covered_part_changes_the_fingerprint() {
        let rule = FingerprintRule::new(BodyRule::Raw, &[]);
        let payloads: [Parts<'_>; 9] = [
            (None, &[], ""),
            (Some(""), &[], ""),
            (Some("a=1"), &[], ""),
            (None, &[], "a=1"),
            (None, &[("content-type", b"text/plain")], ""),
            (None, &[("content-type", b"")], "text/plain"),
            (None, &[("content-type", b"a"), ("content-type", b"b")], ""),
            (None, &[("content-type", b"ab")], ""),
            (None, &[("x-tenant", b"ab")], ""),
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
        assert_eq!(take(&rule, (None, &[], "a")), take(&rule, (Some("q"), &[("content-type", b"x")], "b")));
    }

    #[test]
    fn the_rule_json_reads_json_and_refuses_the_rest() {
        let rule = FingerprintRule::new(BodyRule::Json(Selection::default()), &[]);
        assert_eq!(
            take(&rule, (None, &[], r#"{"a":1,"b":2}"#)),
            take(&rule, (None, &[], r#"{ "b": 2, "a": 1 }"#))
        );
        assert_ne!(take(&rule, (None, &[], r#"{"a":1}"#)), take(&rule, (None, &[], r#"{"a":2}"#)));
        let refused = rule.fingerprint(&Payload { query: None, fields: &[], body: b"a=1" });
        assert_eq!(refused, Err(JsonError::NotJson));
    }

    #[test]
    fn fingerprints_of_different_rules_cannot_be_compared() {
        let json = |include: &[&'static str]| BodyRule::Json(Selection::new(include, &[]).unwrap());
        let rules = [
            FingerprintRule::new(BodyRule::Raw, &[]),
            FingerprintRule::new(BodyRule::Raw, &["x-tenant"]),
            FingerprintRule::new(BodyRule::None, &[]),
            FingerprintRule::new(json(&[]), &[]),
            FingerprintRule::new(json(&["/a"]), &[]),
        ];
        for (i, one) in rules.iter().enumerate() {
            for (j, other) in rules.iter().enumerate() {
                let (one, other) = (take(one, (None, &[], "{}")), take(other, (None, &[], "{}")));
                assert_eq!(i == j, one.is_comparable_to(&other), "rules {i} and {j}");
            }
        }
    }
}

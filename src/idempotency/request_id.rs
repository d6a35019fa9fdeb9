//! The identity of a request: one key of one caller on one resource.
//!
//! Owns the hash under which an entry stands. Every part is length-prefixed, so that no two different scopes share an id,
//! and a version byte leads, so that a later rule can never be mistaken for this one.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{CallerHash, Key};

/// SHA-256 over the scope and the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId([u8; 32]);

/// The resource and the caller that a key belongs to. The parts are compared as bytes: the edge brings them into one form.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The method, as sent: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'a str,
    /// The authority in lower case, without trailing dot and default port.
    pub host: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// Who calls; `None` where callers share their keys (`on_other_caller = "refuse"`).
    pub caller: Option<&'a CallerHash>,
}

impl RequestId {
    const VERSION: u8 = 1;

    /// The id of `key` within `scope`.
    #[must_use]
    pub fn derive(scope: &Scope<'_>, key: &Key) -> Self {
        let mut hasher = Sha256::new().chain_update([Self::VERSION]);
        let caller = scope.caller.map_or(&[][..], |caller| caller.as_bytes());
        for part in
            [scope.method.as_bytes(), scope.host.as_bytes(), scope.path.as_bytes(), caller, key.as_bytes()]
        {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The id's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id that a store kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "RequestId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::idempotency::{CallerHasher, KeyRules, KeySyntax};

    fn key(text: &str) -> Key {
        let rules = KeyRules { syntax: KeySyntax::Lenient, max_length_bytes: 255 };
        Key::parse([format!("\"{text}\"").as_bytes()], rules).unwrap().unwrap()
    }

    fn caller(text: &str) -> CallerHash {
        let mut hasher = CallerHasher::new();
        hasher.mark("header:authorization", [text.as_bytes()]);
        hasher.finish()
    }

    type Parts = (String, String, String, Option<String>, String);

    fn id((method, host, path, who, text): &Parts) -> RequestId {
        let caller = who.as_deref().map(caller);
        RequestId::derive(&Scope { method, host, path, caller: caller.as_ref() }, &key(text))
    }

    fn parts() -> impl Strategy<Value = Parts> {
        // Few letters, so that parts slide into each other often.
        ("[ab]{0,3}", "[ab]{0,3}", "[ab]{0,3}", proptest::option::of("[ab]{0,2}"), "[ab]{1,3}")
    }

    proptest! {
        #[test]
        fn no_two_different_scopes_share_an_id(one in parts(), other in parts()) {
            prop_assert_eq!(one == other, id(&one) == id(&other));
        }
    }

    #[test]
    fn the_id_of_a_known_request_never_changes() {
        let parts = (
            "POST".into(),
            "api.example.com".into(),
            "/v1/charges".into(),
            Some("Bearer a".into()),
            "k".into(),
        );
        let hex = id(&parts).to_hex();
        assert_eq!(hex, "d7faf1c3b26da5812073689c243d6e5f1554b03528f7381250d29390da8115c0");
        assert_eq!(RequestId::from_hex(&hex), Some(id(&parts)));
    }
}

//! A guarded request without its body: who asks for what, under which key.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::idempotency::{CallerHash, Fingerprint, FingerprintHasher, Key, Presented, RequestId, Scope};
use crate::proxy::headers::method_overrides;
use crate::proxy::path;
use crate::proxy::policy::{GuardPolicy, OnOtherCaller};

/// A guarded request, as its head tells.
#[derive(Debug)]
pub struct Keyed {
    /// The head.
    pub parts: Box<Parts>,
    /// The method by which it is guarded.
    pub method: Method,
    /// The host, in the form that ids are made of.
    pub host: String,
    /// The key.
    pub key: Key,
    /// Who calls.
    pub caller: CallerHash,
}

impl Keyed {
    /// The request as the guard sees it: with its fingerprint, or without one if its body is still to come.
    #[must_use]
    pub fn present(&self, policy: &GuardPolicy, fingerprint: Option<Fingerprint>) -> Presented {
        let isolated = policy.on_other_caller == OnOtherCaller::Isolate;
        let path = path::identity(self.parts.uri.path());
        let scope = Scope {
            method: self.method.as_str(),
            host: &self.host,
            path: &path,
            caller: isolated.then_some(&self.caller),
        };
        let id = RequestId::derive(&scope, &self.key);
        Presented { id, caller: (!isolated).then_some(self.caller), fingerprint, counted_as: self.caller }
    }

    /// The fingerprint to be, if the route streams bodies.
    #[must_use]
    pub fn stream(&self, policy: &GuardPolicy) -> Option<FingerprintHasher> {
        if !policy.streams {
            return None;
        }
        policy.fingerprint.begin(self.parts.uri.query(), self.counted_fields(policy))
    }

    /// The fields that count as payload.
    pub(super) fn counted_fields<'a>(
        &'a self,
        policy: &'a GuardPolicy,
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let counted = std::iter::once(&CONTENT_TYPE)
            .chain(&policy.fingerprint_headers)
            .chain(method_overrides(&self.parts.headers));
        counted.flat_map(|name| {
            self.parts.headers.get_all(name).into_iter().map(|value| (name.as_str(), value.as_bytes()))
        })
    }
}

/// The fields of `headers`, as fingerprints take them.
pub fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

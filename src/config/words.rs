//! The closed vocabularies: which words a choice has, and what each one means. Read and printed from the same tables.

use super::idempotency::Fingerprint;
use crate::idempotency::{KeySyntax, OnUnknown};
use crate::proxy::policy::{OnOtherCaller, OnStoreError, Protocol, UpstreamHost};

/// `mode`: whether nothing is refused or replayed.
pub(super) const MODE: [(&str, bool); 2] = [("enforce", false), ("observe", true)];
/// `key`: whether it is required.
pub(super) const KEY: [(&str, bool); 2] = [("required", true), ("optional", false)];
/// `key_syntax`.
pub(super) const KEY_SYNTAX: [(&str, KeySyntax); 2] =
    [("lenient", KeySyntax::Lenient), ("strict", KeySyntax::Strict)];
/// `on_other_caller`.
pub(super) const ON_OTHER_CALLER: [(&str, OnOtherCaller); 2] =
    [("isolate", OnOtherCaller::Isolate), ("refuse", OnOtherCaller::Refuse)];
/// `fingerprint`.
pub(super) const FINGERPRINT: [(&str, Fingerprint); 3] =
    [("body", Fingerprint::Body), ("json", Fingerprint::Json), ("none", Fingerprint::None)];
/// `on_in_flight`: whether duplicates wait.
pub(super) const ON_IN_FLIGHT: [(&str, bool); 2] = [("reject", false), ("wait", true)];
/// `on_unknown`.
pub(super) const ON_UNKNOWN: [(&str, OnUnknown); 2] =
    [("reject", OnUnknown::Reject), ("retry", OnUnknown::Retry)];
/// `request_body`: whether it streams.
pub(super) const REQUEST_BODY: [(&str, bool); 2] = [("buffer", false), ("stream", true)];
/// `on_store_error`.
pub(super) const ON_STORE_ERROR: [(&str, OnStoreError); 2] =
    [("reject", OnStoreError::Reject), ("pass", OnStoreError::Pass)];
/// `protocol` of an upstream.
pub(super) const PROTOCOL: [(&str, Protocol); 3] =
    [("http1", Protocol::Http1), ("http2", Protocol::Http2), ("auto", Protocol::Auto)];
/// `host` of an upstream.
pub(super) const UPSTREAM_HOST: [(&str, UpstreamHost); 2] =
    [("client", UpstreamHost::Client), ("upstream", UpstreamHost::Endpoint)];

/// `client_auth`: whether clients without a certificate are refused.
pub(super) const CLIENT_AUTH: [(&str, bool); 2] = [("required", true), ("optional", false)];

/// The word for `value`.
pub(super) fn word<'a, T: PartialEq>(words: &[(&'a str, T)], value: &T) -> &'a str {
    words.iter().find(|(_, meaning)| meaning == value).map_or("", |(word, _)| word)
}

//! The idempotency settings: `[idempotency]` holds the defaults, and a route overrides them one by one.
//!
//! Both are read by the same function. A route's settings remember where they were written, in the route or in
//! `[idempotency]`, so that a remark on them points there.

use std::time::Duration;

use http::{HeaderName, Method};

use super::defaults;
use super::names::{caller, field, method, request_mark, response_mark};
use super::reader::{Item, Section, Setting};
use super::values::{
    DAY, MILLISECOND, SECOND, choice, count, duration, flag, list, one_or_some_of, size, some_of, text,
    text_as,
};
use super::words::{
    FINGERPRINT, KEY, KEY_SYNTAX, MODE, ON_IN_FLIGHT, ON_OTHER_CALLER, ON_STORE_ERROR, ON_UNKNOWN,
    REQUEST_BODY,
};
use crate::guard::{OnInFlight, Rules};
use crate::idempotency::{BodyRule, FingerprintRule, KeyRules, KeySyntax, OnUnknown, Selection};
use crate::proxy::policy::{CallerSource, GuardPolicy, MinRate, OnOtherCaller, OnStoreError, Patience};

/// The longest life of an entry. Beyond a year it is no retry.
const LONGEST_TTL: Duration = Duration::from_hours(400 * 24);
/// The longest that clients are told to sleep.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The largest body that is held in one piece.
pub(super) const LARGEST_BODY_BYTES: u64 = bytesize::GIB;
/// The largest body that streams.
const LARGEST_STREAM_BYTES: u64 = bytesize::TIB;

/// The settings of a route, or their defaults, as they were read.
#[derive(Clone, Debug)]
pub(super) struct Idempotency {
    /// Whether nothing is refused or replayed.
    pub(super) observes: Setting<bool>,
    pub(super) header: Setting<Vec<HeaderName>>,
    pub(super) methods: Setting<Vec<Method>>,
    pub(super) key_required: Setting<bool>,
    pub(super) key_syntax: Setting<KeySyntax>,
    pub(super) max_key_length: Setting<usize>,
    pub(super) ttl: Setting<Duration>,
    pub(super) caller: Setting<Vec<CallerSource>>,
    pub(super) on_other_caller: Setting<OnOtherCaller>,
    pub(super) fingerprint: Setting<Fingerprint>,
    pub(super) fingerprint_include: Setting<Vec<String>>,
    pub(super) fingerprint_exclude: Setting<Vec<String>>,
    pub(super) fingerprint_headers: Setting<Vec<HeaderName>>,
    pub(super) waits: Setting<bool>,
    pub(super) wait_timeout: Setting<Duration>,
    pub(super) retry_after: Setting<Duration>,
    pub(super) on_unknown: Setting<OnUnknown>,
    pub(super) on_store_error: Setting<OnStoreError>,
    /// Each status with its own place.
    pub(super) release_status: Setting<Vec<Status>>,
    pub(super) streams: Setting<bool>,
    pub(super) max_request_body: Setting<u64>,
    pub(super) request_body_timeout: Setting<Duration>,
    pub(super) max_response_body: Setting<u64>,
    pub(super) allow_ambiguous_path: Setting<bool>,
    pub(super) replay_set_cookie: Setting<bool>,
    pub(super) strip_headers: Setting<Vec<HeaderName>>,
    pub(super) expires_header: Setting<Option<HeaderName>>,
}

/// What of a request's payload counts, before its details are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fingerprint {
    Body,
    Json,
    None,
}

/// A status of `release_status`, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) at: Option<usize>,
}

impl PartialEq for Status {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Idempotency {
    /// What holds where `[idempotency]` says nothing.
    pub(super) fn defaults() -> Self {
        Self {
            observes: false.into(),
            header: vec![defaults::HEADER].into(),
            methods: defaults::METHODS.to_vec().into(),
            key_required: true.into(),
            key_syntax: KeySyntax::default().into(),
            max_key_length: defaults::MAX_KEY_LENGTH_BYTES.into(),
            ttl: defaults::TTL.into(),
            caller: vec![CallerSource::Header(http::header::AUTHORIZATION)].into(),
            on_other_caller: OnOtherCaller::default().into(),
            fingerprint: Fingerprint::Body.into(),
            fingerprint_include: Vec::new().into(),
            fingerprint_exclude: Vec::new().into(),
            fingerprint_headers: Vec::new().into(),
            waits: false.into(),
            wait_timeout: defaults::WAIT_TIMEOUT.into(),
            retry_after: defaults::RETRY_AFTER.into(),
            on_unknown: OnUnknown::default().into(),
            on_store_error: OnStoreError::default().into(),
            release_status: defaults::RELEASE_STATUS.map(|code| Status { code, at: None }).to_vec().into(),
            streams: false.into(),
            max_request_body: defaults::MAX_REQUEST_BODY_BYTES.into(),
            request_body_timeout: defaults::REQUEST_BODY_TIMEOUT.into(),
            max_response_body: defaults::MAX_RESPONSE_BODY_BYTES.into(),
            allow_ambiguous_path: false.into(),
            replay_set_cookie: false.into(),
            strip_headers: Vec::new().into(),
            expires_header: None.into(),
        }
    }

    /// Reads the settings that stand in `section`; the others are those of `base`.
    pub(super) fn read(section: &mut Section<'_>, base: Self) -> Self {
        let no_header = "name the field that carries the key, as in \"Idempotency-Key\"";
        let no_method = "name a method, as in [\"POST\"], or guard nothing with guarded = false on the route";
        let timeout = || duration(MILLISECOND..=DAY);
        let body = |largest| size(1..=largest);
        Self {
            observes: section.read("mode", base.observes, choice(&MODE)),
            header: section.read("header", base.header, one_or_some_of(text_as(request_mark), no_header)),
            methods: section.read("methods", base.methods, some_of(text_as(method), no_method)),
            key_required: section.read("key", base.key_required, choice(&KEY)),
            key_syntax: section.read("key_syntax", base.key_syntax, choice(&KEY_SYNTAX)),
            max_key_length: section.read("max_key_length", base.max_key_length, count(1..=4_096)),
            ttl: section.read("ttl", base.ttl, duration(SECOND..=LONGEST_TTL)),
            caller: section.read("caller", base.caller, list(text_as(caller))),
            on_other_caller: section.read("on_other_caller", base.on_other_caller, choice(&ON_OTHER_CALLER)),
            fingerprint: section.read("fingerprint", base.fingerprint, choice(&FINGERPRINT)),
            fingerprint_include: section.read("fingerprint_include", base.fingerprint_include, list(pointer)),
            fingerprint_exclude: section.read("fingerprint_exclude", base.fingerprint_exclude, list(pointer)),
            fingerprint_headers: section.read(
                "fingerprint_headers",
                base.fingerprint_headers,
                list(text_as(request_mark)),
            ),
            waits: section.read("on_in_flight", base.waits, choice(&ON_IN_FLIGHT)),
            wait_timeout: section.read(
                "wait_timeout",
                base.wait_timeout,
                duration(MILLISECOND..=Duration::from_hours(1)),
            ),
            retry_after: section.read("retry_after", base.retry_after, retry_after),
            on_unknown: section.read("on_unknown", base.on_unknown, choice(&ON_UNKNOWN)),
            on_store_error: section.read("on_store_error", base.on_store_error, choice(&ON_STORE_ERROR)),
            release_status: section.read("release_status", base.release_status, list(status)),
            streams: section.read("request_body", base.streams, choice(&REQUEST_BODY)),
            max_request_body: section.read(
                "max_request_body",
                base.max_request_body,
                body(LARGEST_STREAM_BYTES),
            ),
            request_body_timeout: section.read("request_body_timeout", base.request_body_timeout, timeout()),
            max_response_body: section.read(
                "max_response_body",
                base.max_response_body,
                body(LARGEST_BODY_BYTES),
            ),
            allow_ambiguous_path: section.read("allow_ambiguous_path", base.allow_ambiguous_path, flag),
            replay_set_cookie: section.read("replay_set_cookie", base.replay_set_cookie, flag),
            strip_headers: section.read("strip_headers", base.strip_headers, list(text_as(field))),
            expires_header: section.read("expires_header", base.expires_header, expires_header),
        }
    }

    /// Whether the field of this lower-case name tells keys or callers apart.
    pub(super) fn marks(&self, name: &str) -> bool {
        self.header.value.iter().any(|header| header == name)
            || self.caller.value.iter().any(|source| match source {
                CallerSource::Header(header) => header == name,
                CallerSource::Cookie(_) => name == "cookie",
                CallerSource::ClientCert => false,
            })
    }

    /// Whether the field of this lower-case name decides anything.
    pub(super) fn reads(&self, name: &str) -> bool {
        self.marks(name) || self.fingerprint_headers.value.iter().any(|header| header == name)
    }

    /// The rules that the edge goes by.
    pub(super) fn into_policy(
        self,
        attempt_timeout: Duration,
        min_body_rate: Option<MinRate>,
    ) -> GuardPolicy {
        let max_request_body_bytes = self.max_request_body_bytes();
        let max_total = self.request_body_timeout();
        let fields: Vec<&str> = self.fingerprint_headers.value.iter().map(HeaderName::as_str).collect();
        GuardPolicy {
            fingerprint: FingerprintRule::new(self.body_rule(), &fields),
            rules: Rules {
                ttl: self.ttl.value,
                // An attempt that streams begins with its upload.
                attempt_timeout: attempt_timeout
                    + if self.streams.value { max_total } else { Duration::ZERO },
                // What is observed never waits.
                on_in_flight: if self.waits.value && !self.observes.value {
                    OnInFlight::Wait { timeout: self.wait_timeout.value }
                } else {
                    OnInFlight::Reject
                },
                on_unknown: self.on_unknown.value,
                release_status: self.release_status.value.iter().map(|status| status.code).collect(),
            },
            observes: self.observes.value,
            header: self.header.value,
            methods: self.methods.value,
            key_required: self.key_required.value,
            key_rules: KeyRules {
                syntax: self.key_syntax.value,
                max_length_bytes: self.max_key_length.value,
            },
            caller: self.caller.value,
            on_other_caller: self.on_other_caller.value,
            fingerprint_headers: self.fingerprint_headers.value,
            on_store_error: self.on_store_error.value,
            streams: self.streams.value,
            max_request_body_bytes,
            patience: Patience { min_rate: min_body_rate, max_silence: max_total, max_total },
            max_response_body_bytes: self.max_response_body.bytes(),
            retry_after: self.retry_after.value,
            allow_ambiguous_path: self.allow_ambiguous_path.value,
            replay_set_cookie: self.replay_set_cookie.value,
            strip_headers: self.strip_headers.value,
            expires_header: self.expires_header.value,
        }
    }

    /// The largest request body: what streams need not be held, so that more of it is taken unless the file says otherwise.
    pub(super) fn max_request_body_bytes(&self) -> u64 {
        let is_default = self.max_request_body.at().is_none();
        if self.streams.value && is_default {
            defaults::MAX_STREAM_BYTES
        } else {
            self.max_request_body.value
        }
    }

    fn request_body_timeout(&self) -> Duration {
        let is_default = self.request_body_timeout.at().is_none();
        if self.streams.value && is_default {
            defaults::STREAM_TIMEOUT
        } else {
            self.request_body_timeout.value
        }
    }

    fn body_rule(&self) -> BodyRule {
        let pointers = |setting: &'_ Setting<Vec<String>>| setting.value.clone();
        match self.fingerprint.value {
            Fingerprint::Body => BodyRule::Raw,
            Fingerprint::None => BodyRule::None,
            Fingerprint::Json => {
                let (include, exclude) =
                    (pointers(&self.fingerprint_include), pointers(&self.fingerprint_exclude));
                let include: Vec<&str> = include.iter().map(String::as_str).collect();
                let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
                // Each pointer was checked when it was read.
                BodyRule::Json(Selection::new(&include, &exclude).unwrap_or_default())
            }
        }
    }
}

/// How many requests may wait for one key. One bound for all routes, so it stands in `[idempotency]` only.
pub(super) fn max_waiters(section: &mut Section<'_>) -> Setting<usize> {
    section.read("max_waiters", defaults::MAX_WAITERS, count(1..=1_000_000))
}

fn pointer(item: &Item<'_>) -> Option<String> {
    let pointer = match item.value().as_str() {
        // The empty pointer names the whole text.
        Some("") => String::new(),
        _ => text(item)?,
    };
    match Selection::new(&[&pointer], &[]) {
        Ok(_) => Some(pointer),
        Err(_) => item.refuse(format!(
            "\"{pointer}\" is no JSON pointer (RFC 6901); start it with a slash, as in \"/amount\""
        )),
    }
}

fn retry_after(item: &Item<'_>) -> Option<Duration> {
    let duration = duration(SECOND..=LONGEST_RETRY_AFTER)(item)?;
    if duration.subsec_nanos() != 0 {
        return item.refuse("the field `Retry-After` counts whole seconds; write one, as in \"1s\"");
    }
    Some(duration)
}

fn status(item: &Item<'_>) -> Option<Status> {
    let code = count(100..=599)(item)?;
    if code < 200 {
        return item.refuse(format!("{code} is no final status, an answer always follows it; remove it"));
    }
    Some(Status { code, at: Some(item.at()) })
}

/// A field name, or `false` for none.
fn expires_header(item: &Item<'_>) -> Option<Option<HeaderName>> {
    match item.value().as_bool() {
        Some(false) => Some(None),
        _ => text_as(response_mark)(item).map(Some),
    }
}

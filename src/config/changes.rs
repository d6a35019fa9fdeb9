//! `request_headers` and `response_headers` of a route: what is set and what is removed.
//!
//! What frames a message, ends at this hop, tells callers and keys apart or is written by Oncegate itself cannot be changed:
//! each would break the promise, or have no effect.

use http::header::{self, HeaderName, HeaderValue};

use super::idempotency::Idempotency;
use super::names::{field, of_the_message};
use super::reader::{Item, Section};
use super::values::{list, text_as};
use crate::proxy::policy::{Cors, HeaderChanges};

/// What else ends at this hop.
const HOP_FIELDS: [&str; 4] = ["keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"];

/// What Oncegate writes on requests, or takes from them to tell which resource is meant.
const REQUEST_FIELDS: [&str; 8] = [
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// What Oncegate writes on answers.
const RESPONSE_FIELDS: [&str; 2] = ["idempotent-replayed", "x-request-id"];

/// Changes of the requests of a route. `guarded` are its settings if it is guarded.
pub(super) fn of_requests(section: &mut Section<'_>, guarded: Option<&Idempotency>) -> HeaderChanges {
    read(section, "request_headers", |name| {
        if name.as_str().starts_with("x-forwarded-") || REQUEST_FIELDS.contains(&name.as_str()) {
            return Some("is Oncegate's to write or to leave out");
        }
        guarded
            .filter(|settings| settings.marks(name.as_str()))
            .map(|_| "tells keys or callers apart on this route")
    })
}

/// Changes of the answers of a route.
pub(super) fn of_responses(
    section: &mut Section<'_>,
    guarded: Option<&Idempotency>,
    cors: Option<&Cors>,
) -> HeaderChanges {
    read(section, "response_headers", |name| {
        let expires = guarded.and_then(|settings| settings.expires_header.value.as_ref());
        if RESPONSE_FIELDS.contains(&name.as_str()) || expires == Some(name) {
            return Some("is Oncegate's to write");
        }
        let says = [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_ALLOW_CREDENTIALS];
        (cors.is_some() && says.contains(name)).then_some("is written for `cors_origins`")
    })
}

fn read(
    section: &mut Section<'_>,
    key: &'static str,
    is_protected: impl Fn(&HeaderName) -> Option<&'static str>,
) -> HeaderChanges {
    let Some(mut changes) = section.section(key) else { return HeaderChanges::default() };
    let name = |text: &str| {
        let name = field(text)?;
        // A lenient back end reads one for the other.
        let plain = name.as_str().replace('_', "-").parse().unwrap_or_else(|_| name.clone());
        let own = of_the_message(&plain) || HOP_FIELDS.contains(&plain.as_str());
        let reason = if own { Some("belongs to the message itself") } else { is_protected(&plain) };
        match reason {
            Some(reason) => Err(format!("\"{text}\" {reason} and cannot be changed; remove it here")),
            None => Ok(name),
        }
    };
    let set = changes.get("set").map(|item| set(&item, name)).unwrap_or_default();
    let remove = changes.read("remove", Vec::new(), list(text_as(&name))).value;
    if let Some((doubled, _)) = set.iter().find(|(name, _)| remove.contains(name)) {
        changes.mistake(format!(
            "`{key}`: \"{doubled}\" is both set and removed; setting replaces what was there, so keep that"
        ));
    }
    changes.finish();
    HeaderChanges { set, remove }
}

/// A table of fields and their values.
fn set(item: &Item<'_>, name: impl Fn(&str) -> Result<HeaderName, String>) -> Vec<(HeaderName, HeaderValue)> {
    let Some(entries) = item.entries() else {
        item.refuse::<()>("this is no table; write one, as in set = { \"X-Source\" = \"oncegate\" }");
        return Vec::new();
    };
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(entries.len());
    for (written, entry) in entries {
        let value = text_as(value)(&entry);
        match name(written) {
            Ok(name) if fields.iter().any(|(known, _)| *known == name) => {
                entry.refuse::<()>(format!("\"{written}\" is set twice, case aside; keep one"));
            }
            Ok(name) => fields.extend(value.map(|value| (name, value))),
            Err(wrong) => _ = entry.refuse::<()>(wrong),
        }
    }
    fields
}

fn value(text: &str) -> Result<HeaderValue, String> {
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    match HeaderValue::from_str(text) {
        Ok(value) if is_plain && text.trim() == text => Ok(value),
        _ => Err(format!(
            "{text:?} is no field value; write visible ASCII characters, without spaces at the ends"
        )),
    }
}

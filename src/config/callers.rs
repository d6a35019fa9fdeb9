//! Who is calling: `trusted_proxies` and `request_id` of `[server]`, and what browsers may do on a route.

use std::time::Duration;

use http::header::HeaderValue;
use ipnet::IpNet;

use super::defaults;
use super::idempotency::Idempotency;
use super::names::{network, origin};
use super::reader::{Section, Setting};
use super::report::Report;
use super::values::{DAY, duration, flag, list, some_of, text_as};
use crate::proxy::policy::Cors;

/// The field that `request_id` is about.
const X_REQUEST_ID: &str = "x-request-id";

/// The proxies whose word counts.
pub(super) fn trusted_proxies(section: &mut Section<'_>, report: &Report<'_>) -> Vec<IpNet> {
    let trusted = section.read("trusted_proxies", Vec::new(), list(text_as(network)));
    if let Some(at) = trusted.at()
        && trusted.value.iter().any(|network: &IpNet| network.prefix_len() == 0)
    {
        report.warning(
            at,
            "`trusted_proxies`: this trusts everybody, so every client chooses its own address; name the networks of your \
             proxies",
        );
    }
    trusted.value
}

/// Whether requests have ids of their own. Where `X-Request-Id` is a client's mark it stays as the client wrote it.
pub(super) fn request_id<'a>(
    setting: &Setting<bool>,
    mut guarded: impl Iterator<Item = &'a Idempotency>,
    report: &Report<'_>,
) -> bool {
    let is_mark = guarded.any(|settings| settings.reads(X_REQUEST_ID));
    if let Some(at) = setting.at().filter(|_| is_mark && setting.value) {
        report.mistake(
            at,
            "`request_id`: `X-Request-Id` is named in `header`, `caller` or `fingerprint_headers` of a guarded route, where \
             the client's own value counts; write request_id = false",
        );
    }
    setting.value && !is_mark
}

/// What browsers are told on a route.
pub(super) fn cors(section: &mut Section<'_>, report: &Report<'_>) -> Option<Cors> {
    let no_origin =
        "name the pages that may call, as in [\"https://shop.example.com\"], or remove the setting";
    let origins = section.read("cors_origins", Vec::new(), some_of(text_as(origin), no_origin));
    let credentials = section.read("cors_credentials", false, flag);
    let max_age = section.read("cors_max_age", defaults::CORS_MAX_AGE, duration(Duration::ZERO..=DAY));
    if origins.value.is_empty() && !origins.is_mistaken() {
        for (name, at) in [("cors_credentials", credentials.at()), ("cors_max_age", max_age.at())] {
            if let Some(at) = at {
                report.warning(at, format!("`{name}`: this has no effect without `cors_origins`; remove it"));
            }
        }
    }
    let at = origins.at()?;
    let any = origins.value.iter().any(|origin| origin == "*");
    if any && origins.value.len() > 1 {
        report.mistake(
            at,
            "`cors_origins`: \"*\" allows all, so the others have no effect; keep one or the other",
        );
    }
    if let Some(at) = credentials.at().filter(|_| any && credentials.value) {
        report.mistake(
            at,
            "`cors_credentials`: browsers take no cookies with cors_origins = [\"*\"]; name the origins, or remove this",
        );
    }
    let listed: Vec<HeaderValue> =
        origins.value.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    Some(Cors { origins: (!any).then_some(listed), credentials: credentials.value, max_age: max_age.value })
}

//! `[upstreams.NAME]`.

use std::time::Duration;

use super::defaults;
use super::names::{endpoint, label};
use super::reader::{Section, Setting};
use super::report::Report;
use super::values::{DAY, HEADER_BYTES, MILLISECOND, choice, count, duration, size, some_of, text_as};
use super::wording;
use super::words::UPSTREAM_HOST;
use crate::proxy::policy::{Upstream, UpstreamHost};

/// An upstream, and where its name stands.
pub(super) struct Named {
    pub(super) upstream: Upstream,
    pub(super) at: usize,
}

/// The upstreams in the order of the file.
pub(super) fn upstreams(root: &mut Section<'_>, report: &Report<'_>) -> Vec<Named> {
    let sections = root.named_sections("upstreams");
    if sections.is_empty() {
        root.mistake(
            "there is no upstream; add a table [upstreams.NAME] with endpoints = [\"http://host:port\"]",
        );
    }
    let mut upstreams = Vec::with_capacity(sections.len());
    for (name, section) in sections {
        let at = name.span().start;
        if let Err(wrong) = label(name.get_ref()) {
            report.mistake(at, format!("`upstreams`: {wrong}"));
        }
        upstreams.push(Named { upstream: upstream(name.get_ref(), section, report), at });
    }
    upstreams
}

fn upstream(name: &str, mut section: Section<'_>, report: &Report<'_>) -> Upstream {
    let mend = "write endpoints = [\"http://host:port\"]";
    let endpoints = section.require("endpoints", mend, some_of(text_as(endpoint), mend));
    let response_timeout =
        section.read("response_timeout", defaults::RESPONSE_TIMEOUT, duration(MILLISECOND..=DAY));
    let attempt_timeout =
        section.read("attempt_timeout", defaults::ATTEMPT_TIMEOUT, duration(MILLISECOND..=DAY));
    let idle_timeout = section.read("idle_timeout", defaults::IDLE_TIMEOUT, duration(MILLISECOND..=DAY));
    let max_reuse_idle =
        section.read("max_reuse_idle", defaults::MAX_REUSE_IDLE, duration(Duration::ZERO..=DAY));
    refuse_endless_patience(&response_timeout, &attempt_timeout, report);
    warn_of_idle_reuse(&max_reuse_idle, &idle_timeout, report);
    let upstream = Upstream {
        name: name.to_owned(),
        endpoints: endpoints.map(|endpoints| endpoints.value).unwrap_or_default(),
        connect_timeout: section
            .read("connect_timeout", defaults::CONNECT_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
        response_timeout: response_timeout.value,
        attempt_timeout: attempt_timeout.value,
        idle_timeout: idle_timeout.value,
        max_reuse_idle: max_reuse_idle.value,
        max_idle_connections: section
            .read("max_idle_connections", defaults::MAX_IDLE_CONNECTIONS, count(0..=65_536))
            .value,
        max_response_headers: section
            .read("max_response_headers", defaults::MAX_RESPONSE_HEADERS, count(1..=4_096))
            .value,
        max_response_header_bytes: section
            .read("max_response_header_size", defaults::MAX_RESPONSE_HEADER_BYTES, size(HEADER_BYTES))
            .bytes(),
        host: section.read("host", UpstreamHost::default(), choice(&UPSTREAM_HOST)).value,
    };
    section.finish();
    upstream
}

fn refuse_endless_patience(response: &Setting<Duration>, attempt: &Setting<Duration>, report: &Report<'_>) {
    if let Some(at) = response.at().or_else(|| attempt.at())
        && !response.is_mistaken()
        && !attempt.is_mistaken()
        && response.value > attempt.value
    {
        report.mistake(
            at,
            format!(
                "`response_timeout`: {} is more than `attempt_timeout` ({}), which ends the attempt; lower the one or \
                 raise the other",
                wording::duration(response.value),
                wording::duration(attempt.value)
            ),
        );
    }
}

fn warn_of_idle_reuse(reuse: &Setting<Duration>, idle: &Setting<Duration>, report: &Report<'_>) {
    if let Some(at) = reuse.at()
        && reuse.value > idle.value
    {
        let idle = wording::duration(idle.value);
        report.warning(
            at,
            format!("`max_reuse_idle`: more than `idle_timeout` ({idle}) has no effect, idle connections are closed by then; lower it"),
        );
    }
}

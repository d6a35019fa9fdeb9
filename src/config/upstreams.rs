//! `[upstreams.NAME]`.

use std::path::Path;
use std::time::Duration;

use super::defaults;
use super::names::{authority, endpoint, label, server_name, target};
use super::reader::{Section, Setting};
use super::report::Report;
use super::values::{DAY, HEADER_BYTES, MILLISECOND, choice, count, duration, size, some_of, text, text_as};
use super::wording;
use super::words::{PROTOCOL, UPSTREAM_HOST};
use crate::proxy::policy::{
    Ejection, Endpoint, HealthCheck, Http2, Protocol, Upstream, UpstreamHost, UpstreamTls,
};

/// An upstream, and where its name stands.
pub(super) struct Named {
    pub(super) upstream: Upstream,
    pub(super) at: usize,
}

/// The upstreams in the order of the file. Paths of files are relative to `folder`.
pub(super) fn upstreams(root: &mut Section<'_>, folder: &Path, report: &Report<'_>) -> Vec<Named> {
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
        upstreams.push(Named { upstream: upstream(name.get_ref(), section, folder, report), at });
    }
    upstreams
}

fn upstream(name: &str, mut section: Section<'_>, folder: &Path, report: &Report<'_>) -> Upstream {
    let mend = "write endpoints = [\"http://host:port\"]";
    let endpoints = section.require("endpoints", mend, some_of(text_as(endpoint), mend));
    let endpoints_at = endpoints.as_ref().and_then(Setting::at);
    let endpoints = endpoints.map(|endpoints| endpoints.value).unwrap_or_default();
    let tls = tls(&mut section, &endpoints, endpoints_at, folder, report);
    let protocol = section.read("protocol", Protocol::default(), choice(&PROTOCOL)).value;
    let response_timeout =
        section.read("response_timeout", defaults::RESPONSE_TIMEOUT, duration(MILLISECOND..=DAY));
    let attempt_timeout =
        section.read("attempt_timeout", defaults::ATTEMPT_TIMEOUT, duration(MILLISECOND..=DAY));
    let idle_timeout = section.read("idle_timeout", defaults::IDLE_TIMEOUT, duration(MILLISECOND..=DAY));
    let max_reuse_idle =
        section.read("max_reuse_idle", defaults::MAX_REUSE_IDLE, duration(Duration::ZERO..=DAY));
    refuse_endless_patience(&response_timeout, &attempt_timeout, report);
    warn_of_idle_reuse(&max_reuse_idle, &idle_timeout, report);
    let ejection = ejection(&mut section, endpoints.len(), report);
    let upstream = Upstream {
        name: name.to_owned(),
        endpoints,
        protocol,
        tls,
        connect_timeout: section
            .read("connect_timeout", defaults::CONNECT_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
        response_timeout: response_timeout.value,
        attempt_timeout: attempt_timeout.value,
        stream_idle_timeout: section
            .read("stream_idle_timeout", defaults::STREAM_IDLE_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
        tunnel_idle_timeout: section
            .read("tunnel_idle_timeout", defaults::TUNNEL_IDLE_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
        idle_timeout: idle_timeout.value,
        max_reuse_idle: max_reuse_idle.value,
        max_connections: section
            .read("max_connections", defaults::MAX_UPSTREAM_CONNECTIONS, count(1..=1_000_000))
            .value,
        max_idle_connections: section
            .read("max_idle_connections", defaults::MAX_IDLE_CONNECTIONS, count(0..=65_536))
            .value,
        max_connection_age: section
            .read("max_connection_age", defaults::MAX_CONNECTION_AGE, duration(MILLISECOND..=DAY))
            .value,
        max_response_headers: section
            .read("max_response_headers", defaults::MAX_RESPONSE_HEADERS, count(1..=4_096))
            .value,
        max_response_header_bytes: section
            .read("max_response_header_size", defaults::MAX_RESPONSE_HEADER_BYTES, size(HEADER_BYTES))
            .bytes(),
        http2: http2(&mut section, protocol, report),
        ejection,
        health_check: health_check(&mut section),
        host: section.read("host", UpstreamHost::default(), choice(&UPSTREAM_HOST)).value,
    };
    section.finish();
    upstream
}

/// Read and tried at once: a file that cannot be used is a mistake like any other.
fn tls(
    section: &mut Section<'_>,
    endpoints: &[Endpoint],
    endpoints_at: Option<usize>,
    folder: &Path,
    report: &Report<'_>,
) -> UpstreamTls {
    let is_wanted = endpoints.iter().any(|endpoint| endpoint.is_tls);
    let mut own = section.section("tls");
    let at = own.as_ref().map(Section::place);
    let mut tls = UpstreamTls::default();
    if let Some(own) = &mut own {
        let mut path = |key| {
            own.read(key, Setting::from(None), |item| text(item).map(|name| Some(folder.join(name)))).value
        };
        let (cert, key) = (path("cert"), path("key"));
        tls.ca = path("ca");
        tls.server_name =
            own.read("server_name", Setting::from(None), |item| text_as(server_name)(item).map(Some)).value;
        if cert.is_some() != key.is_some() {
            own.mistake(
                "`tls`: a certificate needs its key and the other way round; write both cert and key",
            );
        }
        tls.identity = cert.zip(key);
    }
    if let Some(own) = own {
        own.finish();
    }
    match at {
        Some(at) if !is_wanted && !endpoints.is_empty() => {
            report.warning(
                at,
                "`tls`: no endpoint speaks TLS, so this has no effect; write \"https://…\" or remove it",
            );
        }
        _ => {}
    }
    if is_wanted && let Err(unusable) = tls.client_config() {
        report.mistake(at.or(endpoints_at).unwrap_or_default(), format!("`tls`: {unusable}"));
    }
    tls
}

fn ejection(section: &mut Section<'_>, endpoints: usize, report: &Report<'_>) -> Ejection {
    let mark = section.mark();
    let after_failures = section.read("eject_after", defaults::EJECT_AFTER, count(1..=1_000)).value;
    let time = section.read("ejection_time", defaults::EJECTION_TIME, duration(MILLISECOND..=DAY));
    let longest = defaults::MAX_EJECTION_TIME.max(time.value);
    let max_time = section.read("max_ejection_time", longest, duration(MILLISECOND..=DAY));
    if endpoints == 1 {
        without_effect(section, mark, "the only endpoint is never passed over", report);
    }
    if let Some(at) = max_time.at()
        && !time.is_mistaken()
        && max_time.value < time.value
    {
        let time = wording::duration(time.value);
        report.mistake(at, format!("`max_ejection_time`: less than `ejection_time` ({time}); raise it"));
    }
    Ejection { after_failures, time: time.value, max_time: max_time.value }
}

fn http2(section: &mut Section<'_>, protocol: Protocol, report: &Report<'_>) -> Http2 {
    let mark = section.mark();
    let http2 = Http2 {
        max_streams: section.read("http2_max_streams", defaults::HTTP2_MAX_STREAMS, count(1..=65_536)).value,
        ping_interval: section
            .read("http2_ping_interval", defaults::HTTP2_PING_INTERVAL, duration(MILLISECOND..=DAY))
            .value,
        ping_timeout: section
            .read("http2_ping_timeout", defaults::HTTP2_PING_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
    };
    if protocol == Protocol::Http1 {
        without_effect(section, mark, "protocol = \"http1\" does not speak HTTP/2", report);
    }
    http2
}

fn health_check(section: &mut Section<'_>) -> Option<HealthCheck> {
    let mut own = section.section("health_check")?;
    let path = own.require("path", "write path = \"/healthz\"", text_as(target));
    let check = HealthCheck {
        path: path.map(|path| path.value).unwrap_or_default(),
        host: own.read("host", Setting::from(None), |item| text_as(authority)(item).map(Some)).value,
        interval: own.read("interval", defaults::HEALTH_CHECK_INTERVAL, duration(MILLISECOND..=DAY)).value,
        timeout: own.read("timeout", defaults::HEALTH_CHECK_TIMEOUT, duration(MILLISECOND..=DAY)).value,
        healthy_after: own.read("healthy_after", defaults::HEALTHY_AFTER, count(1..=1_000)).value,
        unhealthy_after: own.read("unhealthy_after", defaults::UNHEALTHY_AFTER, count(1..=1_000)).value,
    };
    own.finish();
    Some(check)
}

fn without_effect(section: &Section<'_>, mark: usize, reason: &str, report: &Report<'_>) {
    for (key, at) in section.written_since(mark) {
        report.warning(at, format!("`{key}`: this has no effect, {reason}; remove it"));
    }
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

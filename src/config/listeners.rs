//! `[server]`, `[admin]` and `[log]`.

use std::net::SocketAddr;
use std::num::NonZeroU64;

use ipnet::IpNet;

use super::LogSettings;
use super::callers;
use super::defaults;
use super::names::{problem_base, socket_address, url};
use super::reader::{Section, Setting};
use super::report::Report;
use super::values::{DAY, HEADER_BYTES, MILLISECOND, SECOND, count, duration, flag, size, some_of, text_as};
use crate::proxy::policy::MinRate;
use crate::server;

/// What `[server]` says, beside the listeners' own settings.
pub(super) struct Server {
    pub(super) listeners: server::Params,
    pub(super) problem_base: String,
    pub(super) documentation_url: Option<String>,
    pub(super) max_guarded_in_flight: usize,
    pub(super) max_buffered_bytes: Setting<u64>,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) request_id: Setting<bool>,
    pub(super) min_body_rate: Option<MinRate>,
}

pub(super) fn server_and_admin(root: &mut Section<'_>, report: &Report<'_>) -> Server {
    let admin_listen = root.section("admin").and_then(admin);
    let mut section = root.section_or_empty("server");
    if let Some(tls) = section.get("tls") {
        tls.refuse::<()>("this build has no TLS; end TLS before Oncegate, and remove this setting");
    }
    let listen = section.read(
        "listen",
        vec![defaults::LISTEN],
        some_of(text_as(socket_address), "name an address, as in [\"0.0.0.0:8080\"]"),
    );
    refuse_shared_address(&listen, admin_listen.as_ref(), report);
    let listeners = server::Params {
        listen: listen.value,
        admin_listen: admin_listen.map(|admin| admin.value),
        shutdown_grace: section
            .read("shutdown_grace", defaults::SHUTDOWN_GRACE, duration(MILLISECOND..=DAY))
            .value,
        max_connections: section
            .read("max_connections", defaults::MAX_CONNECTIONS, count(1..=1_000_000))
            .value,
        max_headers: section.read("max_headers", defaults::MAX_HEADERS, count(1..=4_096)).value,
        max_header_bytes: section
            .read("max_header_size", defaults::MAX_HEADER_BYTES, size(HEADER_BYTES))
            .bytes(),
        write_timeout: section
            .read("write_timeout", defaults::WRITE_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
        header_timeout: section
            .read("header_timeout", defaults::HEADER_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
    };
    let server = Server {
        listeners,
        problem_base: section
            .read("problem_base", defaults::PROBLEM_BASE.to_owned(), text_as(problem_base))
            .value,
        documentation_url: section.read("documentation_url", None, |item| text_as(url)(item).map(Some)).value,
        max_guarded_in_flight: section
            .read("max_guarded_in_flight", defaults::MAX_GUARDED_IN_FLIGHT, count(1..=1_000_000))
            .value,
        max_buffered_bytes: section.read(
            "max_buffered_bytes",
            defaults::MAX_BUFFERED_BYTES,
            size(1..=bytesize::TIB),
        ),
        trusted_proxies: callers::trusted_proxies(&mut section, report),
        request_id: section.read("request_id", defaults::REQUEST_ID, flag),
        min_body_rate: min_body_rate(&mut section, report),
    };
    section.finish();
    server
}

pub(super) fn log(root: &mut Section<'_>) -> LogSettings {
    let mut section = root.section_or_empty("log");
    let access = section.read("access", defaults::ACCESS_LOG, flag).value;
    section.finish();
    LogSettings { access }
}

/// The least rate of a body, unless it is 0.
fn min_body_rate(section: &mut Section<'_>, report: &Report<'_>) -> Option<MinRate> {
    let rate = section.read("min_body_rate", defaults::MIN_BODY_RATE_BYTES, size(0..=bytesize::GIB));
    let window = section.read("min_body_rate_window", defaults::MIN_BODY_RATE_WINDOW, duration(SECOND..=DAY));
    let min_rate = NonZeroU64::new(rate.value)
        .map(|bytes_per_second| MinRate { bytes_per_second, window: window.value });
    if let (None, Some(at)) = (min_rate, window.at()) {
        let reason = "this has no effect while any rate is taken (min_body_rate = 0); remove it";
        report.warning(at, format!("`min_body_rate_window`: {reason}"));
    }
    min_rate
}

fn admin(mut section: Section<'_>) -> Option<Setting<SocketAddr>> {
    let mend = "write listen = \"127.0.0.1:9090\", or remove the table to have no admin listener";
    let listen = section.require("listen", mend, text_as(socket_address));
    section.finish();
    listen
}

fn refuse_shared_address(
    listen: &Setting<Vec<SocketAddr>>,
    admin: Option<&Setting<SocketAddr>>,
    report: &Report<'_>,
) {
    let Some(admin) = admin else { return };
    let collides = |own: &&SocketAddr| {
        let same_ip =
            own.ip() == admin.value.ip() || own.ip().is_unspecified() || admin.value.ip().is_unspecified();
        same_ip && own.port() == admin.value.port() && own.port() != 0
    };
    if let Some(at) = admin.at()
        && let Some(own) = listen.value.iter().find(collides)
    {
        let admin = admin.value;
        report.mistake(
            at,
            format!(
                "`listen`: {admin} is taken by {own}, where requests come; give [admin] a port of its own"
            ),
        );
    }
}

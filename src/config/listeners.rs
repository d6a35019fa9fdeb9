//! `[server]` and `[log]`.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::LogSettings;
use super::admin::admin;
use super::callers;
use super::defaults;
use super::http2::http2;
use super::names::{problem_base, socket_address, url};
use super::reader::{Item, Section, Setting};
use super::report::Report;
use super::tls::tls;
use super::values::{DAY, HEADER_BYTES, MILLISECOND, SECOND, count, duration, flag, size, some_of, text_as};
use crate::proxy::policy::MinRate;
use crate::server::{self, AdminParams, ListenerParams};

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
    pub(super) reload_interval: Option<Duration>,
}

/// Paths of files are relative to `folder`.
pub(super) fn server_and_admin(root: &mut Section<'_>, folder: &Path, report: &Report<'_>) -> Server {
    let admin = root.section("admin").and_then(|section| admin(section, folder));
    let mut section = root.section_or_empty("server");
    let has_tls = section.get("tls").is_some();
    let tls = tls(&mut section, folder, true);
    let listeners = addresses(&mut section, has_tls, report);
    refuse_shared_addresses(&listeners, admin.as_ref(), report);
    let listeners = server::Params {
        listeners: listeners.into_iter().map(|listener| listener.value).collect(),
        tls,
        http2: http2(&mut section),
        max_connections_per_address: section
            .read("max_connections_per_address", None, max_connections_per_address)
            .value,
        admin: admin.map(|admin| admin.value),
        ready_needs_store: defaults::READY_NEEDS_STORE,
        drain_delay: section
            .read("drain_delay", defaults::DRAIN_DELAY, duration(Duration::ZERO..=Duration::from_hours(1)))
            .value,
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
        idle_timeout: section
            .read("idle_timeout", defaults::SERVER_IDLE_TIMEOUT, duration(MILLISECOND..=DAY))
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
        reload_interval: section
            .read("reload_interval", Some(defaults::CONFIG_RELOAD_INTERVAL), reload_interval)
            .value,
    };
    section.finish();
    server
}

pub(super) fn log(root: &mut Section<'_>) -> LogSettings {
    let mut section = root.section_or_empty("log");
    let access = section.read("access", defaults::ACCESS_LOG, flag).value;
    let level = section.read("level", defaults::LOG_LEVEL.to_owned(), text_as(filter)).value;
    section.finish();
    LogSettings { access, level }
}

/// A filter of log lines.
fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "\"{text}\" is no filter of log lines; write error, warn, info, debug or trace, or as in \"info,oncegate::access=off\""
        )),
    }
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

/// An interval, or `false` for none.
fn reload_interval(item: &Item<'_>) -> Option<Option<Duration>> {
    match item.value().as_bool() {
        Some(false) => Some(None),
        _ => duration(MILLISECOND * 100..=DAY)(item).map(Some),
    }
}

fn max_connections_per_address(item: &Item<'_>) -> Option<Option<usize>> {
    match item.value().as_bool() {
        Some(false) => Some(None),
        _ => count(1..=1_000_000)(item).map(Some),
    }
}

/// `listen` and `[[server.listeners]]`. All speak TLS where there are certificates, unless one says otherwise.
fn addresses(section: &mut Section<'_>, has_tls: bool, report: &Report<'_>) -> Vec<Setting<ListenerParams>> {
    let listener = |address| ListenerParams { address, tls: has_tls, proxy_protocol: false };
    let listed = section.sections("listeners");
    let otherwise = if listed.is_empty() { vec![listener(defaults::LISTEN)] } else { Vec::new() };
    let listen = section.read(
        "listen",
        otherwise,
        some_of(
            |item| text_as(socket_address)(item).map(listener),
            "name an address, as in [\"0.0.0.0:8080\"]",
        ),
    );
    let mut listeners = listen.each();
    for mut section in listed {
        let mend = "write one, as in address = \"0.0.0.0:8443\"";
        let address = section.require("address", mend, text_as(socket_address));
        let tls = section.read("tls", has_tls, flag);
        if tls.value && !has_tls {
            section.refuse::<()>("tls", "there is no certificate; name one in tls of [server]");
        }
        let proxy_protocol = section.read("proxy_protocol", false, flag).value;
        listeners.extend(address.map(|address| {
            address.map(|address| ListenerParams { address, tls: tls.value, proxy_protocol })
        }));
        section.finish();
    }
    refuse_doubled_addresses(&listeners, report);
    if has_tls && listeners.iter().all(|listener| !listener.value.tls) {
        report.warning(section.place(), "`tls`: no listener speaks TLS, so this has no effect; remove it");
    }
    listeners
}

fn refuse_doubled_addresses(listeners: &[Setting<ListenerParams>], report: &Report<'_>) {
    for (index, later) in listeners.iter().enumerate() {
        let address = later.value.address;
        let is_taken = listeners.iter().take(index).any(|earlier| earlier.value.address == address);
        if let Some(at) = later.at().filter(|_| is_taken && address.port() != 0) {
            report.mistake(at, format!("`address`: {address} is listened on already; remove one of the two"));
        }
    }
}

fn refuse_shared_addresses(
    listeners: &[Setting<ListenerParams>],
    admin: Option<&Setting<AdminParams>>,
    report: &Report<'_>,
) {
    let Some(admin) = admin else { return };
    let listen = admin.value.listen;
    let addresses = listeners.iter().map(|listener| listener.value.address);
    let collides = |own: &SocketAddr| {
        let same_ip = own.ip() == listen.ip() || own.ip().is_unspecified() || listen.ip().is_unspecified();
        same_ip && own.port() == listen.port() && own.port() != 0
    };
    if let Some(at) = admin.at()
        && let Some(own) = addresses.into_iter().find(collides)
    {
        report.mistake(
            at,
            format!(
                "`listen`: {listen} is taken by {own}, where requests come; give [admin] a port of its own"
            ),
        );
    }
}

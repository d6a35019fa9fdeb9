//! What a file would run, in words: listeners, upstreams, routes, the effective settings of each guarded route, and what
//! the store can carry. Settings are printed as the file would have them.

mod upstream;

use std::fmt::{self, Write as _};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use self::upstream::write_upstream;
use super::idempotency::Fingerprint;
use super::words::{
    CLIENT_AUTH, FINGERPRINT, KEY, KEY_SYNTAX, MODE, ON_IN_FLIGHT, ON_OTHER_CALLER, ON_STORE_ERROR,
    ON_UNKNOWN, REQUEST_BODY, word,
};
use super::{Settings, StoreSettings, TraceSettings, wording};
use crate::guard::OnInFlight;
use crate::idempotency::BodyRule;
use crate::proxy::policy::{CallerSource, GuardPolicy, HeaderChanges, MinRate, Route};
use crate::server::{
    self, AdminParams, CertificateParams, ClientAuthParams, Http2Params, ListenerParams, TlsParams,
};
use crate::store::codec::CodecParams;
use crate::store::memory::MemoryParams;
use crate::store::redis::params::{Node, RedisParams, Topology};

/// What `settings` would run, on several lines.
#[must_use]
pub fn describe(settings: &Settings) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    write(settings, &mut out).unwrap_or_default();
    out
}

fn write(settings: &Settings, out: &mut String) -> fmt::Result {
    writeln!(out, "listeners")?;
    for listener in &settings.server.listeners {
        writeln!(out, "  requests  {}{}", listener.address, protocols(listener, &settings.server))?;
    }
    match &settings.server.admin {
        Some(admin) => writeln!(out, "  admin     {}  {}", admin.listen, let_in(admin))?,
        None => writeln!(out, "  admin     none")?,
    }
    write_server(settings, out)?;
    if let Some(tls) = &settings.server.tls {
        write_tls("TLS", tls, out)?;
    }
    if let Some(tls) = settings.server.admin.as_ref().and_then(|admin| admin.tls.as_ref()) {
        write_tls("TLS of the admin listener", tls, out)?;
    }
    if let Some(traces) = &settings.traces {
        write_traces(traces, out)?;
    }
    if let Some(http2) = &settings.server.http2 {
        write_http2(http2, out)?;
    }
    for upstream in &settings.proxy.upstreams {
        write_upstream(upstream, out)?;
    }
    writeln!(out, "\nroutes (the most specific path wins, then the most exact host)")?;
    write_columns(settings.proxy.routes.iter().map(|own| route(own, settings)), out)?;
    for route in &settings.proxy.routes {
        match &route.guard {
            Some(policy) => {
                writeln!(out, "\nguarded route {}", route.name)?;
                write_policy(policy, out)?;
            }
            None => writeln!(out, "\nroute {}", route.name)?,
        }
        write_edge(route, out)?;
    }
    write_store(settings, out)
}

fn write_server(settings: &Settings, out: &mut String) -> fmt::Result {
    let (server, proxy) = (&settings.server, &settings.proxy);
    writeln!(out, "\nserver")?;
    for (name, value) in [
        ("drain_delay", server.drain_delay),
        ("shutdown_grace", server.shutdown_grace),
        ("write_timeout", server.write_timeout),
        ("header_timeout", server.header_timeout),
        ("idle_timeout", server.idle_timeout),
    ] {
        writeln!(out, "  {name} = \"{}\"", wording::duration(value))?;
    }
    match settings.reload_interval {
        Some(interval) => writeln!(out, "  reload_interval = \"{}\"", wording::duration(interval))?,
        None => writeln!(out, "  reload_interval = false")?,
    }
    for (name, bytes) in [
        ("max_header_size", server.max_header_bytes as u64),
        ("max_buffered_bytes", proxy.max_buffered_bytes),
    ] {
        writeln!(out, "  {name} = \"{}\"", wording::size(bytes))?;
    }
    match &proxy.min_body_rate {
        Some(MinRate { bytes_per_second, window }) => {
            writeln!(out, "  min_body_rate = \"{}\"", wording::size(bytes_per_second.get()))?;
            writeln!(out, "  min_body_rate_window = \"{}\"", wording::duration(*window))?;
        }
        None => writeln!(out, "  min_body_rate = 0")?,
    }
    for (name, count) in [
        ("max_connections", server.max_connections),
        ("max_headers", server.max_headers),
        ("max_guarded_in_flight", proxy.max_guarded_in_flight),
    ] {
        writeln!(out, "  {name} = {count}")?;
    }
    match server.max_connections_per_address {
        Some(count) => writeln!(out, "  max_connections_per_address = {count}")?,
        None => writeln!(out, "  max_connections_per_address = false")?,
    }
    let trusted = proxy.trusted_proxies.iter().map(ToString::to_string);
    writeln!(out, "  trusted_proxies = {}", wording::list(trusted))?;
    writeln!(out, "  request_id = {}", proxy.request_id)?;
    writeln!(out, "  problem_base = \"{}\"", proxy.problem_base)?;
    if let Some(url) = &proxy.documentation_url {
        writeln!(out, "  documentation_url = \"{url}\"")?;
    }
    writeln!(out, "  access log = {}", settings.log.access)?;
    writeln!(out, "  log level = \"{}\"", settings.log.level)
}

fn write_traces(traces: &TraceSettings, out: &mut String) -> fmt::Result {
    let TraceSettings { endpoint, sample_ratio, service_name, timeout } = traces;
    writeln!(out, "\ntraces")?;
    writeln!(out, "  endpoint = \"http://{}{}\"", endpoint.authority, endpoint.base_path)?;
    writeln!(out, "  sample_ratio = {sample_ratio}")?;
    writeln!(out, "  service_name = \"{service_name}\"")?;
    writeln!(out, "  timeout = \"{}\"", wording::duration(*timeout))
}

fn write_http2(http2: &Http2Params, out: &mut String) -> fmt::Result {
    writeln!(out, "\nHTTP/2")?;
    writeln!(out, "  max_concurrent_streams = {}", http2.max_concurrent_streams)?;
    writeln!(out, "  max_attempts = {}", http2.max_attempts)?;
    writeln!(out, "  max_pending_resets = {}", http2.max_pending_resets)?;
    writeln!(out, "  max_error_resets = {}", http2.max_error_resets)?;
    writeln!(out, "  stream_window = \"{}\"", wording::size(http2.stream_window_bytes.into()))?;
    writeln!(out, "  connection_window = \"{}\"", wording::size(http2.connection_window_bytes.into()))?;
    writeln!(out, "  ping_interval = \"{}\"", wording::duration(http2.ping_interval))?;
    writeln!(out, "  ping_timeout = \"{}\"", wording::duration(http2.ping_timeout))
}

fn write_tls(title: &str, tls: &TlsParams, out: &mut String) -> fmt::Result {
    writeln!(out, "\n{title}")?;
    for CertificateParams { cert, key } in &tls.certificates {
        writeln!(out, "  cert = \"{}\", key = \"{}\"", cert.display(), key.display())?;
    }
    if let Some(ClientAuthParams { ca, required }) = &tls.client_auth {
        writeln!(out, "  client_ca = \"{}\"", ca.display())?;
        writeln!(out, "  client_auth = \"{}\"", word(&CLIENT_AUTH, required))?;
    }
    writeln!(out, "  handshake_timeout = \"{}\"", wording::duration(tls.handshake_timeout))?;
    writeln!(out, "  reload_interval = \"{}\"", wording::duration(tls.reload_interval))
}

/// What a route does beside guarding.
fn write_edge(route: &Route, out: &mut String) -> fmt::Result {
    writeln!(out, "  upgrades = {}", wording::list(&route.upgrades))?;
    if let Some(prefix) = &route.strip_prefix {
        writeln!(out, "  strip_prefix = \"{prefix}\"")?;
    }
    write_changes("request_headers", &route.request_headers, out)?;
    write_changes("response_headers", &route.response_headers, out)?;
    let Some(cors) = &route.cors else { return Ok(()) };
    let listed = cors.origins.as_ref().map(|origins| origins.iter().map(text).collect());
    writeln!(out, "  cors_origins = {}", wording::list(listed.unwrap_or_else(|| vec!["*".to_owned()])))?;
    writeln!(out, "  cors_credentials = {}", cors.credentials)?;
    writeln!(out, "  cors_max_age = \"{}\"", wording::duration(cors.max_age))
}

/// Names only: a value may be a secret.
fn write_changes(key: &str, changes: &HeaderChanges, out: &mut String) -> fmt::Result {
    if changes.is_empty() {
        return Ok(());
    }
    let set: Vec<String> = changes.set.iter().map(|(name, _)| name.to_string()).collect();
    writeln!(out, "  {key} sets {} and removes {}", wording::list(set), wording::list(names(&changes.remove)))
}

fn text(value: &HeaderValue) -> String {
    value.to_str().unwrap_or_default().to_owned()
}

/// Who is let in to all that the admin listener has.
fn let_in(admin: &AdminParams) -> String {
    let tls = if admin.tls.is_some() { "HTTP/1.1 over TLS" } else { "HTTP/1.1" };
    let by_certificate = admin.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    let proof = match (&admin.token, by_certificate) {
        (Some(_), true) => "by a token or a client certificate",
        (Some(_), false) => "by a token",
        (None, true) => "by a client certificate",
        (None, false) if admin.listen.ip().to_canonical().is_loopback() => "to look only: no token is set",
        (None, false) => "health and metrics only: no token is set",
    };
    format!("{tls}, {proof}")
}

fn protocols(listener: &ListenerParams, server: &server::Params) -> String {
    let versions = if server.http2.is_some() { "HTTP/1.1 and HTTP/2" } else { "HTTP/1.1" };
    let tls = server.tls.as_ref().filter(|_| listener.tls);
    let certificates = tls.and_then(|tls| tls.client_auth.as_ref()).map_or("", |auth| {
        if auth.required { ", client certificates required" } else { ", client certificates optional" }
    });
    let tls = if tls.is_some() { " over TLS" } else { "" };
    let behind = if listener.proxy_protocol { ", behind the PROXY protocol" } else { "" };
    format!("  {versions}{tls}{certificates}{behind}")
}

/// Each column as wide as its widest cell.
fn write_columns<const N: usize>(rows: impl Iterator<Item = [String; N]>, out: &mut String) -> fmt::Result {
    let rows: Vec<[String; N]> = rows.collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:width$}"));
        writeln!(out, "{}", padded.collect::<String>().trim_end())?;
    }
    Ok(())
}

fn route(route: &Route, settings: &Settings) -> [String; 5] {
    let hosts = if route.hosts.is_empty() { "any host".to_owned() } else { route.hosts.join(" ") };
    let guarded = match &route.guard {
        Some(policy) => format!("guards {}", methods(policy).join(" ")),
        None => "not guarded".to_owned(),
    };
    let upstream = settings.proxy.upstreams.get(route.upstream).map_or("", |upstream| &upstream.name);
    [route.name.clone(), hosts, route.path.clone(), guarded, format!("-> {upstream}")]
}

fn write_policy(policy: &GuardPolicy, out: &mut String) -> fmt::Result {
    let words = [
        ("mode", word(&MODE, &policy.observes)),
        ("key", word(&KEY, &policy.key_required)),
        ("key_syntax", word(&KEY_SYNTAX, &policy.key_rules.syntax)),
        ("on_other_caller", word(&ON_OTHER_CALLER, &policy.on_other_caller)),
        ("on_unknown", word(&ON_UNKNOWN, &policy.rules.on_unknown)),
        ("on_store_error", word(&ON_STORE_ERROR, &policy.on_store_error)),
        ("request_body", word(&REQUEST_BODY, &policy.streams)),
    ];
    let lists = [
        ("header", names(&policy.header)),
        ("methods", methods(policy)),
        ("caller", policy.caller.iter().map(caller).collect()),
        ("fingerprint_headers", names(&policy.fingerprint_headers)),
        ("strip_headers", names(&policy.strip_headers)),
    ];
    let durations = [
        ("ttl", policy.rules.ttl),
        ("retry_after", policy.retry_after),
        ("request_body_timeout", policy.patience.max_total),
    ];
    let sizes = [
        ("max_request_body", policy.max_request_body_bytes),
        ("max_response_body", policy.max_response_body_bytes as u64),
    ];
    for (name, values) in lists {
        writeln!(out, "  {name} = {}", wording::list(values))?;
    }
    for (name, value) in words {
        writeln!(out, "  {name} = \"{value}\"")?;
    }
    for (name, value) in durations {
        writeln!(out, "  {name} = \"{}\"", wording::duration(value))?;
    }
    for (name, bytes) in sizes {
        writeln!(out, "  {name} = \"{}\"", wording::size(bytes))?;
    }
    writeln!(out, "  max_key_length = {}", policy.key_rules.max_length_bytes)?;
    writeln!(out, "  release_status = {:?}", policy.rules.release_status)?;
    writeln!(out, "  allow_ambiguous_path = {}", policy.allow_ambiguous_path)?;
    writeln!(out, "  replay_set_cookie = {}", policy.replay_set_cookie)?;
    match &policy.expires_header {
        Some(name) => writeln!(out, "  expires_header = \"{name}\"")?,
        None => writeln!(out, "  expires_header = false")?,
    }
    write_fingerprint(policy.fingerprint.body(), out)?;
    write_in_flight(policy.rules.on_in_flight, out)
}

fn write_fingerprint(body: &BodyRule, out: &mut String) -> fmt::Result {
    let (kind, selection) = match body {
        BodyRule::Raw => (Fingerprint::Body, None),
        BodyRule::Json(selection) => (Fingerprint::Json, Some(selection)),
        BodyRule::None => (Fingerprint::None, None),
    };
    writeln!(out, "  fingerprint = \"{}\"", word(&FINGERPRINT, &kind))?;
    if let Some(selection) = selection {
        writeln!(out, "  fingerprint_include = {}", wording::list(selection.include()))?;
        writeln!(out, "  fingerprint_exclude = {}", wording::list(selection.exclude()))?;
    }
    Ok(())
}

fn write_in_flight(on_in_flight: OnInFlight, out: &mut String) -> fmt::Result {
    let wait_timeout = match on_in_flight {
        OnInFlight::Reject => None,
        OnInFlight::Wait { timeout } => Some(timeout),
    };
    writeln!(out, "  on_in_flight = \"{}\"", word(&ON_IN_FLIGHT, &wait_timeout.is_some()))?;
    match wait_timeout {
        Some(timeout) => writeln!(out, "  wait_timeout = \"{}\"", wording::duration(timeout)),
        None => Ok(()),
    }
}

fn write_store(settings: &Settings, out: &mut String) -> fmt::Result {
    let guard = &settings.guard;
    let kind = match &settings.store {
        StoreSettings::Memory(_) => "memory",
        StoreSettings::Redis(..) => "redis",
    };
    writeln!(out, "\nstore: {kind}, lease {}", wording::duration(guard.lease))?;
    for (name, value) in [
        ("timeout", guard.store_timeout),
        ("settle_retry", guard.settle_retry),
        ("prune_interval", guard.prune_interval),
    ] {
        writeln!(out, "  {name} = \"{}\"", wording::duration(value))?;
    }
    writeln!(out, "  max_pending_writes = {}", guard.max_pending_writes)?;
    if let Some(max_entries) = guard.max_entries_per_caller {
        writeln!(out, "  max_entries_per_caller = {max_entries}")?;
    }
    writeln!(out, "  max_waiters = {}", guard.max_waiters)?;
    match &settings.store {
        StoreSettings::Memory(memory) => write_memory(memory, settings, out),
        StoreSettings::Redis(servers, records) => {
            writeln!(out, "  ready_needs_store = {}", settings.server.ready_needs_store)?;
            write_redis(servers, records, out)
        }
    }
}

fn write_redis(redis: &RedisParams, records: &CodecParams, out: &mut String) -> fmt::Result {
    let servers = match &redis.topology {
        Topology::Standalone(node) => format!("server {node}"),
        Topology::Sentinel { sentinels, master, .. } => format!("\"{master}\", as {} say", nodes(sentinels)),
        Topology::Cluster(known) => format!("the cluster of {}", nodes(known)),
    };
    let tls = if redis.tls.is_some() { ", TLS" } else { "" };
    writeln!(out, "  {servers}{tls}, database {}", redis.database)?;
    writeln!(out, "  key_prefix = \"{}\"", redis.key_prefix)?;
    writeln!(out, "  connections = {}", redis.connections)?;
    writeln!(out, "  connect_timeout = \"{}\"", wording::duration(redis.connect_timeout))?;
    writeln!(out, "  max_waiting = {}", redis.max_waiting)?;
    writeln!(out, "  wait_replicas = {}", redis.wait_replicas)?;
    if redis.wait_replicas > 0 {
        writeln!(out, "  wait_timeout = \"{}\"", wording::duration(redis.wait_timeout))?;
        writeln!(out, "  wait_connections = {}", redis.wait_connections)?;
    }
    writeln!(out, "  watch_interval = \"{}\"", wording::duration(redis.watch_interval))?;
    writeln!(out, "  cache_max_bytes = \"{}\"", wording::size(redis.cache_max_bytes))?;
    writeln!(out, "  cache_ttl = \"{}\"", wording::duration(redis.cache_ttl))?;
    writeln!(out, "  compress_above = \"{}\"", wording::size(records.compress_above_bytes))?;
    for key in &records.encryption_keys {
        writeln!(out, "  encryption_keys: id = \"{}\", file = \"{}\"", key.id, key.file.display())?;
    }
    if records.encryption_keys.is_empty() { Ok(()) } else { writeln!(out, "  encrypt = {}", records.encrypt) }
}

fn nodes(nodes: &[Node]) -> String {
    wording::list(nodes.iter().map(ToString::to_string))
}

fn write_memory(memory: &MemoryParams, settings: &Settings, out: &mut String) -> fmt::Result {
    let guarded = settings.proxy.routes.iter().filter_map(|route| route.guard.as_ref());
    match guarded.map(|policy| policy.rules.ttl).max() {
        Some(longest_ttl) => {
            writeln!(out, "  {}", carried_entries(memory.max_entries, longest_ttl))?;
            writeln!(out, "  {}", carried_answers(memory.max_bytes, longest_ttl))
        }
        None => writeln!(out, "  no route is guarded: it stays empty"),
    }
}

fn carried_entries(entries: u64, ttl: Duration) -> String {
    format!(
        "{} entries over {}: {} new keys per second, sustained; beyond it new keys get 503",
        wording::count(entries),
        wording::duration(ttl),
        rate(entries, ttl)
    )
}

fn carried_answers(bytes: u64, ttl: Duration) -> String {
    format!(
        "{} of answers over {}: {} KiB per second, sustained; beyond it the oldest go, and their retries get 410",
        wording::size(bytes),
        wording::duration(ttl),
        rate(bytes / bytesize::KIB, ttl)
    )
}

/// With one decimal, or two digits of a rate below one.
#[expect(clippy::cast_precision_loss, reason = "printed with a few digits")]
fn rate(count: u64, over: Duration) -> String {
    let rate = count as f64 / over.as_secs_f64();
    match rate {
        1_000.0.. => wording::count(count / over.as_secs().max(1)),
        1.0.. => format!("{rate:.1}"),
        0.1.. => format!("{rate:.2}"),
        0.01.. => format!("{rate:.3}"),
        _ => format!("{rate:.6}"),
    }
}

fn methods(policy: &GuardPolicy) -> Vec<String> {
    policy.methods.iter().map(ToString::to_string).collect()
}

fn names(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn caller(source: &CallerSource) -> String {
    match source {
        CallerSource::Header(name) => format!("header:{name}"),
        CallerSource::Cookie(name) => format!("cookie:{name}"),
        CallerSource::ClientCert => "client-cert".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_carries_is_a_rate_over_the_ttl() {
        for (entries, hours, expected) in [
            (1_000_000, 24, "1,000,000 entries over 24h: 11.6 new keys per second, sustained"),
            (1_000_000, 48, "1,000,000 entries over 48h: 5.8 new keys per second, sustained"),
            (1_000_000_000, 24, "1,000,000,000 entries over 24h: 11,574 new keys per second, sustained"),
            (10_000, 24, "10,000 entries over 24h: 0.12 new keys per second, sustained"),
            (1_000, 24, "1,000 entries over 24h: 0.012 new keys per second, sustained"),
            (1, 24, "1 entries over 24h: 0.000012 new keys per second, sustained"),
        ] {
            let carried = carried_entries(entries, Duration::from_hours(hours));
            assert!(carried.starts_with(expected), "{carried}");
        }
    }
}

//! An upstream, in words.

use std::fmt::{self, Write as _};

use super::super::wording;
use super::super::words::{PROTOCOL, UPSTREAM_HOST, word};
use crate::proxy::policy::{Address, Endpoint, Protocol, Upstream};

pub(super) fn write_upstream(upstream: &Upstream, out: &mut String) -> fmt::Result {
    writeln!(out, "\nupstream {}", upstream.name)?;
    writeln!(out, "  endpoints = {}", wording::list(upstream.endpoints.iter().map(endpoint)))?;
    writeln!(out, "  protocol = \"{}\"", word(&PROTOCOL, &upstream.protocol))?;
    for (name, value) in [
        ("connect_timeout", upstream.connect_timeout),
        ("response_timeout", upstream.response_timeout),
        ("attempt_timeout", upstream.attempt_timeout),
        ("stream_idle_timeout", upstream.stream_idle_timeout),
        ("tunnel_idle_timeout", upstream.tunnel_idle_timeout),
        ("idle_timeout", upstream.idle_timeout),
        ("max_reuse_idle", upstream.max_reuse_idle),
        ("max_connection_age", upstream.max_connection_age),
    ] {
        writeln!(out, "  {name} = \"{}\"", wording::duration(value))?;
    }
    writeln!(out, "  max_connections = {}", upstream.max_connections)?;
    writeln!(out, "  max_idle_connections = {}", upstream.max_idle_connections)?;
    writeln!(out, "  max_response_headers = {}", upstream.max_response_headers)?;
    let head = wording::size(upstream.max_response_header_bytes as u64);
    writeln!(out, "  max_response_header_size = \"{head}\"")?;
    writeln!(out, "  host = \"{}\"", word(&UPSTREAM_HOST, &upstream.host))?;
    if upstream.protocol != Protocol::Http1 {
        write_http2(upstream, out)?;
    }
    if upstream.endpoints.iter().any(|endpoint| endpoint.is_tls) {
        write_tls(upstream, out)?;
    }
    if upstream.endpoints.len() > 1 {
        writeln!(out, "  eject_after = {}", upstream.ejection.after_failures)?;
        writeln!(out, "  ejection_time = \"{}\"", wording::duration(upstream.ejection.time))?;
        writeln!(out, "  max_ejection_time = \"{}\"", wording::duration(upstream.ejection.max_time))?;
    }
    write_health_check(upstream, out)
}

fn write_http2(upstream: &Upstream, out: &mut String) -> fmt::Result {
    writeln!(out, "  http2_max_streams = {}", upstream.http2.max_streams)?;
    writeln!(out, "  http2_ping_interval = \"{}\"", wording::duration(upstream.http2.ping_interval))?;
    writeln!(out, "  http2_ping_timeout = \"{}\"", wording::duration(upstream.http2.ping_timeout))
}

fn write_tls(upstream: &Upstream, out: &mut String) -> fmt::Result {
    let tls = &upstream.tls;
    match &tls.ca {
        Some(path) => writeln!(out, "  tls.ca = \"{}\"", path.display())?,
        None => writeln!(out, "  tls believes the system's authorities")?,
    }
    if let Some(name) = &tls.server_name {
        writeln!(out, "  tls.server_name = \"{name}\"")?;
    }
    match &tls.identity {
        Some((cert, key)) => {
            writeln!(out, "  tls.cert = \"{}\", tls.key = \"{}\"", cert.display(), key.display())
        }
        None => Ok(()),
    }
}

fn write_health_check(upstream: &Upstream, out: &mut String) -> fmt::Result {
    let Some(check) = &upstream.health_check else { return Ok(()) };
    writeln!(out, "  health_check.path = \"{}\"", check.path)?;
    if let Some(host) = &check.host {
        writeln!(out, "  health_check.host = \"{host}\"")?;
    }
    writeln!(out, "  health_check.interval = \"{}\"", wording::duration(check.interval))?;
    writeln!(out, "  health_check.timeout = \"{}\"", wording::duration(check.timeout))?;
    writeln!(out, "  health_check.healthy_after = {}", check.healthy_after)?;
    writeln!(out, "  health_check.unhealthy_after = {}", check.unhealthy_after)
}

/// As the file has it.
fn endpoint(endpoint: &Endpoint) -> String {
    let scheme = if endpoint.is_tls { "https" } else { "http" };
    match &endpoint.address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Ip(_) | Address::Name(..) => {
            format!("{scheme}://{}{}", endpoint.authority, endpoint.base_path)
        }
    }
}

//! Names of HTTP: fields, methods, hosts, addresses, and the marks of callers.
//!
//! Each function takes the text as written; its error says what is wrong and, after a semicolon, how to mend it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::uri::PathAndQuery;
use http::{HeaderName, Method, Uri, header};
use ipnet::IpNet;
use rustls_pki_types::ServerName;

use super::defaults;
use crate::proxy::policy::{Address, CallerSource, Endpoint};

const LONGEST_LABEL: usize = 64;
const PLAIN_HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;
/// Of `sockaddr_un` on the systems that have the least room, without the NUL.
const LONGEST_SOCKET_PATH: usize = 103;

/// Fields that frame or route a message: they are nobody's key, and no answer's mark.
const MESSAGE_FIELDS: [HeaderName; 11] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VIA,
];

/// A name for the log: a route's, an upstream's.
pub(super) fn label(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.len() > LONGEST_LABEL || !text.bytes().all(is_plain) {
        return Err(format!(
            "\"{text}\" is no plain name; use up to {LONGEST_LABEL} letters, digits, `-`, `_` and `.`"
        ));
    }
    Ok(text.to_owned())
}

/// A field name (RFC 9110 §5.1).
pub(super) fn field(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| {
        format!("\"{text}\" is no field name; use letters, digits and hyphens, as in \"X-Request-Id\"")
    })
}

/// A field that carries keys, or tells callers apart, on requests.
pub(super) fn request_mark(text: &str) -> Result<HeaderName, String> {
    if text.contains('_') {
        return Err(format!(
            "\"{text}\" has an underscore, which many back ends read as a hyphen; write \"{}\"",
            text.replace('_', "-")
        ));
    }
    let name = field(text)?;
    if MESSAGE_FIELDS.contains(&name) {
        return Err(format!("\"{text}\" belongs to the message itself; name a field of its own"));
    }
    Ok(name)
}

/// A field that Oncegate adds to answers.
pub(super) fn response_mark(text: &str) -> Result<HeaderName, String> {
    let name = field(text)?;
    if MESSAGE_FIELDS.contains(&name) {
        return Err(format!(
            "\"{text}\" belongs to the message itself; name a field of its own, as in \"Idempotency-Expires\""
        ));
    }
    Ok(name)
}

/// Whether a field frames or routes a message.
pub(super) fn of_the_message(name: &HeaderName) -> bool {
    // What a body is and when it was written may be told otherwise.
    MESSAGE_FIELDS.contains(name) && *name != header::CONTENT_TYPE && *name != header::DATE
}

/// A network (CIDR), or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network {
        None => Err(format!("\"{text}\" is no network; write one, as in \"10.0.0.0/8\" or \"fd00::/8\"")),
        Some(network) if network.trunc() != network => Err(format!(
            "\"{text}\" has bits set beyond its prefix; write \"{}\", or the address alone",
            network.trunc()
        )),
        Some(network) => Ok(network),
    }
}

/// The origin of a page as browsers write it, or `*`.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let no_origin = || {
        format!(
            "\"{text}\" is no origin; write scheme and host, as in \"https://shop.example.com\", or \"*\" for all"
        )
    };
    if text == "*" {
        return Ok(text.to_owned());
    }
    let (scheme, authority) = text.split_once("://").ok_or_else(no_origin)?;
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let (name, port) = split_port(authority).ok_or_else(no_origin)?;
    let is_host = is_host_name(name) || bracketed_ipv6(name).is_some();
    if !is_host
        || scheme.is_empty()
        || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        return Err(no_origin());
    }
    let port = port.filter(|port| Some(*port) != default_port);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let plain = format!("{scheme}://{name}{port}").to_ascii_lowercase();
    if plain != text {
        return Err(format!("browsers never write \"{text}\"; write \"{plain}\""));
    }
    Ok(plain)
}

/// A method that can be guarded.
pub(super) fn method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    let method: Method =
        upper.parse().map_err(|_| format!("\"{text}\" is no method; write one, as in \"POST\""))?;
    if text != upper {
        return Err(format!(
            "\"{text}\" is not in upper case, and methods are case-sensitive; write \"{upper}\""
        ));
    }
    if method.is_safe() || method == Method::CONNECT {
        return Err(format!(
            "{method} needs no guard and cannot have one; guard methods that change something, as in \"POST\""
        ));
    }
    Ok(method)
}

/// A mark that tells callers apart: `header:<name>`, `cookie:<name>` or `client-cert`.
pub(super) fn caller(text: &str) -> Result<CallerSource, String> {
    match text.split_once(':') {
        Some(("header", name)) => request_mark(name).map(CallerSource::Header),
        Some(("cookie", name)) if field(name).is_ok() => Ok(CallerSource::Cookie(name.to_owned())),
        Some(("cookie", name)) => {
            Err(format!("\"{name}\" is no cookie name; write one, as in \"cookie:session\""))
        }
        _ if text == "client-cert" => Ok(CallerSource::ClientCert),
        _ => Err(format!(
            "\"{text}\" tells no callers apart; write \"header:<name>\", \"cookie:<name>\" or \"client-cert\""
        )),
    }
}

/// A host that a route serves, in lower case and without trailing dot. Without a port it is served on every port. `*.` before
/// a name stands for all names below it.
pub(super) fn host(text: &str) -> Result<String, String> {
    let no_host = || {
        format!(
            "\"{text}\" is no host; write the bare name, without scheme and path, as in \"api.example.com\", or with \
             one port, as in \"api.example.com:8443\""
        )
    };
    if text.contains('*') {
        return wildcard(text);
    }
    let (name, port) = split_port(text).ok_or_else(no_host)?;
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if !is_host_name(name) && bracketed_ipv6(name).is_none() {
        return Err(no_host());
    }
    match port {
        None => Ok(name.to_owned()),
        // A request's authority loses it, so a pattern with it would match nothing.
        Some(PLAIN_HTTP_PORT) => {
            Err(format!("\"{text}\" names the default port, which hosts go without; write \"{name}\""))
        }
        Some(port) => Ok(format!("{name}:{port}")),
    }
}

fn wildcard(text: &str) -> Result<String, String> {
    let name =
        text.strip_prefix("*.").map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
    match name.filter(|name| is_host_name(name) && name.parse::<IpAddr>().is_err()) {
        Some(name) => Ok(format!("*.{name}")),
        None => Err(format!(
            "\"{text}\" is no wildcard; write \"*.\" and a name without port, as in \"*.example.com\", or leave `hosts` out \
             to serve all"
        )),
    }
}

/// An address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("\"{text}\" is no address to listen on; write an IP address and a port, as in \"0.0.0.0:8080\" or \"[::]:8080\"")
    })
}

/// The base of problem types: the default one, or a URL.
pub(super) fn problem_base(text: &str) -> Result<String, String> {
    if text == defaults::PROBLEM_BASE { Ok(text.to_owned()) } else { url(text) }
}

/// An absolute `http` or `https` URL without query and fragment. A trailing slash is dropped.
pub(super) fn url(text: &str) -> Result<String, String> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'#' | b'?'));
    let has_scheme = text.starts_with("https://") || text.starts_with("http://");
    match text.parse::<Uri>() {
        Ok(uri) if is_plain && has_scheme && uri.host().is_some_and(|host| !host.is_empty()) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "\"{text}\" is no plain URL; write one without query, as in \"https://example.com/problems\""
        )),
    }
}

/// An endpoint: `http://` or `https://`, a host, perhaps a port and a base path; or `unix:` and the path of a socket.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_endpoint(path);
    }
    if text.contains('@') {
        // The text holds a secret, and is not repeated.
        return Err(
            "credentials in an endpoint would be sent to nobody; write \"http://host:port\"".to_owned()
        );
    }
    let (is_tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, _)) => {
            return Err(format!(
                "{scheme} is not spoken to upstreams; write \"http://host:port\", \"https://host:port\" or \"unix:/path\""
            ));
        }
        None => return Err(format!("\"{text}\" has no scheme; write \"http://{text}\"")),
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    let base_path = path.trim_end_matches('/');
    if !is_base_path(base_path) {
        let bare = authority;
        return Err(format!(
            "\"{path}\" is no plain base path, requests bring their own query; write \"http://{bare}\" or \
             \"http://{bare}/base\""
        ));
    }
    let (host, port) = split_port(authority).ok_or_else(|| not_an_endpoint(text))?;
    let default_port = if is_tls { TLS_PORT } else { PLAIN_HTTP_PORT };
    let port = port.unwrap_or(default_port);
    let host = host.to_ascii_lowercase();
    let authority = if port == default_port { host.clone() } else { format!("{host}:{port}") };
    let address = match bracketed_ipv6(&host) {
        Some(address) => Address::Ip(SocketAddr::new(address.into(), port)),
        None if is_host_name(&host) => match host.parse::<IpAddr>() {
            Ok(address) => Address::Ip(SocketAddr::new(address, port)),
            Err(_) => Address::Name(host, port),
        },
        None => return Err(not_an_endpoint(text)),
    };
    Ok(Endpoint { address, is_tls, authority, base_path: base_path.to_owned() })
}

/// Nothing, or segments of unreserved characters (RFC 3986 §2.3) that mean the same to everybody.
fn is_base_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
    path.is_empty() || path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment))
}

fn unix_endpoint(path: &str) -> Result<Endpoint, String> {
    if !path.starts_with('/') || path.starts_with("//") || path.len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "\"{path}\" is no path of a socket; write an absolute one of at most {LONGEST_SOCKET_PATH} bytes, as in \
             \"unix:/run/app.sock\""
        ));
    }
    let authority = "localhost".to_owned();
    Ok(Endpoint { address: Address::Unix(path.into()), is_tls: false, authority, base_path: String::new() })
}

/// A `Host` of Oncegate's own: a host, perhaps with a port.
pub(super) fn authority(text: &str) -> Result<String, String> {
    match split_port(text) {
        Some((host, _)) if is_host_name(host) || bracketed_ipv6(host).is_some() => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is no host; write a name, as in \"api.example.com\"")),
    }
}

/// The name that a certificate must have: a host name or an IP address.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "\"{text}\" is no name that a certificate can have; write a host name, as in \"api.internal\""
        )),
    }
}

/// A path and a query to ask for.
pub(super) fn target(text: &str) -> Result<String, String> {
    match text.parse::<PathAndQuery>() {
        Ok(parsed) if text.starts_with('/') && parsed.as_str() == text => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is no path; write one, as in \"/healthz\"")),
    }
}

fn not_an_endpoint(text: &str) -> String {
    format!("\"{text}\" names no host and port; write \"http://host:port\", an IPv6 address in brackets")
}

/// The host and the port, which is not zero; `None` if the port is malformed.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
            (port != 0).then_some((host, Some(port)))
        }
        _ => Some((authority, None)),
    }
}

fn bracketed_ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// A name of DNS labels (underscores are common within), or an IPv4 address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let looks_numeric =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && (!looks_numeric || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests;

//! Names of HTTP: fields, methods, hosts, addresses, and the marks of callers.
//!
//! Each function takes the text as written; its error says what is wrong and, after a semicolon, how to mend it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderName, Method, Uri, header};
use ipnet::IpNet;

use super::defaults;
use crate::proxy::policy::{CallerSource, Endpoint};

const LONGEST_LABEL: usize = 64;
const PLAIN_HTTP_PORT: u16 = 80;

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

/// A mark that tells callers apart: `header:<name>` or `cookie:<name>`.
pub(super) fn caller(text: &str) -> Result<CallerSource, String> {
    match text.split_once(':') {
        Some(("header", name)) => request_mark(name).map(CallerSource::Header),
        Some(("cookie", name)) if field(name).is_ok() => Ok(CallerSource::Cookie(name.to_owned())),
        Some(("cookie", name)) => Err(format!("\"{name}\" is no cookie name; write one, as in \"cookie:session\"")),
        _ if text == "client-cert" => {
            Err("client certificates need TLS, which this build lacks; use \"header:<name>\" or \"cookie:<name>\"".to_owned())
        }
        _ => Err(format!("\"{text}\" tells no callers apart; write \"header:<name>\" or \"cookie:<name>\"")),
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

/// An endpoint: `http://host` or `http://host:port`, and nothing more.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    if text.contains('@') {
        // The text holds a secret, and is not repeated.
        return Err(
            "credentials in an endpoint would be sent to nobody; write \"http://host:port\"".to_owned()
        );
    }
    let authority = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err("this build speaks plain HTTP to upstreams; write \"http://host:port\"".to_owned());
        }
        Some((scheme, _)) => {
            return Err(format!(
                "this build does not speak {scheme} to upstreams; write \"http://host:port\""
            ));
        }
        None => return Err(format!("\"{text}\" has no scheme; write \"http://{text}\"")),
    };
    if let Some(end) = authority.find(['/', '?', '#']) {
        let bare = authority.get(..end).unwrap_or_default();
        return Err(format!(
            "an endpoint has no path and no query, requests bring their own; write \"http://{bare}\""
        ));
    }
    let (host, port) = split_port(authority).ok_or_else(|| not_an_endpoint(text))?;
    let port = port.unwrap_or(PLAIN_HTTP_PORT);
    let host = host.to_ascii_lowercase();
    let authority = if port == PLAIN_HTTP_PORT { host.clone() } else { format!("{host}:{port}") };
    let host = match bracketed_ipv6(&host) {
        Some(address) => address.to_string(),
        None if is_host_name(&host) => host,
        None => return Err(not_an_endpoint(text)),
    };
    Ok(Endpoint { host, port, authority })
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

//! What is said of the client, and who is believed.
//!
//! Owns `X-Forwarded-*`, `Forwarded` (RFC 7239) and `X-Real-IP`. What a client says of itself is removed and written anew;
//! what a trusted proxy says is kept, and continued by what is seen here. It reaches the upstream and the log, and never takes
//! part in routing or in a request's identity.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::headers::{Received, remove_if};

/// The client and the proxies behind it, one after the other.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The authority that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The path before what the upstream sees.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The client, as some proxies say it.
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// All of what proxies say of the client is named so, or in one of the constants above.
pub const X_FORWARDED: &str = "x-forwarded-";

/// The proxies whose word counts.
#[derive(Debug)]
pub struct Trust(Vec<IpNet>);

impl Trust {
    /// Trusts what comes from these networks.
    #[must_use]
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether what comes from `peer` is believed.
    #[must_use]
    pub fn covers(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// The client's address: the peer's own, or if that is trusted, the right-most in `X-Forwarded-For` that is not. Behind an
    /// entry that is no address nobody is believed.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.covers(peer) {
            return peer;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut client = peer;
        for entry in entries {
            let Some(address) = address(entry.trim_ascii()) else { return client };
            client = address;
            if !self.covers(client) {
                break;
            }
        }
        client
    }
}

/// The other end of a connection, spelled once for all of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    address: IpAddr,
    spelled: HeaderValue,
}

impl Peer {
    /// The peer that has this address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let canonical = address.to_canonical();
        let spelled = HeaderValue::try_from(canonical.to_string());
        // As RFC 7239 §6.3 has it, though every address can be written.
        Self { address, spelled: spelled.unwrap_or_else(|_| HeaderValue::from_static("unknown")) }
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }
}

/// Writes what the upstream is told of the client. What came of it from a peer that is not trusted is dropped.
pub fn tell(headers: &mut HeaderMap, received: &Received<'_>) {
    let Received { from, is_trusted, .. } = *received;
    if !is_trusted {
        forget(headers);
    }
    let is_said = |headers: &HeaderMap, name: &HeaderName| is_trusted && headers.contains_key(name);
    let (peer, scheme) = (from.address.to_canonical(), if received.over_tls { "https" } else { "http" });
    let chain = is_trusted.then(|| chain(headers)).flatten();
    let chain = chain.and_then(|chain| HeaderValue::try_from(format!("{chain}, {peer}")).ok());
    headers.insert(X_FORWARDED_FOR, chain.unwrap_or_else(|| from.spelled.clone()));
    if is_said(headers, &FORWARDED)
        && let Ok(element) = HeaderValue::try_from(element(peer, scheme))
    {
        headers.append(FORWARDED, element);
    }
    if !is_said(headers, &X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !is_said(headers, &X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

fn forget(headers: &mut HeaderMap) {
    remove_if(headers, |name| {
        name == FORWARDED.as_str() || name == X_REAL_IP.as_str() || name.starts_with(X_FORWARDED)
    });
}

/// All lines in one: many back ends read only one.
fn chain(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<&str> =
        headers.get_all(X_FORWARDED_FOR).into_iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// RFC 7239 §6: an IPv6 address stands in brackets, and then in quotes.
fn element(peer: IpAddr, scheme: &str) -> String {
    match peer {
        IpAddr::V4(peer) => format!("for={peer};proto={scheme}"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\";proto={scheme}"),
    }
}

/// An address, as proxies write it: bare, in brackets, or with the port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let bare = bare.parse::<IpAddr>().ok();
    bare.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> Trust {
        Trust::new(["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap()).to_vec())
    }

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn spelled(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_trusted() {
        for (peer, lines, client) in [
            ("192.0.2.1", &["6.6.6.6"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("::ffff:10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["6.6.6.6", "192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["6.6.6.6, 192.0.2.7, 10.1.1.1,10.2.2.2"], "192.0.2.7"),
            ("10.0.0.1", &["6.6.6.6, 192.0.2.7", "10.1.1.1"], "192.0.2.7"),
            ("10.0.0.1", &["10.3.3.3, 10.1.1.1"], "10.3.3.3"),
            ("10.0.0.1", &["192.0.2.7:4711"], "192.0.2.7"),
            ("2001:db8::1", &["[2001:db9::7]:4711"], "2001:db9::7"),
            ("2001:db8::1", &["[2001:db9::7]"], "2001:db9::7"),
            ("2001:db8::1", &["::ffff:192.0.2.7"], "192.0.2.7"),
            // Who wrote this is the last one who is known.
            ("10.0.0.1", &["192.0.2.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7, unknown, 10.1.1.1"], "10.1.1.1"),
            ("10.0.0.1", &["192.0.2.7,"], "10.0.0.1"),
            ("10.0.0.1", &["_hidden"], "10.0.0.1"),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let found = trust().client(peer.parse().unwrap(), &fields(&lines));
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        let trust = Trust::new(Vec::new());
        for peer in ["127.0.0.1", "10.0.0.1", "::1", "0.0.0.0"] {
            assert!(!trust.covers(peer.parse().unwrap()), "{peer}");
        }
    }

    fn told(from: &str, is_trusted: bool, over_tls: bool, said: &[(&'static str, &str)]) -> Vec<String> {
        let (mut headers, peer) = (fields(said), Peer::new(from.parse().unwrap()));
        let received = Received { from: &peer, is_trusted, over_tls, version: http::Version::HTTP_11 };
        tell(&mut headers, &received);
        spelled(&headers)
    }

    const SAID: [(&str, &str); 8] = [
        ("host", "api.test"),
        ("forwarded", "for=6.6.6.6;proto=https"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-host", "shop.test"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "6.6.6.6"),
    ];

    #[test]
    fn what_an_untrusted_peer_says_is_written_anew() {
        let expected = [
            "host: api.test",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: api.test",
            "x-forwarded-proto: https",
        ];
        assert_eq!(told("::ffff:192.0.2.1", false, true, &SAID), expected);
    }

    #[test]
    fn what_a_trusted_peer_says_is_kept_and_continued() {
        let expected = [
            "forwarded: for=\"[2001:db8::1]\";proto=http",
            "forwarded: for=6.6.6.6;proto=https",
            "host: api.test",
            "x-forwarded-for: 6.6.6.6, 7.7.7.7, 2001:db8::1",
            "x-forwarded-host: shop.test",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-real-ip: 6.6.6.6",
        ];
        assert_eq!(told("2001:db8::1", true, false, &SAID), expected);
    }

    #[test]
    fn what_a_trusted_peer_does_not_say_is_said_here() {
        let expected = [
            "host: api.test",
            "x-forwarded-for: 10.0.0.1",
            "x-forwarded-host: api.test",
            "x-forwarded-proto: http",
        ];
        assert_eq!(told("10.0.0.1", true, false, &[("host", "api.test")]), expected);
    }
}

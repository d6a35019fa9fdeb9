//! The header filter: fields, one for each line of the input.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::Version;
use libfuzzer_sys::fuzz_target;
use oncegate::proxy::forwarded::Peer;
use oncegate::proxy::headers::{self, Protected, Received};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

fuzz_target!(|input: &[u8]| {
    let mut fields = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    let protected = Protected::new(std::iter::once(KEY));
    let keys: Vec<HeaderValue> = fields.get_all(KEY).iter().cloned().collect();
    let nominated: Vec<String> = headers::tokens(&fields, &CONNECTION).collect();

    let upgrade = headers::upgrade(&fields, &["websocket".to_owned()]);
    let mut request = fields.clone();
    let is_upgrade = upgrade.is_some();
    let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let received = Received {
        from: &peer,
        is_trusted: false,
        over_tls: false,
        version: Version::HTTP_11,
    };
    headers::to_upstream(&mut request, &received, upgrade, &protected);
    stops_here(&request, &nominated, &protected);
    assert_eq!(request.contains_key(UPGRADE), is_upgrade);
    for name in ["te", "connection"] {
        assert!(request.get_all(name).iter().count() <= 1, "{name} is written here");
    }
    assert!(request.get_all(KEY).iter().eq(keys.iter()), "the key passes as it came");
    let told: Vec<_> = request.get_all("x-forwarded-for").iter().collect();
    assert_eq!(told, ["127.0.0.1"], "a stranger is not believed");
    assert!(!request.contains_key("forwarded") && !request.contains_key("x-original-url"));

    let mut answer = fields.clone();
    headers::to_client(&mut answer, false, &protected);
    stops_here(&answer, &nominated, &protected);
    assert!(!answer.contains_key(CONNECTION) && !answer.contains_key("content-length"));
    assert!(answer.get_all(KEY).iter().eq(keys.iter()));

    let trailers = protected.without(fields);
    assert!(trailers.keys().all(|name| !protected.contains(name.as_str())));
});

fn stops_here(fields: &HeaderMap, nominated: &[String], protected: &Protected) {
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "transfer-encoding"] {
        assert!(!fields.contains_key(name), "{name} crossed the proxy");
    }
    let written = ["te", "upgrade", "connection", "via"];
    for name in nominated {
        assert!(
            protected.contains(name) || written.contains(&name.as_str()) || !fields.contains_key(name),
            "{name} was nominated and crossed the proxy"
        );
    }
}

use super::*;

#[test]
fn endpoints_are_a_host_and_a_port() {
    let name = |name: &str, port| Address::Name(name.to_owned(), port);
    let ip = |address: &str| Address::Ip(address.parse().unwrap());
    for (written, address, is_tls, authority, base_path) in [
        ("http://127.0.0.1:9000", ip("127.0.0.1:9000"), false, "127.0.0.1:9000", ""),
        ("http://legacy.internal", name("legacy.internal", 80), false, "legacy.internal", ""),
        ("HTTP://Legacy:80/", name("legacy", 80), false, "legacy", ""),
        ("http://[::1]:9000", ip("[::1]:9000"), false, "[::1]:9000", ""),
        ("http://[::1]", ip("[::1]:80"), false, "[::1]", ""),
        ("http://my_service:8080", name("my_service", 8080), false, "my_service:8080", ""),
        ("https://legacy", name("legacy", 443), true, "legacy", ""),
        ("https://Legacy:443", name("legacy", 443), true, "legacy", ""),
        ("https://legacy:80/Base/v1/", name("legacy", 80), true, "legacy:80", "/Base/v1"),
        ("unix:/run/app.sock", Address::Unix("/run/app.sock".into()), false, "localhost", ""),
    ] {
        let (authority, base_path) = (authority.to_owned(), base_path.to_owned());
        let expected = Endpoint { address, is_tls, authority, base_path };
        assert_eq!(endpoint(written), Ok(expected), "{written}");
    }
}

#[test]
fn what_is_more_or_less_than_an_endpoint_is_refused() {
    for (written, mend) in [
        ("tcp://x", "is not spoken to upstreams"),
        ("unix:run/app.sock", "no path of a socket"),
        ("unix://run/app.sock", "no path of a socket"),
        ("legacy:9000", "write \"http://legacy:9000\""),
        ("http://legacy/a//b", "write \"http://legacy\""),
        ("http://legacy/a/../b", "write \"http://legacy\""),
        ("http://legacy/%61", "write \"http://legacy\""),
        ("http://legacy:9000/v1?x", "write \"http://legacy:9000\""),
        ("http://legacy#a", "write \"http://legacy\""),
        ("http://user:secret@legacy", "credentials"),
        ("user:secret@legacy", "credentials"),
        ("http://", "names no host"),
        ("http://:9000", "names no host"),
        ("http://legacy:", "names no host"),
        ("http://legacy:0", "names no host"),
        ("http://legacy:70000", "names no host"),
        ("http://legacy:+80", "names no host"),
        ("http://::1:9000", "in brackets"),
        ("http://[::1", "in brackets"),
        ("http://a..b", "names no host"),
        ("http://1.2.3.4.5", "names no host"),
        ("http://le gacy", "names no host"),
    ] {
        let refusal = endpoint(written).expect_err(written);
        assert!(refusal.contains(mend), "{written}: {refusal}");
        assert!(!refusal.contains("secret"), "{written}: {refusal}");
    }
}

#[test]
fn methods_that_change_nothing_cannot_be_guarded() {
    for written in ["POST", "PATCH", "PUT", "DELETE", "M-SEARCH"] {
        assert_eq!(method(written).map(|method| method.to_string()), Ok(written.to_owned()));
    }
    for written in ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "Post", "PO ST", "é"] {
        assert!(method(written).is_err(), "{written}");
    }
}

#[test]
fn callers_are_told_apart_by_fields_cookies_and_certificates() {
    assert_eq!(caller("header:Authorization"), Ok(CallerSource::Header(header::AUTHORIZATION)));
    assert_eq!(caller("cookie:Session"), Ok(CallerSource::Cookie("Session".to_owned())));
    assert_eq!(caller("client-cert"), Ok(CallerSource::ClientCert));
    for (written, mend) in [
        ("authorization", "header:<name>"),
        ("header:", "is no field name"),
        ("header:x_tenant", "write \"x-tenant\""),
        ("header:host", "a field of its own"),
        ("cookie:a b", "is no cookie name"),
        ("cookie:", "is no cookie name"),
    ] {
        let refusal = caller(written).expect_err(written);
        assert!(refusal.contains(mend), "{written}: {refusal}");
    }
}

#[test]
fn hosts_are_names_with_or_without_a_port() {
    for (written, read) in [
        ("API.example.com.", "api.example.com"),
        ("localhost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("Api:8443", "api:8443"),
        ("[::1]:8443", "[::1]:8443"),
        ("*.Example.com.", "*.example.com"),
    ] {
        assert_eq!(host(written).as_deref(), Ok(read), "{written}");
    }
    for written in [
        "",
        ".",
        "a..b",
        "api:80",
        "api:",
        "api:8443:1",
        "http://api",
        "api/v1",
        "*",
        "*.",
        "*.example.com:81",
        "*example.com",
        "a.*.com",
        "*.*.com",
        "*.10.0.0.1",
        "::1",
        "a b",
    ] {
        assert!(host(written).is_err(), "{written}");
    }
}

#[test]
fn urls_lose_their_trailing_slash() {
    assert_eq!(url("https://example.com/problems/").as_deref(), Ok("https://example.com/problems"));
    for written in [
        "example.com",
        "ftp://example.com",
        "https://",
        "https://a/?b",
        "https://a/#b",
        "https://a/>b",
        "https://é/",
    ] {
        assert!(url(written).is_err(), "{written}");
    }
}

#[test]
fn networks_have_no_bits_beyond_their_prefix() {
    for (written, read) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("::1", "::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        assert_eq!(network(written).map(|network| network.to_string()).as_deref(), Ok(read), "{written}");
    }
    for (written, mend) in [
        ("10.1.2.3/8", "write \"10.0.0.0/8\""),
        ("10.0.0.0/33", "as in \"10.0.0.0/8\""),
        ("10/8", "as in \"10.0.0.0/8\""),
        ("proxy.internal", "as in \"10.0.0.0/8\""),
    ] {
        let refusal = network(written).expect_err(written);
        assert!(refusal.contains(mend), "{written}: {refusal}");
    }
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    for written in ["*", "https://shop.example.com", "http://localhost:3000", "https://[::1]:8443", "app://x"]
    {
        assert_eq!(origin(written).as_deref(), Ok(written));
    }
    for (written, mend) in [
        ("https://Shop.example.com", "write \"https://shop.example.com\""),
        ("https://shop.example.com:443", "write \"https://shop.example.com\""),
        ("http://shop.example.com:080", "write \"http://shop.example.com\""),
        ("https://shop.example.com/", "scheme and host"),
        ("shop.example.com", "scheme and host"),
        ("https://*.example.com", "scheme and host"),
        ("null", "scheme and host"),
        ("://x", "scheme and host"),
        ("https://", "scheme and host"),
    ] {
        let refusal = origin(written).expect_err(written);
        assert!(refusal.contains(mend), "{written}: {refusal}");
    }
}

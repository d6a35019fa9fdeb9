//! Requests that two readers could read differently are refused, and no byte of them is sent.

use crate::harness::{Config, Proxy, Request, Upstream};

/// Sends the bytes; the proxy must refuse them with one of these statuses, and send nothing.
async fn expect_refused(cases: &[String], statuses: &[u16]) {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for case in cases {
        let mut client = proxy.client().await;
        client.send_bytes(case).await;
        let answer = client
            .try_response()
            .await
            .unwrap_or_else(|broken| panic!("no answer to:\n{case}\nbut: {broken:?}"));
        assert!(statuses.contains(&answer.status), "not one of {statuses:?} to:\n{case}\nbut: {answer:?}");
        client.half_close().await;
        let more = client.closed().await;
        assert!(!more.contains("HTTP/1."), "one answer, and nothing smuggled:\n{case}\nbut:\n{more}");
    }
    upstream.expect_nothing();
}

/// A guarded and an unguarded request with these field lines in place of `Host` and length.
fn with_lines(lines: &str, body: &str) -> Vec<String> {
    let heads = ["POST /v1/charges HTTP/1.1\r\nIdempotency-Key: k\r\n", "POST /elsewhere HTTP/1.1\r\n"];
    heads.iter().map(|head| format!("{head}{lines}\r\n{body}")).collect()
}

#[tokio::test]
async fn a_host_that_is_missing_doubled_or_invalid_is_refused() {
    for lines in [
        "Content-Length: 0\r\n",
        "Host: api.test\r\nHost: api.test\r\nContent-Length: 0\r\n",
        "Host: api.test\r\nHost: other.test\r\nContent-Length: 0\r\n",
        "Host: \r\nContent-Length: 0\r\n",
        "Host: api test\r\nContent-Length: 0\r\n",
        "Host: api.test/path\r\nContent-Length: 0\r\n",
        "Host: user@api.test\r\nContent-Length: 0\r\n",
        "Host: api.test:http\r\nContent-Length: 0\r\n",
        "Host: api.test:99999\r\nContent-Length: 0\r\n",
        "Host: [::1\r\nContent-Length: 0\r\n",
        "Host: api.test, other.test\r\nContent-Length: 0\r\n",
        "Host: http://api.test\r\nContent-Length: 0\r\n",
        "Host: api.test?x\r\nContent-Length: 0\r\n",
        "Host: api.test#x\r\nContent-Length: 0\r\n",
        "Host: api\\test\r\nContent-Length: 0\r\n",
    ] {
        expect_refused(&with_lines(lines, ""), &[400]).await;
    }
    // The longest name has 253 bytes.
    let lines = format!("Host: {}b\r\nContent-Length: 0\r\n", "a.".repeat(127));
    expect_refused(&with_lines(&lines, ""), &[400]).await;
}

#[tokio::test]
async fn every_valid_host_is_served() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for host in [
        "api.test:65535",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "localhost",
        "my_service",
        "xn--bcher-kva.test",
        &format!("{}b.:8080", "a.".repeat(126)),
    ] {
        let response = proxy.request(&Request::charge("k").host(host)).await;
        assert_eq!(response.status, 201, "{host}: {response:?}");
        assert!(!response.is_replay(), "{host} is a host of its own: {response:?}");
    }
    assert_eq!(upstream.seen()[2].value("host"), Some("[::1]"));
}

#[tokio::test]
async fn a_transfer_encoding_other_than_chunked_is_refused() {
    let chunked = "2\r\n{}\r\n0\r\n\r\n";
    for coding in [
        "identity",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "",
        "chunked;q=1",
        "\"chunked\"",
    ] {
        let lines = format!("Host: api.test\r\nTransfer-Encoding: {coding}\r\n");
        expect_refused(&with_lines(&lines, chunked), &[400, 501]).await;
    }
    for coding in ["gzip, chunked", "gzip", "br", "xchunked", "chunkedx"] {
        let lines = format!("Host: api.test\r\nTransfer-Encoding: {coding}\r\n");
        expect_refused(&with_lines(&lines, chunked), &[400, 501]).await;
    }
    let doubled = "Host: api.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    expect_refused(&with_lines(doubled, chunked), &[400]).await;
    let split = "Host: api.test\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
    expect_refused(&with_lines(split, chunked), &[400, 501]).await;
}

#[tokio::test]
async fn an_unknown_coding_is_not_implemented() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for target in ["/v1/charges", "/elsewhere"] {
        let request = Request::post(target).key("k").field("Transfer-Encoding", "unheard-of, chunked");
        let mut client = proxy.client().await;
        client.send(&request).await;
        client.send_bytes("0\r\n\r\n").await;
        client.response().await.expect_problem(501, "bad-request");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_length_beside_a_transfer_encoding_is_refused() {
    let smuggled = "0\r\n\r\nPOST /smuggled HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n";
    for lines in [
        "Host: api.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Host: api.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        expect_refused(&with_lines(lines, smuggled), &[400]).await;
    }
}

#[tokio::test]
async fn a_length_that_is_no_length_is_refused() {
    for length in ["+2", "-2", "0x2", "2, 3", "2 2", "", "two", "99999999999999999999999"] {
        let lines = format!("Host: api.test\r\nContent-Length: {length}\r\n");
        expect_refused(&with_lines(&lines, "{}"), &[400]).await;
    }
    let conflicting = "Host: api.test\r\nContent-Length: 2\r\nContent-Length: 3\r\n";
    expect_refused(&with_lines(conflicting, "{}"), &[400]).await;
}

#[tokio::test]
async fn a_malformed_head_is_refused() {
    for line in [
        "X-Space : 1\r\n",
        " X-Leading: 1\r\n",
        "X-Folded: 1\r\n  folded\r\n",
        "X-Nul: a\0b\r\n",
        "X(Paren): 1\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "Idempotency-Key : other\r\n",
        "Transfer-Encoding : chunked\r\n",
    ] {
        let lines = format!("Host: api.test\r\nContent-Length: 0\r\n{line}");
        expect_refused(&with_lines(&lines, ""), &[400]).await;
    }
}

#[tokio::test]
async fn a_bare_line_feed_ends_no_line() {
    let heads = [
        "POST /v1/charges HTTP/1.1\nHost: api.test\nIdempotency-Key: k\nContent-Length: 0\n\n",
        "POST /v1/charges HTTP/1.1\r\nHost: api.test\r\nX-A: 1\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n",
        "POST /elsewhere HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\n",
    ];
    expect_refused(&heads.map(str::to_owned), &[400]).await;
}

#[tokio::test]
async fn a_malformed_chunked_upload_is_refused() {
    let lines = "Host: api.test\r\nTransfer-Encoding: chunked\r\n";
    let guarded = &with_lines(lines, "")[..1];
    for body in ["zz\r\n{}\r\n0\r\n\r\n", "-1\r\n", "2\r\n{}x\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let cases: Vec<_> = guarded.iter().map(|head| format!("{head}{body}")).collect();
        expect_refused(&cases, &[400]).await;
    }
}

#[tokio::test]
async fn the_absolute_form_names_the_same_resource() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let first = proxy.charge("k").await;
    let absolute = Request::post("http://api.test/v1/charges").key("k").json(r#"{"amount":10}"#);
    proxy.request(&absolute).await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn the_absolute_form_is_no_side_door() {
    let upstream = Upstream::start().await;
    let only_pay = "name = \"pay\"\npath = \"/pay\"\nhosts = [\"pay.test\"]";
    let proxy = Config::before(&upstream).route(only_pay).start().await;
    // Whichever of the two hosts the upstream believes, the request does not run twice.
    for (target, host) in [
        ("http://pay.test/pay", "api.test"),
        ("http://api.test/pay", "pay.test"),
        ("HTTP://PAY.test:80/pay", "api.test"),
        ("http://user@pay.test/pay", "pay.test"),
        ("https://pay.test/pay", "pay.test"),
        ("ftp://pay.test/pay", "pay.test"),
        ("http:///pay", "pay.test"),
    ] {
        let request = Request::post(target).host(host).key(host).json("{}");
        let before = upstream.seen().len();
        for _ in 0..2 {
            let response = proxy.request(&request).await;
            assert!(matches!(response.status, 201 | 400 | 404 | 421), "{target} for {host}: {response:?}");
        }
        let runs = upstream.seen().len() - before;
        assert!(runs <= 1, "{target} for {host} ran {runs} times");
    }
}

#[tokio::test]
async fn targets_that_are_no_paths_are_refused() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for target in ["v1/charges", "*", "?x", "api.test:80", "/v1/char\u{7f}ges", "/v1/ charges"] {
        let mut client = proxy.client().await;
        client.send(&Request::post(target).key("k").json("{}")).await;
        let answer = client.response().await;
        assert!((400..500).contains(&answer.status), "{target}: {answer:?}");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_fragment_is_no_side_door() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for target in
        ["/v1/charges#a", "/v1/charges#b", "/v1/charges", "/x#/../v1/charges", "/v1/charges#/../../x"]
    {
        let response = proxy.request(&Request::post(target).key("k").json("{}")).await;
        assert!(matches!(response.status, 201 | 400), "{target}: {response:?}");
    }
    let charges = upstream.seen().iter().filter(|seen| seen.target.contains("charges")).count();
    assert!(charges <= 1, "{:#?}", upstream.seen());
}

#[tokio::test]
async fn connect_is_refused() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let response = proxy.request(&Request::new("CONNECT", "api.test:443").host("api.test:443")).await;
    assert!((400..502).contains(&response.status), "{response:?}");
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_refused_request_does_not_lend_its_body_to_the_next() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let inner = Request::charge("smuggled").bytes();
    let outer = Request::post("/v1/charges").body(&inner);
    let mut client = proxy.client().await;
    client.send(&outer).await;
    client.response().await.expect_problem(400, "key-missing");
    client.try_send_bytes(Request::charge("next").bytes()).await;
    if let Ok(next) = client.try_response().await {
        next.expect_status(201);
    }
    upstream.expect_executions("smuggled", 0);
}

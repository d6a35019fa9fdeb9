//! HTTP/2 as an attacker writes it: what HTTP/1.1 behind would read in another way never gets there (RFC 9113 §8.2, §10.3).

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, block,
};
use crate::harness::{Config, Http2Client, Proxy, Request, Upstream};

const POST: [(&str, &[u8]); 4] =
    [(":method", b"POST"), (":scheme", b"http"), (":authority", b"api.test"), (":path", b"/v1/charges")];

/// Sends a guarded request with these fields and this body; what the proxy says: the kind of its frame.
async fn said(proxy: &Proxy, fields: &[(&str, &[u8])], body: Option<&[u8]>) -> Option<u8> {
    let mut client = Frames::connect(proxy.address()).await;
    let ends = if body.is_some() { 0 } else { END_STREAM };
    client.send(&Frame::new(HEADERS, END_HEADERS | ends, 1, block(fields))).await;
    if let Some(body) = body {
        client.send(&Frame::new(DATA, END_STREAM, 1, body)).await;
    }
    client.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await.map(|frame| frame.kind)
}

fn with<'a>(more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    POST.into_iter().chain([("idempotency-key", &b"k"[..])]).chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn what_these_tests_send_is_otherwise_sound() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    assert_eq!(said(&proxy, &with(&[("content-length", b"2")]), Some(b"{}")).await, Some(HEADERS));
    assert_eq!(upstream.only().text(), "{}");
}

#[tokio::test]
async fn fields_that_http1_behind_would_act_on_reach_nobody() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let fields: [(&str, &[u8]); 25] = [
        ("connection", b"close"),
        ("connection", b"idempotency-key"),
        ("proxy-connection", b"close"),
        ("keep-alive", b"timeout=5"),
        ("transfer-encoding", b"chunked"),
        ("upgrade", b"websocket"),
        ("te", b"gzip"),
        ("content-length", b"1"),
        ("content-length", b"3"),
        ("content-length", b"+2"),
        ("content-length", b"2, 2"),
        ("content-length", b"two"),
        ("X-Upper", b"1"),
        ("x-a", b"1\r\ntransfer-encoding: chunked"),
        ("x-a", b"1\nx-b: 2"),
        ("x-a", b"1\r2"),
        ("x-a", b"1\x002"),
        ("x-a: 1\r\nx-b", b"2"),
        ("x a", b"1"),
        ("x:a", b"1"),
        ("", b"1"),
        (":path", b"/v1/other"),
        (":status", b"200"),
        (":unknown", b"1"),
        ("host", b"other.test"),
    ];
    for (name, value) in fields {
        said(&proxy, &with(&[(name, value)]), Some(b"{}")).await;
        assert!(upstream.seen().is_empty(), "{name:?}: {:?}", String::from_utf8_lossy(value));
    }
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn pseudo_fields_that_make_no_request_reach_nobody() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let key: (&str, &[u8]) = ("idempotency-key", b"k");
    let [method, scheme, authority, path] = POST;
    let heads: [Vec<(&str, &[u8])>; 15] = [
        vec![scheme, authority, path, key],
        vec![method, authority, path, key],
        vec![method, scheme, authority, key],
        vec![method, scheme, path, key],
        vec![method, method, scheme, authority, path, key],
        vec![key, method, scheme, authority, path],
        vec![method, scheme, authority, (":path", b""), key],
        vec![method, scheme, authority, (":path", b"*"), key],
        vec![method, scheme, authority, (":path", b"v1/charges"), key],
        vec![method, scheme, authority, (":path", b"/v1/charges HTTP/1.1\r\nx: y"), key],
        vec![method, scheme, (":authority", b"user@api.test"), path, key],
        vec![method, scheme, (":authority", b"api.test/x"), path, key],
        vec![(":method", b"CONNECT"), authority, key],
        vec![(":method", b"PO ST"), scheme, authority, path, key],
        vec![method, (":scheme", b"ftp"), authority, path, key],
    ];
    for head in heads {
        said(&proxy, &head, None).await;
        assert!(upstream.seen().is_empty(), "{head:?}");
    }
}

#[tokio::test]
async fn a_length_that_the_frames_belie_never_looks_whole() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for (path, length, body) in [
        ("/v1/charges", "5", "{}"),
        ("/v1/charges", "1", "{}"),
        ("/upload", "5", "{}"),
        ("/upload", "1", "{}"),
    ] {
        let mut fields = with(&[("content-length", length.as_bytes())]);
        fields[3] = (":path", path.as_bytes());
        said(&proxy, &fields, Some(body.as_bytes())).await;
    }
    assert!(upstream.seen().iter().all(|seen| !seen.is_whole), "{:#?}", upstream.seen());
    upstream.expect_executions("k", upstream.seen().iter().filter(|seen| seen.target == "/upload").count());
}

#[tokio::test]
async fn white_space_around_a_value_is_refused() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for value in ["1 ", " 1", "\t1"] {
        assert_eq!(said(&proxy, &with(&[("x-a", value.as_bytes())]), Some(b"{}")).await, Some(HEADERS));
    }
    upstream.expect_nothing();
    let mut client = Http2Client::connect(proxy.address()).await;
    client.request(&Request::charge("k").field("x-a", " 1")).await.expect_problem(400, "bad-request");
}

#[tokio::test]
async fn heads_beyond_their_bounds_are_refused_and_the_connection_goes_on() {
    let upstream = Upstream::start().await;
    let bounds = "max_headers = 20\nmax_header_size = \"8KiB\"";
    let proxy = Config::before(&upstream).server(bounds).start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let many = (0..30).fold(Request::charge("k"), |request, index| request.field(&format!("x-{index}"), "1"));
    let long = Request::charge("k").field("x-long", "x".repeat(9 << 10));
    for request in [many, long] {
        client.request(&request).await.expect_status(431);
    }
    client.request(&Request::charge("k")).await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_head_without_end_ends_its_connection() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Frames::connect(proxy.address()).await;
    client.send(&Frame::new(HEADERS, 0, 1, block(&POST))).await;
    for _ in 0..2_000 {
        client.send(&Frame::new(CONTINUATION, 0, 1, block(&[("x-a", &[b'x'; 1_000])]))).await;
    }
    let said = client.next_of(&[GOAWAY, HEADERS]).await;
    assert!(said.as_ref().is_none_or(|frame| frame.kind == GOAWAY), "{said:?}");
    while client.next().await.is_some() {}
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn a_flood_of_empty_frames_ends_its_connection() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for path in ["/v1/charges", "/upload"] {
        let mut client = Frames::connect(proxy.address()).await;
        let mut fields = with(&[]);
        fields[3] = (":path", path.as_bytes());
        client.send(&Frame::new(HEADERS, END_HEADERS, 1, block(&fields))).await;
        // No window bounds them, and they are no progress.
        for _ in 0..1_000 {
            client.send(&Frame::new(DATA, 0, 1, [])).await;
        }
        let said = client.next_of(&[GOAWAY, HEADERS]).await;
        assert!(said.as_ref().is_none_or(|frame| frame.kind == GOAWAY), "{path}: {said:?}");
    }
    assert!(upstream.seen().iter().all(|seen| !seen.is_whole), "{:#?}", upstream.seen());
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn a_client_whose_mistakes_are_too_many_loses_its_connection() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("http2.max_error_resets = 5").start().await;
    let mut client = Frames::connect(proxy.address()).await;
    for stream in (1..=41).step_by(2) {
        let head = block(&with(&[("connection", b"close")]));
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, head)).await;
    }
    assert!(client.next_of(&[GOAWAY]).await.is_some(), "twenty streams were reset");
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn no_bytes_make_the_proxy_panic() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for kind in 0..=10 {
        for (flags, stream, payload) in
            [(0, 0, &[][..]), (0xFF, 1, &[0xFF; 5]), (4, 3, &[0; 9]), (1, u32::MAX, &[1; 4])]
        {
            let mut client = Frames::connect(proxy.address()).await;
            client.send(&Frame::new(kind, flags, stream, payload)).await;
            client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 5, block(&POST))).await;
            drop(client.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await);
        }
    }
    proxy.charge("k").await.expect_status(201);
}

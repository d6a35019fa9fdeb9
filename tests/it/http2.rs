//! HTTP/2 towards clients: the same promise as over HTTP/1.1, and what only HTTP/2 has: streams, resets, windows.

use std::pin::pin;
use std::time::Duration;

use h2::Reason;
use h2::client::Builder;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::frames::{Frames, SETTINGS, WINDOW_UPDATE, reset_rapidly};
use crate::harness::{Client, Config, Http2Client, Proxy, Reply, Request, Upstream, eventually, within};

#[tokio::test]
async fn a_request_is_run_once_whichever_protocol_its_retries_come_by() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let first = client.request(&Request::charge("k")).await;
    first.expect_status(201);
    client.request(&Request::charge("k")).await.expect_replay_of(&first);
    proxy.charge("k").await.expect_replay_of(&first);
    client.request(&Request::charge("k").json("{}")).await.expect_problem(422, "key-reused");
    let over_http1 = proxy.charge("l").await;
    client.request(&Request::charge("l")).await.expect_replay_of(&over_http1);
    upstream.expect_executions("k", 1);
    upstream.expect_executions("l", 1);
}

#[tokio::test]
async fn the_upstream_sees_a_request_as_http1_has_it() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let request = Request::charge("k")
        .host("API.test:8080")
        .field("cookie", "a=1")
        .field("cookie", "b=2")
        .field("te", "trailers")
        .field("x-forwarded-for", "6.6.6.6");
    client.request(&request).await.expect_status(201);
    let seen = upstream.only();
    for (name, value) in [
        ("host", "API.test:8080"),
        ("cookie", "a=1; b=2"),
        ("content-length", "13"),
        ("via", "2.0 oncegate"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("connection", "te"),
    ] {
        assert_eq!(seen.value(name), Some(value), "{seen:?}");
    }
    assert_eq!(seen.value("transfer-encoding"), None);
    assert_eq!((seen.target.as_str(), seen.text().as_str()), ("/v1/charges", r#"{"amount":10}"#));
}

#[tokio::test]
async fn a_body_without_length_and_its_trailers_pass() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let reply = Reply::status(201).chunked(&["do", "ne"]).field("trailer", "x-sum").trailer("x-sum", "7");
    upstream.next(reply);
    let mut stream = client.begin(&Request::post("/upload").field("trailer", "x-end"), false).await;
    stream.send_data("ab", false);
    stream.send_data("cd", false);
    stream.send_trailer("x-end", "1");
    let response = stream.response().await.unwrap();
    assert_eq!(response.trailers, [("x-sum".to_owned(), "7".to_owned())], "{response:?}");
    let seen = upstream.only();
    assert_eq!((seen.text().as_str(), seen.value("transfer-encoding")), ("abcd", Some("chunked")));
    assert_eq!(seen.trailers, [("x-end".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn many_requests_at_once_are_answered_on_one_connection() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let gate = upstream.hold_next();
    let held = client.send(&Request::charge("held")).await;
    upstream.requests_to_be(1).await;
    for key in 0..50 {
        client.request(&Request::charge(&key.to_string())).await.expect_status(201);
    }
    gate.release();
    held.response().await.unwrap().expect_status(201);
}

#[tokio::test]
async fn a_reset_stream_does_not_cancel_what_was_begun() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let mut gate = upstream.hold_next();
    let stream = client.send(&Request::charge("k")).await;
    gate.arrived().await;
    stream.reset();
    client.request(&Request::charge("k")).await.expect_problem(409, "request-in-flight");
    gate.release();
    assert!(proxy.settled(&Request::charge("k")).await.is_replay());
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_an_upload_takes_no_key() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let mut stream = client.begin(&Request::charge("k"), false).await;
    stream.send_data(r#"{"amo"#, false);
    stream.reset();
    client.request(&Request::charge("k")).await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_reset_stream_that_is_not_guarded_ends_its_request() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    upstream.next(Reply::stall());
    let stream = client.send(&Request::get("/slow")).await;
    upstream.requests_to_be(1).await;
    stream.reset();
    upstream.hang_ups_to_be(1).await;
    client.request(&Request::get("/next")).await.expect_status(201);
}

#[tokio::test]
async fn one_connection_leaves_no_more_attempts_behind_than_it_may() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("http2.max_attempts = 3").start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let mut gates = Vec::new();
    for key in ["a", "b", "c"] {
        let mut gate = upstream.hold_next();
        let stream = client.send(&Request::charge(key)).await;
        gate.arrived().await;
        stream.reset();
        gates.push(gate);
    }
    let refused = client.request(&Request::charge("d")).await;
    refused.expect_problem(503, "overloaded").expect_retry_after();
    client.request(&Request::get("/")).await.expect_status(201);
    proxy.charge("d").await.expect_status(201);
    gates.into_iter().for_each(|gate| gate.release());
    eventually("the attempts are settled", async || {
        client.request(&Request::charge("d")).await.status == 201
    })
    .await;
    for key in ["a", "b", "c", "d"] {
        upstream.expect_executions(key, 1);
    }
}

#[tokio::test]
async fn a_client_that_answers_no_ping_loses_its_connection() {
    let upstream = Upstream::start().await;
    let pings = "http2.ping_interval = \"1s\"\nhttp2.ping_timeout = \"100ms\"";
    let proxy = Config::before(&upstream).server(pings).start().await;
    let mut silent = Frames::connect(proxy.address()).await;
    while silent.next().await.is_some() {}
}

#[tokio::test]
async fn a_client_is_told_the_windows_that_the_settings_say() {
    let upstream = Upstream::start().await;
    let windows = "http2.stream_window = \"100KiB\"\nhttp2.connection_window = \"300KiB\"";
    let proxy = Config::before(&upstream).server(windows).start().await;
    let mut client = Frames::connect(proxy.address()).await;
    let settings = client.next_of(&[SETTINGS]).await.unwrap().payload;
    let stream_window = [&4_u16.to_be_bytes()[..], &(100_u32 << 10).to_be_bytes()].concat();
    assert!(settings.chunks(6).any(|setting| setting == stream_window), "{settings:?}");
    let more = client.next_of(&[WINDOW_UPDATE]).await.unwrap();
    assert_eq!((more.stream, more.payload), (0, ((300_u32 << 10) - 65_535).to_be_bytes().to_vec()));
}

#[tokio::test]
async fn a_client_that_resets_all_it_begins_loses_its_connection() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("http2.max_pending_resets = 5").start().await;
    let mut client = Frames::connect(proxy.address()).await;
    let goaway = reset_rapidly(&mut client, 2_000).await;
    assert_eq!(goaway.code(), u32::from(Reason::ENHANCE_YOUR_CALM));
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn no_more_streams_than_the_setting_says_are_under_way() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("http2.max_concurrent_streams = 2").start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    client.request(&Request::get("/")).await.expect_status(201);
    let (first, second) = (upstream.hold_next(), upstream.hold_next());
    let held = (client.send(&Request::get("/1")).await, client.send(&Request::get("/2")).await);
    let request = Request::get("/3");
    let mut third = pin!(client.send(&request));
    upstream.requests_to_be(3).await;
    let waits =
        tokio::time::timeout(Duration::from_millis(200), async { third.as_mut().await.response().await });
    assert!(waits.await.is_err(), "there is no room for a third");
    first.release();
    second.release();
    held.0.response().await.unwrap().expect_status(201);
    held.1.response().await.unwrap().expect_status(201);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_one_answer_loses_that_stream_alone() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream)
        .server("write_timeout = \"300ms\"")
        .charges("max_response_body = \"4MiB\"")
        .start()
        .await;
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut client = Http2Client::with(
        Builder::new().initial_window_size(1_000).initial_connection_window_size(1 << 24),
        stream,
    )
    .await;
    for (request, key) in [(Request::get("/big"), None), (Request::charge("k"), Some("k"))] {
        let reply = Reply::status(201).body(vec![b'x'; 2 << 20]);
        upstream.next(if key.is_some() { reply } else { reply.then_stall() });
        let (head, mut body) = client.send(&request).await.head().await.unwrap();
        head.expect_status(201);
        let mut read = 0;
        let error = loop {
            match within("the stream's end", body.data()).await {
                Some(Ok(data)) => read += data.len(),
                Some(Err(error)) => break error,
                None => panic!("the answer looks whole after {read} bytes"),
            }
        };
        assert_eq!(error.reason(), Some(Reason::CANCEL), "{error:?}");
        client.request(&Request::get("/next")).await.expect_status(201);
        if let Some(key) = key {
            let replay = proxy.settled(&Request::charge(key)).await;
            assert_eq!((replay.is_replay(), replay.body.len()), (true, 2 << 20));
        }
    }
    upstream.hang_ups_to_be(1).await;
}

#[tokio::test]
async fn a_slow_reader_that_goes_on_reading_gets_it_all() {
    let upstream = Upstream::start().await;
    let write_timeout = Duration::from_secs(2);
    let lines = format!("write_timeout = \"{write_timeout:?}\"");
    let proxy = Config::before(&upstream).server(&lines).start().await;
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut client = Http2Client::with(Builder::new().initial_window_size(16_384), stream).await;
    upstream.next(Reply::status(200).body(vec![b'x'; 160_000]));
    let (_, mut body) = client.send(&Request::get("/big")).await.head().await.unwrap();
    let (mut read, begun) = (0, Instant::now());
    while let Some(data) = within("more", body.data()).await {
        let length = data.unwrap().len();
        read += length;
        tokio::time::sleep(Duration::from_millis(250)).await;
        body.flow_control().release_capacity(length).unwrap();
    }
    assert_eq!(read, 160_000);
    assert!(begun.elapsed() > write_timeout, "its pauses are longer than that only together");
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_its_stream_alone() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let gate = upstream.hold_next();
    let held = client.send(&Request::get("/held")).await;
    upstream.requests_to_be(1).await;
    upstream.next(Reply::status(200).body("all of it").cut_after(3));
    assert!(client.try_request(&Request::get("/cut")).await.is_err());
    gate.release();
    held.response().await.unwrap().expect_status(201);
    drop(client);
}

#[tokio::test]
async fn a_connection_without_requests_is_told_to_go_and_closed() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("idle_timeout = \"200ms\"").start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    client.request(&Request::charge("k")).await.expect_status(201);
    client.closed().await.unwrap();
    let mut silent = Client::connect(proxy.address()).await;
    silent.send_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    drop(silent.closed().await);
}

#[tokio::test]
async fn a_connection_with_a_long_request_is_not_idle() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("idle_timeout = \"100ms\"").start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let mut gate = upstream.hold_next();
    let held = client.send(&Request::charge("k")).await;
    gate.arrived().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.release();
    held.response().await.unwrap().expect_status(201);
}

#[tokio::test]
async fn draining_finishes_what_was_begun_and_says_goodbye() {
    let upstream = Upstream::start().await;
    let mut proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let mut idle = Http2Client::connect(proxy.address()).await;
    idle.request(&Request::get("/")).await.expect_status(201);
    let mut gate = upstream.hold_next();
    let held = client.send(&Request::charge("k")).await;
    gate.arrived().await;
    proxy.begin_shutdown();
    idle.closed().await.unwrap();
    gate.release();
    held.response().await.unwrap().expect_status(201);
    client.closed().await.unwrap();
    proxy.ended().await;
}

#[tokio::test]
async fn http2_can_be_switched_off() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("http2.enabled = false").start().await;
    let mut client = Client::connect(proxy.address()).await;
    client.send_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let said = client.closed().await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said:?}");
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn the_first_bytes_may_come_one_by_one() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Client::connect(proxy.address()).await;
    for byte in Request::new("PUT", "/").bytes() {
        client.send_bytes([byte]).await;
        tokio::task::yield_now().await;
    }
    client.response().await.expect_status(201);
    client.request(&Request::new("PRIx", "/")).await.expect_status(201);
}

#[tokio::test]
async fn a_connection_that_says_too_little_to_tell_its_protocol_is_closed() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("header_timeout = \"200ms\"").start().await;
    for beginning in ["", "P", "PRI"] {
        let mut client = Client::connect(proxy.address()).await;
        client.send_bytes(beginning).await;
        drop(client.closed().await);
    }
}

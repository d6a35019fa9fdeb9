//! What is not guarded streams through untouched and unbuffered.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::harness::{Config, Proxy, Reply, Request, Upstream, aside, eventually, within};

#[tokio::test]
async fn the_same_post_runs_as_often_as_it_is_sent() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let request = Request::post("/elsewhere").key("k").json("{}");
    assert_eq!(proxy.request(&request).await.text(), r#"{"execution":1}"#);
    assert_eq!(proxy.request(&request).await.text(), r#"{"execution":2}"#);
    assert_eq!(upstream.seen()[1].value("idempotency-key"), Some("k"));
}

#[tokio::test]
async fn a_download_arrives_piece_by_piece() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let (reply, feed) = Reply::fed(200);
    upstream.next(reply.field("Content-Type", "text/event-stream"));
    let mut client = proxy.client().await;
    client.send(&Request::get("/events")).await;
    for n in 0..3 {
        let event = format!("data: {n}\n\n");
        assert!(feed.send(&event));
        client.read_until(&event).await;
    }
    feed.end();
    client.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_download_without_length_ends_with_its_connection() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::status(200).until_close("all of it"));
    assert_eq!(proxy.request(&Request::get("/")).await.text(), "all of it");
}

#[tokio::test]
async fn an_upload_arrives_piece_by_piece() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let upload = Request::post("/upload").chunked(&["ignored"]);
    let mut client = proxy.client().await;
    client.send_bytes(upload.head_bytes()).await;
    let mut sent = String::new();
    for piece in ["first", "second", "third"] {
        client.send_bytes(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        sent += piece;
        eventually("the piece has gone up", async || {
            upstream.seen().first().is_some_and(|seen| seen.text() == sent)
        })
        .await;
        assert!(!upstream.only().is_whole, "the upload goes on");
    }
    client.send_bytes("0\r\n\r\n").await;
    client.response().await.expect_status(201);
    assert!(upstream.only().is_whole);
}

#[tokio::test]
async fn a_guarded_route_streams_what_has_no_key_if_the_key_is_optional() {
    let upstream = Upstream::start().await;
    let proxy =
        Config::before(&upstream).charges("key = \"optional\"\nmax_request_body = \"1KiB\"").start().await;
    let upload = Request::post("/v1/charges").field("Content-Length", "4096");
    let mut client = proxy.client().await;
    client.send_bytes(upload.bytes()).await;
    client.send_bytes("x".repeat(2048)).await;
    eventually("half has gone up", async || {
        upstream.seen().first().is_some_and(|seen| seen.body.len() == 2048)
    })
    .await;
    client.send_bytes("x".repeat(2048)).await;
    client.response().await.expect_status(201);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let request = Request::post("/upload").field("Expect", "100-continue").body("hello");
    let mut client = proxy.client().await;
    client.send_bytes(request.head_bytes()).await;
    client.read_until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send_bytes(request.body_bytes()).await;
    client.response().await.expect_status(201);
    assert_eq!(upstream.only().text(), "hello");
}

#[tokio::test]
async fn a_length_stays_a_length_and_chunks_stay_chunks() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let whole = proxy.request(&Request::post("/").body("12345")).await;
    assert!(!whole.is_chunked && whole.value("content-length").is_some(), "{whole:?}");
    assert_eq!(upstream.only().value("content-length"), Some("5"));
    upstream.next(Reply::status(200).chunked(&["a", "b"]));
    let chunked = proxy.request(&Request::post("/").chunked(&["a", "b"])).await;
    assert!(chunked.is_chunked, "{chunked:?}");
    assert_eq!(upstream.seen()[1].value("transfer-encoding"), Some("chunked"));
    assert_eq!(upstream.seen()[1].text(), "ab");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let reply =
        Reply::status(200).field("Trailer", "Grpc-Status").chunked(&["down"]).trailer("Grpc-Status", "0");
    upstream.next(reply);
    let request =
        Request::post("/grpc").field("TE", "trailers").field("Connection", "TE").field("Trailer", "X-Sum");
    let response = proxy.request(&request.chunked(&["up"]).trailer("X-Sum", "2")).await;
    let down: Vec<_> =
        response.trailers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    assert_eq!(down, [("grpc-status".to_owned(), "0")], "{response:?}");
    let seen = upstream.only();
    let up: Vec<_> =
        seen.trailers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    assert_eq!(up, [("x-sum".to_owned(), "2")], "{seen:#?}");
}

#[tokio::test]
async fn a_websocket_passes() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::echo("websocket"));
    let mut client = proxy.client().await;
    let handshake = Request::get("/chat").field("Connection", "Upgrade").field("Upgrade", "websocket");
    let handshake = handshake.field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let switched = client.request(&handshake.field("Sec-WebSocket-Version", "13")).await;
    assert_eq!(switched.expect_status(101).value("upgrade"), Some("websocket"), "{switched:?}");
    for message in ["hello", "\u{81}\u{5}binary too"] {
        client.send_bytes(message).await;
        client.read_until(message).await;
    }
    assert_eq!(upstream.only().value("upgrade"), Some("websocket"));
    assert!(upstream.only().values("sec-websocket-key").len() == 1);
}

#[tokio::test]
async fn an_upgrade_that_the_route_does_not_list_does_not_pass() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for protocol in ["h2c", "HTTP/2.0", "TLS/1.0", "foo"] {
        let request =
            Request::get("/").field("Connection", "Upgrade, HTTP2-Settings").field("Upgrade", protocol);
        proxy.request(&request.field("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")).await.expect_status(201);
    }
    for seen in upstream.seen() {
        assert!(seen.values("upgrade").is_empty(), "{seen:#?}");
        assert!(seen.values("http2-settings").is_empty(), "{seen:#?}");
    }
}

#[tokio::test]
async fn an_upgrade_that_the_route_lists_passes() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).rest("upgrades = [\"foo\"]").start().await;
    upstream.next(Reply::echo("foo"));
    let mut client = proxy.client().await;
    client
        .request(&Request::get("/").field("Connection", "upgrade").field("Upgrade", "foo"))
        .await
        .expect_status(101);
    client.send_bytes("ping").await;
    client.read_until("ping").await;
    let websocket = Request::get("/").field("Connection", "upgrade").field("Upgrade", "websocket");
    proxy.request(&websocket).await.expect_status(201);
    assert!(upstream.seen()[1].values("upgrade").is_empty());
}

#[tokio::test]
async fn an_upgrade_that_the_upstream_declines_is_an_ordinary_answer() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    let handshake = Request::get("/").field("Connection", "Upgrade").field("Upgrade", "websocket");
    client.request(&handshake).await.expect_status(201);
    client.request(&Request::get("/")).await.expect_status(201);
}

#[tokio::test]
async fn a_head_has_its_length_and_no_body() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.always(|_| Reply::created("12345"));
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let response = client.request(&Request::new("HEAD", "/")).await;
        assert_eq!(response.expect_status(201).value("content-length"), Some("5"), "{response:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let (reply, feed) = Reply::fed(200);
    upstream.next(reply);
    let mut client = proxy.client().await;
    client.send(&Request::get("/")).await;
    assert!(feed.send("some"));
    client.read_until("some").await;
    client.reset();
    eventually("the upstream is left", async || !feed.send("more")).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_nothing_comes_takes_its_request_along() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for (n, how) in ["reset", "close"].into_iter().enumerate() {
        upstream.next(Reply::status(200).body("hello").cut_after(2).then_stall());
        let mut client = proxy.client().await;
        client.send(&Request::get("/events")).await;
        client.read_until("he").await;
        if how == "reset" {
            client.reset();
        } else {
            client.close();
        }
        upstream.hang_ups_to_be(n + 1).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_begins_takes_its_request_along() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::stall());
    let mut client = proxy.client().await;
    client.send(&Request::get("/")).await;
    upstream.requests_to_be(1).await;
    client.reset();
    upstream.hang_ups_to_be(1).await;
}

#[tokio::test]
async fn a_download_that_is_cut_is_cut_for_the_client_too() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for reply in [Reply::status(200).body("hello"), Reply::status(200).chunked(&["hello", "world"])] {
        upstream.next(reply.cut_after(4));
        let mut client = proxy.client().await;
        client.send(&Request::get("/")).await;
        client.try_response().await.expect_err("the body is not whole");
    }
}

#[tokio::test]
async fn a_download_of_which_nothing_comes_for_too_long_is_cut() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("stream_idle_timeout = \"200ms\"").start().await;
    upstream.next(Reply::status(200).body("hello").cut_after(2).then_stall());
    let mut client = proxy.client().await;
    client.send(&Request::get("/")).await;
    client.try_response().await.expect_err("the body is not whole");
    upstream.hang_ups_to_be(1).await;
}

#[tokio::test]
async fn an_upload_that_is_cut_is_cut_for_the_upstream_too() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    client.send_bytes(Request::post("/upload").field("Content-Length", "10").bytes()).await;
    client.send_bytes("half.").await;
    eventually("half has gone up", async || {
        upstream.seen().first().is_some_and(|seen| seen.text() == "half.")
    })
    .await;
    client.reset();
    let mut next = proxy.client().await;
    next.request(&Request::get("/next")).await.expect_status(201);
    let seen = upstream.seen();
    assert!(!seen[0].is_whole, "{seen:#?}");
    assert_ne!(seen[0].connection, seen[1].connection, "the broken connection is not used again");
}

#[tokio::test]
async fn an_answer_before_the_upload_is_through_comes_at_once() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::status(401).body("not you").before_the_body());
    let mut client = proxy.client().await;
    client.send_bytes(Request::post("/upload").field("Content-Length", "10").bytes()).await;
    assert_eq!(client.response().await.expect_status(401).text(), "not you");
}

/// More than the buffers on the way take.
const LARGE: usize = 48 << 20;

#[tokio::test]
async fn an_upload_goes_on_beside_an_early_answer_that_nobody_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Config::before_endpoints([listener.local_addr().unwrap()]).start().await;
    let (uploaded, whole) = oneshot::channel();
    drop(aside(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        // The beginning of the request.
        let begun = reader.read(&mut [0; 1024]).await.unwrap();
        drop(aside(async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            writer.write_all(&[head.into_bytes(), vec![b'a'; LARGE]].concat()).await.unwrap_or(());
            std::future::pending::<()>().await;
        }));
        let mut read = begun;
        let mut buffer = vec![0; 64 << 10];
        while read < LARGE {
            let more = reader.read(&mut buffer).await.unwrap();
            assert!(more > 0, "the upload ended after {read} bytes");
            read += more;
        }
        uploaded.send(()).unwrap();
    }));
    let mut client = proxy.client().await;
    let upload = Request::post("/upload").body(vec![b'x'; LARGE]);
    client.send_bytes(upload.head_bytes()).await;
    client.read_until("\r\n\r\n").await;
    let sent = async {
        client.send_bytes(vec![b'x'; LARGE]).await;
        whole.await.unwrap();
    };
    within("the whole upload", sent).await;
}

#[tokio::test]
async fn more_than_any_limit_of_guarded_requests_passes() {
    let upstream = Upstream::start().await;
    let limits = "max_request_body = \"1KiB\"\nmax_response_body = \"1KiB\"";
    let proxy = Config::before(&upstream).idempotency(limits).start().await;
    let large = vec![b'x'; 4 << 20];
    upstream.next(Reply::status(200).body(&large));
    let response = proxy.request(&Request::post("/upload").body(&large)).await;
    assert!(response.expect_status(200).body == large && upstream.only().body == large);
}

//! What was once possible: each test is a way by which the promise, or an answer, was broken.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::harness::{
    Config, FaultyStore, Operation, Proxy, Reply, Request, Upstream, aside, eventually, within,
};

/// DESIGN §4: the host enters the id without its default port; a port is a number, however it is written.
#[tokio::test]
async fn a_default_port_in_another_spelling_is_no_other_resource() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for host in ["api.test", "api.test:80", "api.test:080", "api.test:00080", "api.test:+80"] {
        proxy.request(&Request::charge("k").host(host)).await;
    }
    upstream.expect_executions("k", 1);
}

/// DESIGN §3: an in-flight entry never expires by ttl, and the owner of this one is alive and at work.
#[tokio::test]
async fn a_key_whose_owner_is_at_work_but_cannot_renew_is_not_run_again_before_it_ends() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let config =
        Config::before(&upstream).store("lease = \"1s\"\ntimeout = \"200ms\"").idempotency("ttl = \"1s\"");
    let proxy = config.start_with_store(Arc::clone(&store) as _).await;
    store.fail(Operation::Renew);
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    let begun = Instant::now();
    eventually("retries for longer than lease and ttl", async || {
        let retry = proxy.charge("k").await;
        retry.status == 201 || begun.elapsed() > Duration::from_secs(3)
    })
    .await;
    upstream.expect_executions("k", 1);
    gate.release();
    within("the first answer", first).await.unwrap().expect_status(201);
}

/// DESIGN §5, "whose connection breaks instead if its head was already sent": to a client of HTTP/1.0 the end of the
/// connection is the end of the answer, so a clean one makes half an answer whole. nginx speaks HTTP/1.0 by default.
#[tokio::test]
async fn a_truncated_answer_does_not_look_whole_to_a_client_of_http_1_0() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (cut, when_cut) = oneshot::channel::<()>();
    let address = listener.local_addr().unwrap();
    drop(aside(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _request = stream.read(&mut [0; 4096]).await.unwrap();
        let half = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwor";
        stream.write_all(half).await.unwrap();
        when_cut.await.unwrap();
    }));
    let proxy = Config::before_endpoints([address]).start().await;
    let old = String::from_utf8(Request::charge("k").bytes()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(old.as_bytes()).await.unwrap();
    let mut got = vec![0; 4096];
    let length = within("the head", client.read(&mut got)).await.unwrap();
    got.truncate(length);
    cut.send(()).unwrap();
    let ended = within("the end", client.read_to_end(&mut got)).await;
    let text = String::from_utf8_lossy(&got);
    assert!(ended.is_err() || text.contains(" 502 "), "it looks whole: {text}");
}

/// RFC 9110 §6.5.1, DESIGN §4 (no other spelling of a key, caller, `X-Forwarded` or override field): a back end that
/// merges trailers reads another key, caller and address than the proxy did.
#[tokio::test]
async fn trailers_of_a_request_carry_no_protected_field() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let names = ["Idempotency-Key", "Idempotency_Key", "X-Forwarded-For", "X-HTTP-Method-Override"];
    for (path, key) in [("/v1/charges", "a"), ("/elsewhere", "b")] {
        let mut request = Request::post(path).key(key).field("Trailer", names.join(", ")).chunked(&["{}"]);
        for name in names {
            request = request.trailer(name, "smuggled");
        }
        let response = proxy.request(&request).await;
        let seen = upstream.seen().into_iter().find(|seen| seen.target == path);
        let trailers = seen.map(|seen| seen.trailers).unwrap_or_default();
        assert!(response.status == 400 || trailers.is_empty(), "{path}: {trailers:?}");
    }
}

/// DESIGN §5: a replay is the answer byte for byte, trailers too. Whether they come must not depend on how fast the
/// first answer was.
#[tokio::test]
async fn trailers_that_were_not_announced_are_neither_on_a_slow_first_answer_nor_on_its_replay() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, when_over) = oneshot::channel::<()>();
    drop(aside(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _request = stream.read(&mut [0; 4096]).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
            .await
            .unwrap();
        when_over.await.unwrap();
        stream.write_all(b"0\r\nX-Sum: 1\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    }));
    let proxy = Config::before_endpoints([address]).start().await;
    let request = Request::charge("k").field("TE", "trailers").field("Connection", "te");
    let mut client = proxy.client().await;
    client.send_bytes(request.bytes()).await;
    // The head has gone out: the answer streams.
    let mut first = client.read_until("ok\r\n").await;
    end.send(()).unwrap();
    first.push_str(&client.read_until("0\r\n").await);
    first.push_str(&client.unread().await);
    let replay = proxy.settled(&request).await;
    assert!(replay.trailers.is_empty(), "{replay:?}");
    assert!(!first.to_lowercase().contains("x-sum"), "only the first answer has them: {first}");
}

/// DESIGN §5: what is not guarded streams through, uploads too. `response_timeout` is patience for the response head; an
/// upload that makes progress has not been answered late.
#[tokio::test]
async fn an_unguarded_upload_may_take_longer_than_the_response_timeout() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("response_timeout = \"1s\"").start().await;
    let mut client = proxy.client().await;
    client.send_bytes("PUT /files/1 HTTP/1.1\r\nHost: api.test\r\nContent-Length: 20\r\n\r\n").await;
    upstream.requests_to_be(1).await;
    for _ in 0..20 {
        client.try_send_bytes("x").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.response().await.expect_status(201);
}

/// "Every count has a bound": a tunnel is a client's connection like any other.
#[tokio::test]
async fn tunnels_count_as_connections() {
    let upstream = Upstream::start().await;
    upstream.always(|_| Reply::echo("websocket"));
    let proxy = Config::before(&upstream).server("max_connections = 2").start().await;
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.client().await;
        let request = Request::get("/ws").field("Connection", "Upgrade").field("Upgrade", "websocket");
        client.send(&request).await;
        client.read_until(" 101 ").await;
        tunnels.push(client);
    }
    let mut third = proxy.client().await;
    third.send(&Request::get("/ws").field("Connection", "Upgrade").field("Upgrade", "websocket")).await;
    let said = third.unread().await;
    assert_eq!(said, "", "a third tunnel although two connections are allowed");
}

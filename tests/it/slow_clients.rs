//! Clients that send or take too slowly: they lose their connection before they hold anybody up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::harness::{Config, Http2Client, Proxy, Reply, Request, Upstream, eventually};

/// 100 bytes per second, or so.
const RATE: &str = "min_body_rate = \"100B\"\nmin_body_rate_window = \"1s\"";

/// Sends a body byte by byte, ten times a second, until the proxy has had enough. Returns what it says.
async fn dribble(proxy: &Proxy, request: &Request) -> crate::harness::Response {
    let mut client = proxy.client().await;
    client.send_bytes(request.head_bytes()).await;
    for byte in request.body_bytes() {
        client.try_send_bytes([byte]).await;
        tokio::select! {
            response = client.response() => return response,
            () = sleep(Duration::from_millis(100)) => {}
        }
    }
    client.response().await
}

#[tokio::test]
async fn a_body_that_dribbles_in_is_refused_and_takes_no_key() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server(RATE).start().await;
    let body = "x".repeat(600);
    for request in [Request::charge("k").body(&body), Request::charge("k").chunked(&[&body])] {
        dribble(&proxy, &request).await.expect_problem(408, "request-timeout");
    }
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn a_body_that_dribbles_through_is_cut_off() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server(RATE).start().await;
    let request = Request::post("/elsewhere").body("x".repeat(600));
    dribble(&proxy, &request).await.expect_problem(408, "request-timeout");
    assert!(!upstream.only().is_whole, "half an upload looks whole");
    // gRPC is spoken over HTTP/2: the media type alone buys no patience.
    let posing = Request::post("/elsewhere").field("Content-Type", "application/grpc").body("x".repeat(600));
    let refused = dribble(&proxy, &posing).await;
    assert_eq!(refused.value("grpc-status"), Some("4"), "DEADLINE_EXCEEDED: {refused:?}");
}

#[tokio::test]
async fn a_call_of_grpc_may_be_silent_for_as_long_as_it_likes() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server(RATE).start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let call = Request::post("/package.Service/Call").field("Content-Type", "application/grpc");
    let mut call = client.begin(&call, false).await;
    call.send_data("x", false);
    sleep(Duration::from_millis(1500)).await;
    call.send_data("x", true);
    call.response().await.expect("a response").expect_status(201);
}

#[tokio::test]
async fn a_body_that_keeps_the_rate_in_small_pieces_is_taken() {
    let upstream = Upstream::start().await;
    // A longer window than elsewhere, in which a machine under load may pause, and a body that takes longer than that.
    let rate = "min_body_rate = \"100B\"\nmin_body_rate_window = \"2s\"";
    let proxy = Config::before(&upstream).server(rate).start().await;
    for path in ["/v1/charges", "/elsewhere"] {
        let request = Request::post(path).key("k").body("x".repeat(700));
        let mut client = proxy.client().await;
        client.send_bytes(request.head_bytes()).await;
        for piece in request.body_bytes().chunks(50) {
            client.send_bytes(piece).await;
            sleep(Duration::from_millis(200)).await;
        }
        client.response().await.expect_status(201);
    }
    eventually("both were whole", async || upstream.seen().iter().filter(|seen| seen.is_whole).count() == 2)
        .await;
}

/// More than the sockets take from a client that does not read.
const BIG: usize = 16 << 20;
const BIG_ANSWERS: &str = "max_response_body = \"32MiB\"";

#[tokio::test]
async fn a_client_that_does_not_read_holds_neither_key_nor_upstream_connection() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::created(&"x".repeat(BIG)));
    // However long the store takes to write so much.
    let reused = "idle_timeout = \"30s\"\nmax_reuse_idle = \"30s\"";
    let proxy = Config::before(&upstream).upstream(reused).charges(BIG_ANSWERS).start().await;
    let mut slow = proxy.client().await;
    slow.send(&Request::charge("k")).await;
    upstream.requests_to_be(1).await;
    let replay = proxy.settled(&Request::charge("k")).await;
    assert!(replay.is_replay() && replay.body.len() == BIG, "{} bytes", replay.body.len());
    let others = AtomicUsize::new(0);
    eventually("the slow client's connection to the upstream is used again", async || {
        let other = others.fetch_add(1, Ordering::Relaxed);
        proxy.charge(&format!("other-{other}")).await.expect_status(201);
        upstream.seen().iter().skip(1).any(|seen| seen.connection == 0)
    })
    .await;
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_answer_that_has_begun_to_stream_counts_until_somebody_takes_it() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).server("max_buffered_bytes = \"9MiB\"").charges(BIG_ANSWERS);
    let proxy = config.start().await;
    proxy.charge("before").await.expect_status(201);
    let (reply, feed) = Reply::fed_of_length(201, BIG);
    upstream.next(reply);
    let mut slow = proxy.client().await;
    slow.send(&Request::charge("k")).await;
    feed.send(vec![b'x'; BIG - 1]);
    slow.read_until("\r\n\r\n").await;
    feed.send(vec![b'x'; 1]);
    feed.end();
    eventually("it is recorded", async || proxy.metrics().await.value("oncegate_in_flight") == 0.0).await;
    proxy.charge("before").await.expect_problem(503, "overloaded");
    slow.reset();
    eventually("there is room again", async || proxy.charge("before").await.status == 201).await;
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_answer_that_is_too_big_to_keep_counts_no_more_once_it_only_passes() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).server("max_buffered_bytes = \"9MiB\"");
    let proxy = config.charges("max_response_body = \"10MiB\"").start().await;
    proxy.charge("before").await.expect_status(201);
    let (reply, feed) = Reply::fed(201);
    upstream.next(reply);
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    for number in 0..12 {
        let piece = format!("{}<{number}>", "x".repeat(1 << 20));
        feed.send(piece.into_bytes());
        client.read_until(&format!("<{number}>")).await;
    }
    eventually("there is room again", async || proxy.charge("before").await.status == 201).await;
    feed.end();
}

#[tokio::test]
async fn answers_that_nobody_takes_count_and_new_work_is_refused_meanwhile() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).server("max_buffered_bytes = \"9MiB\"").charges(BIG_ANSWERS);
    let proxy = config.start().await;
    proxy.charge("before").await.expect_status(201);
    for (key, is_replay) in [("k", false), ("k", true)] {
        if !is_replay {
            upstream.next(Reply::created(&"x".repeat(BIG)));
        }
        let mut slow = proxy.client().await;
        slow.send(&Request::charge(key)).await;
        eventually("there is no room", async || {
            let refused = proxy.charge("before").await;
            refused.status == 503 && refused.expect_problem(503, "overloaded").expect_retry_after() > 0
        })
        .await;
        proxy.request(&Request::get("/")).await.expect_status(201);
        slow.reset();
        eventually("there is room again", async || proxy.charge("before").await.status == 201).await;
    }
    upstream.expect_executions("k", 1);
    upstream.expect_executions("before", 1);
}

//! Clients that leave, stumble or dawdle: the work does not depend on them, and half a request is none.

use crate::harness::{Client, Config, Proxy, Reply, Request, Upstream, eventually};

/// Sends the head and the first half of the body.
async fn half_upload(proxy: &Proxy, request: &Request) -> (Client, Vec<u8>) {
    let mut client = proxy.client().await;
    let body = request.body_bytes();
    let (one, other) = body.split_at(body.len() / 2);
    client.send_bytes(request.head_bytes()).await;
    client.send_bytes(one).await;
    (client, other.to_vec())
}

#[tokio::test]
async fn a_client_that_leaves_mid_upload_takes_no_key_and_reaches_no_upstream() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let chunked = Request::charge("k").chunked(&["{\"amount\"", ":10}"]);
    for request in [Request::charge("k"), chunked] {
        half_upload(&proxy, &request).await.0.close();
        half_upload(&proxy, &request).await.0.reset();
        let (mut client, _) = half_upload(&proxy, &request).await;
        client.half_close().await;
        let said = client.closed().await;
        assert!(!said.contains(" 201 "), "half a request is none: {said}");
    }
    upstream.expect_nothing();
    let first = proxy.charge("k").await;
    assert!(!first.expect_status(201).is_replay(), "the key was free: {first:?}");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_its_request_runs_finds_the_answer_later() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for how in ["close", "reset", "half-close"] {
        let mut gate = upstream.hold_next();
        let mut client = proxy.client().await;
        client.send(&Request::charge(how)).await;
        gate.arrived().await;
        match how {
            "close" => client.close(),
            "reset" => client.reset(),
            _ => client.half_close().await,
        }
        gate.release();
        let retry = proxy.settled(&Request::charge(how)).await;
        assert!(retry.expect_status(201).is_replay(), "{how}: {retry:?}");
        assert_eq!(retry.text(), r#"{"held":true}"#, "{how}");
        upstream.expect_executions(how, 1);
    }
}

#[tokio::test]
async fn a_client_that_says_that_it_sends_no_more_still_gets_its_answer() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut gate = upstream.hold_next();
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    client.half_close().await;
    gate.arrived().await;
    gate.release();
    client.response().await.expect_status(201);
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn a_client_that_left_while_its_request_runs_still_holds_the_key() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut gate = upstream.hold_next();
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    gate.arrived().await;
    client.reset();
    for _ in 0..5 {
        proxy.charge("k").await.expect_problem(409, "request-in-flight");
    }
    gate.release();
    assert!(proxy.settled(&Request::charge("k")).await.is_replay());
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_that_leaves_before_anything_was_answered_has_still_been_heard() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    client.half_close().await;
    drop(client.closed().await);
    let answer = proxy.settled(&Request::charge("k")).await;
    answer.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_that_leaves_once_it_was_answered_changes_nothing() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    let first = client.request(&Request::charge("k")).await;
    client.reset();
    proxy.charge("k").await.expect_replay_of(&first);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_keeps_it_from_nobody() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_response_body = \"16MiB\"").start().await;
    upstream.next(Reply::status(201).body(vec![b'x'; 8 << 20]));
    let mut deaf = proxy.client().await;
    deaf.send(&Request::charge("k")).await;
    upstream.requests_to_be(1).await;
    let retry = proxy.settled(&Request::charge("k")).await;
    assert!(retry.expect_status(201).is_replay(), "{retry:?}");
    assert_eq!(retry.body.len(), 8 << 20);
    retry.expect_replay_of(&deaf.response().await);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_duplicate_during_an_upload_runs_and_the_upload_gets_its_replay() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let (mut slow, rest) = half_upload(&proxy, &Request::charge("k")).await;
    let first = proxy.charge("k").await;
    first.expect_status(201);
    slow.send_bytes(rest).await;
    slow.response().await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upload_that_ends_while_its_duplicate_runs_gets_409() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let (mut slow, rest) = half_upload(&proxy, &Request::charge("k")).await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    slow.send_bytes(rest).await;
    slow.response().await.expect_problem(409, "request-in-flight");
    gate.release();
    first.await.unwrap().expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upload_in_the_smallest_pieces_is_one_request() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    for byte in Request::charge("k").bytes() {
        client.send_bytes([byte]).await;
        tokio::task::yield_now().await;
    }
    client.response().await.expect_status(201);
    assert_eq!(upstream.only().text(), r#"{"amount":10}"#);
}

#[tokio::test]
async fn an_upload_that_is_too_slow_is_refused_and_takes_no_key() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("request_body_timeout = \"300ms\"").start().await;
    let (mut client, _) = half_upload(&proxy, &Request::charge("k")).await;
    client.response().await.expect_problem(408, "request-timeout");
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn an_upload_that_is_too_large_is_refused_whether_it_says_so_or_not() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_request_body = \"1KiB\"").start().await;
    let at_limit = "x".repeat(1024);
    let beyond = "x".repeat(1025);
    for request in [Request::charge("k").body(&beyond), Request::charge("k").chunked(&[&at_limit, "x"])] {
        proxy.request(&request).await.expect_problem(413, "request-too-large");
    }
    let mut liar = proxy.client().await;
    liar.send_bytes(Request::post("/v1/charges").key("k").field("Content-Length", "99999999999999").bytes())
        .await;
    liar.response().await.expect_problem(413, "request-too-large");
    upstream.expect_nothing();
    proxy.request(&Request::charge("k").body(&at_limit)).await.expect_status(201);
    proxy.request(&Request::charge("chunked").chunked(&[&at_limit])).await.expect_status(201);
    assert_eq!(upstream.seen()[1].body.len(), 1024);
}

#[tokio::test]
async fn a_client_that_sends_on_regardless_still_learns_why_it_was_refused() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let body = vec![b'x'; 20 << 20];
    let key_missing = Request::post("/v1/charges").body(&body[..2 << 20]);
    let key_invalid = Request::post("/v1/charges").key("a,b").body(&body[..2 << 20]);
    let too_large = Request::post("/v1/charges").key("k").body(&body);
    for (request, status, word) in [
        (key_missing, 400, "key-missing"),
        (key_invalid, 400, "key-invalid"),
        (too_large, 413, "request-too-large"),
    ] {
        let mut client = proxy.client().await;
        client.try_send_bytes(request.bytes()).await;
        client.response().await.expect_problem(status, word);
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let request = Request::charge("k").field("Expect", "100-continue");
    let mut client = proxy.client().await;
    client.send_bytes(request.head_bytes()).await;
    client.read_until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send_bytes(request.body_bytes()).await;
    client.response().await.expect_status(201);
    assert_eq!(upstream.only().text(), r#"{"amount":10}"#);
}

#[tokio::test]
async fn a_client_that_asks_first_and_is_refused_is_not_told_to_go_on() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_request_body = \"1KiB\"").start().await;
    let keyless = Request::post("/v1/charges").field("Content-Length", "10");
    let too_large = Request::post("/v1/charges").key("k").field("Content-Length", "2000");
    for (request, status, word) in [(keyless, 400, "key-missing"), (too_large, 413, "request-too-large")] {
        let mut client = proxy.client().await;
        client.send(&request.field("Expect", "100-continue")).await;
        let refused = client.response().await;
        refused.expect_problem(status, word);
        assert!(refused.informational.is_empty(), "{:?} came first", refused.informational);
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_client_that_wants_its_connection_closed_gets_its_answer_first() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut first = None;
    for _ in 0..2 {
        let mut client = proxy.client().await;
        let answer = client.request(&Request::charge("k").field("Connection", "close")).await;
        assert_eq!(client.closed().await, "", "the connection ends after the answer");
        match &first {
            None => first = Some(answer),
            Some(first) => {
                answer.expect_replay_of(first);
            }
        }
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_of_the_old_version_is_served_too() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let first = proxy.charge("k").await;
    let mut client = proxy.client().await;
    let old = String::from_utf8(Request::charge("k").bytes()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    client.send_bytes(old).await;
    let answer = client.response().await;
    assert!(answer.is_replay() && answer.body == first.body, "{answer:?}");
    assert_eq!(client.closed().await, "");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn one_of_those_who_wait_may_leave_without_harm() {
    let upstream = Upstream::start().await;
    let wait = "on_in_flight = \"wait\"\nwait_timeout = \"15s\"";
    let proxy = Config::before(&upstream).charges(wait).idempotency("max_waiters = 1").start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    let mut impatient = proxy.client().await;
    impatient.send(&Request::charge("k")).await;
    eventually("there is no room to wait", async || {
        let mut probe = proxy.client().await;
        probe.send(&Request::charge("k")).await;
        tokio::select! {
            response = probe.response() => response.status == 409,
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => false,
        }
    })
    .await;
    impatient.reset();
    gate.release();
    let first = first.await.unwrap();
    proxy.charge("k").await.expect_replay_of(first.expect_status(201));
    upstream.expect_executions("k", 1);
}

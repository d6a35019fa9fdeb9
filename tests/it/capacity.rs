//! Bounds: under pressure answers go first, then new keys are refused; a duplicate is never run.

use std::time::Duration;

use tokio::time::sleep;

use crate::harness::{Config, Reply, Request, Upstream, eventually};

/// The proxy takes a connection out of hyper after 100 ms of silence.
const LONGER_THAN_IT_TAKES_TO_REST: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_full_store_refuses_new_keys_and_still_replays_old_ones() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).memory().store("max_entries = 2").start().await;
    let one = proxy.charge("one").await;
    let two = proxy.charge("two").await;
    for _ in 0..2 {
        proxy.charge("three").await.expect_problem(503, "store-full").expect_retry_after();
        proxy.charge("one").await.expect_replay_of(one.expect_status(201));
        proxy.charge("two").await.expect_replay_of(two.expect_status(201));
    }
    proxy.request(&Request::charge("one").json("{}")).await.expect_problem(422, "key-reused");
    upstream.expect_executions("three", 0);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_full_store_takes_new_keys_once_old_ones_expire() {
    let upstream = Upstream::start().await;
    let proxy =
        Config::before(&upstream).memory().store("max_entries = 1").charges("ttl = \"1s\"").start().await;
    proxy.charge("old").await.expect_status(201);
    eventually("the old key has expired", async || proxy.charge("new").await.status == 201).await;
    upstream.expect_executions("new", 1);
}

#[tokio::test]
async fn a_request_in_flight_counts_and_is_never_dropped() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).memory().store("max_entries = 1").charges("ttl = \"1s\"");
    let proxy = config.start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    let begun = tokio::time::Instant::now();
    eventually("its ttl would be over, if it ran", async || {
        proxy.charge("new").await.expect_problem(503, "store-full");
        proxy.charge("held").await.expect_problem(409, "request-in-flight");
        begun.elapsed() > Duration::from_millis(1500)
    })
    .await;
    gate.release();
    first.await.unwrap().expect_status(201);
    upstream.expect_executions("held", 1);
}

#[tokio::test]
async fn answers_that_had_to_make_room_are_refused_and_not_run_again() {
    const ANSWER: usize = 30 * 1024;
    const KEYS: usize = 12;
    let upstream = Upstream::start().await;
    upstream.always(|_| Reply::created(&"x".repeat(ANSWER)));
    let proxy = Config::before(&upstream).memory().store("max_bytes = \"64KiB\"").start().await;
    let keys: Vec<_> = (0..KEYS).map(|n| format!("k{n}")).collect();
    for key in &keys {
        proxy.charge(key).await.expect_status(201);
    }
    eventually("no more answers are kept than there is room for", async || {
        let mut kept = 0;
        for key in &keys {
            let answer = proxy.charge(key).await;
            if answer.status == 201 {
                assert!(answer.is_replay(), "{key} ran again: {answer:?}");
                kept += 1;
            } else {
                let members = answer.expect_problem(410, "response-not-retained").json();
                assert_eq!(members["original_status"], 201, "{answer:?}");
            }
        }
        kept <= 2
    })
    .await;
    for key in &keys {
        upstream.expect_executions(key, 1);
        proxy.request(&Request::charge(key).json("{}")).await.expect_problem(422, "key-reused");
    }
}

#[tokio::test]
async fn too_much_in_flight_is_refused_and_not_sent() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("max_guarded_in_flight = 1").start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    proxy.charge("other").await.expect_problem(503, "overloaded").expect_retry_after();
    proxy.request(&Request::get("/")).await.expect_status(201);
    gate.release();
    first.await.unwrap().expect_status(201);
    upstream.expect_executions("other", 0);
    eventually("there is room again", async || proxy.charge("other").await.status == 201).await;
    upstream.expect_executions("other", 1);
}

#[tokio::test]
async fn a_request_whose_body_is_still_to_come_keeps_nobody_out() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("max_guarded_in_flight = 1").start().await;
    let mut slow = proxy.client().await;
    slow.send_bytes("POST /v1/charges HTTP/1.1\r\nHost: api.test\r\nIdempotency-Key: slow\r\n").await;
    slow.send_bytes("Expect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
    slow.read_until("100 Continue\r\n\r\n").await;
    proxy.charge("other").await.expect_status(201);
    slow.send_bytes("{}").await;
    slow.response().await.expect_status(201);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_request_whose_client_has_left_still_counts() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("max_guarded_in_flight = 1").start().await;
    let mut gate = upstream.hold_next();
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    gate.arrived().await;
    client.reset();
    for _ in 0..5 {
        proxy.charge("other").await.expect_problem(503, "overloaded");
    }
    gate.release();
    eventually("there is room again", async || proxy.charge("other").await.status == 201).await;
}

#[tokio::test]
async fn nothing_that_goes_wrong_keeps_a_place() {
    let upstream = Upstream::start().await;
    let limits = "max_guarded_in_flight = 1\nmax_buffered_bytes = \"4KiB\"";
    let rules = "max_request_body = \"4KiB\"\nmax_response_body = \"1KiB\"\nrequest_body_timeout = \"500ms\"";
    let config =
        Config::before(&upstream).server(limits).idempotency(rules).upstream("response_timeout = \"1s\"");
    let proxy = config.start().await;
    let body = "x".repeat(3000);
    let request = |key: &str| Request::charge(key).body(&body);
    proxy.request(&request("done")).await.expect_status(201);
    for n in 0..3 {
        let key = format!("k{n}");
        proxy.request(&request("a,b")).await.expect_problem(400, "key-invalid");
        proxy.request(&request("done").json("{}")).await.expect_problem(422, "key-reused");
        proxy.request(&request("done")).await.expect_status(201);
        proxy
            .request(&request("too-large").body("x".repeat(5000)))
            .await
            .expect_problem(413, "request-too-large");
        let mut slow = proxy.client().await;
        slow.send_bytes(request("slow").head_bytes()).await;
        slow.response().await.expect_problem(408, "request-timeout");
        let mut gone = proxy.client().await;
        gone.send_bytes(request("gone").head_bytes()).await;
        gone.send_bytes(&body[..1000]).await;
        gone.reset();
        upstream.next(Reply::reset());
        eventually("the place of the one who left is free", async || {
            proxy.request(&request(&format!("reset-{n}"))).await.problem().as_deref() != Some("overloaded")
        })
        .await;
        upstream.next(Reply::created("hello").cut_after(2));
        proxy.expect_broken(&request(&format!("cut-{n}"))).await;
        upstream.next(Reply::status(429));
        proxy.request(&request(&key)).await.expect_status(429);
        upstream.next(Reply::created(&"x".repeat(5000)));
        proxy.request(&request(&key)).await.expect_status(201);
        let mut gate = upstream.hold_next();
        proxy.request(&request(&format!("late-{n}"))).await.expect_problem(504, "still-running");
        gate.arrived().await;
        gate.release();
        eventually("the place of the late one is free", async || {
            proxy.request(&request(&format!("next-{n}"))).await.status == 201
        })
        .await;
    }
}

#[tokio::test]
async fn more_bytes_than_may_be_held_are_refused() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream)
        .server("max_buffered_bytes = \"64KiB\"")
        .idempotency("max_request_body = \"48KiB\"");
    let proxy = config.start().await;
    let body = "x".repeat(40 * 1024);
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k").body(&body));
    gate.arrived().await;
    let mut client = proxy.client().await;
    client.send_bytes(Request::charge("other").body(&body).head_bytes()).await;
    client.try_send_bytes(&body).await;
    client.response().await.expect_problem(503, "overloaded").expect_retry_after();
    proxy.charge("small").await.expect_status(201);
    gate.release();
    first.await.unwrap().expect_status(201);
    upstream.expect_executions("other", 0);
    let again = Request::charge("other").body(&body);
    eventually("there is room again", async || proxy.request(&again).await.status == 201).await;
}

#[tokio::test]
async fn more_connections_than_are_served_wait_their_turn() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("max_connections = 1").start().await;
    let mut first = proxy.client().await;
    first.request(&Request::charge("k1")).await.expect_status(201);
    let mut second = proxy.client().await;
    second.send(&Request::charge("k2")).await;
    first.request(&Request::charge("k3")).await.expect_status(201);
    upstream.expect_executions("k2", 0);
    first.close();
    second.response().await.expect_status(201);
}

#[tokio::test]
async fn a_head_with_too_many_or_too_large_fields_is_refused() {
    let upstream = Upstream::start().await;
    let limits = "max_headers = 20\nmax_header_size = \"8KiB\"";
    let proxy = Config::before(&upstream).server(limits).start().await;
    let many = (0..40).fold(Request::charge("k"), |request, n| request.field(&format!("X-{n}"), "1"));
    let large = Request::charge("k").field("X-Large", "x".repeat(16 * 1024));
    for request in [many, large] {
        let mut client = proxy.client().await;
        client.try_send_bytes(request.bytes()).await;
        if let Ok(response) = client.try_response().await {
            assert_eq!(response.status, 431, "{response:?}");
        }
    }
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn a_head_that_takes_too_long_ends_its_connection() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("header_timeout = \"300ms\"").start().await;
    let mut slow = proxy.client().await;
    slow.send_bytes("POST /v1/charges HTTP/1.1\r\nHost: api.test\r\n").await;
    let said = slow.closed().await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_caller_with_many_keys_gets_no_more_and_leaves_the_others_alone() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).store("max_entries_per_caller = 2").start().await;
    let of = |caller: &str, key: &str| Request::charge(key).bearer(caller);
    let one = proxy.request(&of("alice", "one")).await;
    proxy.request(&of("alice", "two")).await.expect_status(201);
    for _ in 0..2 {
        let refused = proxy.request(&of("alice", "three")).await;
        refused.expect_problem(429, "too-many-keys").expect_retry_after();
        proxy.request(&of("alice", "one")).await.expect_replay_of(one.expect_status(201));
    }
    upstream.expect_executions("three", 0);
    proxy.request(&of("bob", "three")).await.expect_status(201);
    proxy.charge("four").await.expect_status(201);
}

#[tokio::test]
async fn a_connection_that_rested_goes_on_where_it_was() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).start().await;
    let mut client = proxy.client().await;
    let first = client.request(&Request::charge("k")).await;
    sleep(LONGER_THAN_IT_TAKES_TO_REST).await;
    client.request(&Request::charge("k")).await.expect_replay_of(first.expect_status(201));
    sleep(LONGER_THAN_IT_TAKES_TO_REST).await;
    // What has begun does not let the connection rest, be it an empty line before a head.
    let request = Request::charge("k").bytes();
    let (head, body) = request.split_at(20);
    for pieces in [[b"\r".as_slice(), b"\n", &request], [&head[..7], &head[7..], body]] {
        for piece in pieces {
            client.send_bytes(piece).await;
            sleep(LONGER_THAN_IT_TAKES_TO_REST).await;
        }
        client.response().await.expect_replay_of(&first);
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_connection_without_a_request_is_kept_for_the_idle_timeout() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("idle_timeout = \"300ms\"").start().await;
    let mut idle = proxy.client().await;
    idle.request(&Request::charge("k")).await.expect_status(201);
    assert_eq!(idle.closed().await, "", "an idle connection ends without a word");
}

#[tokio::test]
async fn an_address_at_its_bound_gets_no_more_connections_and_others_stay() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("max_connections_per_address = 2").start().await;
    let (mut first, mut second) = (proxy.client().await, proxy.client().await);
    for client in [&mut first, &mut second] {
        client.request(&Request::get("/")).await.expect_status(201);
    }
    let mut third = proxy.client().await;
    assert_eq!(third.closed().await, "", "a third is closed");
    for client in [&mut first, &mut second] {
        client.request(&Request::get("/")).await.expect_status(201);
    }
    first.close();
    eventually("there is room again", async || {
        let mut next = proxy.client().await;
        next.try_send_bytes(Request::get("/").bytes()).await;
        next.try_response().await.is_ok()
    })
    .await;
}

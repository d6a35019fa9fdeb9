//! Bodies that stream: `request_body = "stream"`.

use h2::Reason;

use crate::harness::{
    Client, Config, DeadEndpoint, Http2Client, Proxy, Reply, Request, Upstream, eventually,
};

const STREAM: &str = "request_body = \"stream\"";

async fn streaming(upstream: &Upstream, lines: &str) -> Proxy {
    Config::before(upstream).charges(STREAM).charges(lines).start().await
}

/// The same request with a length and in chunks.
fn both(key: &str) -> [Request; 2] {
    [Request::charge(key), Request::charge(key).chunked(&["{\"amount\"", ":10}"])]
}

/// Sends the head and the first half of the body, which arrives at the upstream. Returns the other half.
async fn half_way(proxy: &Proxy, upstream: &Upstream, request: &Request) -> (Client, Vec<u8>) {
    let before = upstream.seen().len();
    let mut client = proxy.client().await;
    let body = request.body_bytes();
    let (one, other) = body.split_at(body.len() / 2);
    client.send_bytes(request.head_bytes()).await;
    client.send_bytes(one).await;
    eventually("the upstream has seen the first half", async || {
        upstream.seen().get(before).is_some_and(|seen| !seen.body.is_empty())
    })
    .await;
    (client, other.to_vec())
}

/// Asks with a head alone: the body is never sent.
async fn head_alone(proxy: &Proxy, request: &Request) -> crate::harness::Response {
    let mut client = proxy.client().await;
    client.send_bytes(request.head_bytes()).await;
    client.response().await
}

#[tokio::test]
async fn a_stream_is_executed_once_and_replayed_to_its_like_alone() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    let empty = Request::post("/v1/charges").key("e").body("");
    let [length, chunks] = both("c");
    for [one, other] in [both("l"), [chunks, length]] {
        let first = proxy.request(&one).await;
        proxy.request(&one).await.expect_replay_of(first.expect_status(201));
        proxy.request(&other).await.expect_replay_of(&first);
        for different in [one.clone().json(r#"{"amount":11}"#), one.clone().body("")] {
            proxy.request(&different).await.expect_problem(422, "key-reused");
        }
    }
    let first = proxy.request(&empty).await;
    proxy.request(&empty).await.expect_replay_of(first.expect_status(201));
    proxy.request(&empty.clone().body("x")).await.expect_problem(422, "key-reused");
    for key in ["l", "c", "e"] {
        upstream.expect_executions(key, 1);
    }
    assert_eq!(upstream.seen()[0].text(), r#"{"amount":10}"#);
    assert_eq!(upstream.seen()[0].value("content-length"), Some("13"));
    assert_eq!(upstream.seen()[1].text(), r#"{"amount":10}"#);
    assert_eq!(upstream.seen()[1].value("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn a_duplicate_of_a_stream_in_flight_is_refused_before_it_sends_its_body() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    for (key, request) in ["l", "c"].into_iter().map(|key| (key, both(key)[usize::from(key == "c")].clone()))
    {
        let (mut client, rest) = half_way(&proxy, &upstream, &request).await;
        for duplicate in both(key) {
            let refused = head_alone(&proxy, &duplicate.field("Expect", "100-continue")).await;
            refused.expect_problem(409, "request-in-flight").expect_retry_after();
            assert!(refused.informational.is_empty(), "it was told to send its body: {refused:?}");
        }
        // Another payload is not known to be another one yet.
        head_alone(&proxy, &Request::charge(key).json("{}")).await.expect_problem(409, "request-in-flight");
        client.send_bytes(rest).await;
        let first = client.response().await;
        proxy.request(&request).await.expect_replay_of(first.expect_status(201));
        upstream.expect_executions(key, 1);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_unknown_and_looks_whole_to_nobody() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    let leave: [fn(Client); 2] = [Client::close, Client::reset];
    let mut number = 0;
    for leave in leave {
        for chunked in [false, true] {
            let key = format!("k{number}");
            let request = both(&key)[usize::from(chunked)].clone();
            let (client, _) = half_way(&proxy, &upstream, &request).await;
            leave(client);
            let later = proxy.settled(&request).await;
            later.expect_problem(502, "outcome-unknown");
            assert_eq!(later.value("proxy-status"), None, "the fault is not behind the proxy: {later:?}");
            proxy.request(&request.clone().json("{}")).await.expect_problem(502, "outcome-unknown");
            upstream.expect_executions(&key, 1);
            assert!(!upstream.seen()[number].is_whole, "half an upload looks whole: {:?}", upstream.seen());
            number += 1;
        }
    }
}

#[tokio::test]
async fn a_stream_of_which_nothing_came_leaves_its_key_free() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "request_body_timeout = \"1s\"").await;
    for request in both("k") {
        let mut client = proxy.client().await;
        client.send_bytes(request.head_bytes()).await;
        eventually("the key is claimed", async || {
            head_alone(&proxy, &request.clone().field("Expect", "100-continue")).await.status == 409
        })
        .await;
        client.reset();
        let slow = head_alone(&proxy, &request).await;
        if slow.status != 409 {
            slow.expect_problem(408, "request-timeout");
        }
    }
    upstream.expect_nothing();
    let first = proxy.settled(&Request::charge("k")).await;
    first.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_stream_that_is_too_slow_is_unknown() {
    let upstream = Upstream::start().await;
    let limits = "min_body_rate = \"1KiB\"\nmin_body_rate_window = \"1s\"";
    let config = Config::before(&upstream).charges(STREAM);
    let total = config.clone().charges("request_body_timeout = \"1s\"");
    for (config, key) in [(config.server(limits), "rate"), (total, "total")] {
        let proxy = config.start().await;
        let (mut client, _) = half_way(&proxy, &upstream, &Request::charge(key)).await;
        client.response().await.expect_problem(502, "outcome-unknown");
        proxy.charge(key).await.expect_problem(502, "outcome-unknown");
        upstream.expect_executions(key, 1);
    }
}

#[tokio::test]
async fn a_stream_that_is_too_large_is_refused_if_it_says_so_and_cut_if_it_does_not() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "max_request_body = \"1KiB\"").await;
    let (at_limit, beyond) = ("x".repeat(1024), "x".repeat(1025));
    let says_so = Request::charge("k").body(&beyond);
    head_alone(&proxy, &says_so.field("Expect", "100-continue"))
        .await
        .expect_problem(413, "request-too-large");
    let at_once = Request::charge("k").chunked(&[&beyond]);
    proxy.request(&at_once).await.expect_problem(413, "request-too-large");
    upstream.expect_nothing();
    proxy.request(&Request::charge("k").chunked(&[&at_limit])).await.expect_status(201);
    let request = Request::charge("cut").chunked(&[&at_limit, &at_limit]);
    let (mut client, rest) = half_way(&proxy, &upstream, &request).await;
    client.try_send_bytes(rest).await;
    client.response().await.expect_problem(502, "outcome-unknown");
    assert!(!upstream.seen()[1].is_whole);
    let too_large_to_compare = Request::charge("k").chunked(&[&at_limit, "x"]);
    proxy.request(&too_large_to_compare).await.expect_problem(413, "request-too-large");
    upstream.expect_executions("cut", 1);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_ends_is_told_and_replayed() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    for (key, reply) in [
        ("goes-on-reading", Reply::status(403).body("no").before_the_body()),
        ("closes", Reply::status(403).body("no").before_the_body().then_close()),
    ] {
        upstream.next(reply);
        let request = Request::charge(key).body("x".repeat(200_000));
        let mut client = proxy.client().await;
        let body = request.body_bytes();
        client.send_bytes(request.head_bytes()).await;
        client.send_bytes(&body[..1000]).await;
        eventually("it is at the upstream", async || upstream.executions(key) == 1).await;
        client.send_bytes(&body[1000..]).await;
        let first = client.response().await;
        proxy.request(&request).await.expect_replay_of(first.expect_status(403));
        proxy.request(&Request::charge(key)).await.expect_problem(422, "key-reused");
        upstream.expect_executions(key, 1);
    }
}

#[tokio::test]
async fn an_early_answer_to_half_an_upload_is_unknown_unless_it_says_that_nothing_was_done() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    for (key, status) in [("unknown", 201), ("released", 429)] {
        upstream.next(Reply::status(status).body("early").before_the_body());
        let request = Request::charge(key);
        let mut client = proxy.client().await;
        client.send_bytes(request.head_bytes()).await;
        client.send_bytes("{").await;
        eventually("it is at the upstream", async || upstream.executions(key) == 1).await;
        client.close();
        let later = proxy.settled(&request).await;
        if key == "unknown" {
            later.expect_problem(502, "outcome-unknown");
            upstream.expect_executions(key, 1);
        } else {
            later.expect_status(201);
            upstream.expect_executions(key, 2);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_an_upload_leaves_it_unknown() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    upstream.next(Reply::raw("").before_the_body().then_reset());
    let mut client = proxy.client().await;
    let request = Request::charge("k");
    client.send_bytes(request.head_bytes()).await;
    client.send_bytes("{").await;
    let first = client.response().await;
    assert_eq!(first.expect_problem(502, "outcome-unknown").expect_proxy_status(), "connection_terminated");
    proxy.request(&request).await.expect_problem(502, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_stream_that_reaches_no_upstream_leaves_its_key_free() {
    let dead = DeadEndpoint::new();
    let proxy = Config::before_endpoints([dead.address()]).charges(STREAM).start().await;
    for request in both("k") {
        proxy.request(&request).await.expect_problem(502, "upstream-unreachable").expect_retry_after();
    }
    let upstream = dead.revive();
    proxy.charge("k").await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_that_leaves_after_its_upload_changes_nothing() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    for (key, request) in [("l", both("l")[0].clone()), ("c", both("c")[1].clone())] {
        let mut gate = upstream.hold_next();
        let mut client = proxy.client().await;
        client.send(&request).await;
        gate.arrived().await;
        client.reset();
        head_alone(&proxy, &request).await.expect_problem(409, "request-in-flight");
        gate.release();
        let later = proxy.settled(&request).await;
        assert!(later.is_replay(), "{later:?}");
        upstream.expect_executions(key, 1);
    }
}

#[tokio::test]
async fn the_upstreams_time_begins_with_the_uploads_end() {
    let upstream = Upstream::start().await;
    let timeouts = "response_timeout = \"1s\"\nattempt_timeout = \"2s\"";
    let proxy = Config::before(&upstream).upstream(timeouts).charges(STREAM).start().await;
    let (mut client, rest) = half_way(&proxy, &upstream, &Request::charge("slow")).await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    client.send_bytes(rest).await;
    client.response().await.expect_status(201);
    upstream.next(Reply::stall());
    let request = Request::charge("stalled");
    proxy.request(&request).await.expect_problem(504, "still-running");
    proxy.settled(&request).await.expect_problem(504, "outcome-unknown");
    proxy.request(&request.json("{}")).await.expect_problem(422, "key-reused");
    upstream.expect_executions("stalled", 1);
}

#[tokio::test]
async fn those_who_wait_for_a_stream_send_their_bodies_to_be_compared() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "on_in_flight = \"wait\"").await;
    let (mut client, rest) = half_way(&proxy, &upstream, &Request::charge("k")).await;
    let same = proxy.request_aside(Request::charge("k"));
    let other = proxy.request_aside(Request::charge("k").json("{}"));
    assert_eq!(client.unread().await, "");
    assert!(!same.is_finished() && !other.is_finished());
    client.send_bytes(rest).await;
    let first = client.response().await;
    same.await.unwrap().expect_replay_of(first.expect_status(201));
    other.await.unwrap().expect_problem(422, "key-reused");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn one_who_waits_takes_over_from_a_stream_of_which_nothing_was_sent() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "on_in_flight = \"wait\"").await;
    let mut silent = proxy.client().await;
    silent.send_bytes(Request::charge("k").head_bytes()).await;
    let waiter = proxy.request_aside(Request::charge("k"));
    assert_eq!(silent.unread().await, "");
    silent.reset();
    waiter.await.unwrap().expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn half_an_upload_runs_again_where_the_operator_wants_that() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "on_unknown = \"retry\"").await;
    let (client, _) = half_way(&proxy, &upstream, &Request::charge("k")).await;
    client.close();
    let again = proxy.settled(&Request::charge("k")).await;
    proxy.charge("k").await.expect_replay_of(again.expect_status(201));
    upstream.expect_executions("k", 2);
    // What was sent whole would have to be compared first, and then there is nothing left to send.
    upstream.next(Reply::hang_up());
    proxy.charge("whole").await.expect_problem(502, "outcome-unknown");
    proxy.charge("whole").await.expect_problem(502, "outcome-unknown");
    proxy.request(&Request::charge("whole").json("{}")).await.expect_problem(422, "key-reused");
    upstream.expect_executions("whole", 1);
}

#[tokio::test]
async fn trailers_pass_and_count() {
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    let with = |value: &str| {
        Request::charge("k").field("Trailer", "x-sum").chunked(&["abc", "def"]).trailer("x-sum", value)
    };
    let first = proxy.request(&with("1")).await;
    proxy.request(&with("1")).await.expect_replay_of(first.expect_status(201));
    proxy.request(&with("2")).await.expect_problem(422, "key-reused");
    assert_eq!(upstream.only().trailers, [("x-sum".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn a_stream_that_outlives_many_leases_stays_in_flight() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).store("lease = \"2s\"").charges(STREAM).start().await;
    let (mut client, rest) = half_way(&proxy, &upstream, &Request::charge("k")).await;
    for _ in 0..5 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        head_alone(&proxy, &Request::charge("k")).await.expect_problem(409, "request-in-flight");
    }
    client.send_bytes(rest).await;
    client.response().await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn shutdown_waits_for_a_stream() {
    let upstream = Upstream::start().await;
    let mut proxy = streaming(&upstream, "").await;
    let (mut client, rest) = half_way(&proxy, &upstream, &Request::charge("k")).await;
    proxy.begin_shutdown();
    assert_eq!(client.unread().await, "");
    client.send_bytes(rest).await;
    client.response().await.expect_status(201);
    proxy.ended().await;
}

#[tokio::test]
async fn a_reset_stream_is_no_end_of_a_body_whatever_its_reason() {
    let upstream = Upstream::start().await;
    let streams = "name = \"streams\"\npath = \"/streams\"\nrequest_body = \"stream\"";
    let proxy = Config::before(&upstream).route(streams).start().await;
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        let mut client = Http2Client::connect(proxy.address()).await;
        let key = reason.description().replace(' ', "-");
        let mut buffered = client.begin(&Request::post("/v1/charges").key(&key), false).await;
        buffered.send_data("half", false);
        buffered.reset_with(reason);
        for path in ["/streams", "/elsewhere"] {
            let mut stream = client.begin(&Request::post(path).key(&key), false).await;
            stream.send_data("half", false);
            let seen = upstream.seen().len();
            eventually("half of it is at the upstream", async || {
                upstream
                    .seen()
                    .iter()
                    .skip(seen.saturating_sub(1))
                    .any(|seen| seen.target == path && seen.text() == "half")
            })
            .await;
            stream.reset_with(reason);
        }
        let broken = proxy.settled(&Request::post("/streams").key(&key).body("half")).await;
        broken.expect_problem(502, "outcome-unknown");
    }
    let seen = upstream.seen();
    assert!(
        seen.iter().all(|seen| seen.target != "/v1/charges"),
        "half a body was taken for a whole one: {seen:#?}"
    );
    assert!(seen.iter().all(|seen| !seen.is_whole), "half a body looks whole: {seen:#?}");
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_counted_with_what_was_sent_upstream() {
    const SENT: &str = "http_client_request_duration_seconds_count{http_request_method=\"POST\",\
                        http_response_status_code=\"\",upstream=\"legacy\"}";
    let upstream = Upstream::start().await;
    let proxy = streaming(&upstream, "").await;
    let (client, _rest) = half_way(&proxy, &upstream, &Request::charge("k")).await;
    client.reset();
    eventually("it is counted", async || proxy.metrics().await.find(SENT) == Some(1.0)).await;
}

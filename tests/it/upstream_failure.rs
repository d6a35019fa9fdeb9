//! Upstreams that break: what was seen of the connection decides what becomes of the key.

use crate::harness::{
    Config, DeadEndpoint, Proxy, Reply, Request, Response, StuckEndpoint, Upstream, eventually,
};

/// Nobody can tell whether the upstream acted: the first client and every later one hear the same, and it ran once.
async fn expect_unknown(reply: Reply) -> Response {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(reply);
    let first = proxy.charge("k").await;
    first.expect_problem(502, "outcome-unknown").expect_proxy_status();
    for _ in 0..2 {
        proxy.charge("k").await.expect_problem(502, "outcome-unknown");
    }
    upstream.expect_executions("k", 1);
    proxy.charge("another").await.expect_status(201);
    first
}

/// The head was good and the body broke: whatever the first client saw, it was no whole answer; later ones are told.
async fn expect_broken(reply: Reply) {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(reply);
    proxy.expect_broken(&Request::charge("k")).await;
    proxy.charge("k").await.expect_problem(502, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_dead_upstream_costs_no_key() {
    let dead = DeadEndpoint::new();
    let proxy = Config::before_endpoints([dead.address()]).start().await;
    for _ in 0..2 {
        let refused = proxy.charge("k").await;
        refused.expect_problem(502, "upstream-unreachable").expect_retry_after();
        assert_eq!(refused.expect_proxy_status(), "connection_refused", "{refused:?}");
    }
    let upstream = dead.revive();
    let first = proxy.charge("k").await;
    assert!(!first.expect_status(201).is_replay(), "{first:?}");
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upstream_that_takes_no_connection_in_time_costs_no_key() {
    let stuck = StuckEndpoint::new();
    let proxy =
        Config::before_endpoints([stuck.address()]).upstream("connect_timeout = \"200ms\"").start().await;
    let refused = proxy.charge("k").await;
    refused.expect_problem(504, "upstream-unreachable").expect_retry_after();
    assert_eq!(refused.expect_proxy_status(), "connection_timeout", "{refused:?}");
    let upstream = stuck.revive();
    let mut client = proxy.client().await;
    // Once the system has emptied its queue of those who connected before.
    eventually("the endpoint takes connections", async || {
        let response = client.request(&Request::charge("k")).await;
        if response.status != 201 {
            response.expect_problem(504, "upstream-unreachable");
            return false;
        }
        assert!(!response.is_replay(), "{response:?}");
        true
    })
    .await;
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upstream_whose_name_is_not_known_costs_no_key() {
    let upstream = Upstream::start().await;
    let config = Config::before_endpoints([]).upstream("endpoints = [\"http://upstream.invalid:9\"]");
    let proxy = config.start().await;
    for _ in 0..2 {
        let refused = proxy.charge("k").await;
        assert!(matches!(refused.status, 502 | 504), "{refused:?}");
        refused.expect_problem(refused.status, "upstream-unreachable").expect_retry_after();
        let error = refused.expect_proxy_status();
        assert!(matches!(error.as_str(), "dns_error" | "dns_timeout" | "connection_timeout"), "{refused:?}");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn an_upstream_that_resets_leaves_the_outcome_unknown() {
    expect_unknown(Reply::reset()).await;
}

#[tokio::test]
async fn an_upstream_that_closes_without_a_word_leaves_the_outcome_unknown() {
    expect_unknown(Reply::hang_up()).await;
}

#[tokio::test]
async fn an_upstream_that_resets_before_it_has_read_the_request_leaves_the_outcome_unknown() {
    expect_unknown(Reply::reset().before_the_body()).await;
}

#[tokio::test]
async fn garbage_leaves_the_outcome_unknown() {
    for garbage in [
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 2oo OK\r\n\r\n",
        "HTTP/1.1 201 Created\r\nno colon\r\n\r\n",
        "HTTP/1.1 201 Created\r\nBad Name: 1\r\n\r\n",
        "HTTP/1.1 201 Created\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 201 Created\r\nContent-Length: -1\r\n\r\n",
        "\0\0\0\0\0\0\0\0",
    ] {
        expect_unknown(Reply::raw(garbage).then_close()).await;
    }
}

#[tokio::test]
async fn a_head_too_large_to_read_leaves_the_outcome_unknown() {
    let large =
        format!("HTTP/1.1 201 Created\r\nX-Large: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(4 << 20));
    expect_unknown(Reply::raw(large).then_stall()).await;
}

#[tokio::test]
async fn a_head_beyond_the_operators_bounds_leaves_the_outcome_unknown() {
    let many = || (0..20).fold(Reply::created("x"), |reply, index| reply.field(&format!("X-{index}"), "1"));
    let large = || Reply::created("x").field("X-Large", "x".repeat(10 * 1024));
    let bounds = [("max_response_headers = 10", many()), ("max_response_header_size = \"8KiB\"", large())];
    for ((bound, reply), again) in bounds.into_iter().zip([many(), large()]) {
        let upstream = Upstream::start().await;
        let proxy = Config::before(&upstream).upstream(bound).start().await;
        upstream.next(reply);
        for _ in 0..2 {
            proxy.charge("k").await.expect_problem(502, "outcome-unknown");
        }
        upstream.expect_executions("k", 1);
        upstream.next(again);
        proxy.request(&Request::get("/")).await.expect_problem(502, "outcome-unknown");
    }
}

#[tokio::test]
async fn a_head_that_is_cut_short_leaves_the_outcome_unknown() {
    for cut in ["H", "HTTP/1.1 201 Created\r\n", "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n"] {
        expect_unknown(Reply::raw(cut).then_close()).await;
        expect_unknown(Reply::raw(cut).then_reset()).await;
    }
}

#[tokio::test]
async fn lengths_that_conflict_leave_the_outcome_unknown() {
    for fields in ["Content-Length: 5\r\nContent-Length: 2\r\n", "Content-Length: 5, 2\r\n"] {
        let answer = format!("HTTP/1.1 201 Created\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n");
        expect_unknown(Reply::raw(answer)).await;
    }
}

#[tokio::test]
async fn an_answer_with_a_length_beside_its_chunks_is_an_error_or_is_read_as_chunks() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let fields = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
    upstream.next(Reply::raw(format!("HTTP/1.1 201 Created\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n")));
    let first = proxy.charge("k").await;
    let second = proxy.charge("k").await;
    if first.status == 201 {
        assert_eq!(first.text(), "hello");
        second.expect_replay_of(&first);
    } else {
        first.expect_problem(502, "outcome-unknown");
        second.expect_problem(502, "outcome-unknown");
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_leaves_the_outcome_unknown() {
    expect_unknown(Reply::echo("websocket")).await;
}

#[tokio::test]
async fn a_truncated_body_is_never_an_answer() {
    for length in [0, 1, 4] {
        expect_broken(Reply::created("hello").cut_after(length)).await;
        expect_broken(Reply::created("hello").cut_after(length).then_reset()).await;
    }
}

#[tokio::test]
async fn a_truncated_chunked_body_is_never_an_answer() {
    let whole = || Reply::status(201).chunked(&["hello", "world"]);
    // Before the first chunk, inside it, between two, before the last, inside the last.
    for length in [0, 2, 5, 10, 20, 23] {
        expect_broken(whole().cut_after(length)).await;
        expect_broken(whole().cut_after(length).then_reset()).await;
    }
}

#[tokio::test]
async fn a_chunked_body_that_is_malformed_is_never_an_answer() {
    for body in ["nonsense\r\n", "5\r\nhello!\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let answer = format!("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        expect_broken(Reply::raw(answer).then_close()).await;
    }
}

#[tokio::test]
async fn a_large_body_that_is_truncated_is_never_an_answer() {
    let large = "x".repeat(512 * 1024);
    expect_broken(Reply::created(&large).cut_after(large.len() - 1)).await;
}

#[tokio::test]
async fn an_unknown_outcome_is_forgotten_after_its_ttl() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("ttl = \"1s\"").start().await;
    upstream.next(Reply::reset());
    proxy.charge("k").await.expect_problem(502, "outcome-unknown");
    eventually("the key runs again", async || proxy.charge("k").await.status == 201).await;
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn the_operator_may_run_an_unknown_outcome_again() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("on_unknown = \"retry\"").start().await;
    upstream.next(Reply::reset());
    proxy.charge("k").await.expect_problem(502, "outcome-unknown");
    let ran = proxy.charge("k").await;
    assert!(!ran.expect_status(201).is_replay(), "{ran:?}");
    proxy.charge("k").await.expect_replay_of(&ran);
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn an_upstream_that_answers_before_it_has_read_the_request_has_answered() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::created("early").before_the_body());
    let first = proxy.charge("k").await;
    assert_eq!(first.expect_status(201).text(), "early");
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upstream_that_answers_early_and_leaves_is_asked_once() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let large = Request::charge("k").body(vec![b'x'; 4 << 20]);
    upstream.next(Reply::status(413).body("too large for me").before_the_body().then_close());
    let first = proxy.request(&large).await;
    // The reset that follows may or may not overtake the answer.
    let second = proxy.request(&large).await;
    if first.status == 413 {
        second.expect_replay_of(&first);
    } else {
        first.expect_problem(502, "outcome-unknown");
        second.expect_problem(502, "outcome-unknown");
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn bytes_after_the_answer_only_poison_the_connection() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let extra = "HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
    upstream.next(Reply::raw(extra));
    let first = proxy.charge("k").await;
    assert_eq!(first.expect_status(201).text(), "mine");
    proxy.charge("k").await.expect_replay_of(&first);
    let second = proxy.charge("another").await;
    assert_eq!(
        second.expect_status(201).text(),
        r#"{"execution":2}"#,
        "no other request got the extra bytes"
    );
    let connections: Vec<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1], "the connection was not used again");
}

#[tokio::test]
async fn informational_answers_are_not_what_is_stored() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for informational in ["100 Continue", "102 Processing", "103 Early Hints\r\nLink: </a>; rel=preload"] {
        upstream.next(Reply::created("final").after(informational));
        let first = proxy.charge(informational.get(..3).unwrap()).await;
        assert_eq!(first.expect_status(201).text(), "final", "{informational}");
        proxy.charge(informational.get(..3).unwrap()).await.expect_replay_of(&first);
    }
}

//! Upstreams that are slow: the client's patience ends, the attempt goes on, and what it brings is kept.

use crate::harness::{Config, Reply, Request, Upstream, eventually};

const SHORT: &str = "response_timeout = \"1s\"\nattempt_timeout = \"1s\"";
const IMPATIENT: &str = "response_timeout = \"1s\"";

#[tokio::test]
async fn a_late_answer_is_kept_for_the_retry() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(IMPATIENT).start().await;
    let gate = upstream.hold_next();
    let first = proxy.charge("k").await;
    assert_eq!(first.expect_problem(504, "still-running").expect_retry_after(), 1);
    assert_eq!(first.expect_proxy_status(), "http_response_timeout", "{first:?}");
    proxy.charge("k").await.expect_problem(409, "request-in-flight").expect_retry_after();
    gate.release();
    let retry = proxy.settled(&Request::charge("k")).await;
    assert!(retry.expect_status(201).is_replay(), "{retry:?}");
    assert_eq!(retry.text(), r#"{"held":true}"#);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_late_failure_is_kept_for_the_retry() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(IMPATIENT).start().await;
    let (reply, gate) = Reply::reset().held();
    upstream.next(reply);
    proxy.charge("k").await.expect_problem(504, "still-running");
    gate.release();
    proxy.settled(&Request::charge("k")).await.expect_problem(502, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_late_answer_that_frees_the_key_frees_it() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(IMPATIENT).start().await;
    let (reply, gate) = Reply::status(429).held();
    upstream.next(reply);
    proxy.charge("k").await.expect_problem(504, "still-running");
    gate.release();
    let retry = proxy.settled(&Request::charge("k")).await;
    assert!(!retry.expect_status(201).is_replay(), "{retry:?}");
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn an_attempt_without_answer_ends_as_unknown() {
    let upstream = Upstream::start().await;
    let times = "response_timeout = \"200ms\"\nattempt_timeout = \"600ms\"";
    let proxy = Config::before(&upstream).upstream(times).start().await;
    upstream.next(Reply::stall());
    proxy.charge("k").await.expect_problem(504, "still-running");
    proxy.settled(&Request::charge("k")).await.expect_problem(504, "outcome-unknown");
    upstream.hang_ups_to_be(1).await;
    proxy.charge("k").await.expect_problem(504, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_as_patient_as_the_attempt_hears_of_its_end() {
    let upstream = Upstream::start().await;
    let times = "response_timeout = \"300ms\"\nattempt_timeout = \"300ms\"";
    let proxy = Config::before(&upstream).upstream(times).start().await;
    upstream.next(Reply::stall());
    let first = proxy.charge("k").await;
    // The two ends come at the same moment: either is true when it is said.
    let word =
        if first.problem().as_deref() == Some("still-running") { "still-running" } else { "outcome-unknown" };
    first.expect_problem(504, word).expect_proxy_status();
    proxy.settled(&Request::charge("k")).await.expect_problem(504, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn half_a_head_is_no_head() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(IMPATIENT).start().await;
    upstream.next(Reply::raw("HTTP/1.1 201 Created\r\nContent-").then_stall());
    proxy.charge("k").await.expect_problem(504, "still-running");
    proxy.charge("k").await.expect_problem(409, "request-in-flight");
}

#[tokio::test]
async fn once_the_head_is_there_the_body_may_take_longer_than_the_clients_patience() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(IMPATIENT).start().await;
    let (reply, feed) = Reply::fed(201);
    upstream.next(reply);
    let first = proxy.request_aside(Request::charge("k"));
    upstream.requests_to_be(1).await;
    assert!(feed.send("slow "));
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(feed.send("but whole"), "the attempt goes on");
    feed.end();
    let first = first.await.unwrap();
    assert_eq!(first.expect_status(201).text(), "slow but whole");
    proxy.charge("k").await.expect_replay_of(&first);
}

#[tokio::test]
async fn an_answer_still_running_at_the_attempts_end_is_relayed_but_not_kept() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(SHORT).start().await;
    let (reply, feed) = Reply::fed(201);
    upstream.next(reply);
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    upstream.requests_to_be(1).await;
    assert!(feed.send("begun"));
    let retry = proxy.settled(&Request::charge("k")).await;
    assert_eq!(
        retry.expect_problem(410, "response-not-retained").json()["original_status"],
        201,
        "{retry:?}"
    );
    assert!(feed.send(" and done"), "relaying goes on while the client reads");
    feed.end();
    assert_eq!(client.response().await.expect_status(201).text(), "begun and done");
    proxy.charge("k").await.expect_problem(410, "response-not-retained");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn what_breaks_after_the_attempts_end_no_longer_changes_the_entry() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(SHORT).start().await;
    let (reply, feed) = Reply::fed_of_length(201, 100);
    upstream.next(reply.then_close());
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    upstream.requests_to_be(1).await;
    assert!(feed.send("begun"));
    proxy.settled(&Request::charge("k")).await.expect_problem(410, "response-not-retained");
    feed.end();
    client.try_response().await.expect_err("its body was cut");
    proxy.charge("k").await.expect_problem(410, "response-not-retained");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_answer_that_is_not_kept_is_read_no_longer_than_its_client_reads() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream(SHORT).start().await;
    upstream.next(Reply::created("hello").cut_after(2).then_stall());
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    upstream.requests_to_be(1).await;
    proxy.settled(&Request::charge("k")).await.expect_problem(410, "response-not-retained");
    client.reset();
    // Nothing more comes from the upstream by which the proxy could notice.
    upstream.hang_ups_to_be(1).await;
    proxy.charge("k").await.expect_problem(410, "response-not-retained");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn the_lease_of_a_long_attempt_is_renewed() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).store("lease = \"2s\"").start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    let begun = tokio::time::Instant::now();
    eventually("two leases have passed", async || {
        proxy.charge("k").await.expect_problem(409, "request-in-flight");
        begun.elapsed() > std::time::Duration::from_millis(4400)
    })
    .await;
    gate.release();
    let first = first.await.unwrap();
    proxy.charge("k").await.expect_replay_of(first.expect_status(201));
    upstream.expect_executions("k", 1);
}

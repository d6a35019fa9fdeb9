//! The same key with another payload.

use crate::harness::{Config, Reply, Request, Response, Upstream};

async fn twice(config: Config, one: Request, other: Request) -> (Response, Response) {
    let proxy = config.anew().start().await;
    let first = proxy.request(&one).await;
    first.expect_status(201);
    let second = proxy.request(&other).await;
    proxy.request(&one).await.expect_replay_of(&first);
    (first, second)
}

async fn expect_mismatch(config: Config, one: Request, other: Request) {
    twice(config, one, other).await.1.expect_problem(422, "key-reused");
}

async fn expect_same(config: Config, one: Request, other: Request) {
    let (first, second) = twice(config, one, other).await;
    second.expect_replay_of(&first);
}

#[tokio::test]
async fn another_body_is_refused_and_the_first_answer_stays() {
    let upstream = Upstream::start().await;
    let other = Request::charge("k").json(r#"{"amount":11}"#);
    expect_mismatch(Config::before(&upstream), Request::charge("k"), other).await;
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn another_query_or_content_type_is_another_payload() {
    let upstream = Upstream::start().await;
    let with =
        |target: &str, kind: &str| Request::post(target).key("k").field("Content-Type", kind).body("a=1");
    let plain = || with("/v1/charges", "text/plain");
    for other in [
        with("/v1/charges?", "text/plain"),
        with("/v1/charges?a=1", "text/plain"),
        with("/v1/charges", "application/x-www-form-urlencoded"),
        plain().without("content-type"),
        plain().body(""),
        plain().body("a=1\n"),
    ] {
        expect_mismatch(Config::before(&upstream), plain(), other).await;
    }
    assert_eq!(upstream.executions("k"), 6, "one for each proxy");
}

#[tokio::test]
async fn the_same_payload_framed_otherwise_is_the_same() {
    let upstream = Upstream::start().await;
    let chunked = Request::charge("k").chunked(&[r#"{"amo"#, r#"unt":10}"#]);
    expect_same(Config::before(&upstream), Request::charge("k"), chunked).await;
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn fields_that_are_no_payload_may_change() {
    let upstream = Upstream::start().await;
    let retry = Request::charge("k").field("User-Agent", "retry/2").field("X-Request-Id", "another");
    expect_same(Config::before(&upstream), Request::charge("k"), retry).await;
}

#[tokio::test]
async fn a_field_that_the_operator_names_is_payload() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).charges("fingerprint_headers = [\"X-Account\"]");
    let with = |account: &str| Request::charge("k").field("X-Account", account);
    expect_mismatch(config.clone(), with("1"), with("2")).await;
    expect_mismatch(config.clone(), with("1"), Request::charge("k")).await;
    expect_same(config, with("1"), with("1").field("User-Agent", "retry/2")).await;
}

#[tokio::test]
async fn a_mismatch_outranks_every_state() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_response_body = \"8B\"").start().await;
    let other = |key: &str| Request::charge(key).json("{}");

    let mut gate = upstream.hold_next();
    let in_flight = proxy.request_aside(Request::charge("in-flight"));
    gate.arrived().await;
    proxy.request(&other("in-flight")).await.expect_problem(422, "key-reused");
    gate.release();
    in_flight.await.unwrap();

    upstream.next(Reply::reset());
    proxy.charge("unknown").await.expect_problem(502, "outcome-unknown");
    proxy.request(&other("unknown")).await.expect_problem(422, "key-reused");

    upstream.next(Reply::created("longer than eight bytes"));
    proxy.charge("not-retained").await.expect_status(201);
    proxy.request(&other("not-retained")).await.expect_problem(422, "key-reused");

    for key in ["in-flight", "unknown", "not-retained"] {
        upstream.expect_executions(key, 1);
    }
}

const JSON: &str = "fingerprint = \"json\"";

#[tokio::test]
async fn in_json_key_order_and_white_space_do_not_matter() {
    let upstream = Upstream::start().await;
    let one = Request::charge("k").json(r#"{"a":{"x":1,"y":[1,2]},"b":"é"}"#);
    let same = Request::charge("k").json("{ \"b\" : \"é\",\n\t\"a\": {\"y\":[1, 2],\"x\":1} }");
    expect_same(Config::before(&upstream).charges(JSON), one, same).await;
}

#[tokio::test]
async fn in_json_everything_else_matters() {
    let upstream = Upstream::start().await;
    for (one, other) in [
        (r#"{"a":1}"#, r#"{"a":1.0}"#),
        (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#),
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
        (r#"{"a":null}"#, r"{}"),
        (r#"{"a":"1"}"#, r#"{"a":1}"#),
    ] {
        let config = Config::before(&upstream).charges(JSON);
        expect_mismatch(config, Request::charge("k").json(one), Request::charge("k").json(other)).await;
    }
}

#[tokio::test]
async fn in_json_the_operator_chooses_what_counts() {
    let upstream = Upstream::start().await;
    let one = || Request::charge("k").json(r#"{"amount":1,"sent_at":1}"#);
    let later = || Request::charge("k").json(r#"{"amount":1,"sent_at":2}"#);
    let more = || Request::charge("k").json(r#"{"amount":2,"sent_at":1}"#);
    for choice in ["fingerprint_exclude = [\"/sent_at\"]", "fingerprint_include = [\"/amount\"]"] {
        let config = Config::before(&upstream).charges(JSON).charges(choice);
        expect_same(config.clone(), one(), later()).await;
        expect_mismatch(config, one(), more()).await;
    }
}

#[tokio::test]
async fn what_has_no_canonical_form_is_refused_and_not_sent() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges(JSON).start().await;
    for body in ["", "{", "amount=1", r#"{"a":1,"a":2}"#, r#"{"a":1} x"#, "\u{feff}{}", "[NaN]"] {
        let response = proxy.request(&Request::charge("k").json(body)).await;
        response.expect_problem(400, "body-invalid");
    }
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
}

#[tokio::test]
async fn without_fingerprint_the_key_alone_decides() {
    let upstream = Upstream::start().await;
    let other = Request::post("/v1/charges?x=1").key("k").body("something else");
    let config = Config::before(&upstream).charges("fingerprint = \"none\"");
    expect_same(config, Request::charge("k"), other).await;
    upstream.expect_executions("k", 1);
}

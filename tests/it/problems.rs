//! What clients see of the proxy itself: every row of its table, and what every problem carries.

use std::sync::Arc;

use crate::harness::{
    Config, DeadEndpoint, FaultyStore, Operation, Proxy, Reply, Request, Response, Upstream,
};

/// One of every problem that can be had with a working upstream, with its status and word.
async fn one_of_each(config: Config) -> Vec<(Response, u16, &'static str)> {
    let upstream = Upstream::start().await;
    let limits =
        "max_request_body = \"1KiB\"\nmax_response_body = \"1KiB\"\nrequest_body_timeout = \"300ms\"";
    let config = config.endpoint(upstream.address()).charges(limits).upstream("response_timeout = \"300ms\"");
    let config =
        config.charges("on_other_caller = \"refuse\"").store("timeout = \"200ms\"").only_listed_routes();
    let json = "name = \"json\"\npath = \"/v1/json\"\nfingerprint = \"json\"";
    let isolating = "name = \"isolating\"\npath = \"/v1/isolating\"";
    let store = FaultyStore::new();
    let proxy = config.route(json).route(isolating).start_with_store(Arc::clone(&store) as _).await;
    let mut rows = Vec::new();
    let bare = Request::post("/v1/charges").json("{}");
    rows.push((proxy.request(&bare).await, 400, "key-missing"));
    rows.push((proxy.request(&bare.clone().key("a,b")).await, 400, "key-invalid"));
    rows.push((proxy.request(&Request::new("post", "/v1/charges").key("k")).await, 400, "bad-request"));
    rows.push((proxy.request(&Request::post("/v1/json").key("k").body("{")).await, 400, "body-invalid"));
    rows.push((proxy.request(&Request::get("/nowhere")).await, 404, "no-route"));
    rows.push((proxy.request(&Request::charge("k").body("x".repeat(1025))).await, 413, "request-too-large"));
    let mut slow = proxy.client().await;
    slow.send_bytes(Request::charge("k").head_bytes()).await;
    rows.push((slow.response().await, 408, "request-timeout"));
    let signed = Request::post("/v1/isolating").key("k").field("Authorization", "Digest nonce=1");
    rows.push((proxy.request(&signed).await, 500, "caller-unstable"));

    proxy.charge("done").await.expect_status(201);
    rows.push((proxy.request(&Request::charge("done").json("{}")).await, 422, "key-reused"));
    rows.push((proxy.request(&Request::charge("done").bearer("x")).await, 409, "other-caller"));
    upstream.next(Reply::created(&"x".repeat(2000)));
    proxy.charge("large").await.expect_status(201);
    rows.push((proxy.charge("large").await, 410, "response-not-retained"));
    upstream.next(Reply::reset());
    rows.push((proxy.charge("unknown").await, 502, "outcome-unknown"));
    let gate = upstream.hold_next();
    rows.push((proxy.charge("late").await, 504, "still-running"));
    rows.push((proxy.charge("late").await, 409, "request-in-flight"));
    gate.release();
    store.fail(Operation::Insert);
    store.fail(Operation::Lookup);
    rows.push((proxy.charge("new").await, 503, "store-unavailable"));
    rows
}

#[tokio::test]
async fn every_problem_has_its_status_and_word_and_says_what_to_do() {
    for (response, status, word) in one_of_each(Config::default()).await {
        response.expect_problem(status, word);
        assert!(response.values("link").is_empty(), "no link unless documentation_url is set: {response:?}");
        let retry_after = matches!(word, "request-in-flight" | "still-running" | "store-unavailable");
        assert_eq!(response.value("retry-after").is_some(), retry_after, "{response:?}");
        let lies_behind = matches!(word, "outcome-unknown" | "still-running");
        if lies_behind {
            response.expect_proxy_status();
        } else {
            assert_eq!(
                response.value("proxy-status"),
                None,
                "the fault does not lie behind the proxy: {response:?}"
            );
        }
    }
}

#[tokio::test]
async fn every_problem_links_to_its_documentation_if_there_is_one() {
    let url = "https://docs.example.com/oncegate";
    let config = Config::default().server(&format!("documentation_url = \"{url}\""));
    for (response, status, word) in one_of_each(config).await {
        response.expect_problem(status, word);
        let link = response.value("link").unwrap_or_else(|| panic!("no Link: {response:?}"));
        assert!(link.starts_with(&format!("<{url}")), "{response:?}");
        assert!(link.ends_with(">; rel=\"describedby\""), "{response:?}");
    }
}

#[tokio::test]
async fn every_type_stands_under_the_operators_base() {
    let base = "https://errors.example.com/idempotency";
    let config = Config::default().server(&format!("problem_base = \"{base}\""));
    for (response, _, word) in one_of_each(config).await {
        assert_eq!(response.json()["type"], format!("{base}/{word}"), "{response:?}");
    }
}

#[tokio::test]
async fn a_problem_leaves_the_connection_usable() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    client.request(&Request::post("/v1/charges").json("{}")).await.expect_problem(400, "key-missing");
    client.request(&Request::charge("a,b")).await.expect_problem(400, "key-invalid");
    client.request(&Request::charge("k")).await.expect_status(201);
}

#[tokio::test]
async fn a_problem_in_answer_to_a_head_has_no_body() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).only_listed_routes().start().await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let answer = client.request(&Request::new("HEAD", "/nowhere")).await;
        assert_eq!(
            answer.expect_status(404).value("content-type"),
            Some("application/problem+json"),
            "{answer:?}"
        );
    }
    client.request(&Request::get("/nowhere")).await.expect_problem(404, "no-route");
}

#[tokio::test]
async fn a_dead_upstream_of_an_unguarded_route_is_named_as_such() {
    let dead = DeadEndpoint::new();
    let proxy = Config::before_endpoints([dead.address()]).start().await;
    let response = proxy.request(&Request::get("/")).await;
    response.expect_problem(502, "upstream-unreachable");
    assert_eq!(response.expect_proxy_status(), "connection_refused", "{response:?}");
}

#[tokio::test]
async fn an_upstream_that_breaks_under_an_unguarded_request_is_a_bad_gateway() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::hang_up());
    let response = proxy.request(&Request::get("/")).await;
    response.expect_status(502).expect_proxy_status();
}

#[tokio::test]
async fn an_upstream_that_stalls_under_an_unguarded_request_is_a_gateway_timeout() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("response_timeout = \"200ms\"").start().await;
    upstream.next(Reply::stall());
    let response = proxy.request(&Request::get("/")).await;
    response.expect_status(504).expect_proxy_status();
    upstream.hang_ups_to_be(1).await;
}

#[tokio::test]
async fn a_path_without_route_reaches_no_upstream() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).only_listed_routes();
    let proxy = config.start().await;
    for target in ["/", "/v2", "/v1/charges/", "/v1/refunds", "/v1/refunds/1/2"] {
        proxy.request(&Request::get(target)).await.expect_problem(404, "no-route");
    }
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
}

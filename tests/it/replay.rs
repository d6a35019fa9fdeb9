//! The main job: a duplicate gets the answer of the one execution.

use crate::harness::{Config, Proxy, Reply, Request, Upstream, eventually};

#[tokio::test]
async fn a_duplicate_is_replayed_and_not_run_again() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let first = proxy.charge("k").await;
    assert_eq!(first.expect_status(201).text(), r#"{"execution":1}"#);
    for _ in 0..3 {
        proxy.charge("k").await.expect_replay_of(&first);
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn another_key_is_another_execution() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    assert_eq!(proxy.charge("k1").await.text(), r#"{"execution":1}"#);
    assert_eq!(proxy.charge("k2").await.text(), r#"{"execution":2}"#);
}

#[tokio::test]
async fn a_replay_comes_over_a_kept_connection_too() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    let first = client.request(&Request::charge("k")).await;
    client.request(&Request::charge("k")).await.expect_replay_of(&first);
    client.request(&Request::charge("other")).await.expect_status(201);
    client.request(&Request::charge("k")).await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn pipelined_duplicates_run_once_and_are_answered_in_order() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = proxy.client().await;
    let other = Request::charge("other");
    let charge = Request::charge("k");
    let pipeline = [&charge, &charge, &other, &charge].map(Request::bytes).concat();
    client.send_bytes(pipeline).await;
    let first = client.response().await;
    assert_eq!(first.expect_status(201).text(), r#"{"execution":1}"#);
    client.response().await.expect_replay_of(&first);
    assert_eq!(client.response().await.expect_status(201).text(), r#"{"execution":2}"#);
    client.response().await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_answer_that_reports_an_error_is_replayed_like_any_other() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for status in [400, 402, 404, 409, 422, 500, 501, 502, 503, 504] {
        upstream.next(Reply::status(status).field("Retry-After", "7").body("as the upstream said"));
        let key = format!("k{status}");
        let first = proxy.charge(&key).await;
        first.expect_status(status);
        proxy.charge(&key).await.expect_replay_of(&first);
        upstream.expect_executions(&key, 1);
    }
}

#[tokio::test]
async fn a_status_that_says_that_nothing_was_done_frees_the_key() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for status in [425, 429] {
        let key = format!("k{status}");
        upstream.next(Reply::status(status).field("Retry-After", "7").body("later"));
        let refused = proxy.charge(&key).await;
        assert_eq!(refused.expect_status(status).value("retry-after"), Some("7"), "{refused:?}");
        let ran = proxy.charge(&key).await;
        assert!(!ran.expect_status(201).is_replay(), "{ran:?}");
        proxy.charge(&key).await.expect_replay_of(&ran);
        upstream.expect_executions(&key, 2);
    }
}

#[tokio::test]
async fn the_operator_chooses_which_statuses_free_the_key() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("release_status = [503]").start().await;
    upstream.next(Reply::status(429).body("kept here"));
    let first = proxy.charge("kept").await;
    proxy.charge("kept").await.expect_replay_of(&first);
    upstream.next(Reply::status(503).body("released here"));
    proxy.charge("released").await.expect_status(503);
    proxy.charge("released").await.expect_status(201);
    upstream.expect_executions("kept", 1);
    upstream.expect_executions("released", 2);
}

#[tokio::test]
async fn a_key_belongs_to_one_method_and_one_path() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let on = |method: &str, path: &str| Request::new(method, path).key("k").json("{}");
    let requests = [
        on("POST", "/v1/charges"),
        on("PATCH", "/v1/charges"),
        on("POST", "/v1/refunds/1"),
        on("POST", "/v1/refunds/2"),
        on("POST", "/v1/refunds/A"),
        on("POST", "/v1/refunds/a"),
    ];
    for (request, n) in requests.iter().zip(1..) {
        let first = proxy.request(request).await;
        assert_eq!(first.text(), format!(r#"{{"execution":{n}}}"#), "{request:?}");
        proxy.request(request).await.expect_replay_of(&first);
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_host_however_it_is_written() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let first = proxy.charge("k").await;
    for same in ["API.test", "api.test.", "api.test:80", "Api.Test.:80"] {
        proxy.request(&Request::charge("k").host(same)).await.expect_replay_of(&first);
    }
    for other in ["api.test:8080", "www.api.test", "127.0.0.1"] {
        let response = proxy.request(&Request::charge("k").host(other)).await;
        assert!(!response.expect_status(201).is_replay(), "{other}: {response:?}");
    }
    upstream.expect_executions("k", 4);
}

#[tokio::test]
async fn a_key_is_as_good_as_new_after_its_ttl() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("ttl = \"1s\"").start().await;
    proxy.charge("k").await.expect_status(201);
    eventually("the key runs again", async || {
        let response = proxy.charge("k").await;
        response.expect_status(201);
        !response.is_replay()
    })
    .await;
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn a_route_may_take_requests_without_key_and_still_guards_those_with_one() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("key = \"optional\"").start().await;
    let bare = Request::post("/v1/charges").json("{}");
    assert_eq!(proxy.request(&bare).await.text(), r#"{"execution":1}"#);
    assert_eq!(proxy.request(&bare).await.text(), r#"{"execution":2}"#);
    let first = proxy.charge("k").await;
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn methods_that_are_not_guarded_pass_with_their_keys() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        for _ in 0..2 {
            let response = proxy.request(&Request::new(method, "/v1/charges").key(method)).await;
            assert!(!response.expect_status(201).is_replay(), "{response:?}");
        }
        upstream.expect_executions(method, 2);
    }
}

#[tokio::test]
async fn the_operator_chooses_which_methods_are_guarded() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("methods = [\"PUT\"]").start().await;
    let put = Request::new("PUT", "/v1/charges").key("k").json("{}");
    let first = proxy.request(&put).await;
    proxy.request(&put).await.expect_replay_of(&first);
    proxy.charge("posted").await.expect_status(201);
    proxy.charge("posted").await.expect_status(201);
    upstream.expect_executions("k", 1);
    upstream.expect_executions("posted", 2);
}

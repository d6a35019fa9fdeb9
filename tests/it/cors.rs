//! Browsers: pages of other origins may read what they are meant to read, whoever answers.

use crate::harness::{Config, Proxy, Reply, Request, Response, Upstream};

const SHOP: &str = "https://shop.test";
const ADMIN: &str = "https://admin.test:8443";
const EVIL: &str = "https://evil.test";
const ORIGINS: &str = "cors_origins = [\"https://shop.test\", \"https://admin.test:8443\"]";

async fn before(upstream: &Upstream, lines: &str) -> Proxy {
    Config::before(upstream).charges(lines).rest(lines).start().await
}

fn of(origin: &str, request: Request) -> Request {
    request.field("Origin", origin)
}

fn tokens(response: &Response, name: &str) -> Vec<String> {
    let values = response.values(name);
    values.iter().flat_map(|line| line.split(',')).map(|token| token.trim().to_lowercase()).collect()
}

#[track_caller]
fn expect_readable(response: &Response, origin: &str) {
    assert_eq!(response.values("access-control-allow-origin"), [origin], "{response:?}");
    assert!(tokens(response, "vary").contains(&"origin".to_owned()), "{response:?}");
    let exposed = tokens(response, "access-control-expose-headers");
    for name in ["idempotent-replayed", "retry-after", "link", "x-request-id"] {
        assert!(exposed.contains(&name.to_owned()), "{name} is not exposed: {response:?}");
    }
}

#[track_caller]
fn expect_unreadable(response: &Response) {
    for name in ["access-control-allow-origin", "access-control-allow-credentials"] {
        assert!(response.values(name).is_empty(), "{response:?}");
    }
    assert!(tokens(response, "vary").contains(&"origin".to_owned()), "{response:?}");
}

#[tokio::test]
async fn every_answer_is_for_the_origin_that_asks() {
    let upstream = Upstream::start().await;
    let proxy = before(&upstream, ORIGINS).await;
    // An upstream that knows of one origin only, and lets it send cookies.
    upstream.next(
        Reply::created("x")
            .field("Access-Control-Allow-Origin", ADMIN)
            .field("Access-Control-Allow-Credentials", "true")
            .field("Access-Control-Expose-Headers", "X-Theirs")
            .field("Vary", "Accept-Encoding"),
    );
    let first = proxy.request(&of(SHOP, Request::charge("k"))).await;
    expect_readable(first.expect_status(201), SHOP);
    assert!(first.values("access-control-allow-credentials").is_empty(), "{first:?}");
    assert!(tokens(&first, "access-control-expose-headers").contains(&"x-theirs".to_owned()), "{first:?}");
    assert!(tokens(&first, "vary").contains(&"accept-encoding".to_owned()), "{first:?}");
    for origin in [ADMIN, SHOP] {
        let replay = proxy.request(&of(origin, Request::charge("k"))).await;
        assert!(replay.is_replay(), "{replay:?}");
        expect_readable(&replay, origin);
        let reused = proxy.request(&of(origin, Request::charge("k").json("{}"))).await;
        expect_readable(reused.expect_problem(422, "key-reused"), origin);
        let passed = proxy.request(&of(origin, Request::get("/"))).await;
        expect_readable(passed.expect_status(201), origin);
    }
    for request in [of(EVIL, Request::charge("k")), Request::charge("k"), of("null", Request::charge("k"))] {
        let replay = proxy.request(&request).await;
        assert!(replay.is_replay(), "{replay:?}");
        expect_unreadable(&replay);
    }
    upstream.next(Reply::status(200).field("Access-Control-Allow-Origin", "*"));
    expect_unreadable(&proxy.request(&of(EVIL, Request::get("/"))).await);
}

#[tokio::test]
async fn a_preflight_is_answered_for_the_upstream() {
    let upstream = Upstream::start().await;
    let proxy = before(&upstream, ORIGINS).await;
    let preflight = |origin: &str| {
        of(origin, Request::new("OPTIONS", "/v1/charges"))
            .field("Access-Control-Request-Method", "POST")
            .field("Access-Control-Request-Headers", "content-type,idempotency-key")
    };
    let response = proxy.request(&preflight(SHOP)).await;
    expect_readable(response.expect_status(204), SHOP);
    assert_eq!(response.values("access-control-allow-methods"), ["POST"]);
    assert_eq!(response.values("access-control-allow-headers"), ["content-type,idempotency-key"]);
    assert_eq!(response.values("access-control-max-age"), ["600"]);
    assert!(response.values("access-control-allow-credentials").is_empty(), "{response:?}");
    let refused = proxy.request(&preflight(EVIL)).await;
    expect_unreadable(refused.expect_status(204));
    assert!(refused.values("access-control-allow-headers").is_empty(), "{refused:?}");
    upstream.expect_nothing();
    proxy.request(&of(SHOP, Request::new("OPTIONS", "/v1/charges"))).await.expect_status(201);
    assert_eq!(upstream.only().method, "OPTIONS", "no preflight: it asks for no method");
}

#[tokio::test]
async fn cookies_count_where_the_route_says_so() {
    let upstream = Upstream::start().await;
    let lines = format!("{ORIGINS}\ncors_credentials = true\ncors_max_age = \"1h\"");
    let proxy = before(&upstream, &lines).await;
    let answer = proxy.request(&of(SHOP, Request::charge("k"))).await;
    assert_eq!(answer.values("access-control-allow-credentials"), ["true"]);
    let preflight = of(SHOP, Request::new("OPTIONS", "/x")).field("Access-Control-Request-Method", "PUT");
    let preflight = proxy.request(&preflight).await;
    assert_eq!(preflight.values("access-control-allow-credentials"), ["true"]);
    assert_eq!(preflight.values("access-control-max-age"), ["3600"]);
}

#[tokio::test]
async fn all_origins_are_all_the_same() {
    let upstream = Upstream::start().await;
    let lines = "cors_origins = [\"*\"]\nexpires_header = \"Idempotency-Expires\"";
    let proxy = Config::before(&upstream).charges(lines).start().await;
    for origin in [SHOP, EVIL] {
        let response = proxy.request(&of(origin, Request::charge("k"))).await;
        assert_eq!(response.values("access-control-allow-origin"), ["*"], "{response:?}");
        assert!(response.values("vary").is_empty(), "{response:?}");
        let exposed = tokens(&response, "access-control-expose-headers");
        assert!(exposed.contains(&"idempotency-expires".to_owned()), "{response:?}");
    }
}

#[tokio::test]
async fn a_route_without_origins_leaves_it_to_the_upstream() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::status(200).field("Access-Control-Allow-Origin", SHOP));
    let preflight = of(SHOP, Request::new("OPTIONS", "/x")).field("Access-Control-Request-Method", "PUT");
    let response = proxy.request(&preflight).await;
    assert_eq!(response.expect_status(200).values("access-control-allow-origin"), [SHOP]);
    assert!(response.values("access-control-expose-headers").is_empty(), "{response:?}");
}

//! Who is calling: what proxies say of the client, and the names of requests.

use crate::harness::{Config, Proxy, Reply, Request, Response, Seen, Upstream};

const TRUST: &str = "trusted_proxies = [\"127.0.0.0/8\", \"::1\"]";
const ELSEWHERE: &str = "trusted_proxies = [\"10.0.0.0/8\"]";

/// A guarded and an unguarded request alike, with all that a proxy may say of its client.
fn told() -> [Request; 2] {
    [Request::charge("k"), Request::post("/elsewhere").json("{}")].map(|request| {
        request
            .field("X-Forwarded-For", "6.6.6.6")
            .field("X-Forwarded-For", "192.0.2.7")
            .field("X-Forwarded-Host", "shop.test")
            .field("X-Forwarded-Port", "443")
            .field("X-Forwarded-Proto", "https")
            .field("Forwarded", "for=192.0.2.7;proto=https")
            .field("X-Real-IP", "192.0.2.7")
    })
}

async fn exchange(server: &str, request: &Request) -> (Seen, Response) {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server(server).start().await;
    let response = proxy.request(request).await;
    (upstream.only(), response)
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_not_believed() {
    for server in ["", ELSEWHERE] {
        for request in told() {
            let (seen, _) = exchange(server, &request).await;
            assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"], "{seen:#?}");
            assert_eq!(seen.values("x-forwarded-proto"), ["http"], "{seen:#?}");
            assert_eq!(seen.values("x-forwarded-host"), ["api.test"], "{seen:#?}");
            for name in ["forwarded", "x-real-ip", "x-forwarded-port"] {
                assert!(seen.values(name).is_empty(), "{name}: {seen:#?}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_the_client_is_kept_and_continued() {
    for request in told() {
        let (seen, _) = exchange(TRUST, &request).await;
        assert_eq!(seen.values("x-forwarded-for"), ["6.6.6.6, 192.0.2.7, 127.0.0.1"], "{seen:#?}");
        assert_eq!(seen.values("x-forwarded-proto"), ["https"], "{seen:#?}");
        assert_eq!(seen.values("x-forwarded-host"), ["shop.test"], "{seen:#?}");
        assert_eq!(seen.values("x-forwarded-port"), ["443"], "{seen:#?}");
        assert_eq!(seen.values("x-real-ip"), ["192.0.2.7"], "{seen:#?}");
        let elements = ["for=192.0.2.7;proto=https", "for=127.0.0.1;proto=http"];
        assert_eq!(seen.values("forwarded"), elements, "{seen:#?}");
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_moves_neither_route_nor_identity() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream)
        .server(TRUST)
        .charges("hosts = [\"api.test\"]")
        .route("name = \"shop\"\npath = \"/v1/charges\"\nhosts = [\"shop.test\"]\nguarded = false")
        .start()
        .await;
    let first = proxy.charge("k").await;
    let fields = [
        ("X-Forwarded-Host", "shop.test"),
        ("Forwarded", "host=shop.test;for=192.0.2.9"),
        ("X-Forwarded-For", "192.0.2.9"),
        ("X-Forwarded-Prefix", "/other"),
        ("X-Forwarded-Method", "GET"),
    ];
    for (name, value) in fields {
        let retry = proxy.request(&Request::charge("k").field(name, value)).await;
        retry.expect_replay_of(&first);
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn every_request_has_one_name_for_the_upstream_and_the_client() {
    let mut seen_ids = std::collections::HashSet::new();
    for request in [Request::charge("k"), Request::post("/elsewhere").json("{}"), Request::get("/")] {
        for claimed in ["", "mine", "<script>"] {
            let (seen, response) = exchange("", &request.clone().field("X-Request-Id", claimed)).await;
            let id = seen.value("x-request-id").expect("a request has an id").to_owned();
            assert_eq!(response.value("x-request-id"), Some(id.as_str()), "{response:?}");
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            assert!(seen_ids.insert(id), "an id tells requests apart");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_requests_if_it_does_so_plainly() {
    let request = Request::charge("k");
    let (seen, response) = exchange(TRUST, &request.clone().field("X-Request-Id", "lb-7/1")).await;
    assert_eq!(seen.values("x-request-id"), ["lb-7/1"]);
    assert_eq!(response.value("x-request-id"), Some("lb-7/1"));
    for claimed in ["a b", "<a>", "\u{e9}", &"a".repeat(200)] {
        let (seen, response) = exchange(TRUST, &request.clone().field("X-Request-Id", claimed)).await;
        assert_eq!(seen.value("x-request-id").map(str::len), Some(32), "{claimed}: {seen:#?}");
        assert_eq!(response.value("x-request-id"), seen.value("x-request-id"));
    }
    let doubled = request.field("X-Request-Id", "a").field("X-Request-Id", "b");
    let (seen, _) = exchange(TRUST, &doubled).await;
    assert_eq!(seen.value("x-request-id").map(str::len), Some(32), "{seen:#?}");
}

#[tokio::test]
async fn a_replay_and_a_problem_carry_the_id_of_their_own_request() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server(TRUST).start().await;
    upstream.next(Reply::created("x").field("X-Request-Id", "the upstream's own"));
    let named = |id: &str| Request::charge("k").field("X-Request-Id", id);
    let first = proxy.request(&named("one")).await;
    assert_eq!(first.value("x-request-id"), Some("one"), "{first:?}");
    let replay = proxy.request(&named("two")).await;
    assert!(replay.is_replay(), "{replay:?}");
    assert_eq!(replay.value("x-request-id"), Some("two"), "{replay:?}");
    assert_eq!(replay.body, first.body);
    let reused = proxy.request(&named("three").json("{}")).await;
    assert_eq!(reused.expect_problem(422, "key-reused").value("x-request-id"), Some("three"));
    let refused = proxy.request(&named("four").field("Connection", "host")).await;
    assert_eq!(refused.expect_problem(400, "bad-request").value("x-request-id"), Some("four"));
    upstream.next(Reply::hang_up());
    let lost = proxy.request(&Request::charge("l").field("X-Request-Id", "five")).await;
    assert_eq!(lost.expect_problem(502, "outcome-unknown").value("x-request-id"), Some("five"));
}

#[tokio::test]
async fn without_request_ids_the_field_is_nobody_s() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).server("request_id = false").start().await;
    upstream.next(Reply::created("x").field("X-Request-Id", "theirs"));
    let response = proxy.request(&Request::charge("k").field("X-Request-Id", "mine")).await;
    assert_eq!(upstream.only().value("x-request-id"), Some("mine"));
    assert_eq!(response.value("x-request-id"), Some("theirs"));
    proxy.charge("l").await.expect_status(201);
    assert!(upstream.seen()[1].values("x-request-id").is_empty());
}

#[tokio::test]
async fn a_key_in_x_request_id_goes_up_as_it_came() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("header = \"X-Request-Id\"").start().await;
    let request = Request::post("/v1/charges").json("{}").field("X-Request-Id", "mine");
    let first = proxy.request(&request).await;
    assert_eq!(upstream.only().value("x-request-id"), Some("mine"));
    assert!(first.values("x-request-id").is_empty(), "{first:?}");
    proxy.request(&request).await.expect_replay_of(&first);
}

#[tokio::test]
async fn a_trace_goes_on_untouched() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let (parent, state) = ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1,b=2");
    for request in [Request::charge("k"), Request::post("/elsewhere").json("{}")] {
        let request = request.field("traceparent", parent).field("tracestate", state);
        proxy.request(&request).await.expect_status(201);
    }
    for seen in upstream.seen() {
        assert_eq!((seen.value("traceparent"), seen.value("tracestate")), (Some(parent), Some(state)));
    }
}

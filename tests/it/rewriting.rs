//! What a route changes: fields on both ways, and the path that the upstream sees.

use crate::harness::{Config, Reply, Request, Response, Upstream};

const CHANGES: &str = r#"
request_headers = { set = { X-Source = "oncegate", X-Version = "2" }, remove = ["X-Debug"] }
response_headers = { set = { X-Frame-Options = "DENY" }, remove = ["Server", "X-Powered-By"] }
"#;

fn reply() -> Reply {
    Reply::created("x").field("Server", "legacy/1").field("X-Frame-Options", "ALLOW").field("X-Other", "1")
}

#[tokio::test]
async fn a_route_sets_and_removes_fields_of_requests() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges(CHANGES).rest(CHANGES).start().await;
    for request in [Request::charge("k"), Request::post("/elsewhere").json("{}")] {
        let request = request.field("X-Version", "1").field("X-Version", "3").field("X-Debug", "1");
        proxy.request(&request.field("X-Other", "1")).await.expect_status(201);
    }
    for seen in upstream.seen() {
        assert_eq!(seen.values("x-version"), ["2"], "{seen:#?}");
        assert_eq!(seen.values("x-source"), ["oncegate"], "{seen:#?}");
        assert_eq!(seen.values("x-other"), ["1"], "{seen:#?}");
        assert!(seen.values("x-debug").is_empty(), "{seen:#?}");
    }
}

#[tokio::test]
async fn a_route_changes_first_answers_and_replays_alike() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges(CHANGES).rest(CHANGES).start().await;
    upstream.always(|_| reply());
    let first = proxy.charge("k").await;
    let replay = proxy.charge("k").await;
    let sorted = |response: &Response| {
        let mut fields = response.kept_fields();
        fields.sort();
        fields
    };
    assert!(replay.is_replay() && !first.is_replay(), "{replay:?}\nof: {first:?}");
    // Fields of different names have no order.
    assert_eq!(sorted(&replay), sorted(&first));
    for response in [first, replay, proxy.request(&Request::get("/")).await] {
        assert_eq!(response.values("x-frame-options"), ["DENY"], "{response:?}");
        assert_eq!(response.value("x-other"), Some("1"), "{response:?}");
        assert!(response.values("server").is_empty(), "{response:?}");
    }
}

#[tokio::test]
async fn a_slow_answer_is_changed_too() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges(CHANGES).start().await;
    let (slow, feed) = Reply::fed(201);
    upstream.next(slow.field("Server", "legacy/1"));
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    assert!(feed.send("some"));
    let head = client.read_until("some").await.to_lowercase();
    assert!(head.contains("x-frame-options: deny") && !head.contains("legacy/1"), "{head}");
    feed.end();
    client.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn changes_are_made_as_the_route_has_them_when_it_answers() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges(CHANGES).start().await;
    proxy.charge("k").await.expect_status(201);
    let reused = proxy.request(&Request::charge("k").json("{}")).await;
    let ours = reused.expect_problem(422, "key-reused");
    assert!(ours.values("x-frame-options").is_empty(), "a problem is not the upstream's answer: {ours:?}");
}

#[tokio::test]
async fn the_payload_that_counts_is_the_one_that_came() {
    let upstream = Upstream::start().await;
    let lines = "request_headers = { set = { X-Tenant = \"fixed\" } }\nfingerprint_headers = [\"X-Tenant\"]";
    let proxy = Config::before(&upstream).charges(lines).start().await;
    let of = |tenant: &str| Request::charge("k").field("X-Tenant", tenant);
    proxy.request(&of("a")).await.expect_status(201);
    proxy.request(&of("b")).await.expect_problem(422, "key-reused");
    assert_eq!(upstream.only().values("x-tenant"), ["fixed"]);
}

/// A guarded and an unguarded route under a prefix that the upstream does not know.
fn under_api(upstream: &Upstream) -> Config {
    let guarded = "name = \"api\"\npath = \"/api/v1/{*rest}\"\nstrip_prefix = \"/api\"";
    let open = "name = \"files\"\npath = \"/api/files/{*rest}\"\nguarded = false\nstrip_prefix = \"/api\"";
    let exact = "name = \"root\"\npath = \"/api\"\nguarded = false\nstrip_prefix = \"/api\"";
    Config::before(upstream).only_listed_routes().route(guarded).route(open).route(exact)
}

#[tokio::test]
async fn the_upstream_does_not_see_the_prefix() {
    let upstream = Upstream::start().await;
    let proxy = under_api(&upstream).start().await;
    for (request, target) in [
        (Request::post("/api/v1/x?a=%41&b").key("k").json("{}"), "/v1/x?a=%41&b"),
        (Request::post("/api/v1/").key("l").json("{}"), "/v1/"),
        (Request::get("/api/files/a%20b;c"), "/files/a%20b;c"),
        (Request::get("/api?q=1"), "/?q=1"),
        (Request::get("/api"), "/"),
        (Request::get("http://api.test/api/files/a"), "/files/a"),
    ] {
        proxy.request(&request).await.expect_status(201);
        let seen = upstream.seen().pop().expect("a request");
        assert_eq!(seen.target, target);
        assert_eq!(seen.values("x-forwarded-prefix"), ["/api"], "{seen:#?}");
    }
}

#[tokio::test]
async fn the_path_that_identifies_a_request_keeps_its_prefix() {
    let upstream = Upstream::start().await;
    let other = "name = \"other\"\npath = \"/other/v1/{*rest}\"\nstrip_prefix = \"/other\"";
    let proxy = under_api(&upstream).route(other).start().await;
    let post = |path: &str| Request::post(path).key("k").json("{}");
    let first = proxy.request(&post("/api/v1/x")).await;
    proxy.request(&post("/api/v1/x")).await.expect_replay_of(&first);
    assert!(!proxy.request(&post("/other/v1/x")).await.is_replay(), "another path is another resource");
    for spelling in ["/api//v1/x", "/api/v1/./x", "/api/v1/%78", "/api/v1/x;a"] {
        let response = proxy.request(&post(spelling)).await;
        assert!(response.status >= 400, "{spelling}: {response:?}");
    }
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_prefix_that_is_taken_off_opens_no_side_door() {
    let upstream = Upstream::start().await;
    let open = "name = \"open\"\npath = \"/open/{*rest}\"\nguarded = false\nstrip_prefix = \"/open\"";
    let proxy = under_api(&upstream).route(open).start().await;
    for spelling in
        ["/open/v1/x", "/open/V1/x", "/open//v1/x", "/open/a/../v1/x", "/open/v1%2fx", "/open/v1;a/x"]
    {
        let post = Request::post(spelling).json("{}");
        proxy.request(&post).await.expect_problem(400, "bad-request");
    }
    // The charges of the default routes are guarded under their own path.
    proxy.request(&Request::post("/open/v1/charges").json("{}")).await.expect_problem(400, "bad-request");
    upstream.expect_nothing();
    proxy.request(&Request::post("/open/other").json("{}")).await.expect_status(201);
    proxy.request(&Request::get("/open/v1/x")).await.expect_status(201);
    // Nor does a route without prefix reach what another one guards under its prefix.
    let rest = "name = \"rest\"\npath = \"/{*rest}\"\nguarded = false";
    let proxy = under_api(&upstream).route(rest).start().await;
    for spelling in ["/v1/x", "/v1/x/", "//v1/x"] {
        let post = Request::post(spelling).json("{}");
        proxy.request(&post).await.expect_problem(400, "bad-request");
    }
    proxy.request(&Request::post("/v2/x").json("{}")).await.expect_status(201);
}

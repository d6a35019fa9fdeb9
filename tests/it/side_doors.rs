//! No spelling of a guarded resource runs unguarded, with the routes of the shipped configuration: a guarded
//! `/v1/charges` beside an unguarded catch-all.

use crate::harness::{Config, Proxy, Request, Upstream};

const SPELLINGS: [&str; 34] = [
    "//v1/charges",
    "/v1//charges",
    "/v1/charges/",
    "/v1/charges//",
    "/./v1/charges",
    "/v1/./charges",
    "/v1/charges/.",
    "/v1/x/../charges",
    "/x/../v1/charges",
    "/v1/charges/x/..",
    "/../v1/charges",
    "/%2e/v1/charges",
    "/x/%2e%2e/v1/charges",
    "/x/%2E./v1/charges",
    "/V1/charges",
    "/v1/Charges",
    "/v1/CHARGES",
    "/v1/%63harges",
    "/%761/charges",
    "/v1/%2563harges",
    "/v1/%252563harges",
    "/v1%2fcharges",
    "/v1%2Fcharges",
    "/v1%252fcharges",
    "/v1/charges%2f",
    "/v1\\charges",
    "/v1%5ccharges",
    "/v1/charges;jsessionid=1",
    "/v1;x=1/charges",
    "/v1/x/..;/charges",
    "/v1/charges%3bx",
    "/v1/charges%00",
    "/v1/charges%20",
    "/v1/charges.",
];

#[tokio::test]
async fn no_spelling_of_a_guarded_path_runs_unguarded() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for spelling in SPELLINGS {
        for request in [Request::post(spelling).json("{}"), Request::post(spelling).key("k").json("{}")] {
            for method in ["POST", "PATCH"] {
                let request = request.clone().method(method);
                let response = proxy.request(&request).await;
                assert_eq!(response.status, 400, "{method} {spelling}: {response:?}");
                response.expect_problem(400, "bad-request");
            }
        }
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_query_changes_nothing_about_that() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for target in ["/v1/charges/?x=1", "/V1/charges?", "/v1//charges?/../.."] {
        proxy.request(&Request::post(target).json("{}")).await.expect_problem(400, "bad-request");
    }
    proxy.request(&Request::post("/v1/charges?x=/../y").json("{}")).await.expect_problem(400, "key-missing");
    upstream.expect_nothing();
}

#[tokio::test]
async fn the_same_holds_for_a_pattern() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for spelling in [
        "/v1/refunds/1/",
        "/v1//refunds/1",
        "/V1/refunds/1",
        "/v1/%72efunds/1",
        "/v1/refunds;x/1",
        "/v1/refunds%2f1",
    ] {
        proxy.request(&Request::post(spelling).json("{}")).await.expect_problem(400, "bad-request");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn methods_that_are_not_guarded_pass_under_every_spelling() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for spelling in SPELLINGS {
        let response = proxy.request(&Request::get(spelling)).await;
        // What is no URI by any reading may be refused.
        if spelling.contains('\\') && response.status == 400 {
            continue;
        }
        response.expect_status(201);
        let seen = upstream.seen().pop().expect("it passed");
        assert_eq!(seen.target, spelling, "the bytes forwarded are the bytes matched");
    }
}

#[tokio::test]
async fn other_paths_of_the_catch_all_are_not_disturbed() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let targets = [
        "/",
        "/v1",
        "/v1/",
        "/v1/charges/1",
        "/v2/charges",
        "/v1/charges1",
        "/x;y=1",
        "/a//b",
        "/v1/%2F",
        "/Ä",
    ];
    for target in targets.iter().filter(|target| target.is_ascii()) {
        proxy.request(&Request::post(target).json("{}")).await.expect_status(201);
    }
}

#[tokio::test]
async fn a_route_that_names_the_spelling_may_have_it() {
    let upstream = Upstream::start().await;
    let named = "name = \"slash\"\npath = \"/v1/charges/\"\nguarded = false";
    let proxy = Config::before(&upstream).route(named).start().await;
    proxy.request(&Request::post("/v1/charges/").json("{}")).await.expect_status(201);
    proxy.request(&Request::post("/v1/charges//").json("{}")).await.expect_problem(400, "bad-request");
    assert_eq!(upstream.only().target, "/v1/charges/");
}

#[tokio::test]
async fn on_a_guarded_route_an_ambiguous_path_is_refused_unless_the_route_takes_it() {
    let upstream = Upstream::start().await;
    let anything = "name = \"files\"\npath = \"/files/{*rest}\"";
    let strict = Config::before(&upstream).route(anything).start().await;
    let lax =
        Config::before(&upstream).route(&format!("{anything}\nallow_ambiguous_path = true")).start().await;
    for target in [
        "/files/a//b",
        "/files/./a",
        "/files/a/../b",
        "/files/a;b",
        "/files/%61",
        "/files/a%00",
        "/files/%2e",
    ] {
        let request = Request::post(target).key(target.trim_start_matches('/')).json("{}");
        strict.request(&request).await.expect_problem(400, "bad-request");
        let first = lax.request(&request).await;
        assert_eq!(first.status, 201, "{target}: {first:?}");
        lax.request(&request).await.expect_replay_of(&first);
    }
    assert_eq!(upstream.seen().len(), 7);
    assert_eq!(upstream.seen()[0].target, "/files/a//b", "the bytes forwarded are the bytes matched");
}

#[tokio::test]
async fn a_trailing_slash_upper_case_and_needful_encoding_are_canonical() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).route("name = \"files\"\npath = \"/files/{*rest}\"").start().await;
    for (n, target) in
        ["/files/a", "/files/a/", "/files/A", "/files/a%20b", "/files/%C3%A9"].into_iter().enumerate()
    {
        let request = Request::post(target).key("k").json("{}");
        let first = proxy.request(&request).await;
        assert_eq!(first.expect_status(201).text(), format!(r#"{{"execution":{}}}"#, n + 1), "{target}");
        proxy.request(&request).await.expect_replay_of(&first);
    }
}

#[tokio::test]
async fn a_method_in_another_case_is_refused() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for method in ["post", "Post", "pOST", "patch", "Patch"] {
        for target in ["/v1/charges", "/v1/charges/", "/elsewhere"] {
            let request = Request::new(method, target).key("k").json("{}");
            proxy.request(&request).await.expect_problem(400, "bad-request");
        }
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_method_override_is_no_side_door() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        for (method, meant) in [("GET", "POST"), ("PUT", "post"), ("GET", "PATCH")] {
            let key = format!("{name}-{method}-{meant}");
            let request = Request::new(method, "/v1/charges").field(name, meant).json("{}");
            let bare = proxy.request(&request).await;
            assert_eq!(bare.status, 400, "without key {key} would run unguarded: {bare:?}");
            for _ in 0..2 {
                let response = proxy.request(&request.clone().key(&key)).await;
                assert!(matches!(response.status, 201 | 400), "{key}: {response:?}");
            }
            assert!(upstream.executions(&key) <= 1, "{key} ran twice");
            let spelled = Request::new(method, "/v1/charges/").field(name, meant).json("{}");
            proxy.request(&spelled).await.expect_problem(400, "bad-request");
        }
        // What is guarded stays guarded, whatever it says it means.
        let request = Request::charge(name).field(name, "GET");
        for _ in 0..2 {
            let response = proxy.request(&request).await;
            assert!(matches!(response.status, 201 | 400), "{name}: {response:?}");
        }
        assert!(upstream.executions(name) <= 1, "{name} ran twice");
    }
}

#[tokio::test]
async fn a_guarded_host_has_no_other_spelling() {
    let upstream = Upstream::start().await;
    let pay = "name = \"pay\"\npath = \"/pay\"\nhosts = [\"pay.test\"]";
    let proxy = Config::before(&upstream).route(pay).start().await;
    for host in ["pay.test", "PAY.test", "pay.test.", "pay.test:80"] {
        let bare = Request::post("/pay").host(host).json("{}");
        proxy.request(&bare).await.expect_problem(400, "key-missing");
        proxy.request(&Request::post("/pay/").host(host).json("{}")).await.expect_problem(400, "bad-request");
    }
    upstream.expect_nothing();
    proxy.request(&Request::post("/pay").host("other.test").json("{}")).await.expect_status(201);
}

//! Fields on their way through: what belongs to one hop stays there, and what the proxy adds is there.

use crate::harness::{Proxy, Reply, Request, Response, Seen, Upstream};

/// A guarded and an unguarded request alike.
fn both() -> [Request; 2] {
    [Request::charge("k"), Request::post("/elsewhere").json("{}")]
}

async fn exchange(request: &Request, reply: Reply) -> (Seen, Response) {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(reply);
    let response = proxy.request(request).await;
    (upstream.only(), response)
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_request_stay_behind() {
    for request in both() {
        let request = request
            .field("Connection", "keep-alive, X-Hop")
            .field("Connection", "x-other-hop")
            .field("X-Hop", "1")
            .field("X-Other-Hop", "1")
            .field("Keep-Alive", "timeout=5")
            .field("Proxy-Connection", "keep-alive")
            .field("Proxy-Authorization", "Basic dTpw")
            .field("Proxy-Authenticate", "Basic")
            .field("TE", "gzip")
            .field("X-End-To-End", "1");
        let (seen, _) = exchange(&request, Reply::created("x")).await;
        for name in [
            "x-hop",
            "x-other-hop",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "proxy-authenticate",
            "te",
            "upgrade",
        ] {
            assert!(seen.values(name).is_empty(), "{name} belongs to one hop: {seen:#?}");
        }
        let nominated = seen.values("connection").concat().to_lowercase();
        assert!(!nominated.contains("hop"), "nothing is nominated to the next hop: {seen:#?}");
        assert_eq!(seen.value("x-end-to-end"), Some("1"));
    }
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_response_stay_behind() {
    for request in both() {
        let reply = Reply::created("x")
            .field("Connection", "X-Hop")
            .field("X-Hop", "1")
            .field("Keep-Alive", "timeout=5")
            .field("Proxy-Connection", "keep-alive")
            .field("Proxy-Authenticate", "Basic")
            .field("Upgrade", "h2c")
            .field("X-End-To-End", "1");
        let (_, response) = exchange(&request, reply).await;
        for name in ["x-hop", "keep-alive", "proxy-connection", "proxy-authenticate", "upgrade"] {
            assert!(response.values(name).is_empty(), "{name} belongs to one hop: {response:?}");
        }
        assert_eq!(response.expect_status(201).value("x-end-to-end"), Some("1"));
    }
}

#[tokio::test]
async fn te_trailers_goes_on() {
    for request in both() {
        let request = request.field("TE", "trailers, deflate;q=0.5").field("Connection", "TE");
        let (seen, _) = exchange(&request, Reply::created("x")).await;
        assert_eq!(seen.value("te"), Some("trailers"), "{seen:#?}");
    }
}

#[tokio::test]
async fn a_guarded_request_asks_for_no_upgrade() {
    let request = Request::charge("k").field("Connection", "Upgrade").field("Upgrade", "websocket");
    let (seen, _) = exchange(&request, Reply::created("x")).await;
    assert!(seen.values("upgrade").is_empty(), "{seen:#?}");
}

#[tokio::test]
async fn the_upstream_learns_who_called_through_what() {
    for request in both() {
        let (seen, _) = exchange(&request.host("Shop.Test:8080"), Reply::created("x")).await;
        assert_eq!(seen.value("via"), Some("1.1 oncegate"), "{seen:#?}");
        assert_eq!(seen.value("x-forwarded-for"), Some("127.0.0.1"), "{seen:#?}");
        assert_eq!(seen.value("x-forwarded-proto"), Some("http"), "{seen:#?}");
        assert_eq!(seen.value("x-forwarded-host"), Some("Shop.Test:8080"), "{seen:#?}");
        assert_eq!(seen.value("host"), Some("Shop.Test:8080"), "forwarded as received");
    }
}

#[tokio::test]
async fn a_chain_of_proxies_grows_by_one() {
    for request in both() {
        let request = request.field("Via", "1.0 before").field("X-Forwarded-For", "192.0.2.1");
        let (seen, _) = exchange(&request, Reply::created("x")).await;
        assert_eq!(seen.values("via").join(", "), "1.0 before, 1.1 oncegate", "{seen:#?}");
        let chain = seen.values("x-forwarded-for").join(", ");
        assert!(chain.ends_with("127.0.0.1"), "the last hop is the one we saw: {seen:#?}");
    }
}

#[tokio::test]
async fn method_target_and_fields_go_up_as_they_came() {
    let target = "/v1/charges?b=%41&a=1&a=+x%20y&c";
    let request =
        Request::post(target).key("k").field("X-Many", "b").field("X-Many", "a").field("X-Raw", b"caf\xe9");
    let (seen, _) = exchange(&request.json("{}"), Reply::created("x")).await;
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", target));
    assert_eq!(seen.values("x-many"), ["b", "a"]);
    assert_eq!(seen.value("x-raw"), Some("caf\u{e9}"));
    assert_eq!(seen.text(), "{}");
}

#[tokio::test]
async fn an_empty_body_has_its_length() {
    for request in [Request::charge("k").body(""), Request::post("/elsewhere").body("")] {
        let (seen, _) = exchange(&request, Reply::created("x")).await;
        assert_eq!(seen.value("content-length"), Some("0"), "{seen:#?}");
        assert_eq!(seen.value("transfer-encoding"), None, "{seen:#?}");
    }
}

#[tokio::test]
async fn a_guarded_body_has_its_length_however_it_came() {
    let request = Request::charge("k").chunked(&["hello", "world"]);
    let (seen, _) = exchange(&request, Reply::created("x")).await;
    assert_eq!(seen.text(), "helloworld");
    assert_eq!(seen.values("content-length").len() + seen.values("transfer-encoding").len(), 1, "{seen:#?}");
}

#[tokio::test]
async fn an_underscore_does_not_disguise_a_field_that_matters() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for name in [
        "Idempotency_Key",
        "Content_Length",
        "Transfer_Encoding",
        "X_HTTP_Method_Override",
        "X-HTTP_Method-Override",
        "X_Forwarded_For",
        "X_Forwarded_Proto",
        "X_Forwarded_Host",
    ] {
        for request in both() {
            let response = proxy.request(&request.field(name, "1")).await;
            response.expect_problem(400, "bad-request");
        }
    }
    upstream.expect_nothing();
    proxy.request(&Request::charge("k").field("X_Other", "1")).await.expect_status(201);
    assert_eq!(upstream.only().value("x_other"), Some("1"));
}

#[tokio::test]
async fn an_underscore_does_not_disguise_a_callers_mark() {
    let upstream = Upstream::start().await;
    let caller = "caller = [\"header:x-tenant-id\"]";
    let proxy = crate::harness::Config::before(&upstream).idempotency(caller).start().await;
    let request = Request::charge("k").field("X-Tenant-Id", "1").field("X_Tenant_Id", "2");
    proxy.request(&request).await.expect_problem(400, "bad-request");
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_connection_field_cannot_take_away_what_matters() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for name in [
        "Idempotency-Key",
        "authorization",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "X-HTTP-Method-Override",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Host",
    ] {
        for nomination in [name.to_owned(), format!("close, {name}"), format!(",{name} ,")] {
            let request = Request::charge("k").bearer("alice").field("Connection", &nomination);
            proxy.request(&request).await.expect_problem(400, "bad-request");
        }
    }
    upstream.expect_nothing();
    proxy.request(&Request::charge("k").field("Connection", "X-Harmless")).await.expect_status(201);
}

#[tokio::test]
async fn an_upstreams_nomination_of_what_matters_is_ignored() {
    for request in both() {
        for name in ["Content-Length", "Transfer-Encoding", "Host", "Idempotency-Key"] {
            let reply = Reply::created("hello").field("Connection", name).field("Idempotency-Key", "theirs");
            let (_, response) = exchange(&request, reply).await;
            assert_eq!(response.expect_status(201).text(), "hello", "{name}");
            assert_eq!(response.value("idempotency-key"), Some("theirs"), "{name}: {response:?}");
        }
    }
}

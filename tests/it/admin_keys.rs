//! What an operator sees of keys, and what he changes.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, Config, Proxy, Reply, Request, Response, Upstream};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Bench {
    upstream: Upstream,
    proxy: Proxy,
    _folder: TempDir,
}

impl Bench {
    async fn start() -> Self {
        Self::with(|config| config).await
    }

    async fn with(more: impl FnOnce(Config) -> Config) -> Self {
        let upstream = Upstream::start().await;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, TOKEN).unwrap();
        let config = Config::before(&upstream).admin(&format!("token_file = \"{}\"", file.display()));
        let proxy = more(config).start().await;
        Self { upstream, proxy, _folder: folder }
    }

    async fn get(&self, target: &str) -> Response {
        self.proxy.operate(Request::get(target).bearer(TOKEN)).await
    }

    async fn post(&self, target: &str, body: Value) -> Response {
        self.proxy.operate(Request::post(target).bearer(TOKEN).json(&body.to_string())).await
    }

    /// What is found of a charge under this key.
    async fn lookup(&self, key: &str) -> Value {
        self.looked_up(json!({"host": "api.test", "path": "/v1/charges", "key": key})).await
    }

    async fn looked_up(&self, request: Value) -> Value {
        let answer = self.post("/keys/lookup", request).await;
        answer.expect_status(200);
        answer.json()
    }

    async fn change(&self, key: &Value, action: &str, body: Value) -> Response {
        self.post(&format!("/keys/{}/{action}", key["id"].as_str().unwrap()), body).await
    }

    async fn keys(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/keys?{query}")).await;
        answer.expect_status(200);
        answer.json()["keys"].as_array().unwrap().clone()
    }

    /// A charge of which nobody knows what became of it.
    async fn unknown(&self, key: &str) {
        self.upstream.next(Reply::hang_up());
        self.proxy.charge(key).await.expect_problem(502, "outcome-unknown");
    }
}

#[tokio::test]
async fn a_lookup_finds_the_key_that_a_request_made() {
    let bench = Bench::start().await;
    assert_eq!(bench.lookup("a").await["state"], "absent");
    bench.proxy.charge("a").await.expect_status(201);
    let found = bench.lookup("a").await;
    assert_eq!(
        (&found["state"], &found["original_status"], &found["answer_retained"], &found["route"]),
        (&json!("completed"), &json!(201), &json!(true), &json!("charges"))
    );
    assert!(found["fingerprint"].is_string() && found["expires_at"].is_string(), "{found}");
    let shown = bench.get(&format!("/keys/{}", found["id"].as_str().unwrap())).await.json();
    for member in ["id", "state", "fingerprint", "expires_at", "original_status"] {
        assert_eq!(shown[member], found[member], "{member}");
    }
}

#[tokio::test]
async fn a_lookup_takes_host_path_key_and_caller_as_requests_do() {
    let bench = Bench::with(|config| {
        config.charges(r#"caller = ["header:authorization", "header:x-tenant", "cookie:session"]"#)
    })
    .await;
    let charge = |key: &str| Request::charge(key).host("API.test.");
    let full = charge("\"q\"")
        .bearer("t")
        .field("X-Tenant", "1")
        .field("X-Tenant", "2")
        .field("Cookie", "a=b; session=s");
    bench.proxy.request(&full).await.expect_status(201);
    let caller =
        json!({"header:authorization": "Bearer t", "header:x-tenant": ["1", "2"], "cookie:session": "s"});
    for key in ["q", "\"q\""] {
        let request = json!({"host": "api.test", "path": "/v1/charges?x=1", "key": key, "caller": caller});
        assert_eq!(bench.looked_up(request).await["state"], "completed", "{key}");
    }
    for (member, other) in [
        ("host", json!("api.test:8080")),
        ("method", json!("PATCH")),
        ("key", json!("Q")),
        ("caller", json!({"header:authorization": "Bearer t"})),
        ("caller", json!({})),
    ] {
        let mut request = json!({"host": "api.test", "path": "/v1/charges", "key": "q", "caller": caller});
        request[member] = other;
        assert_eq!(bench.looked_up(request.clone()).await["state"], "absent", "{request}");
    }
    for (member, wrong) in [
        ("path", json!("/nowhere-guarded")),
        ("path", json!("no path")),
        ("method", json!("GET")),
        ("key", json!("")),
        ("key", json!("a,b")),
        ("route", json!("refunds")),
        ("caller", json!({"authorization": "Bearer t"})),
        ("caller", json!({"client-cert": "abc"})),
    ] {
        let mut request = json!({"host": "api.test", "path": "/v1/charges", "key": "q", "caller": caller});
        request[member] = wrong;
        let answer = bench.post("/keys/lookup", request.clone()).await;
        assert_eq!(
            (answer.status, answer.problem().as_deref()),
            (400, Some("invalid")),
            "{request}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn what_is_in_flight_and_unknown_is_listed_by_pages_oldest_first() {
    let bench = Bench::start().await;
    for key in ["u1", "u2"] {
        bench.unknown(key).await;
    }
    let gate = bench.upstream.hold_next();
    let held = bench.proxy.request_aside(Request::charge("f1"));
    bench.upstream.requests_to_be(3).await;
    bench.proxy.charge("done").await.expect_status(201);

    let ids = async |key: &str| bench.lookup(key).await["id"].clone();
    let [u1, u2, f1] = [ids("u1").await, ids("u2").await, ids("f1").await];
    let all = bench.keys("").await;
    let listed: Vec<&Value> = all.iter().map(|key| &key["id"]).collect();
    let position = |id: &Value| listed.iter().position(|listed| *listed == id);
    assert!(position(&u1) < position(&u2) && position(&u2) < position(&f1), "{all:#?}");
    assert!(position(&u1).is_some() && position(&ids("done").await).is_none(), "{all:#?}");
    assert!(all.iter().all(|key| key["age_seconds"].as_f64().is_some_and(|age| age >= 0.0)), "{all:#?}");

    let unknown = bench.keys("state=unknown").await;
    assert!(unknown.iter().all(|key| key["state"] == "unknown" && key["cause"] == "connection_lost"));
    assert!(unknown.iter().any(|key| key["id"] == u1) && unknown.iter().all(|key| key["id"] != f1));
    let in_flight = bench.keys("state=in_flight").await;
    assert!(in_flight.iter().all(|key| key["state"] == "in_flight" && key.get("cause").is_none()));
    assert!(in_flight.iter().any(|key| key["id"] == f1));

    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = bench.get(&format!("/keys?limit=1{after}")).await.json();
        assert!(page["keys"].as_array().unwrap().len() <= 1, "{page}");
        paged.extend(page["keys"].as_array().unwrap().iter().map(|key| key["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged.iter().collect::<Vec<_>>(), listed);
    gate.release();
    held.await.unwrap().expect_status(201);
}

#[tokio::test]
async fn an_unknown_key_that_is_released_runs_again() {
    let bench = Bench::start().await;
    bench.unknown("k").await;
    bench.proxy.charge("k").await.expect_problem(502, "outcome-unknown");
    let key = bench.lookup("k").await;
    let changed = bench.change(&key, "release", json!({"reason": "looked it up: not booked"})).await;
    changed.expect_status(200);
    assert_eq!((&changed.json()["before"], &changed.json()["after"]), (&json!("unknown"), &json!("absent")));
    bench.proxy.charge("k").await.expect_status(201);
    bench.upstream.expect_executions("k", 2);
    let gone = bench.get(&format!("/keys/{}", "0".repeat(64))).await;
    assert_eq!((gone.status, gone.problem().as_deref()), (404, Some("no-key")), "{gone:?}");
}

#[tokio::test]
async fn a_key_whose_lease_lives_is_released_by_force_only_and_its_owner_records_nothing() {
    let bench = Bench::start().await;
    let gate = bench.upstream.hold_next();
    let first = bench.proxy.request_aside(Request::charge("k"));
    bench.upstream.requests_to_be(1).await;
    let key = bench.lookup("k").await;
    assert_eq!(key["state"], "in_flight");
    let refused = bench.change(&key, "release", json!({"reason": "impatience"})).await;
    assert_eq!((refused.status, refused.problem().as_deref()), (409, Some("key-in-flight")), "{refused:?}");
    bench.proxy.charge("k").await.expect_problem(409, "request-in-flight");
    bench
        .change(&key, "release", json!({"reason": "its upstream is dead", "force": true}))
        .await
        .expect_status(200);
    let second = bench.proxy.charge("k").await;
    second.expect_status(201);
    gate.release();
    first.await.unwrap().expect_status(201);
    bench.proxy.charge("k").await.expect_replay_of(&second);
    bench.upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn a_waiter_takes_over_a_key_that_is_released_by_force() {
    let bench =
        Bench::with(|config| config.idempotency("on_in_flight = \"wait\"\nwait_timeout = \"20s\"")).await;
    let gate = bench.upstream.hold_next();
    let first = bench.proxy.request_aside(Request::charge("k"));
    bench.upstream.requests_to_be(1).await;
    let waiter = bench.proxy.request_aside(Request::charge("k"));
    let key = bench.lookup("k").await;
    bench.change(&key, "release", json!({"reason": "a test", "force": true})).await.expect_status(200);
    waiter.await.unwrap().expect_status(201);
    bench.upstream.expect_executions("k", 2);
    gate.release();
    first.await.unwrap().expect_status(201);
}

#[tokio::test]
async fn a_completed_key_is_released_by_force_only() {
    let bench = Bench::start().await;
    bench.proxy.charge("k").await.expect_status(201);
    let key = bench.lookup("k").await;
    let refused = bench.change(&key, "release", json!({"reason": "a test"})).await;
    assert_eq!((refused.status, refused.problem().as_deref()), (409, Some("key-completed")), "{refused:?}");
    bench.change(&key, "release", json!({"reason": "a test", "force": true})).await.expect_status(200);
    bench.proxy.charge("k").await.expect_status(201);
    bench.upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn an_unknown_key_that_is_settled_is_told_to_its_retries() {
    let bench = Bench::start().await;
    bench.unknown("k").await;
    let key = bench.lookup("k").await;
    let without_status = bench.change(&key, "settle", json!({"reason": "it was booked"})).await;
    without_status.expect_status(400);
    let body = json!({"reason": "it was booked", "status": 201, "route": "charges"});
    bench.change(&key, "settle", body.clone()).await.expect_status(200);
    let told = bench.proxy.charge("k").await;
    told.expect_problem(410, "response-not-retained");
    assert_eq!(told.json()["original_status"], 201);
    let other = Request::charge("k").json(r#"{"amount":11}"#);
    bench.proxy.request(&other).await.expect_problem(422, "key-reused");
    let again = bench.change(&key, "settle", body).await;
    assert_eq!((again.status, again.problem().as_deref()), (409, Some("key-not-unknown")), "{again:?}");
    bench.upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn what_others_see_of_a_store_that_cannot_be_asked_is_a_503() {
    use crate::harness::{FaultyStore, Operation};
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let proxy = Config::before(&upstream).start_with_store(store.clone()).await;
    store.fail(Operation::Lookup);
    store.fail(Operation::List);
    for target in ["/keys".to_owned(), format!("/keys/{}", "0".repeat(64))] {
        let request = Request::get(&target).host("localhost");
        let answer = Client::connect(proxy.admin_address()).await.request(&request).await;
        let word = answer.problem();
        assert_eq!((answer.status, word.as_deref()), (503, Some("store-unavailable")), "{answer:?}");
    }
}

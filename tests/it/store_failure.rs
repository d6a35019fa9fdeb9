//! A store that fails: nothing is sent without a claim, no answer is withheld, and records heal.

use std::sync::Arc;

use crate::harness::{
    Config, DeadEndpoint, FaultyStore, Operation, Proxy, Reply, Request, Upstream, eventually,
};

const QUICK: &str = "timeout = \"200ms\"";

async fn start(config: Config) -> (Proxy, Arc<FaultyStore>) {
    let store = FaultyStore::new();
    (config.store(QUICK).start_with_store(Arc::clone(&store) as _).await, store)
}

#[tokio::test]
async fn a_store_that_cannot_be_set_up_stops_the_start_with_its_cause() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    store.fail(Operation::Setup);
    let error = Config::before(&upstream).start_error(store).await;
    assert!(error.contains("the test broke this store"), "the cause is named: {error}");
}

#[tokio::test]
async fn without_a_claim_nothing_is_sent() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.fail(Operation::Insert);
    for _ in 0..2 {
        proxy.charge("k").await.expect_problem(503, "store-unavailable").expect_retry_after();
    }
    upstream.expect_nothing();
    store.heal(Operation::Insert);
    proxy.settled(&Request::charge("k")).await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_waited_for() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.stall(Operation::Insert);
    proxy.charge("k").await.expect_problem(503, "store-unavailable").expect_retry_after();
    upstream.expect_nothing();
    store.heal(Operation::Insert);
    proxy.settled(&Request::charge("k")).await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn unguarded_requests_need_no_store() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.stall(Operation::Insert);
    store.stall(Operation::Lookup);
    proxy.request(&Request::get("/")).await.expect_status(201);
    proxy.request(&Request::post("/elsewhere").json("{}")).await.expect_status(201);
}

#[tokio::test]
async fn a_claim_that_landed_although_the_store_said_no_is_taken_back() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.land_and_fail(Operation::Insert);
    proxy.charge("k").await.expect_problem(503, "store-unavailable");
    upstream.expect_nothing();
    store.heal(Operation::Insert);
    let ran = proxy.settled(&Request::charge("k")).await;
    assert!(!ran.expect_status(201).is_replay(), "{ran:?}");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_claim_that_landed_is_taken_back_even_if_that_takes_several_tries() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.land_and_fail(Operation::Insert);
    store.fail(Operation::Remove);
    proxy.charge("k").await.expect_problem(503, "store-unavailable");
    store.heal(Operation::Insert);
    eventually("it was tried to take the claim back", async || store.calls(Operation::Remove) >= 2).await;
    proxy.charge("k").await.expect_problem(409, "request-in-flight");
    store.heal(Operation::Remove);
    proxy.settled(&Request::charge("k")).await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn the_operator_may_let_requests_pass_without_a_claim() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream).charges("on_store_error = \"pass\"")).await;
    for operation in [Operation::Insert, Operation::Lookup] {
        store.fail(operation);
    }
    for n in 1..=2 {
        let response = proxy.charge("k").await;
        assert!(!response.expect_status(201).is_replay(), "{response:?}");
        assert_eq!(response.text(), format!(r#"{{"execution":{n}}}"#));
    }
    upstream.expect_executions("k", 2);
    proxy
        .request(&Request::post("/v1/refunds/1").key("k").json("{}"))
        .await
        .expect_problem(503, "store-unavailable");
}

#[tokio::test]
async fn a_client_is_served_although_its_record_was_not_written_and_the_record_heals() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.fail(Operation::Update);
    let first = proxy.charge("k").await;
    first.expect_status(201);
    for _ in 0..3 {
        proxy.charge("k").await.expect_problem(409, "request-in-flight");
    }
    store.heal(Operation::Update);
    proxy.settled(&Request::charge("k")).await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_is_served_although_the_store_does_not_answer() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.stall(Operation::Update);
    let first = proxy.charge("k").await;
    first.expect_status(201);
    store.heal(Operation::Update);
    proxy.settled(&Request::charge("k")).await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn no_client_sees_the_end_of_an_answer_before_its_record() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let patient = Config::before(&upstream).store("timeout = \"10s\"\nlease = \"60s\"");
    let proxy = patient.start_with_store(Arc::clone(&store) as _).await;
    for (n, (reply, feed)) in [Reply::fed(201), Reply::fed_of_length(201, 10)].into_iter().enumerate() {
        let key = format!("k{n}");
        store.hold(Operation::Update);
        upstream.next(reply);
        let mut client = proxy.client().await;
        client.send(&Request::charge(&key)).await;
        upstream.requests_to_be(n + 1).await;
        assert!(feed.send("01234"));
        client.read_until("01234").await;
        assert!(feed.send("56789"));
        feed.end();
        eventually("the record is being written", async || store.calls(Operation::Update) > n).await;
        let early = client.unread().await;
        let end = if n == 0 { "0\r\n\r\n" } else { "9" };
        assert!(!early.contains(end), "the end came before its record: {early:?}");
        store.heal(Operation::Update);
        client.read_until(end).await;
        let replay = proxy.charge(&key).await;
        assert!(replay.is_replay() && replay.text() == "0123456789", "{replay:?}");
    }
}

#[tokio::test]
async fn no_client_sees_a_short_answer_before_its_record() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let patient = Config::before(&upstream).store("timeout = \"10s\"\nlease = \"60s\"");
    let proxy = patient.start_with_store(Arc::clone(&store) as _).await;
    store.hold(Operation::Update);
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    eventually("the record is being written", async || store.calls(Operation::Update) > 0).await;
    assert_eq!(client.unread().await, "", "nothing comes before the record");
    proxy.charge("k").await.expect_problem(409, "request-in-flight");
    store.heal(Operation::Update);
    let first = client.response().await;
    proxy.charge("k").await.expect_replay_of(first.expect_status(201));
}

#[tokio::test]
async fn no_client_hears_of_an_unknown_outcome_before_its_record() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let patient = Config::before(&upstream).store("timeout = \"10s\"\nlease = \"60s\"");
    let proxy = patient.start_with_store(Arc::clone(&store) as _).await;
    store.hold(Operation::Update);
    upstream.next(Reply::reset());
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    eventually("the record is being written", async || store.calls(Operation::Update) > 0).await;
    assert_eq!(client.unread().await, "", "nothing comes before the record");
    store.heal(Operation::Update);
    client.response().await.expect_problem(502, "outcome-unknown");
    proxy.charge("k").await.expect_problem(502, "outcome-unknown");
}

#[tokio::test]
async fn a_record_that_landed_although_the_store_said_no_is_a_record() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream)).await;
    store.land_and_fail(Operation::Update);
    let first = proxy.charge("k").await;
    first.expect_status(201);
    proxy.charge("k").await.expect_replay_of(&first);
    store.heal(Operation::Update);
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_record_that_is_late_heals_past_the_lease() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream).store("lease = \"1s\"")).await;
    store.fail(Operation::Update);
    store.fail(Operation::Renew);
    let first = proxy.charge("k").await;
    first.expect_status(201);
    proxy.settled(&Request::charge("k")).await.expect_problem(500, "outcome-unknown");
    store.heal(Operation::Update);
    eventually("the record has landed", async || proxy.charge("k").await.is_replay()).await;
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_reads_as_unknown_and_the_answer_heals_it() {
    let upstream = Upstream::start().await;
    let (proxy, store) = start(Config::before(&upstream).store("lease = \"1s\"")).await;
    store.fail(Operation::Renew);
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    proxy.settled(&Request::charge("k")).await.expect_problem(500, "outcome-unknown");
    gate.release();
    let first = first.await.unwrap();
    proxy.charge("k").await.expect_replay_of(first.expect_status(201));
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_key_that_could_not_be_freed_is_freed_later() {
    let dead = DeadEndpoint::new();
    let (proxy, store) = start(Config::before_endpoints([dead.address()])).await;
    store.fail(Operation::Remove);
    proxy.charge("k").await.expect_problem(502, "upstream-unreachable");
    proxy.charge("k").await.expect_problem(409, "request-in-flight");
    let upstream = dead.revive();
    store.heal(Operation::Remove);
    proxy.settled(&Request::charge("k")).await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn two_proxies_over_one_store_run_a_key_once() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let one = Config::before(&upstream).start_with_store(Arc::clone(&store) as _).await;
    let other = Config::before(&upstream).start_with_store(Arc::clone(&store) as _).await;
    let mut gate = upstream.hold_next();
    let first = one.request_aside(Request::charge("k"));
    gate.arrived().await;
    other.charge("k").await.expect_problem(409, "request-in-flight");
    gate.release();
    let first = first.await.unwrap();
    other.charge("k").await.expect_replay_of(first.expect_status(201));
    upstream.expect_executions("k", 1);
}

//! A Redis server that fails in all ways: nothing is sent without a claim, no answer is withheld, and what was recorded
//! stays so.

use std::time::Duration;

use oncegate::store::Trouble;
use tokio::time::{Instant, sleep};

use crate::harness::{Config, Request, Upstream, Way, eventually};
use crate::servers::{Cluster, Launch, Make, Relay, Sentinels, Server};

/// A claim that waits for one replica, for long enough on a machine under load.
const ONE_REPLICA: &str = "wait_replicas = 1\nwait_timeout = \"500ms\"";

/// The proxy's deadline for a claim and a replica's word, for a machine under load, too.
const PATIENT: &str = "timeout = \"2s\"";

async fn order(server: &Server, words: &[&str]) {
    let done: String = server.command(words).await.expect("an answer");
    assert_eq!(done, "OK", "{words:?}");
}

/// How often a server has carried a command out, scripts included.
async fn calls(server: &Server, command: &str) -> u64 {
    let said: String = server.command(&["INFO", "commandstats"]).await.expect("an answer");
    let prefix = format!("cmdstat_{command}:calls=");
    let calls = said.lines().find_map(|line| line.strip_prefix(&prefix)).expect("a number");
    calls.split(',').next().expect("a number").parse().expect("a number")
}

#[tokio::test]
async fn a_full_server_refuses_new_keys_and_what_is_in_flight_is_renewed_and_recorded() {
    for make in Make::here() {
        let server = Launch::of(make).start().await;
        let upstream = Upstream::start().await;
        let config = Config::before(&upstream).store("max_entries_per_caller = 100");
        let (proxy, _store) = Way::to_server(&server).store("lease = \"3s\"").start_as(config).await;
        let mut gate = upstream.hold_next();
        let first = proxy.request_aside(Request::charge("k"));
        gate.arrived().await;
        order(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
        for n in 0..2 {
            let refused = proxy.charge(&format!("new{n}")).await;
            refused.expect_problem(503, "store-full").expect_retry_after();
        }
        // Past the lease: without a renewal it would read as unknown.
        sleep(Duration::from_secs(4)).await;
        proxy.charge("k").await.expect_problem(409, "request-in-flight");
        gate.release();
        let first = first.await.unwrap();
        proxy.charge("k").await.expect_replay_of(first.expect_status(201));
        upstream.expect_executions("k", 1);
        assert_eq!(upstream.seen().len(), 1, "{make:?}");
        order(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
        proxy.charge("new0").await.expect_status(201);
    }
}

#[tokio::test]
async fn a_proxy_starts_before_a_full_server_and_replays() {
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to_server(&server).start(&upstream).await;
    let first = proxy.charge("k").await;
    order(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let (other, _store) = Way::to_server(&server).start(&upstream).await;
    other.charge("k").await.expect_replay_of(first.expect_status(201));
    other.charge("new").await.expect_problem(503, "store-full");
}

#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_the_deadline_and_nothing_is_sent() {
    let mut server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to_server(&server).start(&upstream).await;
    proxy.charge("before").await.expect_status(201);
    server.pause();
    let (begin, deadline) = (Instant::now(), Duration::from_secs(1));
    for n in 0..3 {
        proxy.charge(&format!("k{n}")).await.expect_problem(503, "store-unavailable").expect_retry_after();
    }
    assert!(begin.elapsed() >= deadline, "the server was given its time");
    assert_eq!(upstream.seen().len(), 1, "nothing is sent without a claim");
    proxy.request(&Request::get("/")).await.expect_status(201);
    server.resume();
    for n in 0..3 {
        let request = Request::charge(&format!("k{n}"));
        eventually("the server is back", async || proxy.settled(&request).await.status == 201).await;
        upstream.expect_executions(&format!("k{n}"), 1);
    }
}

#[tokio::test]
async fn a_server_that_ends_and_comes_back_is_found_again_with_what_it_kept() {
    for make in Make::here() {
        let mut server = Launch::of(make).appendonly_unsynced().start().await;
        let upstream = Upstream::start().await;
        // A slow answer would be an outage of its own.
        let way = Way::to_server(&server).with("watch_interval = \"1s\"").store(PATIENT);
        let (proxy, store) = way.start(&upstream).await;
        let first = proxy.charge("k").await;
        server.kill();
        proxy.charge("new").await.expect_problem(503, "store-unavailable").expect_retry_after();
        server.restart().await;
        let new = Request::charge("new");
        eventually("the server is back", async || proxy.settled(&new).await.status == 201).await;
        proxy.charge("k").await.expect_replay_of(first.expect_status(201));
        upstream.expect_executions("k", 1);
        upstream.expect_executions("new", 1);
        let stats = store.stats();
        assert_eq!((stats.outages, stats.losses), (1, 0), "{make:?}: one outage, and nothing was lost");
    }
}

#[tokio::test]
async fn a_connection_that_owes_an_answer_is_left_to_those_who_wait_for_it() {
    let server = Launch::of(Make::Redis).start().await;
    let relay = Relay::before(server.address()).await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to(relay.address()).store(PATIENT).start(&upstream).await;
    let claims = calls(&server, "zadd").await;
    relay.drop_replies();
    let unheard = proxy.request_aside(Request::charge("unheard"));
    eventually("the claim landed", async || calls(&server, "zadd").await > claims).await;
    relay.heal();
    // For longer than an answer may take before a connection is avoided.
    sleep(Duration::from_millis(100)).await;
    proxy.charge("k").await.expect_status(201);
    unheard.await.unwrap().expect_problem(503, "store-unavailable");
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_taken_back() {
    let server = Launch::of(Make::Redis).start().await;
    let relay = Relay::before(server.address()).await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to(relay.address()).start(&upstream).await;
    proxy.charge("before").await.expect_status(201);
    let claims = calls(&server, "zadd").await;
    relay.drop_replies();
    proxy.charge("k").await.expect_problem(503, "store-unavailable").expect_retry_after();
    assert!(calls(&server, "zadd").await > claims, "the claim landed");
    assert_eq!(upstream.seen().len(), 1, "nothing is sent");
    relay.heal();
    let again = Request::charge("k");
    eventually("the claim is gone", async || proxy.settled(&again).await.status == 201).await;
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_answer_is_delivered_though_the_server_went_away_and_its_record_lands_later() {
    let server = Launch::of(Make::Redis).start().await;
    let relay = Relay::before(server.address()).await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to(relay.address()).start(&upstream).await;
    let (other, _store) = Way::to_server(&server).start(&upstream).await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    relay.cut();
    gate.release();
    let first = first.await.unwrap();
    first.expect_status(201);
    other.charge("k").await.expect_problem(409, "request-in-flight");
    relay.heal();
    other.settled(&Request::charge("k")).await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_record_that_lands_after_its_lease_heals_what_read_as_unknown() {
    let server = Launch::of(Make::Redis).start().await;
    let relay = Relay::before(server.address()).await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to(relay.address()).store("lease = \"3s\"").start(&upstream).await;
    let (other, _store) = Way::to_server(&server).start(&upstream).await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    relay.cut();
    gate.release();
    let first = first.await.unwrap();
    other.settled(&Request::charge("k")).await.expect_problem(500, "outcome-unknown");
    relay.heal();
    eventually("it heals", async || other.charge("k").await.is_replay()).await;
    other.charge("k").await.expect_replay_of(first.expect_status(201));
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_operator_may_let_requests_pass_while_the_server_is_away() {
    let server = Launch::of(Make::Redis).start().await;
    let relay = Relay::before(server.address()).await;
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).charges("on_store_error = \"pass\"");
    let (proxy, _store) = Way::to(relay.address()).start_as(config).await;
    relay.cut();
    for _ in 0..2 {
        let response = proxy.charge("k").await;
        assert!(!response.expect_status(201).is_replay(), "{response:?}");
    }
    upstream.expect_executions("k", 2);
    proxy
        .request(&Request::post("/v1/refunds/1").key("k").json("{}"))
        .await
        .expect_problem(503, "store-unavailable");
}

#[tokio::test]
async fn while_there_is_no_connection_no_more_wait_for_one_than_may() {
    let server = Launch::of(Make::Redis).start().await;
    let relay = Relay::before(server.address()).await;
    let upstream = Upstream::start().await;
    let way = Way::to(relay.address()).with("max_waiting = 1").store("timeout = \"3s\"\nlease = \"30s\"");
    let (proxy, store) = way.start(&upstream).await;
    relay.cut();
    let none = async || store_is_down(&store);
    eventually("all connections are gone", none).await;
    let begin = Instant::now();
    let all: Vec<_> = (0..8).map(|n| proxy.request_aside(Request::charge(&format!("k{n}")))).collect();
    let mut at_once = 0;
    for refused in all {
        refused.await.unwrap().expect_problem(503, "store-unavailable");
        at_once += usize::from(begin.elapsed() < Duration::from_secs(3));
    }
    assert!(at_once > 0, "all of them waited");
    upstream.expect_nothing();
}

fn store_is_down(store: &oncegate::store::redis::RedisStore) -> bool {
    store.stats().outages > 0
}

#[tokio::test]
async fn a_failover_is_followed() {
    let mut set = Sentinels::start(Make::Redis, 1).await;
    let upstream = Upstream::start().await;
    let (proxy, store) = Way::to_sentinels(&set).with("watch_interval = \"1s\"").start(&upstream).await;
    let first = proxy.charge("k").await;
    set.replicated().await;
    let _former = set.fail_over().await;
    let new = Request::charge("new");
    eventually("the new primary is found", async || proxy.settled(&new).await.status == 201).await;
    proxy.charge("k").await.expect_replay_of(first.expect_status(201));
    upstream.expect_executions("k", 1);
    upstream.expect_executions("new", 1);
    assert_eq!(store.stats().losses, 0, "the replica had everything");
}

#[tokio::test]
async fn a_former_primary_that_takes_no_writes_is_left() {
    let mut set = Sentinels::start(Make::Redis, 1).await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to_sentinels(&set).start(&upstream).await;
    proxy.charge("k").await.expect_status(201);
    let former = set.switch_over().await;
    assert_ne!(set.primary().await.address(), former);
    let new = Request::charge("new");
    eventually("the new primary is found", async || proxy.settled(&new).await.status == 201).await;
    upstream.expect_executions("new", 1);
}

#[tokio::test]
async fn a_claim_that_replicas_have_is_sent_and_one_that_they_lack_is_taken_back() {
    let mut set = Sentinels::start(Make::Redis, 1).await;
    let upstream = Upstream::start().await;
    let way = Way::to_sentinels(&set).with(ONE_REPLICA).with("cache_max_bytes = 0").store(PATIENT);
    let (proxy, store) = way.start(&upstream).await;
    let first = proxy.charge("k").await;
    first.expect_status(201);
    set.cut_replication().await;
    proxy.charge("new").await.expect_problem(503, "store-unavailable").expect_retry_after();
    assert_eq!(upstream.executions("new"), 0, "nothing is sent that only one server knows of");
    assert!(store.stats().unreplicated_claims >= 1);
    let waits = calls(set.primary().await, "wait").await;
    proxy.charge("k").await.expect_replay_of(&first);
    assert_eq!(calls(set.primary().await, "wait").await, waits, "a duplicate waits for no replica");
    set.heal_replication().await;
    let again = Request::charge("new");
    eventually("the replica is back", async || proxy.settled(&again).await.status == 201).await;
    upstream.expect_executions("new", 1);
}

#[tokio::test]
async fn what_no_replica_of_a_cluster_has_is_not_sent() {
    let cluster = Cluster::start(Make::Redis).await;
    let upstream = Upstream::start().await;
    let (proxy, store) = Way::to_cluster(&cluster).with(ONE_REPLICA).store(PATIENT).start(&upstream).await;
    for n in 0..4 {
        proxy.charge(&format!("k{n}")).await.expect_problem(503, "store-unavailable");
    }
    upstream.expect_nothing();
    assert!(store.stats().unreplicated_claims >= 4);
    assert!(oncegate::store::Store::troubles(&*store).contains(&Trouble::NotDurable));
}

#[tokio::test]
async fn a_server_of_a_cluster_that_hangs_costs_its_own_keys_only() {
    let mut cluster = Cluster::start(Make::Redis).await;
    let upstream = Upstream::start().await;
    let (proxy, _store) = Way::to_cluster(&cluster).start(&upstream).await;
    for n in 0..8 {
        proxy.charge(&format!("before{n}")).await.expect_status(201);
    }
    cluster.node(2).pause();
    let mut refused = Vec::new();
    for n in 0..8 {
        let response = proxy.charge(&format!("k{n}")).await;
        if response.status != 201 {
            response.expect_problem(503, "store-unavailable");
            assert_eq!(upstream.executions(&format!("k{n}")), 0);
            refused.push(n);
        }
    }
    assert!(!refused.is_empty(), "some keys are on that server");
    cluster.node(2).resume();
    for n in 0..8 {
        let request = Request::charge(&format!("k{n}"));
        eventually("the server is back", async || proxy.settled(&request).await.status == 201).await;
        upstream.expect_executions(&format!("k{n}"), 1);
    }
}

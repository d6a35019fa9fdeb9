//! An upstream with several endpoints, and the connections that are kept to them.

use crate::harness::{Config, DeadEndpoint, Proxy, Reply, Request, StuckEndpoint, Upstream};

#[tokio::test]
async fn requests_take_turns_among_the_endpoints() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let proxy = Config::before_endpoints([one.address(), other.address()]).start().await;
    for n in 0..6 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    assert_eq!((one.seen().len(), other.seen().len()), (3, 3));
}

#[tokio::test]
async fn the_next_endpoint_is_tried_when_nothing_was_sent() {
    let upstream = Upstream::start().await;
    let dead = DeadEndpoint::new();
    let proxy = Config::before_endpoints([dead.address(), upstream.address()]).start().await;
    for n in 0..4 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
        upstream.expect_executions(&format!("k{n}"), 1);
    }
}

#[tokio::test]
async fn the_next_endpoint_is_tried_when_no_connection_came_in_time() {
    let upstream = Upstream::start().await;
    let stuck = StuckEndpoint::new();
    let endpoints = [stuck.address(), upstream.address()];
    let proxy = Config::before_endpoints(endpoints).upstream("connect_timeout = \"1s\"").start().await;
    for n in 0..2 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
        upstream.expect_executions(&format!("k{n}"), 1);
    }
}

#[tokio::test]
async fn the_next_endpoint_is_not_tried_once_a_byte_may_have_been_sent() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    for upstream in [&one, &other] {
        upstream.always(|_| Reply::reset());
    }
    let proxy = Config::before_endpoints([one.address(), other.address()]).start().await;
    for n in 0..4 {
        let key = format!("k{n}");
        proxy.charge(&key).await.expect_problem(502, "outcome-unknown");
        proxy.charge(&key).await.expect_problem(502, "outcome-unknown");
        assert_eq!(one.executions(&key) + other.executions(&key), 1, "{key} ran once");
    }
}

#[tokio::test]
async fn when_every_endpoint_is_dead_the_key_stays_free() {
    let (one, other) = (DeadEndpoint::new(), DeadEndpoint::new());
    let proxy = Config::before_endpoints([one.address(), other.address()]).start().await;
    proxy.charge("k").await.expect_problem(502, "upstream-unreachable");
    let upstream = other.revive();
    proxy.charge("k").await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_duplicate_of_what_one_endpoint_answered_goes_to_no_other() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let proxy = Config::before_endpoints([one.address(), other.address()]).start().await;
    let first = proxy.charge("k").await;
    for _ in 0..3 {
        proxy.charge("k").await.expect_replay_of(&first);
    }
    assert_eq!(one.executions("k") + other.executions("k"), 1);
}

#[tokio::test]
async fn connections_to_the_upstream_are_kept() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("max_reuse_idle = \"10s\"").start().await;
    for n in 0..5 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    assert_eq!(upstream.connections(), 1, "{:#?}", upstream.seen());
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_the_setting_says() {
    let upstream = Upstream::start().await;
    let settings = "max_reuse_idle = \"10s\"\nmax_idle_connections = 1";
    let proxy = Config::before(&upstream).upstream(settings).start().await;
    for round in 0..2 {
        let gates = [upstream.hold_next(), upstream.hold_next()];
        let charges = [0, 1].map(|n| proxy.request_aside(Request::charge(&format!("k{round}{n}"))));
        upstream.requests_to_be(2 * (round + 1)).await;
        for gate in gates {
            gate.release();
        }
        for charge in charges {
            charge.await.unwrap().expect_status(201);
        }
    }
    assert_eq!(upstream.connections(), 3, "of two, one was kept");
}

#[tokio::test]
async fn a_connection_that_the_upstream_closes_while_idle_costs_no_request() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for n in 0..10 {
        upstream.next(Reply::created("closing").then_close());
        let key = format!("k{n}");
        proxy.charge(&key).await.expect_status(201);
        upstream.expect_executions(&key, 1);
    }
}

#[tokio::test]
async fn connections_that_the_upstream_closed_are_not_mistaken_for_live_ones() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("max_reuse_idle = \"10s\"").start().await;
    for n in 0..5 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
        upstream.close_idle_connections();
        upstream.closed_connections_to_be(n + 1).await;
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (5, 5), "{:#?}", upstream.seen());
}

#[tokio::test]
async fn a_connection_that_says_close_is_not_used_again() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.always(|_| Reply::created("last").field("Connection", "close"));
    proxy.charge("k1").await.expect_status(201);
    proxy.charge("k2").await.expect_status(201);
    let connections: Vec<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1]);
}

#[tokio::test]
async fn a_guarded_request_takes_no_connection_that_idled_for_long() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("max_reuse_idle = \"1ms\"").start().await;
    proxy.charge("k1").await.expect_status(201);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    proxy.charge("k2").await.expect_status(201);
    let connections: Vec<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1]);
}

#[tokio::test]
async fn the_host_that_the_upstream_sees_is_the_operators_choice() {
    let upstream = Upstream::start().await;
    let as_received = Proxy::start(&upstream).await;
    as_received.request(&Request::charge("k").host("Api.Test:8080")).await.expect_status(201);
    assert_eq!(upstream.seen()[0].value("host"), Some("Api.Test:8080"));
    let rewritten = Config::before(&upstream).upstream("host = \"upstream\"").start().await;
    rewritten.charge("k").await.expect_status(201);
    assert_eq!(upstream.seen()[1].value("host"), Some(upstream.address().to_string().as_str()));
}

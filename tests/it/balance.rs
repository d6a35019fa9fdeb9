//! Which endpoint a request goes to, and how many connections there may be.

use std::path::Path;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};
use tokio::time::sleep;

use crate::harness::{Client, Config, DeadEndpoint, Proxy, Reply, Request, Upstream, aside, eventually};

const FOR_LONG: &str = "ejection_time = \"1h\"\nmax_ejection_time = \"1h\"";

#[tokio::test]
async fn a_request_goes_to_the_endpoint_that_has_less_to_do() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let proxy = Config::before_endpoints([one.address(), other.address()]).start().await;
    let mut gate = one.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    for n in 0..10 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    assert_eq!((one.seen().len(), other.seen().len()), (1, 10));
    gate.release();
    held.await.unwrap().expect_status(201);
    proxy.charge("a").await.expect_status(201);
    proxy.charge("b").await.expect_status(201);
    assert_eq!((one.seen().len(), other.seen().len()), (2, 11), "they take turns again");
}

#[tokio::test]
async fn what_streams_through_counts_until_its_end() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let proxy = Config::before_endpoints([one.address(), other.address()]).start().await;
    let (reply, feed) = Reply::fed(200);
    one.next(reply);
    let mut client = proxy.client().await;
    client.send(&Request::get("/stream")).await;
    one.requests_to_be(1).await;
    feed.send("begun");
    client.read_until("begun").await;
    for n in 0..4 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    assert_eq!((one.seen().len(), other.seen().len()), (1, 4));
    drop(client);
    eventually("the upstream is left", async || !feed.send("nobody reads this")).await;
    eventually("the endpoint's turn", async || {
        proxy.request(&Request::get("/")).await.expect_status(201);
        one.seen().len() > 1
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_connected_to_is_passed_over() {
    let upstream = Upstream::start().await;
    let dead = DeadEndpoint::new();
    let endpoints = [dead.address(), upstream.address()];
    let proxy = Config::before_endpoints(endpoints).upstream(FOR_LONG).start().await;
    proxy.charge("k").await.expect_status(201);
    let revived = dead.revive();
    for n in 0..6 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    assert_eq!((revived.seen().len(), upstream.seen().len()), (0, 7));
}

#[tokio::test]
async fn so_many_failures_in_a_row_have_an_endpoint_passed_over_and_no_fewer() {
    let upstream = Upstream::start().await;
    let dead = DeadEndpoint::new();
    let settings = format!("{FOR_LONG}\neject_after = 3");
    let endpoints = [dead.address(), upstream.address()];
    let proxy = Config::before_endpoints(endpoints).upstream(&settings).start().await;
    for n in 0..4 {
        // Two of four begin at the dead one.
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    let revived = dead.revive();
    proxy.charge("a").await.expect_status(201);
    proxy.charge("b").await.expect_status(201);
    assert_eq!(revived.seen().len(), 1, "it was not passed over yet");
}

#[tokio::test]
async fn an_endpoint_that_was_passed_over_gets_another_chance() {
    let upstream = Upstream::start().await;
    let dead = DeadEndpoint::new();
    let endpoints = [dead.address(), upstream.address()];
    let proxy = Config::before_endpoints(endpoints).upstream("ejection_time = \"20ms\"").start().await;
    for n in 0..20 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    let revived = dead.revive();
    let mut n = 20;
    eventually("the endpoint is used again", async || {
        n += 1;
        proxy.charge(&format!("k{n}")).await.expect_status(201);
        revived.seen().len() >= 3
    })
    .await;
}

#[tokio::test]
async fn the_last_endpoint_is_never_passed_over() {
    let (one, other) = (DeadEndpoint::new(), DeadEndpoint::new());
    let endpoints = [one.address(), other.address()];
    let proxy = Config::before_endpoints(endpoints).upstream(FOR_LONG).start().await;
    for n in 0..4 {
        proxy.charge(&format!("k{n}")).await.expect_problem(502, "upstream-unreachable");
    }
    let other = other.revive();
    proxy.charge("k").await.expect_status(201);
    other.expect_executions("k", 1);
}

#[tokio::test]
async fn where_nothing_else_is_left_even_what_is_passed_over_is_tried() {
    let (one, other) = (DeadEndpoint::new(), DeadEndpoint::new());
    let endpoints = [one.address(), other.address()];
    let proxy = Config::before_endpoints(endpoints).upstream(FOR_LONG).start().await;
    proxy.charge("k").await.expect_problem(502, "upstream-unreachable");
    // The first one to fail is the one that is passed over.
    let one = one.revive();
    proxy.charge("k").await.expect_status(201);
    one.expect_executions("k", 1);
}

#[tokio::test]
async fn an_endpoint_whose_health_check_fails_is_passed_over_until_it_is_well() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let check = "health_check = { path = \"/healthz?x\", host = \"check.test\", interval = \"10ms\", \
                 unhealthy_after = 2, healthy_after = 2 }";
    one.always(|_| Reply::status(500));
    let proxy = Config::before_endpoints([one.address(), other.address()]).upstream(check).start().await;
    let mut n = 0;
    let mut requests_to_one = async || {
        let before = one.seen().iter().filter(|seen| seen.method == "POST").count();
        for _ in 0..4 {
            n += 1;
            proxy.charge(&format!("k{n}")).await;
        }
        one.seen().iter().filter(|seen| seen.method == "POST").count() - before
    };
    eventually("the endpoint is passed over", async || requests_to_one().await == 0).await;
    assert_eq!(requests_to_one().await, 0);
    one.always(|_| Reply::created("well"));
    eventually("the endpoint is used again", async || requests_to_one().await == 2).await;
    let checks = one.seen().into_iter().filter(|seen| seen.method == "GET").collect::<Vec<_>>();
    for check in &checks {
        assert_eq!((check.target.as_str(), check.value("host")), ("/healthz?x", Some("check.test")));
    }
}

#[tokio::test]
async fn a_single_endpoint_that_is_unhealthy_is_still_tried() {
    let upstream = Upstream::start().await;
    upstream.always(|_| Reply::status(500));
    let check = "health_check = { path = \"/\", interval = \"5ms\", unhealthy_after = 1 }";
    let proxy = Config::before(&upstream).upstream(check).start().await;
    upstream.requests_to_be(3).await;
    proxy.charge("k").await.expect_status(500);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn beyond_the_bound_requests_wait_for_a_connection_that_comes_back() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("max_connections = 1").start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k0"));
    gate.arrived().await;
    let waiting: Vec<_> = (1..8).map(|n| proxy.request_aside(Request::charge(&format!("k{n}")))).collect();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(upstream.seen().len(), 1);
    gate.release();
    first.await.unwrap().expect_status(201);
    for (n, waiting) in (1..).zip(waiting) {
        waiting.await.unwrap().expect_status(201);
        upstream.expect_executions(&format!("k{n}"), 1);
    }
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_has_sent_nothing() {
    let upstream = Upstream::start().await;
    let settings = "max_connections = 1\nconnect_timeout = \"1s\"";
    let proxy = Config::before(&upstream).upstream(settings).start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k0"));
    gate.arrived().await;
    let refused = proxy.charge("k1").await;
    refused.expect_problem(503, "upstream-unreachable").expect_retry_after();
    assert_eq!(refused.expect_proxy_status(), "connection_limit_reached");
    proxy.request(&Request::get("/")).await.expect_problem(503, "upstream-unreachable");
    gate.release();
    first.await.unwrap().expect_status(201);
    proxy.charge("k1").await.expect_status(201);
    upstream.expect_executions("k1", 1);
}

#[tokio::test]
async fn an_idle_connection_that_is_of_no_use_gives_up_its_place() {
    let upstream = Upstream::start().await;
    let settings = "max_connections = 1\nmax_reuse_idle = \"0s\"";
    let proxy = Config::before(&upstream).upstream(settings).start().await;
    for n in 0..5 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    let connections: Vec<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_among_the_connections() {
    let upstream = Upstream::start().await;
    let settings = "max_connections = 1\nconnect_timeout = \"1s\"";
    let proxy = Config::before(&upstream).upstream(settings).start().await;
    let client = websocket_passes(&proxy, &upstream).await;
    proxy.charge("k").await.expect_problem(503, "upstream-unreachable");
    client.close();
    eventually("the place is free", async || proxy.charge("k").await.status == 201).await;
}

#[tokio::test]
async fn a_connection_that_is_too_old_takes_no_further_request() {
    let upstream = Upstream::start().await;
    let settings = "max_reuse_idle = \"10s\"\nmax_connection_age = \"1ms\"";
    let proxy = Config::before(&upstream).upstream(settings).start().await;
    for n in 0..3 {
        let mut gate = upstream.hold_next();
        let charge = proxy.request_aside(Request::charge(&format!("k{n}")));
        gate.arrived().await;
        sleep(Duration::from_millis(5)).await;
        gate.release();
        charge.await.unwrap().expect_status(201);
    }
    let connections: Vec<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 2]);
}

#[tokio::test]
async fn what_the_upstream_says_of_its_patience_is_heeded() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("max_reuse_idle = \"10s\"").start().await;
    for (promise, connections) in
        [("timeout=60, max=9", [0, 0]), ("timeout=0", [0, 1]), ("timeout=60", [2, 2])]
    {
        let seen = upstream.seen().len();
        upstream.always(move |_| Reply::created("kept").field("Keep-Alive", promise));
        for _ in 0..2 {
            proxy.charge(&format!("k{}", upstream.seen().len())).await.expect_status(201);
        }
        let used: Vec<_> = upstream.seen()[seen..].iter().map(|seen| seen.connection).collect();
        assert_eq!(used, connections, "{promise}");
    }
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    // The name may have an IPv6 address too, at which nothing listens.
    let upstream = Upstream::start().await;
    let endpoints = format!("endpoints = [\"http://localhost:{}\"]", upstream.address().port());
    let proxy = Config::before_endpoints([]).upstream(&endpoints).start().await;
    proxy.charge("k").await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_has_cost_nothing() {
    let upstream = Upstream::start().await;
    let endpoints = format!("endpoints = [\"http://nowhere.invalid\", \"http://{}\"]", upstream.address());
    let proxy = Config::before_endpoints([]).upstream(&endpoints).start().await;
    for n in 0..4 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    let proxy =
        Config::before_endpoints([]).upstream("endpoints = [\"http://nowhere.invalid\"]").start().await;
    let refused = proxy.charge("k").await;
    assert_eq!(refused.expect_problem(502, "upstream-unreachable").expect_proxy_status(), "dns_error");
}

#[tokio::test]
async fn requests_go_below_the_base_path_of_their_endpoint() {
    let upstream = Upstream::start().await;
    let dead = DeadEndpoint::new();
    let endpoints = format!(
        "endpoints = [\"http://{}/not-here\", \"http://{}/base/v2/\"]",
        dead.address(),
        upstream.address()
    );
    let proxy = Config::before_endpoints([]).upstream(&endpoints).start().await;
    proxy.charge("k").await.expect_status(201);
    proxy.request(&Request::get("/a%2Fb?c=d&e")).await.expect_status(201);
    let targets: Vec<_> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/base/v2/v1/charges", "/base/v2/a%2Fb?c=d&e"]);
    let first = proxy.charge("k2").await;
    proxy.charge("k2").await.expect_replay_of(&first);
}

#[tokio::test]
async fn an_upstream_may_listen_on_a_path() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let endpoints = format!("endpoints = [\"unix:{}\"]\nmax_reuse_idle = \"10s\"", path.display());
    let proxy = Config::before_endpoints([]).upstream(&endpoints).start().await;
    let refused = proxy.charge("k").await;
    refused.expect_problem(502, "upstream-unreachable").expect_retry_after();
    serve_at(&path, &upstream);
    for n in 0..3 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    assert_eq!(upstream.connections(), 1, "the connection is kept");
    upstream.next(Reply::reset());
    proxy.charge("lost").await.expect_problem(502, "outcome-unknown");
    drop(websocket_passes(&proxy, &upstream).await);
}

/// Passes what comes at `path` on to `upstream`.
fn serve_at(path: &Path, upstream: &Upstream) {
    let listener = UnixListener::bind(path).unwrap();
    let address = upstream.address();
    drop(aside(async move {
        while let Ok((mut front, _)) = listener.accept().await {
            drop(aside(async move {
                let mut back = TcpStream::connect(address).await.unwrap();
                // How it ends is for the test to see.
                copy_bidirectional(&mut front, &mut back).await.unwrap_or_default();
            }));
        }
    }));
}

/// Opens a tunnel through the proxy, in which bytes pass.
async fn websocket_passes(proxy: &Proxy, upstream: &Upstream) -> Client {
    upstream.next(Reply::echo("websocket"));
    let mut client = proxy.client().await;
    let switch = Request::get("/socket").field("Connection", "Upgrade").field("Upgrade", "websocket");
    client.send(&switch).await;
    client.read_until("\r\n\r\n").await;
    client.send_bytes("hello").await;
    client.read_until("hello").await;
    client
}

//! The end of the process: what is in flight is finished and recorded, and nothing new begins.

use std::sync::Arc;

use oncegate::app::Drained;

use crate::harness::{
    Client, Config, FaultyStore, Http2Client, Http2Stream, Operation, Process, Proxy, Reply, Request,
    Upstream, eventually,
};

async fn start(config: &Config) -> (Proxy, Arc<FaultyStore>) {
    let store = FaultyStore::new();
    (config.start_with_store(Arc::clone(&store) as _).await, store)
}

/// As `start`, and what is left undone ends with the proxy.
async fn start_as_process(config: &Config) -> (Proxy, Arc<FaultyStore>) {
    let store = FaultyStore::new();
    (config.start_as_process(Arc::clone(&store) as _).await, store)
}

/// Sends the signal, and returns once it is heard.
async fn begin_to_drain(proxy: &mut Proxy) {
    proxy.begin_shutdown();
    eventually("it says that it drains", async || proxy.admin("/readyz").await == 503).await;
}

/// A client whose charge the upstream has, and will not answer.
async fn stalled(proxy: &Proxy, upstream: &Upstream, key: &str) -> Client {
    let before = upstream.seen().len();
    upstream.next(Reply::stall());
    let mut client = proxy.client().await;
    client.send(&Request::charge(key)).await;
    upstream.requests_to_be(before + 1).await;
    client
}

/// What another process over the same store says to this charge.
async fn afterwards(config: &Config, store: &Arc<FaultyStore>, key: &str) -> crate::harness::Response {
    let next = config.start_with_store(Arc::clone(store) as _).await;
    next.settled(&Request::charge(key)).await
}

#[tokio::test]
async fn an_idle_proxy_ends_at_once() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut idle = proxy.client().await;
    idle.request(&Request::charge("k")).await.expect_status(201);
    let never_used = proxy.client().await;
    proxy.shutdown().await;
    idle.closed().await;
    drop(never_used);
}

#[tokio::test]
async fn work_in_flight_is_finished_answered_and_recorded() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream);
    let (mut proxy, store) = start(&config).await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    begin_to_drain(&mut proxy).await;
    gate.release();
    let first = first.await.unwrap();
    assert_eq!(first.expect_status(201).text(), r#"{"held":true}"#);
    proxy.ended().await;
    afterwards(&config, &store, "k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn work_whose_client_has_left_is_waited_for_too() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream);
    let (mut proxy, store) = start(&config).await;
    let mut gate = upstream.hold_next();
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    gate.arrived().await;
    client.reset();
    begin_to_drain(&mut proxy).await;
    gate.release();
    proxy.ended().await;
    let retry = afterwards(&config, &store, "k").await;
    assert!(retry.expect_status(201).is_replay(), "{retry:?}");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn work_that_outlived_its_clients_patience_is_waited_for_too() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).upstream("response_timeout = \"200ms\"");
    let (mut proxy, store) = start(&config).await;
    let gate = upstream.hold_next();
    proxy.charge("k").await.expect_problem(504, "still-running");
    begin_to_drain(&mut proxy).await;
    gate.release();
    proxy.ended().await;
    let retry = afterwards(&config, &store, "k").await;
    assert!(retry.expect_status(201).is_replay(), "{retry:?}");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upload_begun_before_the_end_may_be_refused_but_not_lost_halfway() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream);
    let (mut proxy, store) = start(&config).await;
    let charge = Request::charge("k");
    let mut client = proxy.client().await;
    client.send_bytes(charge.head_bytes()).await;
    let mut gate = upstream.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    begin_to_drain(&mut proxy).await;
    client.try_send_bytes(charge.body_bytes()).await;
    let answer = client.try_response().await;
    gate.release();
    held.await.unwrap().expect_status(201);
    proxy.ended().await;
    match answer {
        Ok(answer) if answer.status == 201 => {
            afterwards(&config, &store, "k").await.expect_replay_of(&answer);
        }
        Ok(answer) => {
            answer.expect_problem(503, "shutting-down").expect_retry_after();
            upstream.expect_executions("k", 0);
        }
        Err(_) => upstream.expect_executions("k", 0),
    }
}

#[tokio::test]
async fn a_request_whose_head_ends_after_the_signal_is_not_begun() {
    let upstream = Upstream::start().await;
    let (mut proxy, _store) = start(&Config::before(&upstream)).await;
    let mut gate = upstream.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    let new = Request::charge("new").bytes();
    let (begun, rest) = new.split_at(30);
    let mut fresh = proxy.client().await;
    fresh.send_bytes(begun).await;
    let mut kept = proxy.client().await;
    kept.request(&Request::get("/")).await.expect_status(201);
    kept.send_bytes(begun).await;
    // Until the proxy has read what was begun: a request of another connection comes after it.
    proxy.request(&Request::get("/")).await.expect_status(201);
    begin_to_drain(&mut proxy).await;
    for client in [&mut fresh, &mut kept] {
        client.try_send_bytes(rest).await;
        if let Ok(response) = client.try_response().await {
            response.expect_problem(503, "shutting-down").expect_retry_after();
        }
    }
    gate.release();
    held.await.unwrap().expect_status(201);
    proxy.ended().await;
    upstream.expect_executions("new", 0);
}

#[tokio::test]
async fn while_it_drains_it_is_alive_but_not_ready_and_takes_nothing_new() {
    let upstream = Upstream::start().await;
    let (mut proxy, _store) = start(&Config::before(&upstream)).await;
    assert_eq!((proxy.admin("/livez").await, proxy.admin("/readyz").await), (200, 200));
    let mut open = proxy.client().await;
    open.request(&Request::charge("before")).await.expect_status(201);
    let mut gate = upstream.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    begin_to_drain(&mut proxy).await;
    assert_eq!(proxy.admin("/livez").await, 200);
    // An open connection is closed, or its next request refused.
    open.try_send_bytes(Request::charge("new").bytes()).await;
    if let Ok(response) = open.try_response().await {
        response.expect_problem(503, "shutting-down").expect_retry_after();
    }
    // A new connection finds nobody.
    let address = proxy.address();
    if let Ok(stream) = tokio::net::TcpStream::connect(address).await {
        drop(stream);
        let mut late = Client::connect(address).await;
        late.try_send_bytes(Request::charge("new").bytes()).await;
        if let Ok(response) = late.try_response().await {
            response.expect_problem(503, "shutting-down").expect_retry_after();
        }
    }
    gate.release();
    held.await.unwrap().expect_status(201);
    proxy.ended().await;
    upstream.expect_executions("new", 0);
}

#[tokio::test]
async fn the_grace_has_an_end_and_what_was_cut_off_is_not_run_again() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).server("shutdown_grace = \"300ms\"").store("lease = \"1s\"");
    let (mut proxy, store) = start_as_process(&config).await;
    let _client = stalled(&proxy, &upstream, "k").await;
    proxy.begin_shutdown();
    proxy.ended().await;
    let retry = afterwards(&config, &store, "k").await;
    retry.expect_problem(retry.status, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_what_was_cut_off_is_not_run_again() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).store("lease = \"1s\"");
    let (mut proxy, store) = start_as_process(&config).await;
    let _client = stalled(&proxy, &upstream, "k").await;
    begin_to_drain(&mut proxy).await;
    proxy.abort();
    proxy.ended().await;
    let retry = afterwards(&config, &store, "k").await;
    retry.expect_problem(retry.status, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_second_signal_ends_a_process_that_traces_too() {
    let (upstream, collector) = (Upstream::start().await, Upstream::start().await);
    let traces = format!("[traces]\nendpoint = \"http://{}\"", collector.address());
    let (mut proxy, _store) = start_as_process(&Config::before(&upstream).tables(&traces)).await;
    let _client = stalled(&proxy, &upstream, "k").await;
    begin_to_drain(&mut proxy).await;
    proxy.abort();
    assert_eq!(proxy.ended().await, Drained::Unfinished(1));
}

#[tokio::test]
async fn a_stream_does_not_hold_up_the_end_beyond_the_grace() {
    let upstream = Upstream::start().await;
    let (mut proxy, _store) =
        start_as_process(&Config::before(&upstream).server("shutdown_grace = \"300ms\"")).await;
    let (reply, feed) = Reply::fed(200);
    upstream.next(reply);
    let mut client = proxy.client().await;
    client.send(&Request::get("/events")).await;
    assert!(feed.send("first"));
    client.read_until("first").await;
    proxy.begin_shutdown();
    proxy.ended().await;
    client.closed().await;
}

/// A lease that nobody waits for.
const LONG_LEASE: &str = "lease = \"1h\"";

#[tokio::test]
async fn what_the_grace_does_not_suffice_for_is_recorded_as_unknown_at_once() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream)
        .server("shutdown_grace = \"300ms\"")
        .upstream("response_timeout = \"100ms\"")
        .store(LONG_LEASE);
    let patient = Config::before(&upstream).server("shutdown_grace = \"300ms\"").store(LONG_LEASE);
    for (config, keys) in [(&config, vec!["told"]), (&patient, vec!["waiting", "left", "http2"])] {
        let (mut proxy, store) = start(config).await;
        let mut clients = Vec::new();
        for key in &keys {
            if *key == "http2" {
                upstream.next(Reply::stall());
                let before = upstream.seen().len();
                let mut client = Http2Client::connect(proxy.address()).await;
                let stream = client.send(&Request::charge(key)).await;
                upstream.requests_to_be(before + 1).await;
                clients.push(Waiting::Http2(client, stream));
            } else {
                clients.push(Waiting::Http1(stalled(&proxy, &upstream, key).await));
            }
        }
        if let [_, Waiting::Http1(_), ..] = clients.as_slice()
            && let Waiting::Http1(client) = clients.remove(1)
        {
            client.reset();
        }
        if keys == ["told"] {
            let Some(Waiting::Http1(client)) = clients.first_mut() else { panic!("one client") };
            client.response().await.expect_problem(504, "still-running");
        }
        proxy.begin_shutdown();
        proxy.ended().await;
        let next = config.start_with_store(Arc::clone(&store) as _).await;
        for key in keys {
            next.charge(key).await.expect_problem(500, "outcome-unknown");
            upstream.expect_executions(key, 1);
        }
    }
}

/// A client that waits for its answer.
enum Waiting {
    Http1(Client),
    Http2(
        #[expect(dead_code, reason = "kept open")] Http2Client,
        #[expect(dead_code, reason = "kept open")] Http2Stream,
    ),
}

#[tokio::test]
async fn what_the_store_does_not_take_at_the_end_is_not_waited_for() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).server("shutdown_grace = \"300ms\"").store("lease = \"1s\"");
    let (mut proxy, store) = start_as_process(&config).await;
    let _client = stalled(&proxy, &upstream, "k").await;
    store.fail(Operation::Update);
    proxy.begin_shutdown();
    proxy.ended().await;
    store.heal(Operation::Update);
    afterwards(&config, &store, "k").await.expect_problem(500, "outcome-unknown");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn before_it_drains_it_is_not_ready_for_a_while_and_serves_on() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).server("drain_delay = \"2s\"");
    let (mut proxy, _store) = start(&config).await;
    let mut kept = proxy.client().await;
    assert_eq!(kept.request(&Request::charge("before")).await.value("connection"), None);
    let mut over_http2 = Http2Client::connect(proxy.address()).await;
    over_http2.request(&Request::get("/")).await.expect_status(201);
    let mut gate = upstream.hold_next();
    let held = over_http2.send(&Request::charge("held")).await;
    gate.arrived().await;
    begin_to_drain(&mut proxy).await;
    assert_eq!(proxy.admin("/livez").await, 200);
    // A connection is asked to go with its next answer; new ones are taken.
    for client in [&mut kept, &mut proxy.client().await] {
        let answer = client.request(&Request::charge("while")).await;
        assert_eq!(answer.expect_status(201).value("connection"), Some("close"));
        client.closed().await;
    }
    let mut late = Http2Client::connect(proxy.address()).await;
    late.request(&Request::get("/")).await.expect_status(201);
    gate.release();
    held.response().await.expect("what was begun is answered").expect_status(201);
    over_http2.closed().await.expect("a goodbye");
    proxy.ended().await;
    upstream.expect_executions("while", 1);
}

#[tokio::test]
async fn a_second_signal_ends_the_delay() {
    let upstream = Upstream::start().await;
    let (mut proxy, _store) =
        start_as_process(&Config::before(&upstream).server("drain_delay = \"1h\"")).await;
    begin_to_drain(&mut proxy).await;
    proxy.request(&Request::get("/")).await.expect_status(201);
    proxy.abort();
    assert_eq!(proxy.ended().await, Drained::Complete, "nothing was unfinished");
}

#[tokio::test]
async fn the_program_ends_with_0_if_all_is_done_or_recorded_as_unknown() {
    let upstream = Upstream::start().await;
    let endpoints = format!("endpoints = [\"http://{}\"]", upstream.address());
    for is_stalled in [false, true] {
        let mut process = Process::start(&endpoints, &[]);
        let mut client = Client::connect(process.address()).await;
        client.request(&Request::charge("done")).await.expect_status(201);
        if is_stalled {
            let seen = upstream.seen().len();
            upstream.next(Reply::stall());
            client.send(&Request::charge("stalled")).await;
            upstream.requests_to_be(seen + 1).await;
        }
        process.signal("TERM");
        assert_eq!(process.ended().await, Some(0), "stalled: {is_stalled}");
    }
}

//! TLS to upstreams: who is believed, what a failed handshake costs, and when an answer is whole.

use tokio::net::TcpListener;
use tokio::time::{Duration, sleep};

use crate::harness::{
    Authority, Client, Config, Front, Process, Proxy, Reply, Request, Shaken, TlsFront, Upstream, aside,
};

/// The name that certificates have, unless a test says otherwise.
const NAME: &str = "localhost";

/// A proxy before `front`, which has the name `host`.
async fn proxy_before(front: &TlsFront, host: &str, authority: &Authority, settings: &str) -> Proxy {
    let endpoints = format!("endpoints = [\"https://{host}:{}\"]", front.port());
    Config::before_endpoints([]).upstream(&endpoints).upstream(&trusting(authority, settings)).start().await
}

/// `tls` with the authority's file, and more of it.
fn trusting(authority: &Authority, tls: &str) -> String {
    format!("max_reuse_idle = \"10s\"\ntls = {{ ca = \"{}\"{tls} }}", authority.ca().display())
}

#[tokio::test]
async fn guarded_and_other_requests_go_over_tls_and_the_connection_is_kept() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    for versions in [vec![&rustls::version::TLS13], vec![&rustls::version::TLS12]] {
        let front = Front { versions, ..Front::default() };
        let front = TlsFront::start(upstream.address(), &authority, NAME, front).await;
        let proxy = proxy_before(&front, NAME, &authority, "").await;
        let first = proxy.charge("k").await;
        first.expect_status(201);
        proxy.charge("k").await.expect_replay_of(&first);
        for n in 0..3 {
            // A session ticket that is on its way when the connection is looked at costs the connection.
            sleep(Duration::from_millis(20)).await;
            proxy.charge(&format!("k{n}")).await.expect_status(201);
        }
        proxy.request(&Request::post("/else").body("body")).await.expect_status(201);
        let shaken = Shaken {
            name: Some(NAME.to_owned()),
            protocol: Some("http/1.1".to_owned()),
            is_client_known: false,
        };
        assert_eq!(front.shaken(), [shaken], "one connection, by the protocol that was asked for");
    }
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn a_certificate_of_another_name_is_not_believed_unless_the_operator_says_so() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = TlsFront::start(upstream.address(), &authority, "api.internal", Front::default()).await;
    let proxy = proxy_before(&front, NAME, &authority, "").await;
    let refused = proxy.charge("k").await;
    refused.expect_problem(502, "upstream-unreachable").expect_retry_after();
    assert_eq!(refused.expect_proxy_status(), "tls_protocol_error");
    upstream.expect_nothing();
    let proxy = proxy_before(&front, "127.0.0.1", &authority, ", server_name = \"api.internal\"").await;
    proxy.charge("k").await.expect_status(201);
    assert_eq!(front.shaken()[0].name.as_deref(), Some("api.internal"));
}

#[tokio::test]
async fn the_systems_authorities_are_believed_where_none_is_named() {
    let (upstream, authority, other) = (Upstream::start().await, Authority::new(), Authority::new());
    let front = TlsFront::start(upstream.address(), &authority, NAME, Front::default()).await;
    let endpoints = format!("endpoints = [\"https://{NAME}:{}\"]", front.port());
    for (system, status) in [(&other, 502), (&authority, 201)] {
        let proxy = Process::start(&endpoints, &[("SSL_CERT_FILE", &system.ca())]);
        let mut client = Client::connect(proxy.address()).await;
        assert_eq!(client.request(&Request::charge("k")).await.status, status);
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_authority_that_nobody_named_is_not_believed() {
    let (upstream, authority, other) = (Upstream::start().await, Authority::new(), Authority::new());
    let front = TlsFront::start(upstream.address(), &other, NAME, Front::default()).await;
    let proxy = proxy_before(&front, NAME, &authority, "").await;
    proxy.charge("k").await.expect_problem(502, "upstream-unreachable");
    proxy.request(&Request::get("/")).await.expect_problem(502, "upstream-unreachable");
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_failed_handshake_costs_a_guarded_request_nothing() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = TlsFront::start(upstream.address(), &authority, NAME, Front::default()).await;
    let cleartext = Upstream::start().await;
    let endpoints = format!(
        "endpoints = [\"https://localhost:{}\", \"https://localhost:{}\"]\neject_after = 1000",
        cleartext.address().port(),
        front.port()
    );
    let config = Config::before_endpoints([]).upstream(&endpoints).upstream(&trusting(&authority, ""));
    let proxy = config.start().await;
    for n in 0..4 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
        upstream.expect_executions(&format!("k{n}"), 1);
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_a_connection_that_did_not_come_in_time() {
    let authority = Authority::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let taken = aside(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            streams.push(stream);
        }
    });
    let settings = format!(
        "endpoints = [\"https://localhost:{port}\"]\nconnect_timeout = \"100ms\"\n{}",
        trusting(&authority, "")
    );
    let proxy = Config::before_endpoints([]).upstream(&settings).start().await;
    let refused = proxy.charge("k").await;
    refused.expect_problem(504, "upstream-unreachable").expect_retry_after();
    assert_eq!(refused.expect_proxy_status(), "connection_timeout");
    proxy.charge("k").await.expect_problem(504, "upstream-unreachable");
    taken.abort();
}

#[tokio::test]
async fn the_proxy_shows_its_certificate_where_one_is_wanted() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = Front { wants_client_certificate: true, ..Front::default() };
    let front = TlsFront::start(upstream.address(), &authority, NAME, front).await;
    let (cert, key) = authority.issue("proxy.test");
    let identity = format!(", cert = \"{}\", key = \"{}\"", cert.display(), key.display());
    let proxy = proxy_before(&front, NAME, &authority, &identity).await;
    proxy.charge("k").await.expect_status(201);
    assert!(front.shaken()[0].is_client_known);
}

#[tokio::test]
async fn without_the_certificate_that_is_wanted_nothing_is_carried_out() {
    // TLS 1.3 lets a client speak before the server has judged its certificate.
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = Front { wants_client_certificate: true, ..Front::default() };
    let front = TlsFront::start(upstream.address(), &authority, NAME, front).await;
    let proxy = proxy_before(&front, NAME, &authority, "").await;
    let refused = proxy.charge("k").await;
    // Where the reset overtakes the alert, nobody can tell.
    match refused.problem().as_deref() {
        Some("outcome-unknown") => refused.expect_status(502),
        _ => refused.expect_problem(502, "upstream-unreachable"),
    };
    upstream.expect_nothing();
}

#[tokio::test]
async fn an_answer_that_only_the_end_of_the_connection_ends_is_whole_after_a_goodbye() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = TlsFront::start(upstream.address(), &authority, NAME, Front::default()).await;
    let proxy = proxy_before(&front, NAME, &authority, "").await;
    upstream.next(Reply::created("").until_close("to the end"));
    let first = proxy.charge("k").await;
    assert_eq!(first.expect_status(201).text(), "to the end");
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn without_a_goodbye_it_may_have_been_cut() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = Front { is_polite: false, ..Front::default() };
    let front = TlsFront::start(upstream.address(), &authority, NAME, front).await;
    let proxy = proxy_before(&front, NAME, &authority, "").await;
    upstream.next(Reply::created("").until_close("to the end?"));
    proxy.expect_broken(&Request::charge("k")).await;
    upstream.expect_executions("k", 1);
    // A length says by itself where the answer ends.
    upstream.next(Reply::created("whole").then_close());
    assert_eq!(proxy.charge("k2").await.expect_status(201).text(), "whole");
    upstream.next(Reply::created("not whole").cut_after(3));
    proxy.expect_broken(&Request::charge("k3")).await;
}

#[tokio::test]
async fn connections_that_the_upstream_closed_are_not_used_again() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = TlsFront::start(upstream.address(), &authority, NAME, Front::default()).await;
    let proxy = proxy_before(&front, NAME, &authority, "").await;
    for n in 0..10 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
        upstream.close_idle_connections();
        upstream.closed_connections_to_be(n + 1).await;
        // The front passes the end on.
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((upstream.seen().len(), front.shaken().len()), (10, 10));
}

#[tokio::test]
async fn a_websocket_passes_over_tls_by_http1_whatever_else_is_spoken() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let front = TlsFront::start(upstream.address(), &authority, NAME, Front::default()).await;
    let endpoints = format!("endpoints = [\"https://localhost:{}\"]\nprotocol = \"auto\"", front.port());
    let config = Config::before_endpoints([]).upstream(&endpoints).upstream(&trusting(&authority, ""));
    let proxy = config.start().await;
    upstream.next(Reply::echo("websocket"));
    let mut client = proxy.client().await;
    client.send(&Request::get("/socket").field("Connection", "Upgrade").field("Upgrade", "websocket")).await;
    client.read_until("\r\n\r\n").await;
    client.send_bytes("hello").await;
    client.read_until("hello").await;
    assert_eq!(front.shaken()[0].protocol.as_deref(), Some("http/1.1"));
}

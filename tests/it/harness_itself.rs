//! The harness against itself: what it says it does, it does.

use crate::harness::{Client, DeadEndpoint, Reply, Request, Upstream};

#[tokio::test]
async fn the_upstream_numbers_and_counts_what_it_executes() {
    let upstream = Upstream::start().await;
    let mut client = Client::connect(upstream.address()).await;
    for n in 1..=2 {
        let response = client.request(&Request::charge("k")).await;
        assert_eq!(response.expect_status(201).text(), format!(r#"{{"execution":{n}}}"#));
    }
    upstream.expect_executions("k", 2);
    assert_eq!(upstream.connections(), 1, "the connection was kept");
    assert_eq!(upstream.seen()[0].text(), r#"{"amount":10}"#);
}

#[tokio::test]
async fn a_gate_holds_a_reply_until_the_test_lets_it_go() {
    let upstream = Upstream::start().await;
    let mut gate = upstream.hold_next();
    let mut client = Client::connect(upstream.address()).await;
    client.send(&Request::charge("k")).await;
    gate.arrived().await;
    gate.release();
    client.response().await.expect_status(201);
}

#[tokio::test]
async fn a_chunked_reply_keeps_its_trailers_and_a_cut_one_breaks() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::status(200).chunked(&["ab", "c"]).trailer("X-Sum", "3"));
    upstream.next(Reply::status(200).body("whole").cut_after(2));
    let mut client = Client::connect(upstream.address()).await;
    let response = client.request(&Request::get("/").chunked(&["u", "p"]).trailer("X-Up", "1")).await;
    assert_eq!((response.text().as_str(), response.trailers.len()), ("abc", 1), "{response:?}");
    assert_eq!((upstream.only().text().as_str(), upstream.only().trailers.len()), ("up", 1));
    client.send(&Request::get("/")).await;
    let broken = client.try_response().await.expect_err("the body is cut");
    assert_eq!(broken.partial.expect("the head came").text(), "wh");
}

#[tokio::test]
async fn a_fed_reply_comes_piece_by_piece() {
    let upstream = Upstream::start().await;
    let (reply, feed) = Reply::fed(200);
    upstream.next(reply);
    let mut client = Client::connect(upstream.address()).await;
    client.send(&Request::get("/")).await;
    assert!(feed.send("first"));
    client.read_until("first").await;
    assert!(feed.send("second"));
    client.read_until("second").await;
    feed.end();
    client.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_dead_endpoint_refuses_and_can_come_to_life() {
    let dead = DeadEndpoint::new();
    let refused = tokio::net::TcpStream::connect(dead.address()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let address = dead.address();
    let _upstream = dead.revive();
    Client::connect(address).await.request(&Request::get("/")).await.expect_status(201);
}

#[tokio::test]
async fn a_reset_and_a_hang_up_are_told_apart() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::reset());
    upstream.next(Reply::hang_up());
    for kind in [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::UnexpectedEof] {
        let mut client = Client::connect(upstream.address()).await;
        client.send(&Request::get("/")).await;
        let broken = client.try_response().await.expect_err("no answer");
        assert_eq!(broken.error.kind(), kind);
    }
}

//! Protocol switches: WebSocket end to end by a real library, and no tunnel that nobody agreed to.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Error, Message, WebSocket};

use crate::harness::{Config, Proxy, Reply, Request, Upstream};

const PATIENCE: Duration = Duration::from_secs(20);

/// Greets, then repeats what it is told, until it is told goodbye.
fn echo_server() -> (SocketAddr, JoinHandle<Option<CloseFrame>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.send(Message::text("welcome")).unwrap();
        let mut goodbye = None;
        loop {
            match socket.read() {
                Ok(Message::Close(frame)) => goodbye = frame,
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).unwrap(),
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return goodbye,
                Err(error) => panic!("{error}"),
            }
        }
    });
    (address, serving)
}

fn connect(proxy: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "ws://api.test/chat?room=1".into_client_request().unwrap();
    tungstenite::client(request, stream).unwrap().0
}

#[tokio::test]
async fn a_websocket_works_end_to_end() {
    let (upstream, serving) = echo_server();
    let proxy = Config::before_endpoints([upstream]).start().await;
    let address = proxy.address();
    let talking = spawn_blocking(move || {
        let mut socket = connect(address);
        assert_eq!(socket.read().unwrap(), Message::text("welcome"), "the upstream may speak first");
        let large = vec![0xA5; 3 << 20];
        for message in [Message::text("h\u{e9}llo"), Message::binary(large), Message::text("")] {
            socket.send(message.clone()).unwrap();
            assert!(socket.read().unwrap() == message, "what comes back is what was sent");
        }
        socket.send(Message::Ping("are you there".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
        socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "bye".into() })).unwrap();
        loop {
            match socket.read() {
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    talking.await.unwrap();
    let goodbye = serving.join().unwrap().expect("the client said goodbye");
    assert_eq!((goodbye.code, goodbye.reason.as_str()), (CloseCode::Normal, "bye"));
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends_on_both_sides() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("tunnel_idle_timeout = \"200ms\"").start().await;
    upstream.next(Reply::echo("websocket"));
    let mut client = proxy.client().await;
    client.request(&handshake()).await.expect_status(101);
    client.send_bytes("hello").await;
    client.read_until("hello").await;
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn a_tunnel_carries_what_would_be_malformed_outside() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::echo("websocket"));
    let mut client = proxy.client().await;
    client.request(&handshake()).await.expect_status(101);
    client.send_bytes("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno chunk").await;
    client.read_until("no chunk").await;
}

fn handshake() -> Request {
    Request::get("/chat").field("Connection", "Upgrade").field("Upgrade", "websocket")
}

/// A guarded request as a client would hide it behind a switch.
fn hidden() -> Request {
    Request::post("/v1/charges").json("{}")
}

#[tokio::test]
async fn nothing_crosses_before_the_upstream_has_agreed() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut gate = upstream.hold_next();
    let mut client = proxy.client().await;
    client.send_bytes([handshake().bytes(), hidden().bytes()].concat()).await;
    gate.arrived().await;
    gate.release();
    client.response().await.expect_status(201);
    // It is no tunnel, so the bytes behind are a request like any other.
    client.response().await.expect_problem(400, "key-missing");
    assert_eq!(upstream.only().target, "/chat");
}

#[tokio::test]
async fn what_a_client_says_too_early_arrives_behind_the_switch() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::echo("websocket"));
    let mut client = proxy.client().await;
    client.send_bytes([handshake().bytes(), b"early".to_vec()].concat()).await;
    client.read_until("early").await;
}

#[tokio::test]
async fn an_upstream_that_switches_to_anything_else_gets_no_tunnel() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).rest("upgrades = [\"websocket\", \"foo\"]").start().await;
    let bare = Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n");
    for reply in [Reply::echo("foo"), Reply::echo("h2c"), Reply::echo("websocket, foo"), bare] {
        upstream.next(reply);
        let mut client = proxy.client().await;
        client.send_bytes([handshake().bytes(), hidden().bytes()].concat()).await;
        client.response().await.expect_problem(502, "outcome-unknown");
        client.response().await.expect_problem(400, "key-missing");
    }
    assert_eq!(upstream.seen().len(), 4, "{:#?}", upstream.seen());
}

#[tokio::test]
async fn an_upstream_that_switches_unasked_gets_no_tunnel() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for request in
        [Request::charge("k"), Request::get("/"), Request::charge("l").field("Upgrade", "websocket")]
    {
        upstream.next(Reply::echo("websocket"));
        let mut client = proxy.client().await;
        client.send_bytes([request.bytes(), hidden().bytes()].concat()).await;
        client.response().await.expect_problem(502, "outcome-unknown");
        client.response().await.expect_problem(400, "key-missing");
    }
    assert_eq!(upstream.seen().len(), 3, "{:#?}", upstream.seen());
}

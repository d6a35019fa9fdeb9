//! The PROXY protocol: who the client is, said by the balancer before the first byte.

use crate::harness::{Certificates, Client, Config, Http2Client, Proxy, Request, Upstream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";

async fn start(upstream: &Upstream, more: &str) -> Proxy {
    let listener =
        format!("{more}\n[[server.listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n");
    Config::before(upstream).only_listener().server(&listener).start().await
}

fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
}

#[tokio::test]
async fn the_client_is_who_the_header_says() {
    let upstream = Upstream::start().await;
    let proxy = start(&upstream, "").await;
    let v4 = [192, 0, 2, 8, 192, 0, 2, 1, 0x12, 0x34, 1, 0xBB];
    let mut v6 = [0; 36];
    v6[..16].copy_from_slice(&"2001:db8::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    let with_tlv = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    let headers = [
        (V1.to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(1, 0x11, &v4), "192.0.2.8"),
        (v2(1, 0x11, &with_tlv), "192.0.2.8"),
        (v2(1, 0x21, &v6), "2001:db8::9"),
        (v2(0, 0, &[]), "127.0.0.1"),
    ];
    for (index, (header, client)) in headers.into_iter().enumerate() {
        let key = index.to_string();
        let mut connection = Client::connect(proxy.address()).await;
        connection.send_bytes([header, Request::charge(&key).bytes()].concat()).await;
        connection.response().await.expect_status(201);
        connection.request(&Request::charge(&key)).await.expect_status(201);
        assert_eq!(upstream.seen()[index].value("x-forwarded-for"), Some(client));
    }
}

#[tokio::test]
async fn a_header_may_come_in_pieces_before_any_protocol() {
    let upstream = Upstream::start().await;
    let proxy = start(&upstream, "").await;
    let mut http1 = Client::connect(proxy.address()).await;
    for byte in [V1, &Request::charge("1").bytes()].concat() {
        http1.send_bytes([byte]).await;
        tokio::task::yield_now().await;
    }
    http1.response().await.expect_status(201);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(V1).await.unwrap();
    Http2Client::over(stream).await.request(&Request::charge("2")).await.expect_status(201);
    assert!(upstream.seen().iter().all(|seen| seen.value("x-forwarded-for") == Some("192.0.2.7")));
}

#[tokio::test]
async fn a_header_comes_before_tls() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority.toml("")).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(V1).await.unwrap();
    let stream = authority.secure(stream, "api.test", "h2", None).await.unwrap();
    Http2Client::over(stream).await.request(&Request::charge("k")).await.expect_status(201);
    let seen = upstream.only();
    assert_eq!(seen.value("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(seen.value("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn what_does_not_begin_with_a_sound_header_is_closed_unread() {
    let upstream = Upstream::start().await;
    let proxy = start(&upstream, "header_timeout = \"300ms\"").await;
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 10_000]].concat();
    let beginnings = [
        Vec::new(),
        b"PROXY TCP4 192.0.2.7".to_vec(),
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 99999\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.777 192.0.2.1 4711 443\r\n".to_vec(),
        b"PROXY TCP9 192.0.2.7 192.0.2.1 4711 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n\n".to_vec(),
        v2(7, 0x11, &[0; 12]),
        v2(1, 0x11, &[0; 3]),
        v2(1, 0x99, &[0; 12]),
        SIGNATURE[..5].to_vec(),
        long,
    ];
    for beginning in beginnings {
        let mut connection = Client::connect(proxy.address()).await;
        let request = if beginning.len() < 30 { Vec::new() } else { Request::charge("k").bytes() };
        connection.try_send_bytes([beginning.clone(), request].concat()).await;
        assert_eq!(connection.closed().await, "", "{:?}", String::from_utf8_lossy(&beginning));
    }
    let mut direct = Client::connect(proxy.address()).await;
    direct.try_send_bytes(Request::charge("k").bytes()).await;
    assert_eq!(direct.closed().await, "");
    upstream.expect_nothing();
}

#[tokio::test]
async fn connections_are_counted_by_the_address_that_the_header_says() {
    let upstream = Upstream::start().await;
    let proxy = start(&upstream, "max_connections_per_address = 1").await;
    let mut first = Client::connect(proxy.address()).await;
    first.send_bytes([V1, &Request::charge("1").bytes()].concat()).await;
    first.response().await.expect_status(201);
    let mut second = Client::connect(proxy.address()).await;
    second.try_send_bytes([V1, &Request::charge("2").bytes()].concat()).await;
    assert_eq!(second.closed().await, "");
    let mut other = Client::connect(proxy.address()).await;
    other
        .send_bytes(
            [b"PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\n", Request::charge("3").bytes().as_slice()].concat(),
        )
        .await;
    other.response().await.expect_status(201);
    upstream.expect_executions("2", 0);
}

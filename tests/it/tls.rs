//! TLS towards clients: which certificate is shown, who has to show one, and what changes while it runs.

use std::fs;
use std::process::Output;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Certificates, Client, Config, Http2Client, Proxy, Reply, Request, Upstream, eventually, run, within,
};

const CLIENTS: &str = "client_ca = \"@ca.crt\"";

async fn start(upstream: &Upstream, authority: &Certificates, more: &str) -> Proxy {
    Config::before(upstream).server(&authority.toml(more)).start().await
}

/// What a server says that listens here to a client that asks for `host`.
async fn shown(authority: &Certificates, proxy: &Proxy, host: &str) -> Vec<u8> {
    let stream = authority.connect(proxy.address(), host, "h2", None).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

/// A charge, by curl.
async fn curl(proxy: &Proxy, authority: &Certificates, key: &str, more: &[&str]) -> Output {
    let port = proxy.address().port();
    let ca = authority.path("ca.crt").display().to_string();
    let resolve = format!("api.test:{port}:127.0.0.1");
    let (key, url) = (format!("Idempotency-Key: {key}"), format!("https://api.test:{port}/v1/charges"));
    let form = "%{http_version} %{http_code} %header{idempotent-replayed}\n";
    let fixed = [
        "-sS",
        "--max-time",
        "15",
        "--cacert",
        &ca,
        "--resolve",
        &resolve,
        "-H",
        &key,
        "-d",
        "{}",
        "-w",
        form,
    ];
    run("curl", [&fixed, more, &[&url]].concat().into_iter().map(str::to_owned).collect()).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn curl_is_served_by_both_protocols_and_gets_one_run() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "").await;
    for (protocol, said) in
        [("--http1.1", "1.1 201 \n"), ("--http2", "2 201 true\n"), ("--tls-max=1.2", "2 201 true\n")]
    {
        let more = [protocol.split('=').next().unwrap(), protocol.split('=').nth(1).unwrap_or("--http2")];
        let output = curl(&proxy, &authority, "k", &more[..if protocol.contains('=') { 2 } else { 1 }]).await;
        let stdout = text(&output.stdout);
        assert!(stdout.ends_with(said), "{protocol}: {stdout:?} {}", text(&output.stderr));
    }
    upstream.expect_executions("k", 1);
    assert_eq!(upstream.only().value("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn curl_may_ask_before_it_sends_a_body() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "").await;
    for (key, protocol) in [("1", "--http1.1"), ("2", "--http2")] {
        let output = curl(&proxy, &authority, key, &[protocol, "-H", "Expect: 100-continue"]).await;
        assert!(text(&output.stdout).contains(" 201 "), "{}", text(&output.stderr));
        upstream.expect_executions(key, 1);
    }
}

#[tokio::test]
async fn a_host_is_the_same_with_and_without_its_default_port() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "").await;
    let stream = authority.connect(proxy.address(), "api.test", "h2", None).await.unwrap();
    let mut client = Http2Client::over(stream).await;
    let first = client.request(&Request::charge("k").host("api.test:443")).await;
    client.request(&Request::charge("k")).await.expect_replay_of(&first);
    client.request(&Request::charge("k").host("api.test:80")).await.expect_status(201);
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn the_certificate_is_the_one_of_the_host_that_is_asked_for() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let other = authority.certify("other", &["other.test", "*.wild.test"]);
    let more = "certificates = [{ cert = \"@other.crt\", key = \"@other.key\" }]";
    let proxy = start(&upstream, &authority, more).await;
    let first = shown(&authority, &proxy, "api.test").await;
    assert_eq!(shown(&authority, &proxy, "other.test").await, other.der.to_vec());
    assert_eq!(shown(&authority, &proxy, "a.wild.test").await, other.der.to_vec());
    assert_ne!(first, other.der.to_vec());
    let stranger = authority.connect(proxy.address(), "unknown.test", "h2", None).await.unwrap_err();
    assert!(stranger.to_string().contains("not valid for name"), "it is shown the first: {stranger}");
}

#[tokio::test]
async fn new_certificates_are_taken_and_connections_stay() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "reload_interval = \"20ms\"").await;
    let stream = authority.connect(proxy.address(), "api.test", "h2", None).await.unwrap();
    let mut client = Http2Client::over(stream).await;
    let first = client.request(&Request::charge("k")).await;
    let before = shown(&authority, &proxy, "api.test").await;

    fs::write(authority.path("server.key"), "no key").unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        shown(&authority, &proxy, "api.test").await,
        before,
        "files that cannot be used change nothing"
    );
    fs::remove_file(authority.path("server.crt")).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(shown(&authority, &proxy, "api.test").await, before, "nor do files that are not there");

    let renewed = authority.certify("server", &["api.test"]).der.to_vec();
    eventually("the new certificate is shown", async || {
        shown(&authority, &proxy, "api.test").await == renewed
    })
    .await;
    client.request(&Request::charge("k")).await.expect_replay_of(&first);
}

#[tokio::test]
async fn clients_are_told_apart_by_their_certificates() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let config = Config::before(&upstream).charges("caller = [\"client-cert\"]");
    let proxy =
        config.server(&authority.toml(&format!("{CLIENTS}, client_auth = \"optional\""))).start().await;
    let (a, b) = (authority.certify("a", &["a"]), authority.certify("b", &["b"]));
    let mut firsts = Vec::new();
    for client in [Some(&a), Some(&b), None] {
        let stream = authority.connect(proxy.address(), "api.test", "h2", client).await.unwrap();
        let first = Http2Client::over(stream).await.request(&Request::charge("k")).await;
        assert!(!first.expect_status(201).is_replay(), "each has keys of its own: {first:?}");
        firsts.push(first);
    }
    for (client, first) in [Some(&a), Some(&b), None].into_iter().zip(&firsts) {
        let stream = authority.connect(proxy.address(), "api.test", "h2", client).await.unwrap();
        Http2Client::over(stream).await.request(&Request::charge("k")).await.expect_replay_of(first);
    }
    upstream.expect_executions("k", 3);
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_refused_where_one_is_required() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, CLIENTS).await;
    let client = authority.certify("client", &["client"]);
    let stranger = Certificates::new().certify("client", &["client"]);
    for (who, served) in [(Some(&client), true), (Some(&stranger), false), (None, false)] {
        let answered = match authority.connect(proxy.address(), "api.test", "http/1.1", who).await {
            Ok(mut stream) => {
                drop(stream.write_all(&Request::charge("k").bytes()).await);
                let mut answer = [0; 12];
                within("an answer", stream.read_exact(&mut answer)).await.is_ok()
            }
            Err(_) => false,
        };
        assert_eq!(answered, served);
    }
    upstream.expect_executions("k", 1);
    let (cert, key) = (authority.path("client.crt"), authority.path("client.key"));
    let shown = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let output = curl(&proxy, &authority, "k", &shown).await;
    assert!(text(&output.stdout).ends_with("2 201 \n"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn openssl_finds_the_new_versions_and_no_early_data() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "").await;
    let connect = proxy.address().to_string();
    for (version, expected) in [("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let arguments = ["s_client", "-connect", &connect, "-servername", "api.test", "-alpn", "h2", version];
        let output = run("openssl", arguments.map(str::to_owned).to_vec()).await;
        let said = text(&output.stdout);
        assert_eq!(
            said.contains("ALPN protocol: h2"),
            expected,
            "{version}: {said} {}",
            text(&output.stderr)
        );
        assert!(!said.contains("Max Early Data: ") || said.contains("Max Early Data: 0"), "{said}");
    }
}

#[tokio::test]
async fn handshakes_that_do_not_end_hold_up_nobody() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "handshake_timeout = \"300ms\"").await;
    let mut silent = Client::connect(proxy.address()).await;
    let mut halfway = Client::connect(proxy.address()).await;
    halfway.send_bytes([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await;
    let mut plain = Client::connect(proxy.address()).await;
    plain.send(&Request::charge("k")).await;
    assert!(!plain.closed().await.contains("HTTP"), "cleartext gets no answer");
    let stream = authority.connect(proxy.address(), "api.test", "h2", None).await.unwrap();
    Http2Client::over(stream).await.request(&Request::charge("k")).await.expect_status(201);
    drop((silent.closed().await, halfway.closed().await));
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_nothing_comes_takes_its_request_along() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "").await;
    upstream.next(Reply::status(200).body("hello").cut_after(2).then_stall());
    let mut stream = authority.connect(proxy.address(), "api.test", "http/1.1", None).await.unwrap();
    stream.write_all(&Request::get("/events").bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"he") {
        within("the beginning of an answer", stream.read_buf(&mut read)).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    drop(stream);
    upstream.hang_ups_to_be(1).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let proxy = start(&upstream, &authority, "").await;
    upstream.next(Reply::status(200).chunked(&["all", " of it"]).cut_after(8));
    let mut stream = authority.connect(proxy.address(), "api.test", "http/1.1", None).await.unwrap();
    let old = text(&Request::get("/").bytes()).replace("HTTP/1.1", "HTTP/1.0");
    stream.write_all(old.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let ended = within("the connection's end", stream.read_to_end(&mut read)).await;
    assert!(ended.is_err(), "it ends without a goodbye: {:?}", text(&read));
}

#[tokio::test]
async fn listeners_with_tls_and_without_stand_side_by_side() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let plain = "[[server.listeners]]\naddress = \"127.0.0.2:0\"\ntls = false\n";
    let server = format!("{}\n{plain}", authority.toml(""));
    let proxy = Config::before(&upstream).server(&server).start().await;
    let stream = authority.connect(proxy.address(), "api.test", "h2", None).await.unwrap();
    let first = Http2Client::over(stream).await.request(&Request::charge("k")).await;
    Client::connect(proxy.addresses()[1]).await.request(&Request::charge("k")).await.expect_replay_of(&first);
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_it_from_starting_and_are_all_named() {
    let authority = Certificates::with_server();
    let _client = authority.certify("client", &["client"]);
    fs::write(authority.path("empty.pem"), "").unwrap();
    let at = |name: &str| authority.path(name).display().to_string();
    let pair = |cert: &str, key: &str| format!("{{ cert = {:?}, key = {:?} }}", at(cert), at(key));
    let toml = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\ntls = {{ cert = {:?}, key = {:?}, client_ca = {:?}, certificates = [{}, {}, {}] }}\n\
         [upstreams.legacy]\nendpoints = [\"http://127.0.0.1:9\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"legacy\"\n",
        at("server.crt"),
        at("client.key"),
        at("empty.pem"),
        pair("none.crt", "server.key"),
        pair("server.crt", "empty.pem"),
        pair("server.key", "server.key"),
    );
    let mistakes = oncegate::config::parse(&toml, "proxy.toml").unwrap_err().to_string();
    let expected = [
        format!(
            "the key in {} is not that of the first certificate in {}",
            at("client.key"),
            at("server.crt")
        ),
        format!("`client_ca`: {} holds no certificate", at("empty.pem")),
        format!("cannot read {}", at("none.crt")),
        format!("{} holds no private key", at("empty.pem")),
        format!("`cert`: {} holds no certificate", at("server.key")),
    ];
    assert_eq!(mistakes.lines().count(), expected.len(), "{mistakes}");
    for expected in expected {
        let mistake = mistakes.lines().find(|line| line.contains(&expected));
        assert!(mistake.is_some_and(|line| line.contains("; ")), "{expected}\nin\n{mistakes}");
    }
}

#[tokio::test]
async fn files_are_looked_for_beside_the_configuration() {
    let authority = Certificates::with_server();
    let toml = "[server]\nlisten = [\"127.0.0.1:0\"]\ntls = { cert = \"server.crt\", key = \"server.key\" }\n\
        [upstreams.legacy]\nendpoints = [\"http://127.0.0.1:9\"]\n\
        [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"legacy\"\n";
    fs::write(authority.path("proxy.toml"), toml).unwrap();
    let settings = oncegate::config::load(&authority.path("proxy.toml")).unwrap().settings;
    fs::remove_file(authority.path("server.key")).unwrap();
    let error = oncegate::app::App::build(settings).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.contains("server.key"), "{error}");
}

#[tokio::test]
async fn a_tls_connection_that_says_nothing_afterwards_is_closed() {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let config = Config::before(&upstream).server("header_timeout = \"200ms\"\nidle_timeout = \"200ms\"");
    let proxy = config.server(&authority.toml("")).start().await;
    for protocol in ["h2", "http/1.1"] {
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        let mut stream = authority.secure(stream, "api.test", protocol, None).await.unwrap();
        // However it is closed.
        within("the connection's end", stream.read_to_end(&mut Vec::new())).await.unwrap_or(0);
    }
}

#[tokio::test]
async fn h2load_gets_every_answer_over_tls_and_in_cleartext() {
    let upstream = Upstream::start().await;
    let certificates = Certificates::with_server();
    let secured = start(&upstream, &certificates, "").await;
    let plain = Proxy::start(&upstream).await;
    for url in [format!("https://{}/", secured.address()), format!("http://{}/", plain.address())] {
        let arguments = ["-n", "2000", "-c", "4", "-m", "50", &url].map(str::to_owned).to_vec();
        let said = text(&run("h2load", arguments).await.stdout);
        assert!(said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{url}: {said}");
        assert!(said.contains("status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{url}: {said}");
    }
    assert_eq!(upstream.seen().len(), 4_000);
}

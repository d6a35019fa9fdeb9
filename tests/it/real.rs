//! Clients and servers that others made: curl, nginx, Node.

use std::fs;
use std::process::Command;

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::harness::{Config, OtherServer, Proxy, Request, Upstream, eventually, tools};

/// Runs curl, and returns what came: heads and body.
async fn curl(arguments: &[&str]) -> String {
    tools();
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || Command::new("curl").args(["-sS", "-i", "--max-time", "15"]).args(arguments).output();
    let output = spawn_blocking(run).await.expect("a thread").expect("curl");
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn curl_waits_for_100_continue_and_gets_it_where_its_body_is_wanted() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("body");
    fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let body = format!("@{}", file.display());
    let url = format!("http://{}/v1/charges", proxy.address());
    let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "10", "--data-binary", &body, &url];
    let keyed = [&["-H", "Idempotency-Key: k"], &expect[..]].concat();

    let first = curl(&keyed).await;
    assert!(first.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 "), "{first}");
    assert_eq!(upstream.only().body.len(), 3_000_000);
    assert_eq!(upstream.only().value("expect"), None, "nobody is left to wait");
    let retry = curl(&keyed).await;
    assert!(retry.contains("idempotent-replayed: true"), "{retry}");
    upstream.expect_executions("k", 1);

    let refused = curl(&expect).await;
    assert!(refused.starts_with("HTTP/1.1 400 "), "no body is asked for that nobody reads: {refused}");
    let passed = curl(&[&expect[..6], &[&format!("http://{}/elsewhere", proxy.address())]].concat()).await;
    assert!(passed.contains("HTTP/1.1 201 "), "{passed}");
}

#[tokio::test]
async fn curl_sends_chunks_and_trailers_are_no_end() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let url = format!("http://{}/v1/charges", proxy.address());
    let chunked = [
        "-H",
        "Idempotency-Key: k",
        "-H",
        "Transfer-Encoding: chunked",
        "--data-binary",
        "{\"amount\":1}",
        &url,
    ];
    let first = curl(&chunked).await;
    assert!(first.starts_with("HTTP/1.1 201 "), "{first}");
    let whole = ["-H", "Idempotency-Key: k", "--data-binary", "{\"amount\":1}", &url];
    assert!(curl(&whole).await.contains("idempotent-replayed: true"), "chunks are no part of the payload");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn curl_as_the_documents_show_it_asks_again_until_the_first_has_its_answer() {
    let documented = include_str!("../../docs/clients.md");
    let line = documented.lines().find_map(|line| line.strip_prefix("curl ")).expect("a command");
    let options: Vec<&str> = line.trim_end_matches('\\').split_whitespace().collect();
    assert!(options.contains(&"--retry"), "{options:?}");
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let url = format!("http://{}/v1/charges", proxy.address());
    let request = ["-H", "Idempotency-Key: k", "--data", "{\"amount\":1}", &url];
    let mut gate = upstream.hold_next();
    let once_refused = async {
        gate.arrived().await;
        let refused = "oncegate_requests_total{route=\"charges\",outcome=\"in_flight\"}";
        eventually("the retry was refused", async || proxy.metrics().await.value(refused) >= 1.0).await;
        gate.release();
    };
    let again = [&options[..], &request[..]].concat();
    // Whichever comes first holds the key.
    let (one, other, ()) = tokio::join!(curl(&again), curl(&again), once_refused);
    for answer in [&one, &other] {
        assert!(answer.contains("HTTP/1.1 201 "), "{answer}");
    }
    let replays = [one, other].iter().filter(|answer| answer.contains("idempotent-replayed: true")).count();
    assert_eq!(replays, 1, "the one that was refused got the replay");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn nginx_executes_a_key_once() {
    let nginx = nginx().await;
    let proxy = Config::before_endpoints([nginx.address()]).start().await;
    let first = proxy.charge("k").await;
    first.expect_status(201);
    for _ in 0..3 {
        proxy.charge("k").await.expect_replay_of(&first);
    }
    proxy.charge("other").await.expect_status(201);
    proxy.request(&Request::get("/elsewhere")).await.expect_status(201);
    let served = || nginx.access_log();
    eventually("nginx has logged all", async || served().lines().count() >= 3).await;
    let keys: Vec<String> = served().lines().map(str::to_owned).collect();
    assert_eq!(keys, ["POST /v1/charges k", "POST /v1/charges other", "GET /elsewhere -"]);
}

#[tokio::test]
async fn node_executes_a_key_once_and_streams_its_answer() {
    let node = node();
    let proxy = Config::before_endpoints([node.address()]).start().await;
    let first = proxy.charge("k").await;
    assert_eq!(first.expect_status(201).text(), r#"1: {"amount":10}"#);
    for _ in 0..3 {
        proxy.charge("k").await.expect_replay_of(&first);
    }
    let second = proxy.request(&Request::post("/elsewhere").body("abc")).await;
    assert_eq!(second.expect_status(201).text(), "2: abc");
    assert!(second.is_chunked, "as Node sent it: {second:?}");
}

/// nginx, which answers 201 and logs what it was asked.
async fn nginx() -> OtherServer {
    let server = |address| format!("listen {address}; location / {{ return 201 '{{}}'; }}");
    OtherServer::nginx("$request_method $request_uri $http_idempotency_key", server).await
}

/// Node, which says what it was sent, and how often it was asked.
fn node() -> OtherServer {
    OtherServer::node(
        "let count = 0;
        const server = require('node:http').createServer((request, response) => {
            const number = ++count;
            response.writeHead(201, { 'Content-Type': 'text/plain' });
            response.write(`${number}: `);
            request.pipe(response);
        });
        server.listen(0, '127.0.0.1', () => console.log(server.address().port));",
    )
}

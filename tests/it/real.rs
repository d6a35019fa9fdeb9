//! Clients and servers that others made: curl, nginx, Node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use crate::harness::{Config, Proxy, Request, Upstream, eventually, tools};

/// Ends with the test.
struct Server {
    child: Child,
    address: SocketAddr,
    /// What it needs, or writes.
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        self.child.kill().unwrap_or(());
        drop(self.child.wait());
    }
}

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
async fn nginx_executes_a_key_once() {
    let nginx = nginx().await;
    let proxy = Config::before_endpoints([nginx.address]).start().await;
    let first = proxy.charge("k").await;
    first.expect_status(201);
    for _ in 0..3 {
        proxy.charge("k").await.expect_replay_of(&first);
    }
    proxy.charge("other").await.expect_status(201);
    proxy.request(&Request::get("/elsewhere")).await.expect_status(201);
    let served = || fs::read_to_string(nginx.folder.path().join("access.log")).unwrap_or_default();
    eventually("nginx has logged all", async || served().lines().count() >= 3).await;
    let keys: Vec<String> = served().lines().map(str::to_owned).collect();
    assert_eq!(keys, ["POST /v1/charges k", "POST /v1/charges other", "GET /elsewhere -"]);
}

#[tokio::test]
async fn node_executes_a_key_once_and_streams_its_answer() {
    let node = node().await;
    let proxy = Config::before_endpoints([node.address]).start().await;
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
async fn nginx() -> Server {
    tools();
    let folder = TempDir::new().unwrap();
    let address = free_address();
    let path = folder.path().display();
    let config = format!(
        "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
         events {{}}\n\
         http {{\n\
         log_format asked '$request_method $request_uri $http_idempotency_key';\n\
         access_log {path}/access.log asked;\n\
         client_body_temp_path {path}; proxy_temp_path {path}; fastcgi_temp_path {path};\n\
         uwsgi_temp_path {path}; scgi_temp_path {path};\n\
         server {{ listen {address}; location / {{ return 201 '{{}}'; }} }}\n\
         }}\n"
    );
    fs::write(folder.path().join("nginx.conf"), config).unwrap();
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let child = Command::new(program)
        .arg("-c")
        .arg(folder.path().join("nginx.conf"))
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx");
    eventually("nginx listens", async || TcpStream::connect(address).await.is_ok()).await;
    Server { child, address, folder }
}

/// Node, which says what it was sent, and how often it was asked.
async fn node() -> Server {
    tools();
    let script = "let count = 0;
        const server = require('node:http').createServer((request, response) => {
            const number = ++count;
            response.writeHead(201, { 'Content-Type': 'text/plain' });
            response.write(`${number}: `);
            request.pipe(response);
        });
        server.listen(0, '127.0.0.1', () => console.log(server.address().port));";
    let mut child = Command::new("node").args(["-e", script]).stdout(Stdio::piped()).spawn().expect("node");
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut port).expect("a line");
    let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().expect("a port")));
    Server { child, address, folder: TempDir::new().unwrap() }
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

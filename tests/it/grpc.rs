//! gRPC: what Oncegate answers by itself is a status that its clients read, and no document.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::harness::{
    Client, Config, DeadEndpoint, Http2Client, Proxy, Reply, Request, Response, Upstream, tools,
};

/// A unary call.
fn call(key: &str) -> Request {
    Request::post("/v1/charges")
        .key(key)
        .field("content-type", "application/grpc+proto")
        .field("te", "trailers")
        .body([0; 5])
}

/// It is the whole answer, and says this (gRPC over HTTP/2, "Trailers-Only").
#[track_caller]
fn expect_status(response: &Response, code: &str) {
    response.expect_status(200);
    assert_eq!(response.value("grpc-status"), Some(code), "{response:?}");
    assert_eq!(response.value("content-type"), Some("application/grpc+proto"), "{response:?}");
    assert!(response.value("grpc-message").is_some_and(|message| !message.is_empty()), "{response:?}");
    assert!(response.body.is_empty() && response.trailers.is_empty(), "{response:?}");
}

const ABORTED: &str = "10";
const INVALID_ARGUMENT: &str = "3";
const UNAVAILABLE: &str = "14";
const UNKNOWN: &str = "2";
const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";

#[tokio::test]
async fn refusals_are_statuses() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream)
        .upstream("response_timeout = \"300ms\"")
        .charges("max_request_body = \"1KiB\"")
        .only_listed_routes()
        .start()
        .await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let mut gate = upstream.hold_next();
    let held = client.send(&call("held")).await;
    gate.arrived().await;
    let again = client.request(&call("held")).await;
    expect_status(&again, ABORTED);
    assert_eq!(again.expect_retry_after(), 1);
    expect_status(&held.response().await.unwrap(), DEADLINE_EXCEEDED);
    expect_status(&client.request(&call("held").body([1; 5])).await, INVALID_ARGUMENT);
    expect_status(&client.request(&call("k").without("idempotency-key")).await, INVALID_ARGUMENT);
    expect_status(&client.request(&call("a,b")).await, INVALID_ARGUMENT);
    expect_status(&client.request(&call("big").body([0; 2_000])).await, RESOURCE_EXHAUSTED);
    upstream.next(Reply::hang_up());
    for _ in 0..2 {
        expect_status(&client.request(&call("lost")).await, UNKNOWN);
    }
    let elsewhere = Request::post("/elsewhere").field("content-type", "application/grpc+proto");
    expect_status(&client.request(&elsewhere).await, UNIMPLEMENTED);
    gate.release();
    upstream.expect_executions("held", 1);
    upstream.expect_executions("lost", 1);
}

#[tokio::test]
async fn what_was_never_sent_is_unavailable() {
    let dead = DeadEndpoint::new();
    let proxy = Config::before_endpoints([dead.address()]).start().await;
    let mut client = Http2Client::connect(proxy.address()).await;
    expect_status(&client.request(&call("k")).await, UNAVAILABLE);
    expect_status(&client.request(&call("k")).await, UNAVAILABLE);
}

#[tokio::test]
async fn answers_of_the_upstream_and_their_replays_stay_as_they_are() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    let reply = Reply::status(200).chunked(&["\0\0\0\0\0"]).field("trailer", "grpc-status");
    upstream.next(reply.field("content-type", "application/grpc").trailer("grpc-status", "5"));
    let first = client.request(&call("k")).await;
    assert_eq!(first.trailers, [("grpc-status".to_owned(), "5".to_owned())]);
    client.request(&call("k")).await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn other_media_types_get_documents() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut client = Http2Client::connect(proxy.address()).await;
    for media_type in ["application/json", "application/grp", "text/application/grpc"] {
        let request = call("a,b").without("content-type").field("content-type", media_type);
        client.request(&request).await.expect_problem(400, "key-invalid");
    }
    let mut http1 = Client::connect(proxy.address()).await;
    let web = call("a,b").without("content-type").field("content-type", "application/grpc-web");
    let answer = http1.request(&web).await;
    assert_eq!((answer.status, answer.value("grpc-status")), (200, Some(INVALID_ARGUMENT)), "{answer:?}");
}

#[tokio::test]
async fn grpcio_on_both_sides_runs_each_key_once() {
    let mut python = spawn_blocking(|| {
        tools();
        Command::new("target/tools/bin/python")
            .arg("tests/it/grpc/real.py")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python")
    })
    .await
    .unwrap();
    let mut said = BufReader::new(python.stdout.take().expect("a pipe")).lines();
    let mut line = spawn_blocking(move || (said.next().expect("a line").expect("text"), said)).await.unwrap();
    let proxy = Config::before_endpoints([])
        .upstream(&format!("endpoints = [\"http://127.0.0.1:{}\"]\nprotocol = \"http2\"", line.0))
        .route("name = \"calls\"\npath = \"/shop.Charges/{method}\"")
        .start()
        .await;
    writeln!(python.stdin.take().expect("a pipe"), "{}", proxy.address()).expect("it reads");
    let seen = spawn_blocking(move || line.1.next().expect("a line").expect("text")).await.unwrap();
    assert!(spawn_blocking(move || python.wait()).await.unwrap().expect("its end").success());
    let expected = json!({
        "first": { "answer": "1", "replayed": null, "sum": "7" },
        "again": { "answer": "1", "replayed": "true", "sum": "7" },
        "other payload": "INVALID_ARGUMENT",
        "no key": "INVALID_ARGUMENT",
        "fails": ["NOT_FOUND", "NOT_FOUND"],
        "in flight": "ABORTED",
        "slow": { "answer": "2", "replayed": null, "sum": "7" },
        "stream": ["a", "b", "c"],
        "service gone": "UNAVAILABLE",
        "executions": 2,
    });
    assert_eq!(serde_json::from_str::<Value>(&seen).expect("JSON"), expected);
}

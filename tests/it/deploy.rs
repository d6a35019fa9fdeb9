//! What `deploy/` ships: manifests that a cluster takes, alerts that fire, configurations that the program accepts, and no
//! metric that is not there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Client, Config, Log, Metrics, Request, Response, Running, Upstream, eventually};
use crate::servers::{Certificates, Launch, Make, PASSWORD, USER, tools};

/// Where overlays mount what is secret.
const SECRETS: &str = "/run/secrets/oncegate/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `tests/deploy.py` made of `deploy/`; `None`, and it says so, where there is no kubectl.
#[expect(clippy::print_stderr, reason = "a test says what it skips")]
fn judged() -> Option<(TempDir, Output)> {
    tools();
    let paths = env::var_os("PATH").expect("a path");
    if !env::split_paths(&paths).any(|folder| folder.join("kubectl").is_file()) {
        eprintln!("skipped: no kubectl, which no package of Debian's brings in a version that reads deploy/");
        return None;
    }
    let out = tempfile::tempdir().expect("a folder");
    let judged = Command::new(root().join("target/tools/bin/python"))
        .arg(root().join("tests/deploy.py"))
        .arg(out.path())
        .output()
        .expect("Python");
    Some((out, judged))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The file with its secrets, which are there only in a cluster, and nothing else changed.
fn with_secrets(out: &TempDir, overlay: &str) -> PathBuf {
    let file = out.path().join(format!("{overlay}.toml"));
    let text = fs::read_to_string(&file).expect("a file");
    for named in text.split(SECRETS).skip(1) {
        let name = named.split('"').next().expect("an end");
        let secret = if name == "redis-password" { PASSWORD } else { "a-token-that-is-long-enough" };
        fs::write(out.path().join(name), secret).expect("a file");
    }
    let here = format!("{}/", out.path().display());
    fs::write(&file, text.replace(SECRETS, &here)).expect("a file");
    file
}

/// The program, with what an overlay ships.
struct Shipped {
    address: SocketAddr,
    admin: SocketAddr,
    _running: Running,
    /// Kept open, though nobody reads what else is logged.
    _log: Log,
}

impl Shipped {
    /// With what is different here from a cluster, as pairs of what is written and what stands for it.
    fn start(file: &Path, here: &[(&str, &str)]) -> Self {
        let mut text = fs::read_to_string(file).expect("a file");
        for (written, instead) in
            [&[("0.0.0.0:8080", "127.0.0.1:0"), ("0.0.0.0:9090", "127.0.0.1:0")], here].concat()
        {
            assert!(text.contains(written), "{written} is not in {text}");
            text = text.replace(written, instead);
        }
        fs::write(file, text).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_oncegate"))
            .args(["run", "--config"])
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        // Killed, too, if it never says where it listens.
        let mut running = Running(child);
        let mut log = Log::of(running.0.stdout.take().expect("a pipe"));
        let serving = log.by_ref().map_while(Result::ok).find(|line| line.contains("\"serving\""));
        let serving: Value = serde_json::from_str(&serving.expect("it says where it listens")).expect("JSON");
        let address = |name: &str| {
            let text = serving[name].as_str().expect("an address").trim_matches(['[', ']']);
            text.parse().expect("an address")
        };
        Self { address: address("listen"), admin: address("admin"), _running: running, _log: log }
    }

    async fn ask(&self, request: &Request) -> Response {
        Client::connect(self.address).await.request(request).await
    }

    async fn metrics(&self) -> Metrics {
        Metrics(
            Client::connect(self.admin)
                .await
                .request(&Request::get("/metrics").host("localhost"))
                .await
                .expect_status(200)
                .text(),
        )
    }
}

#[test]
fn manifests_alerts_and_dashboard_are_what_a_cluster_takes_and_configurations_what_the_program_takes() {
    let Some((out, judged)) = judged() else { return };
    assert!(judged.status.success(), "{}", said(&judged));
    for overlay in ["memory", "redis"] {
        let file = with_secrets(&out, overlay);
        let checked = Command::new(env!("CARGO_BIN_EXE_oncegate"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .expect("the program");
        assert!(checked.status.success(), "{overlay}: {}", said(&checked));
    }
}

/// Pages on which, together, everything is that there can be: of what both overlays ship, after traffic.
async fn live_pages(out: &TempDir) -> [Metrics; 2] {
    let upstream = Upstream::start().await;
    let endpoint = upstream.address().to_string();
    let observed = ("guarded = false", "mode = \"observe\"");
    let memory = Shipped::start(&with_secrets(out, "memory"), &[("legacy-api:8080", &endpoint), observed]);
    let first = Request::charge("k");
    memory.ask(&first).await.expect_status(201);
    memory.ask(&first.clone().body("another")).await.expect_status(422);
    memory.ask(&Request::get("/elsewhere")).await.expect_status(201);

    let server = Launch::of(Make::Redis).start().await;
    let authority = Certificates::with_server();
    let tls = format!("{}\nshutdown_grace", authority.toml(""));
    let user = format!("username = \"{USER}\"");
    let here = [
        ("legacy-api:8080", endpoint.as_str()),
        ("redis://redis:6379/0", &server.url()),
        ("# username = \"oncegate\"", &user),
        ("shutdown_grace", &tls),
    ];
    let redis = Shipped::start(&with_secrets(out, "redis"), &here);
    let mut stranger = TcpStream::connect(redis.address).await.expect("a connection");
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("a request without TLS");
    let refused = "oncegate_connections_refused_total{reason=\"tls\"}";
    eventually("it was refused", async || redis.metrics().await.find(refused) == Some(1.0)).await;
    [memory.metrics().await, redis.metrics().await]
}

#[tokio::test]
async fn every_metric_that_alerts_and_dashboard_name_is_on_a_live_page() {
    let Some((out, judged)) = judged() else { return };
    assert!(judged.status.success(), "{}", said(&judged));
    let named = fs::read_to_string(out.path().join("metrics.txt")).expect("names");
    assert!(named.lines().count() > 40, "{named}");
    let pages = live_pages(&out).await;
    let is_there = |name: &str, page: &Metrics| {
        page.0.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
    };
    let missing: Vec<&str> =
        named.lines().filter(|name| !pages.iter().any(|page| is_there(name, page))).collect();
    assert!(missing.is_empty(), "on no page: {missing:?}");
    let [memory, redis] = pages;
    assert!(memory.find("oncegate_store_max_bytes").is_some());
    assert!(redis.find("oncegate_store_max_bytes").is_none(), "it tells the memory store from others");
}

/// An alert on an increase does not see a series that begins with its first event.
#[tokio::test]
async fn what_alerts_count_is_zero_from_the_start() {
    let upstream = Upstream::start().await;
    let page = Config::before(&upstream).memory().start().await.metrics().await;
    for sample in [
        "oncegate_requests_total{route=\"charges\",outcome=\"unprotected\"}",
        "oncegate_requests_total{route=\"charges\",outcome=\"store_full\"}",
        "oncegate_requests_total{route=\"charges\",outcome=\"overloaded\"}",
        "oncegate_unknown_outcomes_total{cause=\"connection_lost\"}",
        "oncegate_unknown_outcomes_total{cause=\"attempt_timeout\"}",
        "oncegate_unknown_outcomes_total{cause=\"abandoned\"}",
        "oncegate_permits_dropped_total",
        "oncegate_pending_writes_dropped_total",
        "oncegate_answers_evicted_total",
        "oncegate_log_lines_dropped_total",
        "oncegate_spans_dropped_total",
        "oncegate_store_trouble{trouble=\"forgot\"}",
    ] {
        assert_eq!(page.value(sample), 0.0, "{sample}");
    }
    for sample in ["oncegate_ready", "oncegate_store_up", "oncegate_config_last_reload_successful"] {
        assert_eq!(page.value(sample), 1.0, "{sample}");
    }
}

//! What `deploy/` ships: manifests that a cluster takes, alerts that fire, configurations that the program accepts, and no
//! metric that is not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Config, Metrics, Request, Upstream, Way, eventually};
use crate::servers::{Certificates, Launch, Make, tools};

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
fn with_secrets(file: &Path) -> PathBuf {
    let folder = file.parent().expect("a folder");
    let text = fs::read_to_string(file).expect("a file");
    for named in text.split(SECRETS).skip(1) {
        let name = named.split('"').next().expect("an end");
        fs::write(folder.join(name), "a-secret-of-more-than-thirty-two-bytes").expect("a file");
    }
    let here = format!("{}/", folder.display());
    fs::write(file, text.replace(SECRETS, &here)).expect("a file");
    file.to_owned()
}

#[test]
fn manifests_alerts_and_dashboard_are_what_a_cluster_takes_and_configurations_what_the_program_takes() {
    let Some((out, judged)) = judged() else { return };
    assert!(judged.status.success(), "{}", said(&judged));
    for overlay in ["memory", "redis"] {
        let file = with_secrets(&out.path().join(format!("{overlay}.toml")));
        let checked = Command::new(env!("CARGO_BIN_EXE_oncegate"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .expect("the program");
        assert!(checked.status.success(), "{overlay}: {}", said(&checked));
    }
}

/// Pages on which, together, everything is that there can be: of both stores, with a certificate, after traffic.
async fn live_pages() -> [Metrics; 2] {
    let upstream = Upstream::start().await;
    let observed = "name = \"observed\"\npath = \"/v1/observed\"\nmode = \"observe\"";
    let memory = Config::before(&upstream).route(observed).memory().start().await;
    let first = Request::charge("k");
    memory.request(&first).await.expect_status(201);
    memory.request(&first.clone().body("another")).await.expect_status(422);
    memory.request(&Request::get("/elsewhere")).await.expect_status(201);

    let server = Launch::of(Make::Redis).start().await;
    let authority = Certificates::with_server();
    let secure = Config::before(&upstream).server(&authority.toml(""));
    let (redis, _store) = Way::to_server(&server).start_as(secure).await;
    let mut stranger = TcpStream::connect(redis.address()).await.expect("a connection");
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("a request without TLS");
    let refused = "oncegate_connections_refused_total{reason=\"tls\"}";
    eventually("it was refused", async || redis.metrics().await.find(refused).is_some()).await;
    [memory.metrics().await, redis.metrics().await]
}

#[tokio::test]
async fn every_metric_that_alerts_and_dashboard_name_is_on_a_live_page() {
    let Some((out, judged)) = judged() else { return };
    assert!(judged.status.success(), "{}", said(&judged));
    let named = fs::read_to_string(out.path().join("metrics.txt")).expect("names");
    assert!(named.lines().count() > 40, "{named}");
    let pages = live_pages().await;
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
        "oncegate_store_trouble{trouble=\"forgot\"}",
    ] {
        assert_eq!(page.value(sample), 0.0, "{sample}");
    }
    for sample in ["oncegate_ready", "oncegate_store_up", "oncegate_config_last_reload_successful"] {
        assert_eq!(page.value(sample), 1.0, "{sample}");
    }
}

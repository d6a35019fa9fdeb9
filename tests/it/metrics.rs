//! What the page of metrics says of traffic of every kind, and that other programs can read it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Metrics, Proxy, Request, Upstream};

fn requests(route: &str, outcome: &str) -> String {
    format!("oncegate_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}}")
}

#[tokio::test]
async fn requests_are_counted_by_route_and_outcome() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let before = proxy.metrics().await;
    assert_eq!(
        before.value(&requests("charges", "executed")),
        0.0,
        "a route's outcomes are there from the start"
    );
    proxy.charge("one").await.expect_status(201);
    proxy.charge("one").await.expect_status(201);
    proxy.request(&Request::get("/elsewhere")).await.expect_status(201);
    let after = proxy.metrics().await;
    for (route, outcome) in [("charges", "executed"), ("charges", "replayed"), ("everything-else", "passed")]
    {
        assert_eq!(after.value(&requests(route, outcome)), 1.0, "{route} {outcome}");
    }
    let all: f64 =
        after.0.lines().filter(|line| line.starts_with("oncegate_requests_total")).map(value).sum();
    assert_eq!(all, 3.0, "each is counted once");
}

#[tokio::test]
async fn the_page_passes_promtool_without_a_word() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    proxy.charge("one").await.expect_status(201);
    assert_eq!(said_by_promtool(&proxy.metrics().await), "");
    let open =
        proxy.ask_admin(&Request::get("/metrics").field("accept", "application/openmetrics-text")).await;
    assert_eq!(
        open.value("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("# EOF\n"), "{}", open.text());
}

fn value(line: &str) -> f64 {
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a sample has a value")
}

/// What Prometheus' own checker finds on the page.
fn said_by_promtool(page: &Metrics) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there (tests/tools.sh installs it)");
    promtool.stdin.take().expect("a pipe").write_all(page.0.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let exit = if output.status.success() { "" } else { "promtool fails: " };
    format!("{exit}{}", String::from_utf8_lossy(&said))
}

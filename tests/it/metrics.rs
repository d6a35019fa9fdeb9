//! What the page of metrics says of traffic of every kind, that other programs can read it, and that it is documented.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use oncegate::store::Trouble;

use crate::harness::{
    Certificates, Config, DeadEndpoint, FaultyStore, Metrics, Operation, Proxy, Reply, Request, Upstream,
    eventually, tools,
};

fn requests(route: &str, outcome: &str) -> String {
    format!("oncegate_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}}")
}

fn unknown(cause: &str) -> String {
    format!("oncegate_unknown_outcomes_total{{cause=\"{cause}\"}}")
}

fn operations(operation: &str, result: &str) -> String {
    format!(
        "oncegate_store_operation_duration_seconds_count{{operation=\"{operation}\",result=\"{result}\"}}"
    )
}

/// The samples whose name begins so, added up.
fn sum(page: &Metrics, name: &str) -> f64 {
    let samples = page.0.lines().filter(|line| line.starts_with(name));
    samples.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
}

#[tokio::test]
async fn requests_are_counted_by_route_and_outcome() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).only_listed_routes().start().await;
    let before = proxy.metrics().await;
    assert_eq!(
        before.value(&requests("charges", "executed")),
        0.0,
        "a route's outcomes are there from the start"
    );
    proxy.charge("one").await.expect_status(201);
    proxy.charge("one").await.expect_status(201);
    proxy.request(&Request::charge("one").json("{}")).await.expect_problem(422, "key-reused");
    proxy.request(&Request::post("/v1/charges").body("")).await.expect_problem(400, "key-missing");
    proxy.request(&Request::get("/v1/charges")).await.expect_status(201);
    proxy.request(&Request::get("/elsewhere")).await.expect_problem(404, "no-route");
    upstream.next(Reply::hang_up());
    proxy.charge("lost").await.expect_problem(502, "outcome-unknown");
    proxy.charge("lost").await.expect_problem(502, "outcome-unknown");
    let after = proxy.metrics().await;
    for (route, outcome, count) in [
        ("charges", "executed", 1.0),
        ("charges", "replayed", 1.0),
        ("charges", "mismatch", 1.0),
        ("charges", "key_missing", 1.0),
        ("charges", "passed", 1.0),
        ("charges", "unknown", 2.0),
        ("refunds", "executed", 0.0),
        ("", "no_route", 1.0),
    ] {
        assert_eq!(after.value(&requests(route, outcome)), count, "{route} {outcome}");
    }
    assert_eq!(sum(&after, "oncegate_requests_total"), 8.0, "each is counted once");
    assert_eq!(sum(&after, "http_server_request_duration_seconds_count"), 8.0, "each has its duration");
    assert_eq!(after.value(&unknown("connection_lost")), 1.0, "an outcome becomes unknown once");
    let mismatches = "oncegate_fingerprint_mismatches_total{route=\"charges\",part=\"payload\"}";
    assert_eq!(after.value(mismatches), 1.0);
}

#[tokio::test]
async fn durations_are_counted_by_method_and_status_and_no_client_makes_up_a_method() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    proxy.charge("one").await.expect_status(201);
    proxy.charge("one").await.expect_status(201);
    upstream.next(Reply::status(418));
    proxy.request(&Request::new("BREW", "/pot")).await.expect_status(418);
    upstream.next(Reply::hang_up());
    proxy.request(&Request::get("/pot")).await.expect_problem(502, "outcome-unknown");
    let page = proxy.metrics().await;
    let count = |kind: &str, method: &str, status: &str, own: &str| {
        page.value(&format!(
            "http_{kind}_request_duration_seconds_count{{http_request_method=\"{method}\",\
             http_response_status_code=\"{status}\",{own}}}"
        ))
    };
    assert_eq!(count("server", "POST", "201", "http_route=\"charges\""), 2.0);
    assert_eq!(count("server", "_OTHER", "418", "http_route=\"everything-else\""), 1.0);
    assert_eq!(count("server", "GET", "502", "http_route=\"everything-else\""), 1.0);
    assert_eq!(count("client", "POST", "201", "upstream=\"legacy\""), 1.0, "a replay asks no upstream");
    assert_eq!(count("client", "_OTHER", "418", "upstream=\"legacy\""), 1.0);
    assert_eq!(count("client", "GET", "", "upstream=\"legacy\""), 1.0, "no answer has no status");
    assert!(page.0.contains("_bucket{le=\"0.005\"") && page.0.contains("_bucket{le=\"10.0\""));
}

#[tokio::test]
async fn what_is_in_flight_shows_while_it_is() {
    let upstream = Upstream::start().await;
    let waits = "on_in_flight = \"wait\"\nwait_timeout = \"30s\"";
    let proxy = Config::before(&upstream).memory().charges(waits).start().await;
    let (reply, gate) = Reply::status(201).held();
    upstream.next(reply);
    let first = proxy.request_aside(Request::charge("one"));
    upstream.requests_to_be(1).await;
    let second = proxy.request_aside(Request::charge("one"));
    eventually("a waiter", async || proxy.metrics().await.value("oncegate_waiters") == 1.0).await;
    let held = proxy.metrics().await;
    assert_eq!(held.value("oncegate_in_flight"), 1.0, "a waiter has no permit");
    assert_eq!(held.value("oncegate_guarded_requests"), 2.0);
    assert!(held.value("oncegate_oldest_in_flight_seconds") < 30.0);
    assert!(held.value("oncegate_buffered_bytes") > 0.0, "the bodies are held");
    assert_eq!(held.value("oncegate_connections"), 2.0);
    assert_eq!(held.value("oncegate_store_entries"), 1.0);
    gate.release();
    first.await.expect("an answer").expect_status(201);
    second.await.expect("an answer").expect_status(201);
    eventually("all to be given back", async || {
        let page = proxy.metrics().await;
        ["oncegate_waiters", "oncegate_in_flight", "oncegate_guarded_requests", "oncegate_connections"]
            .iter()
            .all(|name| page.value(name) == 0.0)
    })
    .await;
    let page = proxy.metrics().await;
    assert_eq!(page.value(&requests("charges", "waited")), 1.0);
    assert_eq!(page.value("oncegate_connections_accepted_total"), 2.0);
    assert_eq!(page.value(&operations("insert", "inserted")), 1.0);
    assert!(page.value(&operations("insert", "exists")) >= 2.0, "a waiter asks again");
    assert_eq!(page.value(&operations("update", "applied")), 1.0);
    assert!(page.value("oncegate_store_answer_bytes") <= page.value("oncegate_store_max_bytes"));
}

#[tokio::test]
async fn a_store_that_fails_shows() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let proxy = Config::before(&upstream).start_with_store(store.clone()).await;
    store.fail(Operation::Insert);
    proxy.charge("one").await.expect_problem(503, "store-unavailable");
    store.trouble(&[Trouble::Unreachable, Trouble::Evicts]);
    let page = proxy.metrics().await;
    assert_eq!(page.value(&operations("insert", "unavailable")), 1.0);
    assert_eq!(page.value(&requests("charges", "store_unavailable")), 1.0);
    assert_eq!(page.value("oncegate_store_up"), 0.0);
    assert_eq!(page.value("oncegate_store_trouble{trouble=\"evicts\"}"), 1.0);
    assert_eq!(page.value("oncegate_store_trouble{trouble=\"forgot\"}"), 0.0);
    store.trouble(&[]);
    assert_eq!(proxy.metrics().await.value("oncegate_store_up"), 1.0);
}

#[tokio::test]
async fn an_answer_that_made_room_for_others_is_counted() {
    let upstream = Upstream::start().await;
    let small = Config::before(&upstream).memory().store("max_bytes = \"64KiB\"");
    let proxy = small.start().await;
    for number in 0..4 {
        upstream.next(Reply::status(201).body("x".repeat(30_000)));
        proxy.charge(&number.to_string()).await.expect_status(201);
    }
    eventually("an eviction", async || proxy.metrics().await.value("oncegate_answers_evicted_total") > 0.0)
        .await;
}

#[tokio::test]
async fn an_endpoint_that_is_passed_over_shows() {
    let upstream = Upstream::start().await;
    let dead = DeadEndpoint::new();
    let config = Config::before(&upstream).endpoint(dead.address()).upstream("eject_after = 1");
    let proxy = config.start().await;
    let healthy = |address: &str| {
        format!("oncegate_upstream_endpoint_healthy{{upstream=\"legacy\",endpoint=\"{address}\"}}")
    };
    let (good, bad) = (healthy(&upstream.address().to_string()), healthy(&dead.address().to_string()));
    assert_eq!(proxy.metrics().await.value(&bad), 1.0, "nobody knows better yet");
    for number in 0..8 {
        proxy.charge(&number.to_string()).await.expect_status(201);
    }
    let page = proxy.metrics().await;
    assert_eq!((page.value(&good), page.value(&bad)), (1.0, 0.0));
    let open = |address: &str| {
        page.value(&format!("oncegate_upstream_connections{{upstream=\"legacy\",endpoint=\"{address}\"}}"))
    };
    assert!(open(&upstream.address().to_string()) >= 1.0);
    assert_eq!(open(&dead.address().to_string()), 0.0);
}

#[tokio::test]
async fn a_connection_that_its_upstream_closes_is_let_go() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("idle_timeout = \"10m\"").start().await;
    let open =
        format!("oncegate_upstream_connections{{upstream=\"legacy\",endpoint=\"{}\"}}", upstream.address());
    proxy.charge("k").await.expect_status(201);
    assert_eq!(proxy.metrics().await.value(&open), 1.0);
    upstream.close_idle_connections();
    eventually("it is closed", async || proxy.metrics().await.value(&open) == 0.0).await;
}

#[tokio::test]
async fn the_page_passes_promtool_without_a_word() {
    tools();
    let (authority, proxy) = everything().await;
    let page = proxy.metrics().await;
    assert_eq!(said_by_promtool(&page), "");
    let file = authority.path("server.crt").display().to_string();
    let expiry = page.value(&format!("oncegate_tls_certificate_expiry_timestamp_seconds{{file=\"{file}\"}}"));
    // What rcgen writes unless told otherwise: the first second of 4096.
    assert_eq!(expiry, 67_090_118_400.0);
    assert!(page.value("process_resident_memory_bytes") > 1e6 && page.value("process_open_fds") > 3.0);
    assert_eq!(page.value("oncegate_ready"), 1.0);
    let asks = Request::get("/metrics").host("localhost").field("accept", "application/openmetrics-text");
    let open = proxy.ask_admin(&asks).await;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.value("content-type"), Some(media_type));
    let text = open.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut seen = BTreeSet::new();
    families.for_each(|name| assert!(seen.insert(name), "{name} names two families"));
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let (_authority, proxy) = everything().await;
    let page = proxy.metrics().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = fs::read_to_string(path).expect("docs/metrics.md");
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`');
        let (kind, labels) = (cells.next()?, cells.next()?);
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        Some((name.to_owned(), kind.to_owned(), labels.filter(|label| !label.is_empty()).collect()))
    });
    let documented: BTreeSet<(String, String, BTreeSet<String>)> = rows.collect();
    let there = page.families().into_iter().map(|(name, kind)| {
        let labels = page.labels(&name);
        (name, kind, labels)
    });
    // What only the Redis store has, or a process with a file, this proxy cannot show.
    let is_elsewhere = |name: &str| {
        ["outages", "losses", "policy_changes"].iter().any(|it| name == format!("oncegate_store_{it}_total"))
            || ["oncegate_unreplicated_claims_total", "oncegate_config_info"].contains(&name)
    };
    let documented: BTreeSet<_> = documented.into_iter().filter(|(name, ..)| !is_elsewhere(name)).collect();
    let there: BTreeSet<_> = there.collect();
    let undocumented: Vec<_> = there.difference(&documented).collect();
    let missing: Vec<_> = documented.difference(&there).collect();
    assert!(
        undocumented.is_empty() && missing.is_empty(),
        "not in the document: {undocumented:#?}\nnot on the page: {missing:#?}"
    );
}

/// A proxy that has met so much that every metric of the memory store is on its page.
async fn everything() -> (Certificates, Proxy) {
    let upstream = Upstream::start().await;
    let authority = Certificates::with_server();
    let listeners = format!(
        "{}\n[[server.listeners]]\naddress = \"127.0.0.1:0\"\ntls = false\n\
         [[server.listeners]]\naddress = \"127.0.0.2:0\"\n",
        authority.toml("")
    );
    let observes = "name = \"observed\"\npath = \"/v1/observed\"\nmode = \"observe\"";
    let config = Config::before(&upstream).memory().route(observes);
    let proxy = config.only_listener().server(&listeners).start().await;
    proxy.charge("one").await.expect_status(201);
    (authority, proxy)
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

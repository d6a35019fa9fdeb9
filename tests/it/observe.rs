//! Routes with `mode = "observe"`: nothing is refused or replayed, and all that would have been is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::harness::{
    Client, Config, FaultyStore, Http2Client, Operation, Proxy, Reply, Request, Response, Upstream, aside,
    eventually,
};

const DOUBLED: &str = "Idempotency-Key";

/// The guarded routes only observe.
fn observing(upstream: &Upstream) -> Config {
    Config::before(upstream).memory().idempotency("mode = \"observe\"")
}

fn observed(route: &str, outcome: &str) -> String {
    format!("oncegate_observed_total{{route=\"{route}\",outcome=\"{outcome}\"}}")
}

/// All that was counted, as `outcome` and how often.
async fn counted(proxy: &Proxy, route: &str) -> Vec<(String, u64)> {
    let prefix = format!("oncegate_observed_total{{route=\"{route}\",outcome=\"");
    let page = proxy.metrics().await.0;
    let samples = page.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
    let samples = samples.map(|(outcome, count)| (outcome.to_owned(), count.parse().unwrap()));
    let mut counted: Vec<_> = samples.filter(|(_, count)| *count > 0).collect();
    counted.sort();
    counted
}

async fn expect_counted(proxy: &Proxy, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect();
    assert_eq!(counted(proxy, "charges").await, expected);
}

/// An answer of the upstream, and nothing of ours in it.
fn expect_forwarded(answer: &Response, execution: usize) {
    let expected = format!(r#"{{"execution":{execution}}}"#);
    assert_eq!(answer.expect_status(201).text(), expected);
    assert!(!answer.is_replay(), "{answer:?}");
    assert_eq!(answer.value("x-expires"), None, "{answer:?}");
}

#[tokio::test]
async fn a_duplicate_reaches_the_upstream_and_counts_as_what_it_would_have_got() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).idempotency("expires_header = \"X-Expires\"").start().await;
    expect_forwarded(&proxy.charge("k").await, 1);
    expect_counted(&proxy, &[]).await;
    expect_forwarded(&proxy.charge("k").await, 2);
    expect_forwarded(&proxy.charge("k").await, 3);
    expect_counted(&proxy, &[("replayed", 2)]).await;
    expect_forwarded(&proxy.request(&Request::charge("k").json(r#"{"other":1}"#)).await, 4);
    expect_counted(&proxy, &[("mismatch", 1), ("replayed", 2)]).await;
    let metrics = proxy.metrics().await;
    for (outcome, count) in [("executed", 1.0), ("passed", 3.0), ("replayed", 0.0)] {
        let sample = format!("oncegate_requests_total{{route=\"charges\",outcome=\"{outcome}\"}}");
        assert_eq!(metrics.value(&sample), count, "{outcome}");
    }
    assert_eq!(metrics.find(&observed("everything-else", "replayed")), Some(0.0));
}

#[tokio::test]
async fn a_duplicate_of_what_is_in_flight_or_unknown_is_not_held_up() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).idempotency("on_in_flight = \"wait\"").start().await;
    let mut gate = upstream.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    expect_forwarded(&proxy.charge("held").await, 2);
    gate.release();
    held.await.unwrap().expect_status(201);
    upstream.next(Reply::hang_up());
    proxy.charge("unknown").await.expect_problem(502, "outcome-unknown");
    expect_forwarded(&proxy.charge("unknown").await, 4);
    expect_counted(&proxy, &[("in_flight", 1), ("unknown", 1)]).await;
}

#[tokio::test]
async fn other_callers_and_answers_that_were_not_kept_count_too() {
    let upstream = Upstream::start().await;
    let rules = "on_other_caller = \"refuse\"\nmax_response_body = \"4B\"";
    let proxy = observing(&upstream).idempotency(rules).start().await;
    expect_forwarded(&proxy.request(&Request::charge("k").bearer("one")).await, 1);
    expect_forwarded(&proxy.request(&Request::charge("k").bearer("one")).await, 2);
    expect_forwarded(&proxy.request(&Request::charge("k").bearer("other")).await, 3);
    expect_counted(&proxy, &[("not_retained", 1), ("other_caller", 1)]).await;
}

#[tokio::test]
async fn requests_that_would_be_refused_by_their_head_are_forwarded() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).start().await;
    let post = || Request::post("/v1/charges").json("{}");
    let refused = [
        (post(), "key_missing"),
        (post().key("two, keys"), "key_invalid"),
        (post().key("one").field(DOUBLED, "two"), "key_invalid"),
        (post().key("k").field("idempotency_key", "k"), "refused"),
        (post().key("k2").field("Connection", "idempotency-key"), "refused"),
        (post().key("k3").method("post"), "refused"),
        (post().key("k4").field("Authorization", "AWS4-HMAC-SHA256 Credential=x"), "refused"),
    ];
    let count = refused.len();
    let mut expected = BTreeMap::new();
    for (number, (request, outcome)) in refused.into_iter().enumerate() {
        let answer = proxy.request(&request).await;
        assert_eq!((answer.status, upstream.seen().len()), (201, number + 1), "{request:?}: {answer:?}");
        *expected.entry(outcome).or_insert(0) += 1;
    }
    expect_counted(&proxy, &expected.into_iter().collect::<Vec<_>>()).await;
    let ambiguous = Request::post("/v1/refunds/%31").key("k").json("{}");
    proxy.request(&ambiguous).await.expect_status(201);
    assert_eq!(counted(&proxy, "refunds").await, [("refused".to_owned(), 1)]);
    let side_door = Request::post("/V1/Charges").key("k").json("{}");
    proxy.request(&side_door).await.expect_status(201);
    assert_eq!(counted(&proxy, "everything-else").await, [("refused".to_owned(), 1)]);
    let targets: Vec<String> = upstream.seen().into_iter().skip(count).map(|seen| seen.target).collect();
    assert_eq!(targets, ["/v1/refunds/%31", "/V1/Charges"], "as they came");
}

#[tokio::test]
async fn what_another_route_enforces_is_not_loosened() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).memory().rest("").only_listed_routes();
    let proxy = config.route("name = \"observed\"\npath = \"/{*rest}\"\nmode = \"observe\"").start().await;
    for path in ["/V1/Charges", "/v1//charges", "/v1/x/../charges"] {
        proxy.request(&Request::post(path).key("k").json("{}")).await.expect_problem(400, "bad-request");
    }
    let imitation = Request::post("/elsewhere").key("k").field("idempotency_key", "k").json("{}");
    proxy.request(&imitation).await.expect_problem(400, "bad-request");
    upstream.expect_nothing();
    proxy.charge("k").await.expect_status(201);
    let second = proxy.charge("k").await;
    assert!(second.is_replay(), "{second:?}");
    proxy.request(&Request::post("/elsewhere").json("{}")).await.expect_status(201);
    assert_eq!(counted(&proxy, "observed").await, [("key_missing".to_owned(), 1)]);
}

#[tokio::test]
async fn bodies_that_would_be_refused_are_forwarded_byte_for_byte() {
    let body = "0123456789".repeat(100);
    for streams in ["", "request_body = \"stream\"\n"] {
        let upstream = Upstream::start().await;
        let rules = format!("{streams}max_request_body = \"64B\"");
        let proxy = observing(&upstream).idempotency(&rules).start().await;
        let sized = Request::charge("sized").body(&body);
        expect_forwarded(&proxy.request(&sized).await, 1);
        let chunked = Request::charge("chunked").chunked(&[&body[..40], &body[40..500], &body[500..]]);
        expect_forwarded(&proxy.request(&chunked.field("Trailer", "X-Sum").trailer("X-Sum", "1")).await, 2);
        for seen in upstream.seen() {
            assert!(seen.is_whole && seen.text() == body, "{streams}: {seen:?}");
        }
        assert_eq!(upstream.seen()[1].trailers.len(), 1);
        let mut over_http2 = Http2Client::connect(proxy.address()).await;
        let mut stream = over_http2.begin(&Request::charge("http2").chunked(&[]), false).await;
        stream.send_data(body[..300].to_owned(), false);
        stream.send_data(body[300..].to_owned(), true);
        expect_forwarded(&stream.response().await.expect("an answer"), 3);
        assert_eq!(upstream.seen()[2].text(), body);
        expect_counted(&proxy, &[("too_large", 3)]).await;
    }
}

#[tokio::test]
async fn a_body_that_would_be_too_slow_goes_on_as_it_comes() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).idempotency("request_body_timeout = \"100ms\"").start().await;
    let charge = Request::charge("k").chunked(&["first ", "last"]);
    let bytes = charge.bytes();
    let split = bytes.windows(4).position(|window| window == b"last").unwrap() - 3;
    let mut client = proxy.client().await;
    client.send_bytes(&bytes[..split]).await;
    upstream.requests_to_be(1).await;
    client.send_bytes(&bytes[split..]).await;
    expect_forwarded(&client.response().await, 1);
    assert_eq!(upstream.only().text(), "first last");
    expect_counted(&proxy, &[("timed_out", 1)]).await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_looks_whole() {
    for rules in ["max_request_body = \"8B\"", "request_body = \"stream\"\nmax_request_body = \"8B\"", ""] {
        let upstream = Upstream::start().await;
        let proxy = observing(&upstream).idempotency(rules).start().await;
        let charge = Request::charge("k").chunked(&["0123456789abcdef", "rest"]);
        let bytes = charge.bytes();
        let mut client = proxy.client().await;
        client.send_bytes(&bytes[..bytes.len() - 12]).await;
        if !rules.is_empty() {
            upstream.requests_to_be(1).await;
        }
        client.reset();
        proxy.request(&Request::get("/")).await;
        if !rules.is_empty() {
            upstream.left_to_be(1).await;
        }
        let broken = upstream.seen().into_iter().filter(|seen| seen.method == "POST");
        assert!(broken.into_iter().all(|seen| !seen.is_whole), "{rules}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_forwarded_where_json_is_compared() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).idempotency("fingerprint = \"json\"").start().await;
    expect_forwarded(&proxy.request(&Request::charge("k").json("{nonsense")).await, 1);
    expect_counted(&proxy, &[("refused", 1)]).await;
}

#[tokio::test]
async fn duplicates_of_streamed_bodies_are_told_apart_by_what_they_were() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).idempotency("request_body = \"stream\"").start().await;
    expect_forwarded(&proxy.charge("k").await, 1);
    expect_forwarded(&proxy.charge("k").await, 2);
    expect_forwarded(&proxy.request(&Request::charge("k").json(r#"{"other":1}"#)).await, 3);
    expect_counted(&proxy, &[("mismatch", 1), ("replayed", 1)]).await;
}

#[tokio::test]
async fn a_store_that_is_away_or_full_stops_nobody() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let proxy = observing(&upstream).start_with_store(Arc::clone(&store) as _).await;
    store.fail(Operation::Insert);
    expect_forwarded(&proxy.charge("k").await, 1);
    expect_counted(&proxy, &[("store_unavailable", 1)]).await;
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).store("max_entries = 1").start().await;
    expect_forwarded(&proxy.charge("one").await, 1);
    expect_forwarded(&proxy.charge("two").await, 2);
    expect_counted(&proxy, &[("store_full", 1)]).await;
}

#[tokio::test]
async fn more_work_than_is_guarded_at_once_is_forwarded() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).server("max_guarded_in_flight = 1").start().await;
    let mut gate = upstream.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    expect_forwarded(&proxy.charge("other").await, 2);
    gate.release();
    held.await.unwrap().expect_status(201);
    expect_counted(&proxy, &[("overloaded", 1)]).await;
}

#[tokio::test]
async fn what_the_upstream_says_of_replays_of_its_own_is_passed_on() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).start().await;
    upstream.next(Reply::status(200).field("Idempotent-Replayed", "true"));
    assert!(proxy.charge("k").await.expect_status(200).is_replay());
}

#[tokio::test]
async fn keys_that_were_observed_are_known_when_the_route_enforces() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let config = Config::before(&upstream).memory().server("reload_interval = false");
    let proxy = config.clone().charges("mode = \"observe\"").start_from(&file).await;
    let first = proxy.charge("k").await;
    expect_forwarded(&proxy.charge("k").await, 2);
    config.write_to(&file).await;
    proxy.expect_reload().await;
    proxy.charge("k").await.expect_replay_of(&first);
    proxy.request(&Request::post("/v1/charges").json("{}")).await.expect_problem(400, "key-missing");
    config.charges("mode = \"observe\"").write_to(&file).await;
    proxy.expect_reload().await;
    expect_forwarded(&proxy.charge("k").await, 3);
}

/// Sends the first half of `request`, whose rest is returned.
async fn begin(proxy: &Proxy, (head, body): (Vec<u8>, Vec<u8>)) -> (Client, Vec<u8>) {
    let mut client = proxy.client().await;
    let (first, rest) = body.split_at(body.len() / 2);
    client.send_bytes([&head, first].concat()).await;
    // Until the proxy has read what was begun: a request of another connection comes after it.
    proxy.request(&Request::get("/")).await.expect_status(201);
    (client, rest.to_vec())
}

#[tokio::test]
async fn what_began_while_a_route_observed_does_not_run_beside_what_it_enforces() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let config = Config::before(&upstream).memory().server("reload_interval = false");
    let observing = config.clone().charges("mode = \"observe\"");
    let proxy = observing.start_from(&file).await;
    let charge = Request::charge("k");
    let (mut slow, rest) = begin(&proxy, (charge.head_bytes(), charge.body_bytes())).await;
    // Not even if nothing is guarded in between.
    config.clone().charges("guarded = false").write_to(&file).await;
    proxy.expect_reload().await;
    config.write_to(&file).await;
    proxy.expect_reload().await;
    let first = proxy.charge("k").await;
    slow.send_bytes(rest).await;
    slow.response().await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_streamed_duplicate_of_which_nothing_was_sent_is_not_sent_once_its_route_enforces() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let config = Config::before(&upstream)
        .memory()
        .server("reload_interval = false")
        .charges("request_body = \"stream\"");
    let proxy = config.clone().charges("mode = \"observe\"").start_from(&file).await;
    let first = proxy.charge("k").await;
    let charge = Request::charge("k");
    let (mut slow, _) = begin(&proxy, (charge.head_bytes(), Vec::new())).await;
    config.write_to(&file).await;
    proxy.expect_reload().await;
    slow.send_bytes(charge.body_bytes()).await;
    slow.response().await.expect_problem(504, "upstream-unreachable");
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_lease_that_has_lapsed_stops_nobody() {
    let upstream = Upstream::start().await;
    let store = FaultyStore::new();
    let config = observing(&upstream).store("lease = \"1s\"\ntimeout = \"200ms\"");
    let proxy = config.charges("request_body = \"stream\"").start_with_store(Arc::clone(&store) as _).await;
    store.fail(Operation::Renew);
    let charge = Request::charge("k");
    let (mut slow, _) = begin(&proxy, (charge.head_bytes(), Vec::new())).await;
    // Three times for each lease.
    eventually("its lease is over", async || store.calls(Operation::Renew) > 4).await;
    slow.send_bytes(charge.body_bytes()).await;
    slow.response().await.expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn an_upgrade_passes_as_on_a_route_that_is_not_guarded() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).start().await;
    upstream.next(Reply::echo("websocket"));
    let mut client = proxy.client().await;
    let upgrade = Request::charge("k").field("Connection", "Upgrade").field("Upgrade", "websocket");
    client.request(&upgrade).await.expect_status(101);
    client.send_bytes("to and fro").await;
    client.read_until("to and fro").await;
}

#[tokio::test]
async fn many_duplicates_at_once_all_reach_the_upstream() {
    let upstream = Upstream::start().await;
    let proxy = observing(&upstream).start().await;
    let address = proxy.address();
    let charges: Vec<_> = (0..16)
        .map(|_| aside(async move { Client::connect(address).await.request(&Request::charge("k")).await }))
        .collect();
    for charge in charges {
        charge.await.unwrap().expect_status(201);
    }
    upstream.expect_executions("k", 16);
    let counted: u64 = counted(&proxy, "charges").await.into_iter().map(|(_, count)| count).sum();
    assert_eq!(counted, 15, "one had the key");
}

//! What a collector is sent of traffic of every kind, read by OpenTelemetry's own types, and that no collector stops a request.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::harness::{
    Config, DeadEndpoint, FaultyStore, Operation, Proxy, Reply, Request, StuckEndpoint, Upstream, eventually,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn before(upstream: &Upstream, collector: SocketAddr, lines: &str) -> Config {
    let traces = format!("[traces]\nendpoint = \"http://{collector}\"\n{lines}");
    Config::before(upstream).memory().tables(&traces)
}

/// A collector that takes what it gets.
async fn collector() -> Upstream {
    let collector = Upstream::start().await;
    collector.always(|_| Reply::status(200).body(""));
    collector
}

/// What a collector has got, whole.
fn sent_to(collector: &Upstream) -> Vec<Span> {
    let mut spans = Vec::new();
    for seen in collector.seen().into_iter().filter(|seen| seen.is_whole) {
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/traces"));
        assert_eq!(seen.value("content-type"), Some("application/x-protobuf"));
        let request = ExportTraceServiceRequest::decode(seen.body.as_slice()).expect("OTLP");
        for resource in request.resource_spans {
            let attributes = resource.resource.expect("a resource").attributes;
            assert_eq!(text(&attributes, "service.name"), "oncegate");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

/// All spans of a proxy that ends: what waits is sent before.
async fn all_spans(proxy: Proxy, collector: &Upstream) -> Vec<Span> {
    proxy.shutdown().await;
    sent_to(collector)
}

/// The value of an attribute, as a text; empty if it is not there.
fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        None => String::new(),
        Some(other) => panic!("{key}: {other:?}"),
    }
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind() == kind).collect()
}

/// The requests' own spans, in the order in which they began.
fn servers(spans: &[Span]) -> Vec<&Span> {
    let mut servers = of_kind(spans, SpanKind::Server);
    servers.sort_by_key(|span| span.start_time_unix_nano);
    servers
}

fn children<'a>(spans: &'a [Span], parent: &Span, kind: SpanKind) -> Vec<&'a Span> {
    let is_child = |span: &&Span| {
        span.kind() == kind && span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id
    };
    let mut children: Vec<&Span> = spans.iter().filter(is_child).collect();
    children.sort_by_key(|span| span.start_time_unix_nano);
    children
}

fn names(spans: &[&Span]) -> Vec<String> {
    spans.iter().map(|span| span.name.clone()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[tokio::test]
async fn a_first_request_has_a_span_for_itself_the_store_and_the_upstream_and_a_replay_none_for_the_upstream()
{
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let proxy = before(&upstream, collector.address(), "").start().await;
    let first = proxy.charge("one").await;
    proxy.charge("one").await.expect_replay_of(&first);
    let spans = all_spans(proxy, &collector).await;

    let [first, replay] = servers(&spans)[..] else { panic!("{spans:#?}") };
    for (server, outcome) in [(first, "executed"), (replay, "replayed")] {
        assert_eq!(server.name, "POST charges");
        assert!(server.parent_span_id.is_empty() && !is_error(server), "{server:#?}");
        for (key, value) in [
            ("http.request.method", "POST"),
            ("http.route", "charges"),
            ("http.response.status_code", "201"),
            ("url.path", "/v1/charges"),
            ("oncegate.outcome", outcome),
        ] {
            assert_eq!(text(&server.attributes, key), value, "{key}");
        }
        assert_eq!(text(&server.attributes, "oncegate.key").len(), 8, "a prefix of its hash");
    }
    assert_ne!(first.trace_id, replay.trace_id);
    assert_eq!(names(&children(&spans, first, SpanKind::Internal)), ["store insert", "store update"]);
    assert_eq!(names(&children(&spans, replay, SpanKind::Internal)), ["store insert"]);
    assert_eq!(children(&spans, replay, SpanKind::Client).len(), 0);
    let [client] = children(&spans, first, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    assert_eq!(text(&client.attributes, "server.address"), "127.0.0.1");
    assert_eq!(text(&client.attributes, "server.port"), upstream.address().port().to_string());
    assert_eq!(text(&client.attributes, "http.response.status_code"), "201");
    let within = client.start_time_unix_nano >= first.start_time_unix_nano
        && client.end_time_unix_nano <= first.end_time_unix_nano;
    assert!(within && client.end_time_unix_nano > client.start_time_unix_nano, "{spans:#?}");
    assert_eq!(spans.len(), 6, "{spans:#?}");
    let parent = upstream.only().value("traceparent").map(str::to_owned);
    let expected = format!("00-{}-{}-01", hex(&first.trace_id), hex(&client.span_id));
    assert_eq!(parent, Some(expected), "the upstream's parent is the client span");
}

#[tokio::test]
async fn a_refused_duplicate_says_why_and_asked_the_store_alone() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let proxy = before(&upstream, collector.address(), "").start().await;
    let gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("one"));
    upstream.requests_to_be(1).await;
    proxy.charge("one").await.expect_problem(409, "request-in-flight");
    gate.release();
    first.await.unwrap().expect_status(201);
    let spans = all_spans(proxy, &collector).await;
    let servers = servers(&spans);
    let outcomes = |outcome: &str| {
        let is_it = |span: &&&Span| text(&span.attributes, "oncegate.outcome") == outcome;
        servers.iter().find(is_it).copied().unwrap_or_else(|| panic!("no {outcome}: {spans:#?}"))
    };
    let refused = outcomes("in_flight");
    assert_eq!(text(&refused.attributes, "http.response.status_code"), "409");
    assert!(!is_error(refused), "the client's mistake");
    assert_eq!(children(&spans, refused, SpanKind::Client).len(), 0);
    let steps = children(&spans, refused, SpanKind::Internal);
    assert_eq!(text(&steps[0].attributes, "oncegate.store.result"), "exists");
    assert_eq!(children(&spans, outcomes("executed"), SpanKind::Client).len(), 1);
}

#[tokio::test]
async fn an_upstream_that_fails_is_an_error_with_its_cause() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let proxy = before(&upstream, collector.address(), "").start().await;
    upstream.next(Reply::hang_up());
    proxy.charge("one").await.expect_problem(502, "outcome-unknown");
    upstream.next(Reply::hang_up());
    proxy.request(&Request::get("/pot")).await.expect_problem(502, "outcome-unknown");
    upstream.next(Reply::status(404));
    proxy.request(&Request::get("/pot")).await.expect_status(404);
    let spans = all_spans(proxy, &collector).await;
    let [guarded, passed, answered] = servers(&spans)[..] else { panic!("{spans:#?}") };
    for server in [guarded, passed] {
        let [client] = children(&spans, server, SpanKind::Client)[..] else { panic!("{spans:#?}") };
        for span in [server, client] {
            assert!(is_error(span), "{span:#?}");
            assert_eq!(text(&span.attributes, "error.type"), "connection_lost");
        }
        assert_eq!(text(&client.attributes, "http.response.status_code"), "", "there is none");
    }
    assert_eq!(passed.name, "GET everything-else");
    assert_eq!(children(&spans, passed, SpanKind::Internal).len(), 0, "it is not guarded");
    let [client] = children(&spans, answered, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    assert!(is_error(client) && !is_error(answered), "404 is an error of the one who asked");
}

#[tokio::test]
async fn an_attempt_that_goes_on_without_its_client_ends_its_spans_later() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let patience = "response_timeout = \"50ms\"\nattempt_timeout = \"1m\"";
    let proxy = before(&upstream, collector.address(), "").upstream(patience).start().await;
    let gate = upstream.hold_next();
    proxy.charge("one").await.expect_status(504);
    gate.release();
    proxy.settled(&Request::charge("one")).await.expect_status(201);
    let spans = all_spans(proxy, &collector).await;
    let first = servers(&spans)[0];
    assert_eq!(text(&first.attributes, "http.response.status_code"), "504");
    let [client] = children(&spans, first, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    assert_eq!(text(&client.attributes, "http.response.status_code"), "201");
    assert!(client.end_time_unix_nano > first.end_time_unix_nano);
    assert_eq!(names(&children(&spans, first, SpanKind::Internal)), ["store insert", "store update"]);
}

#[tokio::test]
async fn a_client_s_trace_goes_on_with_its_state_untouched() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let proxy = before(&upstream, collector.address(), "sample_ratio = 0").start().await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let request = Request::charge("one").field("traceparent", &parent).field("tracestate", "a=1,b=2");
    proxy.request(&request).await.expect_status(201);
    let seen = upstream.only();
    let spans = all_spans(proxy, &collector).await;
    let [server] = servers(&spans)[..] else { panic!("its sampled flag decides: {spans:#?}") };
    assert_eq!((hex(&server.trace_id).as_str(), hex(&server.parent_span_id).as_str()), (TRACE, PARENT));
    let [client] = children(&spans, server, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    assert_eq!(seen.values("traceparent"), [format!("00-{TRACE}-{}-01", hex(&client.span_id))]);
    assert_eq!(seen.values("tracestate"), ["a=1,b=2"]);
}

#[tokio::test]
async fn what_is_not_sampled_is_not_sent_and_the_upstream_is_told_so() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let proxy = before(&upstream, collector.address(), "sample_ratio = 0.0").start().await;
    proxy.charge("one").await.expect_status(201);
    let begun = upstream.seen()[0].value("traceparent").expect("a trace that begins here").to_owned();
    assert!(begun.starts_with("00-") && begun.ends_with("-00") && begun.len() == 55, "{begun}");
    let parent = format!("00-{TRACE}-{PARENT}-00");
    proxy.request(&Request::charge("two").field("traceparent", &parent)).await.expect_status(201);
    assert_eq!(upstream.seen()[1].values("traceparent"), [&parent], "as it came");
    proxy.shutdown().await;
    collector.expect_nothing();
}

#[tokio::test]
async fn a_trace_that_cannot_be_read_is_begun_anew() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let proxy = before(&upstream, collector.address(), "").start().await;
    let request = Request::get("/pot").field("traceparent", "00-nonsense").field("tracestate", "a=1");
    proxy.request(&request).await.expect_status(201);
    let seen = upstream.only();
    let spans = all_spans(proxy, &collector).await;
    let trace = hex(&servers(&spans)[0].trace_id);
    assert!(seen.values("traceparent")[0].contains(&trace) && seen.values("traceparent").len() == 1);
    assert_eq!(seen.value("tracestate"), None, "it belongs to another trace");
}

#[tokio::test]
async fn no_span_holds_a_key_a_query_a_body_or_a_credential() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let proxy = before(&upstream, collector.address(), "").start().await;
    let secret = "hush-hush";
    for target in ["/v1/charges", "/pot", "/nowhere\\"] {
        let request = Request::post(&format!("{target}?token={secret}")).key(secret).bearer(secret);
        let request = request.field("Cookie", secret).json(&format!("\"{secret}\""));
        proxy.request(&request).await;
    }
    proxy.shutdown().await;
    assert!(!sent_to(&collector).is_empty());
    for seen in collector.seen() {
        let found = seen.body.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{:#?}", ExportTraceServiceRequest::decode(seen.body.as_slice()));
    }
}

#[tokio::test]
async fn an_upload_that_streams_has_the_same_spans_and_one_that_breaks_off_says_so() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let config = before(&upstream, collector.address(), "").charges("request_body = \"stream\"");
    let proxy = config.start().await;
    proxy.charge("one").await.expect_status(201);
    let request = Request::charge("two").body("a".repeat(1_000));
    let half = request.bytes().len() - 500;
    let mut client = proxy.client().await;
    client.send_bytes(&request.bytes()[..half]).await;
    upstream.requests_to_be(2).await;
    drop(client);
    eventually("the end of the upload", async || {
        let unknown = "oncegate_unknown_outcomes_total{cause=\"upload_broken\"}";
        proxy.metrics().await.value(unknown) == 1.0
    })
    .await;
    let spans = all_spans(proxy, &collector).await;
    let [whole, broken] = servers(&spans)[..] else { panic!("{spans:#?}") };
    for (server, error) in [(whole, ""), (broken, "upload_broken")] {
        assert_eq!(names(&children(&spans, server, SpanKind::Internal)), ["store insert", "store update"]);
        let [client] = children(&spans, server, SpanKind::Client)[..] else { panic!("{spans:#?}") };
        assert_eq!(text(&client.attributes, "error.type"), error);
    }
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_of_its_step() {
    let (upstream, collector) = (Upstream::start().await, collector().await);
    let store = FaultyStore::new();
    let proxy = before(&upstream, collector.address(), "").start_with_store(store.clone()).await;
    store.fail(Operation::Insert);
    proxy.charge("one").await.expect_problem(503, "store-unavailable");
    eventually("the spans", async || !servers(&sent_to(&collector)).is_empty()).await;
    let spans = sent_to(&collector);
    let steps = of_kind(&spans, SpanKind::Internal);
    assert_eq!(names(&steps), ["store insert"]);
    assert!(is_error(steps[0]) && text(&steps[0].attributes, "error.type") == "unavailable", "{spans:#?}");
    assert!(is_error(servers(&spans)[0]));
}

/// 200 requests go their way, spans are dropped and counted, and the proxy ends.
async fn goes_on_without(collector: SocketAddr) {
    let upstream = Upstream::start().await;
    let proxy = before(&upstream, collector, "timeout = \"100ms\"").start().await;
    let mut client = proxy.client().await;
    for number in 0..200 {
        client.request(&Request::charge(&format!("key-{number}"))).await.expect_status(201);
    }
    eventually("dropped spans", async || {
        proxy.metrics().await.value("oncegate_spans_dropped_total") >= 800.0
    })
    .await;
    proxy.shutdown().await;
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let gone = DeadEndpoint::new();
    goes_on_without(gone.address()).await;
}

#[tokio::test]
async fn a_collector_that_takes_no_connection_costs_spans_and_nothing_else() {
    let stuck = StuckEndpoint::new();
    goes_on_without(stuck.address()).await;
}

#[tokio::test]
async fn a_collector_that_does_not_answer_costs_spans_and_nothing_else() {
    let collector = Upstream::start().await;
    collector.always(|_| Reply::stall());
    goes_on_without(collector.address()).await;
}

#[tokio::test]
async fn a_collector_that_refuses_costs_spans_until_it_takes_them_again() {
    let collector = Upstream::start().await;
    collector.always(|number| Reply::status(if number == 1 { 503 } else { 200 }).body(""));
    let upstream = Upstream::start().await;
    let proxy = before(&upstream, collector.address(), "").start().await;
    proxy.charge("one").await.expect_status(201);
    eventually("dropped spans", async || proxy.metrics().await.value("oncegate_spans_dropped_total") == 4.0)
        .await;
    proxy.charge("one").await.expect_status(201);
    let spans = all_spans(proxy, &collector).await;
    assert_eq!(servers(&spans).len(), 2, "the second batch is taken");
}

#[tokio::test]
async fn a_hanging_collector_does_not_hold_up_the_end() {
    let (upstream, collector) = (Upstream::start().await, Upstream::start().await);
    collector.always(|_| Reply::stall());
    let proxy = before(&upstream, collector.address(), "timeout = \"1m\"").start().await;
    proxy.charge("one").await.expect_status(201);
    proxy.shutdown().await;
    assert_eq!(servers(&sent_to(&collector)).len(), 1, "it was tried");
}

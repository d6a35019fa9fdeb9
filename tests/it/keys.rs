//! The key as clients write it.

use crate::harness::{Config, Proxy, Request, Upstream};

/// A request whose key field has exactly this value.
fn keyed(value: impl AsRef<[u8]>) -> Request {
    Request::post("/v1/charges").json("{}").field("Idempotency-Key", value)
}

#[tokio::test]
async fn bare_and_quoted_are_the_same_key_and_pass_as_they_came() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for (n, (one, other)) in [
        ("8e03978e-40d5", "\"8e03978e-40d5\""),
        ("\"quoted-first\"", "quoted-first"),
        ("\"a\\\\b\"", "a\\b"),
        ("  padded", "padded\t "),
    ]
    .into_iter()
    .enumerate()
    {
        let first = proxy.request(&keyed(one)).await;
        first.expect_status(201);
        proxy.request(&keyed(other)).await.expect_replay_of(&first);
        let seen = upstream.seen();
        assert_eq!(seen.len(), n + 1, "{seen:#?}");
        assert_eq!(seen[n].value("idempotency-key"), Some(one.trim()), "forwarded as received");
    }
}

#[tokio::test]
async fn keys_that_are_odd_but_valid_are_taken() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let longest = "k".repeat(255);
    let longest_quoted = format!("\"{}\"", "q".repeat(255));
    for value in [
        "k",
        "!#$%&'()*+-./:;<=>?@[]^_`{|}~",
        "\"two words\"",
        "\"a, b; c\"",
        "\"\\\"\"",
        &longest,
        &longest_quoted,
    ] {
        let first = proxy.request(&keyed(value)).await;
        first.expect_status(201);
        proxy.request(&keyed(value)).await.expect_replay_of(&first);
    }
}

#[tokio::test]
async fn a_malformed_key_is_refused_and_nothing_is_sent() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let too_long = "k".repeat(256);
    let too_long_quoted = format!("\"{}\"", "q".repeat(256));
    for value in [
        &b""[..],
        b"   ",
        b"\"\"",
        b"\"   \"",
        b"\"open",
        b"open\"",
        b"a\"b",
        b"two words",
        b"a,b",
        b"\"a\", \"b\"",
        b"\"a\";p=1",
        b"\"a\" b",
        b"\"a\\n\"",
        b"caf\xc3\xa9",
        b"\"caf\xc3\xa9\"",
        b"\xff",
        too_long.as_bytes(),
        too_long_quoted.as_bytes(),
    ] {
        let response = proxy.request(&keyed(value)).await;
        let problem = response.expect_problem(400, "key-invalid");
        let shown = String::from_utf8_lossy(value);
        let repeats = shown.trim().len() > 3 && problem.text().contains(shown.trim());
        assert!(!repeats, "a problem does not repeat the key: {problem:?}");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn several_keys_are_refused_even_if_they_agree() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for other in ["k", "other", ""] {
        proxy.request(&keyed("k").key(other)).await.expect_problem(400, "key-invalid");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn a_missing_key_is_refused_and_nothing_is_sent() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for method in ["POST", "PATCH"] {
        let bare = Request::new(method, "/v1/charges").json("{}");
        proxy.request(&bare).await.expect_problem(400, "key-missing");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn strict_syntax_takes_the_quoted_form_only() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).idempotency("key_syntax = \"strict\"").start().await;
    proxy.request(&keyed("bare")).await.expect_problem(400, "key-invalid");
    upstream.expect_nothing();
    let first = proxy.request(&keyed("\"quoted\"")).await;
    first.expect_status(201);
    proxy.request(&keyed("\"quoted\"")).await.expect_replay_of(&first);
}

#[tokio::test]
async fn the_operator_bounds_the_length_of_keys() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).idempotency("max_key_length = 36").start().await;
    let longest = "k".repeat(36);
    proxy.request(&keyed(&longest)).await.expect_status(201);
    proxy.request(&keyed(format!("\"{longest}\""))).await.expect_status(201);
    proxy.request(&keyed(format!("{longest}k"))).await.expect_problem(400, "key-invalid");
    upstream.expect_executions(&longest, 1);
}

#[tokio::test]
async fn the_field_name_has_no_case() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let with = |name: &str| Request::post("/v1/charges").json("{}").field(name, "k");
    let first = proxy.request(&with("IDEMPOTENCY-KEY")).await;
    proxy.request(&with("idempotency-key")).await.expect_replay_of(&first);
}

#[tokio::test]
async fn a_key_may_come_under_any_name_that_the_operator_lists_but_only_under_one() {
    let upstream = Upstream::start().await;
    let names = "header = [\"Idempotency-Key\", \"X-Idempotency-Key\", \"PayPal-Request-Id\"]";
    let proxy = Config::before(&upstream).idempotency(names).start().await;
    let with = |name: &str| Request::post("/v1/charges").json("{}").field(name, "k");
    let first = proxy.request(&with("X-Idempotency-Key")).await;
    first.expect_status(201);
    for name in ["Idempotency-Key", "PayPal-Request-Id"] {
        proxy.request(&with(name)).await.expect_replay_of(&first);
    }
    assert_eq!(upstream.only().value("x-idempotency-key"), Some("k"), "forwarded as received");
    let two = with("Idempotency-Key").field("PayPal-Request-Id", "k");
    proxy.request(&two).await.expect_problem(400, "key-invalid");
    proxy.request(&with("X-Other-Key")).await.expect_problem(400, "key-missing");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_route_may_read_its_keys_from_a_field_of_its_own() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("header = \"X-Once\"").start().await;
    let once = Request::post("/v1/charges").json("{}").field("X-Once", "k");
    let first = proxy.request(&once).await;
    proxy.request(&once).await.expect_replay_of(&first);
    proxy.charge("k").await.expect_problem(400, "key-missing");
    let refund = Request::post("/v1/refunds/1").json("{}").field("X-Once", "k");
    proxy.request(&refund).await.expect_problem(400, "key-missing");
}

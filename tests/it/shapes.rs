//! Answers of every shape come through whole, and come again the same.

use crate::harness::{Config, Proxy, Reply, Request, Response, Upstream, eventually};

/// Sends the same request twice: once run, once replayed.
async fn through(config: Config, request: &Request, upstream: &Upstream) -> Response {
    let proxy = config.start().await;
    let before = upstream.seen().len();
    let first = proxy.request(request).await;
    let second = proxy.request(request).await;
    second.expect_replay_of(&first);
    assert_eq!(upstream.seen().len(), before + 1, "it ran once");
    first
}

async fn comes_through(reply: Reply) -> Response {
    let upstream = Upstream::start().await;
    upstream.next(reply);
    through(Config::before(&upstream), &Request::charge("k"), &upstream).await
}

#[tokio::test]
async fn answers_without_body_come_through() {
    for status in [204, 304] {
        let answer = comes_through(Reply::status(status).field("ETag", "\"1\"")).await;
        assert_eq!(answer.expect_status(status).value("etag"), Some("\"1\""));
        assert_eq!(answer.value("transfer-encoding"), None, "{answer:?}");
    }
    let empty = comes_through(Reply::status(200).body("")).await;
    assert_eq!(empty.expect_status(200).value("content-length"), Some("0"), "{empty:?}");
}

#[tokio::test]
async fn redirects_come_through_and_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let answer =
            comes_through(Reply::status(status).field("Location", "/v1/charges/1").body("moved")).await;
        assert_eq!(answer.expect_status(status).value("location"), Some("/v1/charges/1"));
    }
}

#[tokio::test]
async fn a_status_that_nobody_knows_comes_through() {
    comes_through(Reply::status(299).body("?")).await.expect_status(299);
    comes_through(Reply::status(599).body("?")).await.expect_status(599);
}

#[tokio::test]
async fn a_head_of_a_guarded_resource_passes_with_its_length_and_no_body() {
    let upstream = Upstream::start().await;
    upstream.always(|_| Reply::created("12345"));
    let proxy = Proxy::start(&upstream).await;
    for _ in 0..2 {
        let answer = proxy.request(&Request::new("HEAD", "/v1/charges").key("k")).await;
        assert_eq!(answer.expect_status(201).value("content-length"), Some("5"), "{answer:?}");
        assert!(!answer.is_replay(), "{answer:?}");
    }
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn a_chunked_answer_comes_through() {
    let answer = comes_through(Reply::status(201).chunked(&["hello", " ", "world"])).await;
    assert_eq!(answer.text(), "hello world");
    let empty = comes_through(Reply::status(201).chunked(&[])).await;
    assert_eq!(empty.text(), "");
}

#[tokio::test]
async fn trailers_come_through_and_come_again() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::status(201).field("Trailer", "X-Sum").chunked(&["hello"]).trailer("X-Sum", "5d41"));
    let request = Request::charge("k").field("TE", "trailers").field("Connection", "TE");
    let answer = through(Config::before(&upstream), &request, &upstream).await;
    let trailers: Vec<_> =
        answer.trailers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    assert_eq!(trailers, [("x-sum".to_owned(), "5d41")], "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_comes_through() {
    let answer = comes_through(Reply::status(201).until_close("no length at all")).await;
    assert_eq!(answer.text(), "no length at all");
    let old = Reply::raw("HTTP/1.0 201 Created\r\nX-Old: 1\r\n\r\nold").then_close();
    assert_eq!(comes_through(old).await.text(), "old");
}

#[tokio::test]
async fn eight_mebibytes_go_up() {
    let upstream = Upstream::start().await;
    let body: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    let answer = through(Config::before(&upstream), &Request::charge("k").body(&body), &upstream).await;
    answer.expect_status(201);
    assert!(upstream.only().body == body, "every byte went up");
}

#[tokio::test]
async fn eight_mebibytes_come_down() {
    let upstream = Upstream::start().await;
    let body: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    upstream.next(Reply::status(201).body(&body));
    let config = Config::before(&upstream).charges("max_response_body = \"8MiB\"");
    let answer = through(config, &Request::charge("k"), &upstream).await;
    assert!(answer.expect_status(201).body == body, "every byte came down");
}

#[tokio::test]
async fn every_byte_comes_through_both_ways() {
    let upstream = Upstream::start().await;
    let all: Vec<u8> = (0..=255).collect();
    upstream.next(Reply::status(201).field("Content-Type", "application/octet-stream").body(&all));
    let answer = through(Config::before(&upstream), &Request::charge("k").body(&all), &upstream).await;
    assert_eq!(answer.body, all);
    assert_eq!(upstream.only().body, all);
}

#[tokio::test]
async fn doubled_fields_stay_doubled_and_in_order() {
    let reply =
        Reply::created("x").field("X-Many", "b").field("X-Many", "a").field("Vary", "A").field("X-Many", "b");
    let answer = comes_through(reply.field("Vary", "B")).await;
    assert_eq!(answer.values("x-many"), ["b", "a", "b"]);
    assert_eq!(answer.values("vary"), ["A", "B"]);
}

#[tokio::test]
async fn an_answer_with_many_fields_comes_through() {
    let many = (0..90).fold(Reply::created("x"), |reply, n| reply.field(&format!("X-{n}"), n.to_string()));
    assert_eq!(comes_through(many).await.expect_status(201).value("x-89"), Some("89"));
}

#[tokio::test]
async fn an_answer_with_large_fields_comes_through() {
    let large = "x".repeat(60 * 1024);
    let answer = comes_through(Reply::created("x").field("X-Large", &large)).await;
    assert!(answer.expect_status(201).value("x-large") == Some(&large));
}

#[tokio::test]
async fn an_upstream_that_marks_replays_itself_does_not_double_the_mark() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    upstream.next(Reply::created("x").field("Idempotent-Replayed", "true"));
    proxy.charge("k").await.expect_status(201);
    let replay = proxy.charge("k").await;
    assert_eq!(replay.values("idempotent-replayed"), ["true"], "{replay:?}");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn field_values_beyond_ascii_come_through() {
    let answer = comes_through(Reply::created("x").field("X-Name", b"caf\xe9")).await;
    assert_eq!(answer.value("x-name"), Some("caf\u{e9}"));
}

#[tokio::test]
async fn fields_about_content_and_caching_are_left_alone() {
    let fields = [
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("cache-control", "max-age=60"),
        ("etag", "W/\"1\""),
        ("link", "</next>; rel=next"),
        ("server", "Legacy/1.0"),
        ("x-cost", "r1"),
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
    ];
    let reply = fields.iter().fold(Reply::status(201), |reply, (name, value)| reply.field(name, value));
    let answer = comes_through(reply.body("x")).await;
    for (name, value) in fields {
        assert_eq!(answer.value(name), Some(value), "{answer:?}");
    }
}

#[tokio::test]
async fn a_replay_has_the_date_of_the_first_answer_even_if_the_upstream_gave_none() {
    let upstream = Upstream::start().await;
    upstream.always(|n| Reply::status(200).body(n.to_string()));
    let proxy = Proxy::start(&upstream).await;
    let first = proxy.charge("k").await;
    let date = first.value("date").expect("a forwarded answer has a date").to_owned();
    eventually("the clock shows another second", async || {
        proxy.request(&Request::get("/clock")).await.value("date") != Some(&date)
    })
    .await;
    proxy.charge("k").await.expect_replay_of(&first);
}

//! What of an answer is kept, and what is said when it was not.

use crate::harness::{Config, Proxy, Reply, Request, Upstream};

#[tokio::test]
async fn cookies_are_set_once() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::created("x").field("Set-Cookie", "session=1").field("Set-Cookie", "theme=dark"));
    let proxy = Proxy::start(&upstream).await;
    let first = proxy.charge("k").await;
    assert_eq!(first.values("set-cookie"), ["session=1", "theme=dark"]);
    let replay = proxy.charge("k").await;
    assert!(replay.is_replay() && replay.values("set-cookie").is_empty(), "{replay:?}");
}

#[tokio::test]
async fn a_route_may_replay_cookies() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::created("x").field("Set-Cookie", "session=1"));
    let proxy = Config::before(&upstream).charges("replay_set_cookie = true").start().await;
    let first = proxy.charge("k").await;
    proxy.charge("k").await.expect_replay_of(&first);
    assert_eq!(first.values("set-cookie"), ["session=1"]);
}

#[tokio::test]
async fn what_a_route_strips_is_not_replayed() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::created("x").field("X-Cost", "r1").field("X-Trace", "t1").field("X-Kept", "1"));
    let proxy = Config::before(&upstream).charges("strip_headers = [\"X-Cost\", \"x-trace\"]").start().await;
    let first = proxy.charge("k").await;
    assert_eq!((first.value("x-cost"), first.value("x-trace")), (Some("r1"), Some("t1")));
    let replay = proxy.charge("k").await;
    assert!(replay.is_replay(), "{replay:?}");
    assert_eq!((replay.value("x-cost"), replay.value("x-trace")), (None, None), "{replay:?}");
    assert_eq!(replay.value("x-kept"), Some("1"), "{replay:?}");
}

#[tokio::test]
async fn the_end_of_the_entrys_life_is_the_same_on_every_answer() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("expires_header = \"X-Key-Expires\"").start().await;
    let first = proxy.charge("k").await;
    let expires = first.value("x-key-expires").unwrap_or_else(|| panic!("no end: {first:?}"));
    let expires = httpdate::parse_http_date(expires).unwrap_or_else(|_| panic!("no HTTP date: {first:?}"));
    let left = expires.duration_since(std::time::SystemTime::now()).expect("it lies ahead");
    assert!((23 * 3600..=24 * 3600).contains(&left.as_secs()), "a day by default: {left:?}");
    for _ in 0..2 {
        proxy.charge("k").await.expect_replay_of(&first);
    }
    assert_eq!(upstream.only().value("x-key-expires"), None);
}

#[tokio::test]
async fn no_end_is_named_unless_the_operator_wants_it() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let first = proxy.charge("k").await;
    assert_eq!(first.value("expires"), None, "{first:?}");
    assert_eq!(proxy.charge("k").await.value("expires"), None);
}

#[tokio::test]
async fn an_answer_at_the_limit_is_kept_and_one_beyond_it_is_relayed_but_not_kept() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_response_body = \"1KiB\"").start().await;
    for (key, kept) in [("length", Reply::created(&"x".repeat(1024))), ("chunks", chunks(4, 256))] {
        upstream.next(kept);
        let first = proxy.charge(key).await;
        proxy.charge(key).await.expect_replay_of(&first);
    }
    for (key, beyond) in [("length+", Reply::created(&"x".repeat(1025))), ("chunks+", chunks(5, 256))] {
        upstream.next(beyond);
        let first = proxy.charge(key).await;
        assert!(first.expect_status(201).body.len() > 1024, "the first client gets it whole: {first:?}");
        for _ in 0..2 {
            let gone = proxy.charge(key).await;
            let members = gone.expect_problem(410, "response-not-retained").json();
            assert_eq!(members["original_status"], 201, "{gone:?}");
        }
        upstream.expect_executions(key, 1);
    }
}

fn chunks(count: usize, length: usize) -> Reply {
    let chunk = "x".repeat(length);
    Reply::status(201).chunked(&vec![chunk.as_str(); count])
}

#[tokio::test]
async fn a_release_status_frees_the_key_even_if_its_body_is_too_large_to_keep() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_response_body = \"1KiB\"").start().await;
    upstream.next(Reply::status(429).body("x".repeat(4096)));
    assert_eq!(proxy.charge("k").await.expect_status(429).body.len(), 4096);
    assert!(!proxy.charge("k").await.expect_status(201).is_replay());
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn an_endless_answer_is_relayed_while_its_duplicates_are_refused() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_response_body = \"1KiB\"").start().await;
    let (reply, feed) = Reply::fed(200);
    upstream.next(reply);
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    upstream.requests_to_be(1).await;
    assert!(feed.send("x".repeat(2048)));
    client.read_until(&"x".repeat(1024)).await;
    for n in 0..3 {
        let gone = proxy.charge("k").await;
        assert_eq!(
            gone.expect_problem(410, "response-not-retained").json()["original_status"],
            200,
            "{gone:?}"
        );
        let event = format!("event-{n}.");
        assert!(feed.send(&event));
        client.read_until(&event).await;
    }
    client.reset();
    crate::harness::eventually("the upstream is left with its client", async || !feed.send("more")).await;
    proxy.charge("k").await.expect_problem(410, "response-not-retained");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_large_answer_that_breaks_off_breaks_off_and_is_not_run_again() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("max_response_body = \"1KiB\"").start().await;
    upstream.next(Reply::created(&"x".repeat(8192)).cut_after(4096));
    let mut client = proxy.client().await;
    client.send(&Request::charge("k")).await;
    let broken = client.try_response().await.expect_err("the body was cut, and so is its relay");
    assert!(broken.partial.is_some_and(|partial| partial.status == 201));
    proxy.charge("k").await.expect_problem(410, "response-not-retained");
    upstream.expect_executions("k", 1);
}

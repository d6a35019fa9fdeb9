//! HTTP/2 to upstreams: what proves that a request was not processed, and what proves nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::harness::{
    Authority, Config, Front, Http2Upstream, INTERNAL_ERROR, NO_ERROR, Proxy, REFUSED_STREAM, Reply, Request,
    Then, TlsFront, Upstream, aside, eventually,
};

const HTTP2: &str = "protocol = \"http2\"\nmax_reuse_idle = \"10s\"";

async fn proxy_before(upstream: &Http2Upstream) -> Proxy {
    Config::before_endpoints([upstream.address()]).upstream(HTTP2).start().await
}

#[tokio::test]
async fn requests_go_over_one_connection_and_answers_are_replayed() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    let first = proxy.charge("k").await;
    assert_eq!(first.expect_status(201).text(), "created");
    proxy.charge("k").await.expect_replay_of(&first);
    for n in 0..5 {
        proxy.charge(&format!("k{n}")).await.expect_status(201);
    }
    proxy.request(&Request::get("/")).await.expect_status(201);
    proxy.request(&Request::post("/else").chunked(&["a", "b"])).await.expect_status(201);
    assert_eq!((upstream.seen().len(), upstream.connections()), (8, 1));
    assert_eq!(upstream.seen()[7].body, b"ab");
    assert_eq!(upstream.seen()[0].body, Request::charge("k").body_bytes());
}

#[tokio::test]
async fn a_stream_that_the_upstream_refuses_leaves_the_key_free() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    upstream.next(Then::Reset(REFUSED_STREAM));
    let refused = proxy.charge("k").await;
    refused.expect_problem(502, "upstream-unreachable").expect_retry_after();
    assert_eq!(refused.expect_proxy_status(), "destination_unavailable");
    let detail = refused.json()["detail"].to_string();
    assert!(detail.contains("nothing was processed") && !detail.contains("sent"), "{detail}");
    assert!(!proxy.charge("k").await.expect_status(201).is_replay());
    assert_eq!(upstream.seen().len(), 2);
    upstream.next(Then::Reset(REFUSED_STREAM));
    proxy.request(&Request::get("/")).await.expect_problem(502, "upstream-unreachable");
}

#[tokio::test]
async fn a_refused_stream_is_tried_at_the_next_endpoint() {
    let (one, other) = (Http2Upstream::start(100).await, Http2Upstream::start(100).await);
    let config = Config::before_endpoints([one.address(), other.address()]).upstream(HTTP2);
    let proxy = config.start().await;
    one.next(Then::Reset(REFUSED_STREAM));
    proxy.charge("k").await.expect_status(201);
    assert_eq!((one.seen().len(), other.seen().len()), (1, 1));
    assert_eq!(other.seen()[0].body, Request::charge("k").body_bytes(), "the whole of it");
}

#[tokio::test]
async fn a_goodbye_that_names_an_earlier_stream_costs_nothing() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    proxy.charge("k1").await.expect_status(201);
    upstream.next(Then::Goodbye { last: 1, code: 0 });
    assert!(!proxy.charge("k2").await.expect_status(201).is_replay());
    assert_eq!(upstream.connections(), 2, "the second try had a connection of its own");
    // With an error too: what was not processed was not processed.
    upstream.next(Then::Goodbye { last: 1, code: INTERNAL_ERROR });
    proxy.charge("k3").await.expect_status(201);
    assert_eq!(upstream.seen().len(), 5);
}

/// On several threads, so that a goodbye may be read at the very moment in which a request is handed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_goodbye_while_requests_are_handed_over_has_none_run_twice_and_none_forgotten() {
    const CLIENTS: usize = 32;
    const REQUESTS: usize = 150;
    let upstream = Http2Upstream::start(100).await;
    let proxy = Arc::new(proxy_before(&upstream).await);
    for n in 0..CLIENTS * REQUESTS {
        let answer = Then::Answer { status: 201, body: "created", trailers: Vec::new() };
        upstream.next(if n % 10 == 9 { Then::GoodbyeAndAnswer } else { answer });
    }
    let clients = (0..CLIENTS).map(|client| {
        let proxy = proxy.clone();
        aside(async move {
            let mut connection = proxy.client().await;
            let mut executed = 0;
            for n in 0..REQUESTS {
                // Without a body: the upstream has all of it with the head.
                let request = Request::post("/v1/charges").key(&format!("k{client}-{n}"));
                executed += usize::from(connection.request(&request).await.status == 201);
            }
            executed
        })
    });
    let mut executed = 0;
    for client in clients.collect::<Vec<_>>() {
        executed += client.await.unwrap();
    }
    assert_eq!(upstream.seen().len(), executed);
}

#[tokio::test]
async fn a_goodbye_on_a_new_connection_leaves_the_key_free() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    upstream.next(Then::Goodbye { last: 0, code: 0 });
    proxy.charge("k").await.expect_problem(502, "upstream-unreachable");
    proxy.charge("k").await.expect_status(201);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_goodbye_that_names_this_stream_proves_nothing() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    // It is answered after all.
    upstream.next(Then::Goodbye { last: 1, code: 0 });
    let first = proxy.request_aside(Request::charge("k1"));
    upstream.requests_to_be(1).await;
    sleep(Duration::from_millis(20)).await;
    upstream.release();
    assert_eq!(first.await.unwrap().expect_status(201).text(), "released");
    // It never is.
    let upstream = Http2Upstream::start(100).await;
    let settings = format!("{HTTP2}\nresponse_timeout = \"300ms\"\nattempt_timeout = \"300ms\"");
    let proxy = Config::before_endpoints([upstream.address()]).upstream(&settings).start().await;
    upstream.next(Then::Goodbye { last: 1, code: 0 });
    proxy.charge("k2").await;
    proxy.settled(&Request::charge("k2")).await.expect_problem(504, "outcome-unknown");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn whatever_else_ends_a_stream_leaves_the_outcome_unknown() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    let cancel = 8;
    let ends = [
        Then::Reset(INTERNAL_ERROR),
        Then::Reset(cancel),
        Then::Reset(0),
        Then::HangUp,
        // A head was there: whoever says now that nothing was done is not to be believed.
        Then::CutAtOnceBy(REFUSED_STREAM),
        Then::CutAtOnceBy(INTERNAL_ERROR),
        // That it is no error does not make half an answer a whole one.
        Then::CutAtOnceBy(NO_ERROR),
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let key = format!("k{n}");
        upstream.next(end.clone());
        proxy.charge(&key).await.expect_problem(502, "outcome-unknown");
        proxy.charge(&key).await.expect_problem(502, "outcome-unknown");
        assert_eq!(upstream.seen().len(), n + 1, "{end:?}");
    }
    let before = upstream.seen().len();
    for (n, code) in [REFUSED_STREAM, INTERNAL_ERROR, NO_ERROR].into_iter().enumerate() {
        upstream.next(Then::CutBy(code));
        proxy.expect_broken(&Request::charge(&format!("later{n}"))).await;
        assert_eq!(upstream.seen().len(), before + n + 1, "{code}");
    }
}

#[tokio::test]
async fn half_an_answer_is_cut_for_the_client_too_whatever_the_upstream_says() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    for cut in
        [NO_ERROR, INTERNAL_ERROR].into_iter().flat_map(|code| [Then::CutBy(code), Then::CutAtOnceBy(code)])
    {
        upstream.next(cut);
        let mut client = proxy.client().await;
        client.send(&Request::get("/")).await;
        client.try_response().await.expect_err("half an answer must not look whole");
    }
}

#[tokio::test]
async fn what_comes_after_a_whole_answer_takes_nothing_from_it() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    for (n, code) in [NO_ERROR, INTERNAL_ERROR].into_iter().enumerate() {
        upstream.next(Then::AnswerAndReset(code));
        let key = format!("k{n}");
        let first = proxy.charge(&key).await;
        proxy.charge(&key).await.expect_replay_of(first.expect_status(201));
        assert_eq!(first.text(), "created");
    }
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_broken_connection_leaves_all_that_it_carried_unknown() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    upstream.next(Then::Hold);
    upstream.next(Then::Hold);
    let held = ["k1", "k2"].map(|key| proxy.request_aside(Request::charge(key)));
    upstream.requests_to_be(2).await;
    upstream.next(Then::HangUp);
    proxy.charge("k3").await.expect_problem(502, "outcome-unknown");
    for held in held {
        held.await.unwrap().expect_problem(502, "outcome-unknown");
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (3, 1));
}

#[tokio::test]
async fn another_connection_is_made_where_streams_run_out() {
    let upstream = Http2Upstream::start(2).await;
    let proxy = proxy_before(&upstream).await;
    // How many streams there may be is known with the first answer, and heeded from the next request on.
    proxy.charge("k").await.expect_status(201);
    proxy.charge("l").await.expect_status(201);
    assert_eq!(upstream.connections(), 1);
    for _ in 0..3 {
        upstream.next(Then::Hold);
    }
    let mut held = Vec::new();
    for n in 0..3 {
        held.push(proxy.request_aside(Request::charge(&format!("k{n}"))));
        upstream.requests_to_be(n + 3).await;
    }
    assert_eq!(upstream.connections(), 2);
    upstream.release();
    for held in held {
        held.await.unwrap().expect_status(201);
    }
}

#[tokio::test]
async fn streams_and_connections_have_the_operators_bounds() {
    let upstream = Http2Upstream::start(100).await;
    let settings = format!("{HTTP2}\nhttp2_max_streams = 2\nmax_connections = 1\nconnect_timeout = \"1s\"");
    let proxy = Config::before_endpoints([upstream.address()]).upstream(&settings).start().await;
    upstream.next(Then::Hold);
    upstream.next(Then::Hold);
    let held = ["k1", "k2"].map(|key| proxy.request_aside(Request::charge(key)));
    upstream.requests_to_be(2).await;
    let refused = proxy.charge("k3").await;
    refused.expect_problem(503, "upstream-unreachable").expect_retry_after();
    let waiting = proxy.request_aside(Request::charge("k4"));
    upstream.release();
    for held in held {
        held.await.unwrap().expect_status(201);
    }
    waiting.await.unwrap();
    proxy.charge("k3").await.expect_status(201);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn the_end_of_a_stream_makes_no_room_on_another_connection() {
    let upstream = Http2Upstream::start(100).await;
    let settings = format!("{HTTP2}\nhttp2_max_streams = 2");
    let proxy = Config::before_endpoints([upstream.address()]).upstream(&settings).start().await;
    upstream.next(Then::Goodbye { last: 1, code: 0 });
    let mut leaves = proxy.client().await;
    leaves.send(&Request::get("/")).await;
    upstream.requests_to_be(1).await;
    upstream.next(Then::Hold);
    upstream.next(Then::Hold);
    let held = ["k1", "k2"].map(|key| proxy.request_aside(Request::charge(key)));
    upstream.requests_to_be(3).await;
    assert_eq!(upstream.connections(), 2, "the first one takes no more");
    leaves.close();
    upstream.resets_to_be(1).await;
    sleep(Duration::from_millis(20)).await;
    proxy.charge("k3").await.expect_status(201);
    assert_eq!(upstream.connections(), 3, "the second one is full");
    upstream.release();
    for held in held {
        held.await.unwrap().expect_status(201);
    }
}

#[tokio::test]
async fn many_requests_at_once_begin_with_one_connection() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    let all: Vec<_> = (0..20).map(|n| proxy.request_aside(Request::charge(&format!("k{n}")))).collect();
    for one in all {
        one.await.unwrap().expect_status(201);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_stream_along_and_no_other() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    upstream.next(Then::Hold);
    upstream.next(Then::Hold);
    let stays = proxy.request_aside(Request::charge("stays"));
    upstream.requests_to_be(1).await;
    let mut leaves = proxy.client().await;
    leaves.send(&Request::get("/")).await;
    upstream.requests_to_be(2).await;
    leaves.close();
    upstream.resets_to_be(1).await;
    upstream.release();
    stays.await.unwrap().expect_status(201);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_answers_no_ping_is_lost() {
    let upstream = Http2Upstream::start(100).await;
    let settings = format!("{HTTP2}\nhttp2_ping_interval = \"20ms\"\nhttp2_ping_timeout = \"2s\"");
    let proxy = Config::before_endpoints([upstream.address()]).upstream(&settings).start().await;
    upstream.next(Then::Hold);
    let held = proxy.request_aside(Request::charge("k1"));
    eventually("pings are answered", async || upstream.pings() >= 10).await;
    upstream.release();
    held.await.unwrap().expect_status(201);
    upstream.next(Then::PlayDead);
    proxy.charge("k2").await.expect_problem(502, "outcome-unknown");
    proxy.charge("k3").await.expect_status(201);
    assert_eq!((upstream.seen().len(), upstream.connections()), (3, 2));
}

#[tokio::test]
async fn trailers_are_kept_and_replayed() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    let trailers = vec![("grpc-status", "0")];
    upstream.next(Then::Answer { status: 200, body: "answer", trailers });
    let charge = Request::charge("k").field("TE", "trailers").field("Connection", "TE");
    let first = proxy.request(&charge).await;
    assert_eq!(first.expect_status(200).text(), "answer");
    assert_eq!(first.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
    proxy.request(&charge).await.expect_replay_of(&first);
    let request = Request::post("/v1/charges").key("k2").chunked(&["a"]).trailer("X-Sum", "1");
    proxy.request(&request).await.expect_status(201);
    assert_eq!(upstream.seen()[1].blocks, 2, "the request's trailers came");
}

#[tokio::test]
async fn over_tls_the_handshake_says_what_is_spoken() {
    let authority = Authority::new();
    let tls = format!("tls = {{ ca = \"{}\" }}\nmax_reuse_idle = \"10s\"", authority.ca().display());
    let http2 = Http2Upstream::start(100).await;
    let http1 = Upstream::start().await;
    for (back, alpn, protocol, spoken) in [
        (http2.address(), vec!["h2", "http/1.1"], "auto", "h2"),
        (http2.address(), vec!["h2"], "http2", "h2"),
        (http1.address(), vec!["http/1.1"], "auto", "http/1.1"),
        (http1.address(), vec!["h2", "http/1.1"], "http1", "http/1.1"),
    ] {
        let front = Front { alpn, ..Front::default() };
        let front = TlsFront::start(back, &authority, "localhost", front).await;
        let endpoints =
            format!("endpoints = [\"https://localhost:{}\"]\nprotocol = \"{protocol}\"", front.port());
        let proxy = Config::before_endpoints([]).upstream(&endpoints).upstream(&tls).start().await;
        let first = proxy.charge("k").await;
        proxy.charge("k").await.expect_replay_of(first.expect_status(201));
        sleep(Duration::from_millis(20)).await;
        proxy.charge("k2").await.expect_status(201);
        let shaken = front.shaken();
        assert_eq!(shaken.len(), 1, "{protocol}: {shaken:?}");
        assert_eq!(shaken[0].protocol.as_deref(), Some(spoken), "{protocol}");
    }
    // Who wants HTTP/2 does not get HTTP/1.1 instead.
    let front = Front { alpn: vec!["http/1.1"], ..Front::default() };
    let front = TlsFront::start(http1.address(), &authority, "localhost", front).await;
    let endpoints = format!("endpoints = [\"https://localhost:{}\"]\nprotocol = \"http2\"", front.port());
    let seen = http1.seen().len();
    let proxy = Config::before_endpoints([]).upstream(&endpoints).upstream(&tls).start().await;
    proxy.charge("k").await.expect_problem(502, "upstream-unreachable");
    assert_eq!(http1.seen().len(), seen);
}

#[tokio::test]
async fn http2_knows_no_upgrade() {
    let upstream = Http2Upstream::start(100).await;
    let proxy = proxy_before(&upstream).await;
    let switch = Request::get("/socket").field("Connection", "Upgrade").field("Upgrade", "websocket");
    proxy.request(&switch).await.expect_status(201);
    upstream.next(Then::Answer { status: 101, body: "", trailers: Vec::new() });
    proxy.request(&switch).await.expect_problem(502, "outcome-unknown");
}

#[tokio::test]
async fn health_is_asked_for_by_http2_too() {
    let upstream = Http2Upstream::start(100).await;
    let settings = format!("{HTTP2}\nhealth_check = {{ path = \"/\", interval = \"5ms\" }}");
    let proxy = Config::before_endpoints([upstream.address()]).upstream(&settings).start().await;
    upstream.requests_to_be(3).await;
    proxy.charge("k").await.expect_status(201);
    assert!(upstream.connections() > 3, "each question has a connection of its own");
}

#[tokio::test]
async fn where_http1_is_spoken_the_upstream_hears_http1() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).upstream("protocol = \"auto\"").start().await;
    upstream.next(Reply::created("by HTTP/1.1"));
    assert_eq!(proxy.charge("k").await.expect_status(201).text(), "by HTTP/1.1");
}

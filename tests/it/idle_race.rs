//! An upstream that closes idle connections at the moment when requests come: a reused connection that dies under a request
//! is a needless unknown outcome, since nobody can tell whether the request was read.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::harness::{Client, Config, Proxy, Request, Upstream, aside};

/// What the upstream keeps an idle connection for. It does not say so.
const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_die_of_idleness_cost_no_outcome() {
    let tried = needless_unknowns(250, 4, "").await;
    assert_eq!((tried.requests, tried.unknown), (1_000, 0), "{tried:?}");
}

/// The figure of the README: `cargo test --release --test it -- --ignored --nocapture needless`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes"]
async fn the_rate_of_needless_unknowns() {
    let careless = needless_unknowns(400, 50, "max_reuse_idle = \"4s\"").await;
    println!("max_reuse_idle = \"4s\": {careless:?}");
    let tried = needless_unknowns(400, 50, "").await;
    println!("by default: {tried:?}");
    assert_eq!((tried.requests, tried.unknown), (20_000, 0), "{tried:?}");
}

#[derive(Debug)]
struct Tried {
    requests: usize,
    unknown: usize,
    /// Their keys are free.
    not_sent: usize,
}

/// What became of one lane's requests.
#[derive(Default)]
struct Lane {
    unknown: usize,
    not_sent: usize,
}

/// Sends so many rounds of keyed requests at once, a round every `PATIENCE`, give or take some milliseconds: when each comes,
/// the connection that the last one used is about to be closed. A quarter of them comes at half that time, when a guarded
/// request may just still take it.
async fn needless_unknowns(lanes: usize, rounds: usize, settings: &str) -> Tried {
    let upstream = Upstream::start().await;
    upstream.keep_idle_connections_for(PATIENCE);
    let proxy =
        Config::before(&upstream).upstream("max_idle_connections = 4096").upstream(settings).start().await;
    let count = lanes;
    let lanes: Vec<_> = (0..lanes).map(|lane| aside(run_lane(&proxy, lane, rounds))).collect();
    let mut tried = Tried { requests: 0, unknown: 0, not_sent: 0 };
    for lane in lanes {
        let lane = lane.await.unwrap();
        tried.requests += rounds;
        tried.unknown += lane.unknown;
        tried.not_sent += lane.not_sent;
    }
    let (seen, closed) = (upstream.seen().len(), upstream.closed_connections());
    assert!(closed * 2 > count, "only {closed} connections were closed: the window was missed");
    assert!(seen + tried.not_sent <= tried.requests, "{seen} came: {tried:?}");
    tried
}

fn run_lane(proxy: &Proxy, lane: usize, rounds: usize) -> impl Future<Output = Lane> + use<> {
    let address = proxy.address();
    async move {
        let mut client = Client::connect(address).await;
        let mut chance = lane as u64;
        let mut ended = Lane::default();
        let mut next = Instant::now() + Duration::from_millis(100);
        for round in 0..rounds {
            sleep_until(next).await;
            let response = client.request(&Request::charge(&format!("{lane}-{round}"))).await;
            match response.problem().as_deref() {
                Some("outcome-unknown") => ended.unknown += 1,
                Some("upstream-unreachable") => ended.not_sent += 1,
                _ => {
                    response.expect_status(201);
                }
            }
            // A linear congruential generator, as good as any here.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let jitter = Duration::from_micros((chance >> 33) % 40_000);
            let spacing = if lane.is_multiple_of(4) { PATIENCE / 2 } else { PATIENCE };
            next = Instant::now() + spacing + jitter - Duration::from_millis(20);
        }
        ended
    }
}

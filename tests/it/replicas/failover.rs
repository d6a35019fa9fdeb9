//! What a failover costs: a server that had no time to copy its last writes takes them along. `wait_replicas` is there so that
//! nothing was sent by then which only that server knew of.

use tokio::join;

use crate::harness::{Proxy, Request, Upstream, Way, eventually};
use crate::servers::{Make, Sentinels};

/// Long enough for a replica's word on a machine under load.
const ONE_REPLICA: &str = "wait_replicas = 1\nwait_timeout = \"1s\"";

const SETTINGS: &str = "timeout = \"1s\"\nlease = \"6s\"";

/// What this process has answered it would answer again, whatever the servers know.
const UNCACHED: &str = "cache_max_bytes = 0";

/// The last claim before a failover, which no replica has: what its first try got, and how often it ran in the end.
async fn lose_the_last_write(lines: &str) -> (u16, usize) {
    let mut set = Sentinels::start(Make::Redis, 1).await;
    let upstream = Upstream::start().await;
    let (proxy, _store) =
        Way::to_sentinels(&set).with(UNCACHED).with(lines).store(SETTINGS).start(&upstream).await;
    let earlier = proxy.charge("earlier").await;
    earlier.expect_status(201);
    let mut gate = upstream.hold_next();
    let under_way = proxy.request_aside(Request::charge("midway"));
    gate.arrived().await;
    set.replicated().await;

    set.cut_replication().await;
    let first = proxy.charge("last").await;
    gate.release();
    under_way.await.expect("no panic").expect_status(201);
    let ended = set.fail_over().await;
    // It comes back as a replica of the other.
    set.server_at(ended).restart().await;

    let last = settled(&proxy, "last").await;
    assert_eq!(last, 201, "in the end there is an answer");
    settled(&proxy, "earlier").await;
    upstream.expect_executions("earlier", 1);
    // Its claim was copied, its answer was not.
    assert_eq!(settled(&proxy, "midway").await, 500);
    upstream.expect_executions("midway", 1);
    (first.status, upstream.executions("last"))
}

/// The status of what stands under a key at last.
async fn settled(proxy: &Proxy, key: &str) -> u16 {
    let mut status = 0;
    eventually("the key is settled", async || {
        let response = proxy.settled(&Request::charge(key)).await;
        status = response.status;
        response.problem().as_deref() != Some("store-unavailable")
    })
    .await;
    status
}

#[tokio::test]
async fn a_failover_that_drops_a_claim_runs_it_again_unless_replicas_are_waited_for() {
    // Each has servers of its own.
    let (alone, waited_for) = join!(lose_the_last_write(""), lose_the_last_write(ONE_REPLICA));
    assert_eq!(alone, (201, 2), "the exception in README: it ran, and the record was lost");
    assert_eq!(waited_for, (503, 1), "it was not sent while no replica had its claim");
}

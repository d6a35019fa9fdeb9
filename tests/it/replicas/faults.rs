//! Who makes the trouble: one hand for each replica, one for Redis, one for the wire to the upstream. What each does next,
//! and for how long, its seed says.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::fleet::{LEASE, Replica};
use super::history::History;
use super::rng::Rng;
use crate::servers::{Relay, Server};

/// How long a wire stays cut at the least, so that all connections notice.
const A_MOMENT: Duration = Duration::from_millis(50);

/// What befalls a replica.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Paused,
    Restarted,
    /// These befall its wire to Redis.
    Cut,
    Slow,
    Deaf,
}

/// What befalls replicas, each with how often of a hundred times.
const FAULTS: [(Fault, &str, u64); 6] = [
    (Fault::Killed, "replica killed", 25),
    (Fault::Paused, "replica paused", 20),
    (Fault::Restarted, "replica restarted", 10),
    (Fault::Cut, "wire to Redis cut", 20),
    (Fault::Slow, "wire to Redis slow", 10),
    (Fault::Deaf, "answers of Redis lost", 15),
];

/// Troubles a replica until then, and leaves it well.
pub async fn trouble_replica(
    mut replica: Replica,
    mut rng: Rng,
    history: Arc<History>,
    until: Instant,
) -> Replica {
    while rest(rng.millis(500, 4_000), until).await {
        let (fault, kind) = draw(&mut rng);
        let lasts = match fault {
            // Some come back before their leases have run out, and some after.
            Fault::Paused => rng.millis(200, 3_000),
            Fault::Slow => rng.millis(1_000, 4_000),
            Fault::Killed | Fault::Restarted | Fault::Cut | Fault::Deaf => rng.millis(100, 2_000),
        };
        history.fault(kind, format_args!("replica {}, for {lasts:?}", replica.number));
        match fault {
            Fault::Killed => {
                replica.kill();
                sleep(lasts).await;
                replica.restart().await;
            }
            Fault::Paused => {
                replica.pause();
                sleep(lasts).await;
                replica.resume();
            }
            Fault::Restarted => {
                replica.terminate();
                sleep(lasts).await;
                replica.restart().await;
            }
            Fault::Cut => {
                replica.redis.cut();
                sleep(lasts).await;
                replica.redis.heal();
            }
            Fault::Slow => {
                // Around the timeout: some operations come through, and some land without their callers' knowledge.
                replica.redis.delay(rng.millis(20, 400));
                sleep(lasts).await;
                replica.redis.heal();
            }
            Fault::Deaf => {
                replica.redis.drop_replies();
                sleep(lasts).await;
                // A connection that has lost some bytes is never whole again.
                replica.redis.cut();
                sleep(A_MOMENT).await;
                replica.redis.heal();
            }
        }
    }
    replica
}

/// Troubles Redis until then, and leaves it well.
pub async fn trouble_redis(mut redis: Server, mut rng: Rng, history: Arc<History>, until: Instant) -> Server {
    while rest(rng.millis(3_000, 10_000), until).await {
        let lasts = rng.millis(100, 1_500);
        if rng.percent(60) {
            history.fault("Redis killed", format_args!("for {lasts:?}"));
            redis.kill();
            sleep(lasts).await;
            redis.restart().await;
        } else {
            let lasts = lasts + rng.pick(&[Duration::ZERO, LEASE]);
            history.fault("Redis paused", format_args!("for {lasts:?}"));
            redis.pause();
            sleep(lasts).await;
            redis.resume();
        }
    }
    redis
}

/// Troubles the wire to the upstream until then, and leaves it well.
pub async fn trouble_upstream(wire: Relay, mut rng: Rng, history: Arc<History>, until: Instant) -> Relay {
    while rest(rng.millis(2_000, 8_000), until).await {
        let lasts = rng.millis(50, 500);
        history.fault("wire to the upstream cut", format_args!("for {lasts:?}"));
        wire.cut();
        sleep(lasts).await;
        wire.heal();
    }
    wire
}

/// Waits. False if the time is over.
async fn rest(pause: Duration, until: Instant) -> bool {
    let begin = Instant::now() + pause;
    sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
    begin < until
}

fn draw(rng: &mut Rng) -> (Fault, &'static str) {
    let mut drawn = rng.below(FAULTS.iter().map(|(.., often)| often).sum());
    for (fault, kind, often) in FAULTS {
        if drawn < often {
            return (fault, kind);
        }
        drawn -= often;
    }
    unreachable!("it is below the sum")
}

//! Several replicas on one Redis keep the promise together, whatever befalls them.
//!
//! The replicas are processes of their own. While many clients send duplicates to whichever of them, they are killed, paused
//! for longer than their leases and started again, Redis is killed and starts again with what is in its file, and the wires
//! between all of them are cut, slowed and deafened. A seed says what happens, though not in which order threads run:
//! `ONCEGATE_CHAOS_SEED=n` repeats the choices, and `ONCEGATE_CHAOS_SECONDS` says for how long. Then `checker` judges what
//! reached the upstream and what clients heard.

mod checker;
mod failover;
mod faults;
mod fleet;
mod history;
mod load;
#[path = "../simulation/rng.rs"]
mod rng;
mod rolling;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::aside;
use crate::servers::{Launch, Make, Relay};
use fleet::{LEASE, Replica, STORE_TIMEOUT};
use history::{Figures, History};
use load::{Calm, Clients, SLOWEST};
use rng::Rng;
use upstream::Upstream;

const REPLICAS: usize = 3;

/// How long a replica takes at the most to find Redis again: its longest pause between two attempts, and some for them.
const RECONNECTED: Duration = Duration::from_secs(3);

/// What a run of at least this length has seen of everything.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_die_pause_and_lose_redis_run_each_key_once() {
    chaos(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes: `make chaos`"]
async fn replicas_run_each_key_once_for_ten_minutes() {
    chaos(Duration::from_secs(600)).await;
}

#[expect(clippy::print_stdout, reason = "a run is known by its seed and its figures")]
async fn chaos(lasts: Duration) {
    let seed = setting("ONCEGATE_CHAOS_SEED").unwrap_or_else(|| getrandom::u64().expect("a seed"));
    let lasts = setting("ONCEGATE_CHAOS_SECONDS").map_or(lasts, Duration::from_secs);
    println!("ONCEGATE_CHAOS_SEED={seed}, {lasts:?}");
    let mut rng = Rng::new(seed);
    let upstream = Upstream::start().await;
    let wire = Relay::before(upstream.address()).await;
    let redis = Launch::of(Make::Redis).appendonly().start().await;
    let mut replicas = Vec::new();
    for number in 0..REPLICAS {
        replicas.push(Replica::start(number, &redis, wire.address()).await);
    }
    let history = Arc::new(History::new());
    let clients = Clients::of(replicas.iter().map(Replica::address).collect(), Arc::clone(&history));

    let until = Instant::now() + lasts;
    let mut of_replicas = Vec::new();
    for replica in replicas {
        of_replicas.push(aside(faults::trouble_replica(replica, rng.fork(), Arc::clone(&history), until)));
    }
    let of_redis = aside(faults::trouble_redis(redis, rng.fork(), Arc::clone(&history), until));
    let of_wire = aside(faults::trouble_upstream(wire, rng.fork(), Arc::clone(&history), until));
    let operations = clients.work(rng.fork(), until).await;
    let mut replicas = Vec::new();
    for trouble in of_replicas {
        replicas.push(trouble.await.expect("no panic"));
    }
    // They end with these.
    let _redis = of_redis.await.expect("no panic");
    let _wire = of_wire.await.expect("no panic");

    // All is well again. What still runs may go on for as long as the upstream takes, and what has lost its owner is in flight
    // until the lease ends.
    let grace = RECONNECTED + SLOWEST + LEASE + STORE_TIMEOUT;
    let calm = Calm { since: Instant::now(), grace };
    let unfinished = clients.look_again(&operations, calm).await;
    let (attempts, tries) = (upstream.attempts().clone(), history.tries().clone());
    let figures = Figures::of(&tries);
    println!(
        "{} operations, {} requests: {figures}; {} reached the upstream; faults: {:?}",
        operations.len(),
        tries.len(),
        attempts.len(),
        history.faults(),
    );
    let logs: Vec<String> = replicas.iter().map(Replica::log).collect();
    let panics: Vec<&str> =
        logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("panicked")).collect();
    let breaches = checker::breaches(&history, &attempts, &tries, calm);
    assert!(
        breaches.is_empty() && unfinished.is_empty() && panics.is_empty(),
        "ONCEGATE_CHAOS_SEED={seed}: {} keys with a breach, the first of them:\n{}\n{}\n{}",
        breaches.len(),
        breaches.iter().take(3).cloned().collect::<Vec<_>>().join("\n"),
        unfinished.join("\n"),
        panics.join("\n"),
    );
    if lasts >= LONG {
        for word in [
            "executed",
            "replayed",
            "request-in-flight",
            "key-reused",
            "outcome-unknown",
            "store-unavailable",
        ] {
            assert!(figures.count(word) > 0, "ONCEGATE_CHAOS_SEED={seed}: nothing was {word}");
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

//! Replicas that are restarted one after the other, as a rollout does, under load: no request fails, and none runs twice.
//!
//! Nobody tries again. A balancer sends new connections to whichever replica says that it is ready; it looks at them only now
//! and then, so that for a while it sends some to one that is about to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::fleet::Replica;
use super::rng::Rng;
use super::upstream::{Ending, Plan, Upstream};
use crate::harness::{Client, Request, Response, aside};
use crate::servers::{Launch, Make, eventually};

const REPLICAS: usize = 3;
const ROUNDS: usize = 2;
const CLIENTS: u64 = 16;

/// How often the balancer looks, and how long a replica that is about to end waits for that: for far longer, since on a machine
/// under load a look may take its time.
const LOOKS_EVERY: Duration = Duration::from_millis(100);
const SERVER: &str = "drain_delay = \"2s\"\nshutdown_grace = \"10s\"";

/// No replica loses Redis here, which is slow on such a machine, too.
const STORE: &str = "timeout = \"3s\"";

/// How often is looked again for what can only be seen from outside.
const POLL: Duration = Duration::from_millis(5);

/// How long a request takes at the most.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a replica takes at the most to end: its delay, its grace, and some for a machine under load.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What the clients saw, all together.
#[derive(Debug, Default)]
struct Figures {
    operations: AtomicU64,
    connections: AtomicU64,
    slowest_ms: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_restarted_one_after_the_other_and_no_request_fails_or_runs_twice() {
    let upstream = Upstream::start().await;
    let redis = Launch::of(Make::Redis).start().await;
    let mut replicas = Vec::new();
    for number in 0..REPLICAS {
        replicas.push(Replica::start_with(number, &redis, upstream.address(), (SERVER, STORE)).await);
    }
    let balancer =
        balance(replicas.iter().map(|replica| (replica.address(), replica.admin())).collect()).await;

    let (figures, is_over) = (Arc::new(Figures::default()), Arc::new(AtomicBool::new(false)));
    let load: Vec<_> = (0..CLIENTS)
        .map(|seed| aside(work(balancer, Rng::new(seed), Arc::clone(&figures), Arc::clone(&is_over))))
        .collect();
    let begun = Instant::now();
    for round in 0..ROUNDS {
        for replica in &mut replicas {
            // What a rollout waits for before it goes on.
            eventually("it is ready", async || is_ready(replica.admin()).await).await;
            sleep(2 * LOOKS_EVERY).await;
            replica.terminate();
            has_drained(replica, round + 1).await;
            replica.restart().await;
        }
    }
    is_over.store(true, Ordering::SeqCst);
    let mut failures = Vec::new();
    for client in load {
        failures.extend(client.await.expect("no panic"));
    }

    let mut executions: BTreeMap<u64, usize> = BTreeMap::new();
    for attempt in upstream.attempts().iter() {
        *executions.entry(attempt.operation).or_default() += 1;
    }
    let twice: Vec<_> = executions.iter().filter(|(_, count)| **count > 1).collect();
    let operations = figures.operations.load(Ordering::SeqCst);
    println!(
        "{} restarts in {:.1?}: {operations} requests on {} connections, {} failed, {} ran twice, the slowest took {} ms",
        ROUNDS * REPLICAS,
        begun.elapsed(),
        figures.connections.load(Ordering::SeqCst),
        failures.len(),
        twice.len(),
        figures.slowest_ms.load(Ordering::SeqCst),
    );
    assert!(failures.is_empty() && twice.is_empty(), "{failures:#?}\n{twice:?}");
    assert_eq!(executions.len() as u64, operations, "each ran");
}

/// Waits until it has ended by itself, with nothing left to do, for the `times`th time.
async fn has_drained(replica: &Replica, times: usize) {
    let ended = async {
        while replica.log().matches("drained").count() < times || !replica.has_ended() {
            sleep(POLL).await;
        }
    };
    if timeout(ENDS_WITHIN, ended).await.is_err() {
        panic!("replica {} does not drain and end:\n{}", replica.number, replica.log());
    }
}

/// One client: one operation after the other, on a connection that it keeps for as long as it may, or on a new one each.
/// Returns what failed.
async fn work(
    balancer: SocketAddr,
    mut rng: Rng,
    figures: Arc<Figures>,
    is_over: Arc<AtomicBool>,
) -> Vec<String> {
    let (mut failures, mut kept) = (Vec::new(), None);
    let keeps = rng.percent(50);
    while !is_over.load(Ordering::SeqCst) {
        let operation = figures.operations.fetch_add(1, Ordering::SeqCst);
        let plan = Plan {
            operation,
            variant: 0,
            refusals: 0,
            takes: if rng.percent(80) { rng.millis(0, 20) } else { rng.millis(100, 1_500) },
            ending: Ending::Answer,
            status: 201,
            pad_bytes: rng.pick(&[0, 64, 4_096]),
        };
        let request = Request::post("/v1/charges").key(&plan.key()).field("X-Try", operation.to_string());
        let mut client = match kept.take() {
            Some(client) => client,
            None => {
                figures.connections.fetch_add(1, Ordering::SeqCst);
                Client::connect(balancer).await
            }
        };
        let begun = Instant::now();
        client.send(&request.json(&plan.body())).await;
        match timeout(PATIENCE, client.try_response()).await {
            Ok(Ok(response)) if is_answer(&response) => {
                let says_close = response.value("connection").is_some_and(|value| value == "close");
                kept = (keeps && !says_close).then_some(client);
            }
            other => failures.push(format!("operation {operation}: {other:?}")),
        }
        let took = u64::try_from(begun.elapsed().as_millis()).expect("a short time");
        figures.slowest_ms.fetch_max(took, Ordering::SeqCst);
    }
    failures
}

/// Whether it is the first and only answer.
fn is_answer(response: &Response) -> bool {
    response.status == 201 && !response.is_replay()
}

/// A balancer before replicas, each with the address of its admin listener.
async fn balance(replicas: Vec<(SocketAddr, SocketAddr)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let ready: Arc<[AtomicBool]> = replicas.iter().map(|_| AtomicBool::new(true)).collect();
    // Looks at each for itself: none waits for another's answer.
    for (index, (_, admin)) in replicas.iter().copied().enumerate() {
        let ready = Arc::clone(&ready);
        drop(aside(async move {
            loop {
                ready[index].store(is_ready(admin).await, Ordering::SeqCst);
                sleep(LOOKS_EVERY).await;
            }
        }));
    }
    let turn = AtomicUsize::new(0);
    drop(aside(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let first = turn.fetch_add(1, Ordering::SeqCst);
            let turns = (first..first + REPLICAS).map(|turn| turn % REPLICAS);
            let chosen = turns.into_iter().find(|index| ready[*index].load(Ordering::SeqCst));
            let Some((replica, _)) = chosen.map(|index| replicas[index]) else { continue };
            drop(aside(async move {
                // Whatever ends it, the client sees.
                if let Ok(mut replica) = TcpStream::connect(replica).await {
                    drop(copy_bidirectional(&mut client, &mut replica).await);
                }
            }));
        }
    }));
    address
}

async fn is_ready(admin: SocketAddr) -> bool {
    let asked = timeout(PATIENCE, Client::ask(admin, &Request::get("/readyz"))).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200))
}

//! The clients: each operation has some that send it to whichever replica, at once and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::history::{Heard, History, Try};
use super::rng::Rng;
use super::upstream::{Ending, Plan};
use crate::harness::{Client, Request};

/// The longest that the upstream takes.
pub const SLOWEST: Duration = Duration::from_secs(3);

/// How long a client waits for a response.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// How many operations are under way at once.
const LANES: u64 = 40;

/// How many operations are looked at again at once, at the end.
const READERS: usize = 8;

/// One thing that some client wants to be done once.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    path: &'static str,
    /// What most clients send, and what one sends by mistake.
    payloads: [Plan; 2],
}

/// When all is well again, and how long what is under way may take from then on.
#[derive(Clone, Copy, Debug)]
pub struct Calm {
    pub since: Instant,
    pub grace: Duration,
}

/// Where clients find the replicas, and where they write down what they hear.
#[derive(Clone, Debug)]
pub struct Clients {
    pub replicas: Arc<[SocketAddr]>,
    pub history: Arc<History>,
    numbers: Arc<AtomicU64>,
}

impl Clients {
    pub fn of(replicas: Vec<SocketAddr>, history: Arc<History>) -> Self {
        Self { replicas: replicas.into(), history, numbers: Arc::default() }
    }

    /// Works until then. Returns all operations.
    pub async fn work(&self, mut rng: Rng, until: Instant) -> Vec<Operation> {
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let (clients, mut rng) = (self.clone(), rng.fork());
            lanes.spawn(async move {
                let mut done = Vec::new();
                for number in 0.. {
                    if Instant::now() >= until {
                        break;
                    }
                    let operation = Operation::draw(number * LANES + lane, &mut rng);
                    clients.carry_out(operation, &mut rng).await;
                    done.push(operation);
                }
                done
            });
        }
        lanes.join_all().await.concat()
    }

    /// Several clients want the same, and some ask more than once.
    async fn carry_out(&self, operation: Operation, rng: &mut Rng) {
        let mut asking = JoinSet::new();
        let is_disputed = rng.percent(15);
        for client in 0..rng.between(1, 4) {
            let payload = operation.payloads[usize::from(is_disputed && client == 1)];
            let (clients, mut rng) = (self.clone(), rng.fork());
            asking.spawn(async move {
                for _ in 0..rng.between(1, 4) {
                    let longest_pause_ms = rng.pick(&[30, 800]);
                    sleep(rng.millis(0, longest_pause_ms)).await;
                    let replica = usize::try_from(rng.below(clients.replicas.len() as u64)).unwrap();
                    clients.ask(operation.path, payload, replica).await;
                }
            });
        }
        asking.join_all().await;
    }

    /// Asks until each operation is at its end, from one replica and then another. Says which are not in the time that they
    /// may take.
    pub async fn look_again(&self, operations: &[Operation], calm: Calm) -> Vec<String> {
        let mut readers = JoinSet::new();
        for some in operations.chunks(operations.len().div_ceil(READERS).max(1)) {
            let (clients, some) = (self.clone(), some.to_vec());
            readers.spawn(async move {
                let mut unfinished = Vec::new();
                for operation in some {
                    for replica in 0..2 {
                        unfinished.extend(clients.finish(&operation, replica, calm).await);
                    }
                }
                unfinished
            });
        }
        readers.join_all().await.concat()
    }

    /// Asks until there is an answer, or the word that there will be none.
    async fn finish(&self, operation: &Operation, shift: u64, calm: Calm) -> Option<String> {
        // What nobody has begun is begun now.
        let deadline = calm.settled_by(Instant::now());
        let [mut payload, other] = operation.payloads;
        for turn in operation.payloads[0].operation + shift.. {
            let replica = usize::try_from(turn).unwrap() % self.replicas.len();
            let unfinished = match self.ask(operation.path, payload, replica).await {
                Heard::Answer { is_replay: true, .. } => return None,
                Heard::Answer { is_replay: false, .. } | Heard::Refusal { .. } => continue,
                Heard::Problem(word) if word == "outcome-unknown" => return None,
                Heard::Problem(word) if word == "key-reused" && payload != other => {
                    payload = other;
                    continue;
                }
                unfinished @ (Heard::Problem(_) | Heard::Nonsense(_) | Heard::Nothing) => unfinished,
            };
            if Instant::now() >= deadline {
                let number = payload.operation;
                return Some(format!(
                    "operation {number} is not at its end: replica {replica} says {unfinished:?}"
                ));
            }
            sleep(Duration::from_millis(100)).await;
        }
        None
    }

    /// One try.
    async fn ask(&self, path: &str, plan: Plan, replica: usize) -> Heard {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let request =
            Request::post(path).key(&plan.key()).field("X-Try", number.to_string()).json(&plan.body());
        let begun = Instant::now();
        let response = timeout(PATIENCE, Client::ask(self.replicas[replica], &request)).await;
        let heard = match response {
            Ok(Ok(response)) => Heard::of(&response, &plan),
            Ok(Err(_)) | Err(_) => Heard::Nothing,
        };
        let ended = Instant::now();
        self.history.add(Try { number, plan, replica, begun, ended, heard: heard.clone() });
        heard
    }
}

impl Calm {
    /// When a request is no longer in flight that was begun at this moment.
    pub fn settled_by(&self, begun: Instant) -> Instant {
        self.since.max(begun) + self.grace
    }
}

impl Operation {
    fn draw(number: u64, rng: &mut Rng) -> Self {
        let path = rng.pick(&["/v1/charges", "/v1/charges", "/v1/patient"]);
        let mut plan = Plan {
            operation: number,
            variant: 0,
            refusals: if rng.percent(5) { 1 } else { 0 },
            takes: match rng.below(100) {
                0..60 => rng.millis(0, 20),
                60..85 => rng.millis(20, 500),
                _ => rng.millis(500, 3_000).min(SLOWEST),
            },
            ending: match rng.below(100) {
                0..94 => Ending::Answer,
                94..97 => Ending::LeaveBefore,
                _ => Ending::LeaveAfter,
            },
            status: rng.pick(&[200, 201, 201, 201, 202, 402, 409, 500]),
            pad_bytes: rng.pick(&[0, 64, 64, 512, 512, 4_096, 100_000]),
        };
        let agreed = plan;
        plan.variant = 1;
        Self { path, payloads: [agreed, plan] }
    }
}

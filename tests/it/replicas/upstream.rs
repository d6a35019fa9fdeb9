//! The upstream of the replicas: it does what each request's plan says, and writes down everything that reached it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::rng::Rng;
use crate::harness::{Framing, Head, Wire, aside};

/// What is to be done with a request. It is the request's body, so another plan is another payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub operation: u64,
    /// Which of an operation's payloads this is.
    pub variant: usize,
    /// How many attempts are refused with 429, which says that nothing was done.
    pub refusals: usize,
    pub takes: Duration,
    pub ending: Ending,
    pub status: u16,
    /// How long the answer is, beside a few words.
    pub pad_bytes: usize,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Answer,
    /// The connection ends, and nothing was done.
    LeaveBefore,
    /// All was done, and the connection ends in the midst of the answer.
    LeaveAfter,
}

/// A request that has reached the upstream, if only its head.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub operation: u64,
    /// Which try of a client it came from.
    pub of_try: u64,
    /// What it asked for, if it came whole.
    pub plan: Option<Plan>,
    pub begun: Instant,
    pub told: Told,
}

/// What the upstream has told of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    /// That nothing was done, from this moment on.
    Refusal(Instant),
    Answer,
}

/// Listens until the test's runtime ends.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&attempts);
        drop(aside(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(aside(serve(Wire::new(stream), Arc::clone(&book))));
            }
        }));
        Self { address, attempts }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All attempts so far, in the order in which they came. An attempt's number is its place.
    pub fn attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().unwrap()
    }
}

impl Plan {
    pub fn key(&self) -> String {
        format!("operation-{}", self.operation)
    }

    pub fn body(&self) -> String {
        serde_json::to_string(self).expect("JSON")
    }

    /// The one answer of the attempt with this number.
    pub fn answer(&self, attempt: usize) -> String {
        let mut pad = Rng::new(attempt as u64);
        let pad: String = (0..self.pad_bytes / 16).map(|_| format!("{:016x}", pad.next())).collect();
        format!(r#"{{"attempt":{attempt},"plan":{},"pad":"{pad}"}}"#, self.body())
    }
}

/// The refusal by the attempt with this number.
pub fn refusal(attempt: usize) -> String {
    format!(r#"{{"refused":{attempt}}}"#)
}

async fn serve(mut wire: Wire, book: Arc<Mutex<Vec<Attempt>>>) {
    while let Ok(Some(head)) = wire.head().await {
        let (number, refused_before) = begin(&head, &book);
        let mut body = Vec::new();
        let read = wire.body(head.framing(Framing::Length(0)), |piece| body.extend_from_slice(piece)).await;
        if read.is_err() {
            return;
        }
        let plan: Plan = serde_json::from_slice(&body).expect("a plan");
        book.lock().unwrap()[number].plan = Some(plan);
        sleep(plan.takes).await;
        let is_refused = refused_before < plan.refusals;
        let (status, answer, told) = match plan.ending {
            _ if is_refused => (429, refusal(number), Told::Refusal(Instant::now())),
            Ending::Answer => (plan.status, plan.answer(number), Told::Answer),
            Ending::LeaveBefore => return wire.reset(),
            Ending::LeaveAfter => (plan.status, plan.answer(number), Told::Nothing),
        };
        book.lock().unwrap()[number].told = told;
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        let is_cut = told == Told::Nothing;
        let sent = if is_cut { &answer[..length / 2] } else { &answer };
        if wire.write((head + sent).as_bytes()).await.is_err() || is_cut {
            return;
        }
    }
}

/// Writes an attempt down. Returns its number, and how many of its operation were refused before.
fn begin(head: &Head, book: &Mutex<Vec<Attempt>>) -> (usize, usize) {
    let number = |name: &str| {
        let value = head.values(name).into_iter().next().expect("the field");
        value.rsplit('-').next().unwrap().parse::<u64>().expect("a number")
    };
    let (operation, of_try) = (number("idempotency-key"), number("x-try"));
    let mut attempts = book.lock().unwrap();
    let refused = attempts
        .iter()
        .rev()
        .filter(|before| before.operation == operation && matches!(before.told, Told::Refusal(_)))
        .count();
    attempts.push(Attempt { operation, of_try, plan: None, begun: Instant::now(), told: Told::Nothing });
    (attempts.len() - 1, refused)
}

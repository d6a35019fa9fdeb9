//! Hostile answers of an upstream: each is one answer, or none, and never becomes the answer to another request.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cases::{Case, Shown};
use super::{AT_ONCE, PATIENCE};
use crate::harness::{Client, Config, Reply, Request, Response, Upstream, aside};

/// How often a case is tried whose connection has to be used again.
const TRIES: usize = 2;

/// What must come of an answer.
#[derive(Debug)]
struct Verdict {
    answer: Answer,
    is_reused: bool,
    closes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Status(u16),
    Unknown,
    Broken,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_read_as_another_number_of_answers() {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = Vec::new();
    for case in Case::all(include_str!("responses.txt")) {
        for scope in ["guarded", "unguarded"] {
            let verdict = Verdict::parse(case.expected(scope));
            let name = format!("{} ({scope})", case.name);
            let bytes = case.bytes(&[]);
            let places = Arc::clone(&places);
            let run = async move {
                let _place = places.acquire().await.expect("a place");
                run(scope == "guarded", &bytes, &verdict).await.err()
            };
            running.push((name, case.bytes(&[]), aside(run)));
        }
    }
    let mut faults = Vec::new();
    let runs = running.len();
    for (name, bytes, running) in running {
        let fault = running.await.unwrap_or_else(|panic| Some(panic.to_string()));
        faults.extend(fault.map(|fault| format!("{name}\n    {}\n  {fault}\n", Shown(&bytes))));
    }
    assert!(faults.is_empty(), "{} of {runs} runs:\n{}", faults.len(), faults.join("\n"));
}

/// A connection that may be used again may be given up nevertheless, if the thread that serves it pauses between the answer's
/// last byte and saying that it is ready: it has to be used again in one try. One that may not never is.
async fn run(guarded: bool, bytes: &[u8], verdict: &Verdict) -> Result<(), String> {
    for _ in 0..TRIES {
        match (try_once(guarded, bytes, verdict).await?, verdict.is_reused) {
            (true, false) => return Err("the connection is used again".to_owned()),
            (true, true) | (false, false) => return Ok(()),
            (false, true) => {}
        }
    }
    Err(format!("the connection is not used again in any of {TRIES} tries"))
}

/// Whether the connection is used again, if all else is as it must be.
async fn try_once(guarded: bool, bytes: &[u8], verdict: &Verdict) -> Result<bool, String> {
    let upstream = Upstream::start().await;
    // Slow machines keep connections for longer than 500 ms.
    let patient = "idle_timeout = \"60s\"\nmax_reuse_idle = \"60s\"";
    let proxy = Config::before(&upstream).upstream(patient).start().await;
    let reply = Reply::raw(bytes);
    upstream.next(if verdict.closes { reply.then_close() } else { reply });
    let request = if guarded { Request::charge("k") } else { Request::post("/elsewhere").json("{}") };
    let first = exchange(&mut proxy.client().await, &request).await?;
    verdict.check(first.as_ref())?;
    if guarded {
        let retry = exchange(&mut proxy.client().await, &request).await?;
        verdict.check(retry.as_ref())?;
        let is_replay = retry.is_some_and(|retry| retry.is_replay());
        if is_replay != matches!(verdict.answer, Answer::Status(_)) {
            return Err(format!("the retry {} a replay", if is_replay { "is" } else { "is not" }));
        }
    }
    if upstream.seen().len() != 1 {
        return Err(format!("the upstream was asked {} times", upstream.seen().len()));
    }
    let next = exchange(&mut proxy.client().await, &Request::charge("next")).await?;
    let own = |next: &Response| next.status == 201 && next.text() == r#"{"execution":2}"#;
    if !next.as_ref().is_some_and(own) {
        return Err(format!("the next request gets another's answer: {next:?}"));
    }
    Ok(upstream.seen().iter().all(|seen| seen.connection == 0))
}

/// The answer, or none if it broke off.
async fn exchange(client: &mut Client, request: &Request) -> Result<Option<Response>, String> {
    client.send(request).await;
    match timeout(PATIENCE, client.try_response()).await {
        Ok(answer) => Ok(answer.ok()),
        Err(_) => Err("no answer comes".to_owned()),
    }
}

impl Verdict {
    fn parse(words: &[String]) -> Self {
        let mut verdict = Self { answer: Answer::Unknown, is_reused: false, closes: false };
        for word in words {
            match word.as_str() {
                "unknown" => verdict.answer = Answer::Unknown,
                "broken" => verdict.answer = Answer::Broken,
                "reused" => verdict.is_reused = true,
                "alone" => verdict.is_reused = false,
                "closes" => verdict.closes = true,
                status => verdict.answer = Answer::Status(status.parse().expect("a status")),
            }
        }
        verdict
    }

    fn check(&self, answer: Option<&Response>) -> Result<(), String> {
        let fits = match (self.answer, answer) {
            (Answer::Broken, answer) => answer.is_none(),
            (Answer::Unknown, Some(answer)) => {
                answer.status == 502 && answer.problem().as_deref() == Some("outcome-unknown")
            }
            (Answer::Status(status), Some(answer)) => {
                answer.status == status && matches!(answer.text().as_str(), "" | "{}")
            }
            (Answer::Unknown | Answer::Status(_), None) => false,
        };
        if fits { Ok(()) } else { Err(format!("instead of {:?}: {answer:?}", self.answer)) }
    }
}

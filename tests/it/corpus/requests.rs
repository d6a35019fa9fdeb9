//! Hostile requests. What of them reaches the upstream is read again by parsers of other make, and is never another number
//! of requests than a strict reading allows.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cases::{Case, Shown};
use super::readers::{ReadRequest, Reader, Reading};
use super::recorder::Recorder;
use super::{AT_ONCE, PATIENCE};
use crate::harness::{Config, aside};

const BENIGN: &str = "POST /benign HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc";
const AFTER: &str = "GET /after HTTP/1.1\r\nHost: api.test\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";

/// The routes that each request is sent to.
const ROUTES: [(&str, &str); 2] = [("guarded", "/v1/charges"), ("unguarded", "/elsewhere")];

/// What came of a case on one route.
struct Run {
    name: String,
    expected: Verdict,
    sent: Vec<u8>,
    /// What did not come as expected, as the client saw it.
    fault: Option<String>,
    /// What the upstream received, connection by connection.
    received: Vec<Vec<u8>>,
}

/// What must come of a request.
#[derive(Debug)]
struct Verdict {
    statuses: Vec<String>,
    end: End,
    may_be_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Closed,
    Waits,
}

#[test]
fn the_corpus_is_large_enough() {
    let cases = Case::all(include_str!("requests.txt"));
    assert!(cases.len() >= 200, "{} cases", cases.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_read_as_another_number_of_requests() {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = Vec::new();
    for (index, case) in Case::all(include_str!("requests.txt")).into_iter().enumerate() {
        for (scope, path) in ROUTES {
            let words = [
                ("{start}", "POST {path} HTTP/1.1\\r\\nHost: api.test\\r\\nIdempotency-Key: {key}"),
                ("{path}", path),
                ("{key}", &format!("k-{index}")),
                ("{smuggled}", SMUGGLED),
            ];
            let sent = [case.bytes(&words), BENIGN.into()].concat();
            let name = format!("{} ({scope})", case.name);
            let expected = Verdict::parse(case.expected(scope), scope == "unguarded");
            let places = Arc::clone(&places);
            let run = run(name.clone(), sent, expected);
            running.push((
                name,
                aside(async move {
                    let _place = places.acquire().await.expect("a place");
                    run.await
                }),
            ));
        }
    }
    let mut runs = Vec::new();
    let mut faults = Vec::new();
    for (name, running) in running {
        match running.await {
            Ok(run) => runs.push(run),
            Err(panic) => faults.push(format!("{name}: {panic}")),
        }
    }
    faults.extend(faults_of(&runs));
    assert!(faults.is_empty(), "{} of {} runs:\n{}", faults.len(), runs.len(), faults.join("\n"));
}

async fn run(name: String, sent: Vec<u8>, expected: Verdict) -> Run {
    let upstream = Recorder::start().await;
    let proxy = Config::before_endpoints([upstream.address()]).start().await;
    let mut client = proxy.client().await;
    client.try_send_bytes(&sent).await;
    let mut fault = None;
    for status in &expected.statuses {
        let answer = client.try_response().await;
        let is_expected = |answer: u16| status.split('/').any(|status| status == answer.to_string());
        match answer {
            Ok(answer) if is_expected(answer.status) => {}
            other => {
                fault = Some(format!("instead of {status}: {other:?}"));
                break;
            }
        }
    }
    if fault.is_none() && expected.end == End::Open {
        client.try_send_bytes(AFTER).await;
        match client.try_response().await {
            Ok(answer) if answer.status == 201 => {}
            other => fault = Some(format!("the connection should serve another request: {other:?}")),
        }
    }
    if fault.is_some() || expected.end != End::Closed {
        client.half_close().await;
    }
    let more = timeout(PATIENCE, client.closed()).await.unwrap_or_else(|_| "(it stays open)".to_owned());
    let may_be_refused = expected.end == End::Waits && more.starts_with("HTTP/1.1 4");
    if fault.is_none() && !more.is_empty() && !may_be_refused {
        fault = Some(format!("more is answered: {more}"));
    }
    drop(client);
    proxy.shutdown().await;
    Run { name, expected, sent, fault, received: upstream.received().await }
}

impl Verdict {
    fn parse(words: &[String], is_unguarded: bool) -> Self {
        let mut verdict = Self { statuses: Vec::new(), end: End::Closed, may_be_cut: false };
        for word in words {
            match word.as_str() {
                "open" => verdict.end = End::Open,
                "closed" => verdict.end = End::Closed,
                "waits" => verdict.end = End::Waits,
                "cut" => verdict.may_be_cut = is_unguarded,
                status => verdict.statuses.push(status.to_owned()),
            }
        }
        verdict
    }

    fn served(&self) -> usize {
        self.statuses.iter().filter(|status| *status == "201").count()
    }
}

/// What is wrong with the runs, as each reader sees it.
fn faults_of(runs: &[Run]) -> Vec<String> {
    let sent: Vec<&[u8]> = runs.iter().map(|run| run.sent.as_slice()).collect();
    let received: Vec<&[u8]> = runs.iter().flat_map(|run| &run.received).map(Vec::as_slice).collect();
    let read = Reader::ALL.map(|reader| (reader, reader.read(&sent), reader.read(&received)));
    let mut faults = Vec::new();
    let mut connections = 0;
    for (index, run) in runs.iter().enumerate() {
        let own = connections..connections + run.received.len();
        connections = own.end;
        let mut found: Vec<String> = run.fault.iter().cloned().collect();
        let inputs: Vec<_> = read.iter().map(|(_, sent, _)| normalized(&sent[index].requests)).collect();
        for (reader, _, received) in &read {
            let fault = check(run, &received[own.clone()], &inputs);
            found.extend(fault.map(|fault| format!("{reader:?}: {fault}")));
        }
        if !found.is_empty() {
            let received: Vec<String> = run.received.iter().map(|bytes| Shown(bytes).to_string()).collect();
            faults.push(format!(
                "{}\n  sent\n    {}\n  received\n    {}\n  {}\n",
                run.name,
                Shown(&run.sent),
                received.join("\n    -- and --\n    "),
                found.join("\n  ")
            ));
        }
    }
    faults
}

/// Judges what one reader found on the connections of one run. `inputs` is what the readers make of what was sent.
fn check(run: &Run, received: &[Reading], inputs: &[Vec<ReadRequest>]) -> Option<String> {
    let mut served = run.expected.served();
    let is_torn =
        |reading: &&Reading| reading.end != "clean" && !(run.expected.may_be_cut && reading.end == "cut");
    if let Some(torn) = received.iter().find(is_torn) {
        return Some(format!("a connection of the upstream ends {}", torn.end));
    }
    let mut requests: Vec<_> = received.iter().flat_map(|reading| normalized(&reading.requests)).collect();
    if requests.iter().any(|request| request.target.contains("smuggled")) {
        return Some("a request was smuggled".to_owned());
    }
    let agrees = |input: &&Vec<ReadRequest>| input.len() >= served;
    let mut allowed: Vec<_> = inputs.iter().find(agrees)?.iter().take(served).cloned().collect();
    if run.expected.end == End::Open {
        served += 1;
        allowed.push(ReadRequest { method: "GET".into(), target: "/after".into(), body: String::new() });
    }
    requests.sort();
    allowed.sort();
    (requests != allowed)
        .then(|| format!("{served} requests should be {allowed:?}, but they are {requests:?}"))
}

/// In origin form.
fn normalized(requests: &[ReadRequest]) -> Vec<ReadRequest> {
    let origin = |target: &str| match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => target.to_owned(),
    };
    let normalize =
        |request: &ReadRequest| ReadRequest { target: origin(&request.target), ..request.clone() };
    requests.iter().map(normalize).collect()
}

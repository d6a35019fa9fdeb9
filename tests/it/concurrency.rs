//! Many at once: exactly one execution for each key, whatever the order of arrival.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Barrier;

use crate::harness::{Client, Config, Proxy, Request, Response, Upstream, aside, within};

const CLIENTS: usize = 50;
const ROUNDS: usize = 30;

/// Sends all requests at the same moment, each on a connection of its own.
async fn at_once(proxy: &Proxy, requests: impl IntoIterator<Item = Request>) -> Vec<Response> {
    let requests: Vec<_> = requests.into_iter().collect();
    let barrier = Arc::new(Barrier::new(requests.len()));
    let address = proxy.address();
    let clients = requests.into_iter().map(|request| {
        let barrier = Arc::clone(&barrier);
        aside(async move {
            let mut client = Client::connect(address).await;
            barrier.wait().await;
            client.request(&request).await
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut responses = Vec::new();
    for client in clients {
        responses.push(within("every answer", client).await.unwrap());
    }
    responses
}

/// One ran; all others got its replay, or a refusal of this kind.
fn expect_one_execution(responses: &[Response], refusals: &[(u16, &str)]) {
    let ran: Vec<_> =
        responses.iter().filter(|response| response.status == 201 && !response.is_replay()).collect();
    assert_eq!(ran.len(), 1, "exactly one is answered as the first: {ran:#?}");
    for response in responses.iter().filter(|response| *response != ran[0]) {
        if response.status == 201 {
            response.expect_replay_of(ran[0]);
        } else {
            let word = response.problem().unwrap_or_default();
            assert!(refusals.contains(&(response.status, &word)), "not one of {refusals:?}: {response:?}");
            response.expect_problem(response.status, &word);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_duplicates_at_once_run_once() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for round in 0..ROUNDS {
        let key = format!("round-{round}");
        let responses = at_once(&proxy, (0..CLIENTS).map(|_| Request::charge(&key))).await;
        expect_one_execution(&responses, &[(409, "request-in-flight")]);
        upstream.expect_executions(&key, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_duplicates_that_wait_all_get_the_one_answer() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream)
        .charges("on_in_flight = \"wait\"\nwait_timeout = \"15s\"")
        .idempotency("max_waiters = 100");
    let proxy = config.start().await;
    for round in 0..ROUNDS {
        let key = format!("round-{round}");
        let responses = at_once(&proxy, (0..CLIENTS).map(|_| Request::charge(&key))).await;
        expect_one_execution(&responses, &[]);
        upstream.expect_executions(&key, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_keys_at_once_run_once_each() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for round in 0..ROUNDS {
        let keys: Vec<_> = (0..CLIENTS).map(|n| format!("{round}-{n}")).collect();
        let responses = at_once(&proxy, keys.iter().map(|key| Request::charge(key))).await;
        let bodies: BTreeSet<_> =
            responses.iter().map(|response| response.expect_status(201).text()).collect();
        assert_eq!(bodies.len(), CLIENTS, "each key has an answer of its own: {bodies:?}");
        keys.iter().for_each(|key| upstream.expect_executions(key, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_payloads_under_one_key_one_runs_and_the_other_never() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for round in 0..ROUNDS {
        let key = format!("round-{round}");
        let amount = |n: usize| Request::charge(&key).json(&format!(r#"{{"amount":{}}}"#, n % 2));
        let responses = at_once(&proxy, (0..CLIENTS).map(amount)).await;
        expect_one_execution(&responses, &[(409, "request-in-flight"), (422, "key-reused")]);
        let refused = responses.iter().filter(|response| response.status == 422).count();
        assert_eq!(refused, CLIENTS / 2, "all of the other payload are refused");
        upstream.expect_executions(&key, 1);
    }
}

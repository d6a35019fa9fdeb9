//! A duplicate while the first is at work: refused, or made to wait.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::harness::{
    Config, FaultyStore, Gate, Operation, Proxy, Reply, Request, Response, StuckEndpoint, Upstream,
    eventually, within,
};

const WAIT: &str = "on_in_flight = \"wait\"\nwait_timeout = \"15s\"";

/// A proxy whose duplicates wait, a first request held at the upstream, and `count` duplicates that came to the store.
struct Waiting {
    proxy: Proxy,
    first: JoinHandle<Response>,
    waiters: Vec<JoinHandle<Response>>,
}

impl Waiting {
    async fn start(config: &Config, count: usize) -> Self {
        let store = FaultyStore::new();
        let proxy = config.start_with_store(Arc::clone(&store) as _).await;
        let asked = || store.calls(Operation::Insert) + store.calls(Operation::Lookup);
        let first = proxy.request_aside(Request::charge("k"));
        eventually("the first has claimed the key", async || asked() > 0).await;
        let waiters: Vec<_> = (0..count).map(|_| proxy.request_aside(Request::charge("k"))).collect();
        eventually("the duplicates have come to the store", async || asked() > count).await;
        Self { proxy, first, waiters }
    }

    async fn at(gate: &mut Gate, config: &Config, count: usize) -> Self {
        let waiting = Self::start(config, count).await;
        gate.arrived().await;
        waiting
    }

    async fn answers(self) -> (Response, Vec<Response>, Proxy) {
        let first = within("the first answer", self.first).await.unwrap();
        let mut answers = Vec::new();
        for waiter in self.waiters {
            answers.push(within("a waiter's answer", waiter).await.unwrap());
        }
        (first, answers, self.proxy)
    }
}

#[tokio::test]
async fn a_second_post_while_the_first_is_in_flight_gets_409() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    for _ in 0..3 {
        let refused = proxy.charge("k").await;
        assert_eq!(refused.expect_problem(409, "request-in-flight").expect_retry_after(), 1);
    }
    gate.release();
    let first = first.await.unwrap();
    proxy.charge("k").await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn the_operator_chooses_when_duplicates_come_back() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).charges("retry_after = \"3s\"").start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    assert_eq!(proxy.charge("k").await.expect_problem(409, "request-in-flight").expect_retry_after(), 3);
    gate.release();
    first.await.unwrap().expect_status(201);
}

#[tokio::test]
async fn a_request_in_flight_holds_up_no_other_key() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    proxy.charge("other").await.expect_status(201);
    gate.release();
    first.await.unwrap().expect_status(201);
}

#[tokio::test]
async fn a_duplicate_that_waits_gets_the_replay_as_soon_as_it_is_there() {
    let upstream = Upstream::start().await;
    let mut gate = upstream.hold_next();
    let waiting = Waiting::at(&mut gate, &Config::before(&upstream).charges(WAIT), 3).await;
    gate.release();
    let (first, answers, _proxy) = waiting.answers().await;
    first.expect_status(201);
    for answer in answers {
        answer.expect_replay_of(&first);
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn those_who_wait_do_not_lose_their_patience_with_the_first() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).charges(WAIT).upstream("response_timeout = \"300ms\"");
    let mut gate = upstream.hold_next();
    let waiting = Waiting::at(&mut gate, &config, 2).await;
    within("the first answer", waiting.first).await.unwrap().expect_problem(504, "still-running");
    gate.release();
    for waiter in waiting.waiters {
        let answer = within("a waiter's answer", waiter).await.unwrap();
        assert!(answer.expect_status(201).is_replay(), "{answer:?}");
        assert_eq!(answer.text(), r#"{"held":true}"#);
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn those_who_wait_are_answered_even_if_the_first_has_left() {
    let upstream = Upstream::start().await;
    let mut gate = upstream.hold_next();
    let config = Config::before(&upstream).charges(WAIT);
    let waiting = Waiting::at(&mut gate, &config, 2).await;
    waiting.first.abort();
    gate.release();
    for waiter in waiting.waiters {
        let answer = within("a waiter's answer", waiter).await.unwrap();
        assert!(answer.expect_status(201).is_replay(), "{answer:?}");
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_duplicate_waits_no_longer_than_wait_timeout() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).charges("on_in_flight = \"wait\"\nwait_timeout = \"200ms\"");
    let proxy = config.start().await;
    let mut gate = upstream.hold_next();
    let first = proxy.request_aside(Request::charge("k"));
    gate.arrived().await;
    proxy.charge("k").await.expect_problem(409, "request-in-flight").expect_retry_after();
    gate.release();
    first.await.unwrap().expect_status(201);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn another_payload_does_not_wait_to_be_refused() {
    let upstream = Upstream::start().await;
    let mut gate = upstream.hold_next();
    let waiting = Waiting::at(&mut gate, &Config::before(&upstream).charges(WAIT), 0).await;
    waiting.proxy.request(&Request::charge("k").json("{}")).await.expect_problem(422, "key-reused");
    gate.release();
    waiting.answers().await.0.expect_status(201);
}

#[tokio::test]
async fn more_than_max_waiters_are_refused_at_once() {
    let upstream = Upstream::start().await;
    let mut gate = upstream.hold_next();
    let config = Config::before(&upstream).charges(WAIT).idempotency("max_waiters = 1");
    let waiting = Waiting::at(&mut gate, &config, 3).await;
    // Two of the three cannot wait: they are answered while the first is still held.
    eventually("two of three are refused", async || {
        waiting.waiters.iter().filter(|waiter| waiter.is_finished()).count() == 2
    })
    .await;
    gate.release();
    let (first, answers, _proxy) = waiting.answers().await;
    let (refused, replayed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 409);
    assert_eq!((refused.len(), replayed.len()), (2, 1), "{answers:?}");
    for answer in refused {
        answer.expect_problem(409, "request-in-flight");
    }
    replayed[0].expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn those_who_wait_learn_that_the_outcome_is_unknown() {
    let upstream = Upstream::start().await;
    let (reply, mut gate) = Reply::reset().held();
    upstream.next(reply);
    let waiting = Waiting::at(&mut gate, &Config::before(&upstream).charges(WAIT), 3).await;
    gate.release();
    let (first, answers, _proxy) = waiting.answers().await;
    first.expect_problem(502, "outcome-unknown");
    for answer in answers {
        answer.expect_problem(502, "outcome-unknown");
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn those_who_wait_for_an_answer_that_frees_the_key_are_sent_away() {
    let upstream = Upstream::start().await;
    let (reply, mut gate) = Reply::status(429).body("later").held();
    upstream.next(reply);
    let waiting = Waiting::at(&mut gate, &Config::before(&upstream).charges(WAIT), 3).await;
    gate.release();
    let (first, answers, proxy) = waiting.answers().await;
    first.expect_status(429);
    for answer in answers {
        answer.expect_status(503).expect_retry_after();
    }
    upstream.expect_executions("k", 1);
    proxy.charge("k").await.expect_status(201);
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn after_a_request_that_was_never_sent_one_of_those_who_wait_takes_over() {
    let stuck = StuckEndpoint::new();
    // Long enough for the system to try the connection again once the endpoint takes some.
    let config =
        Config::before_endpoints([stuck.address()]).upstream("connect_timeout = \"2500ms\"").charges(WAIT);
    let waiting = Waiting::start(&config, 2).await;
    let first = within("the owner's answer", waiting.first).await.unwrap();
    first.expect_problem(504, "upstream-unreachable").expect_retry_after();
    let upstream = stuck.revive();
    let mut answers = Vec::new();
    for waiter in waiting.waiters {
        answers.push(within("a waiter's answer", waiter).await.unwrap());
    }
    let Some(ran) = answers.iter().find(|answer| !answer.is_replay()) else {
        panic!("none ran: {answers:?}")
    };
    ran.expect_status(201);
    for answer in answers.iter().filter(|answer| answer.is_replay()) {
        answer.expect_replay_of(ran);
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn over_a_dead_upstream_those_who_wait_are_not_run_one_by_one() {
    let stuck = StuckEndpoint::new();
    let config =
        Config::before_endpoints([stuck.address()]).upstream("connect_timeout = \"500ms\"").charges(WAIT);
    let waiting = Waiting::start(&config, 5).await;
    let (first, mut answers, _proxy) = waiting.answers().await;
    answers.push(first);
    let tried = answers.iter().filter(|answer| answer.problem().as_deref() == Some("upstream-unreachable"));
    let tried = tried.filter(|answer| answer.status == 504).count();
    assert!((1..=2).contains(&tried), "the owner and one who takes over try: {answers:#?}");
    for answer in answers.iter().filter(|answer| answer.status != 504) {
        answer.expect_status(503).expect_retry_after();
    }
}

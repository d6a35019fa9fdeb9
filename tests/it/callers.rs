//! Who calls: no tenant reads another's answers, and none is made to run twice.

use crate::harness::{Config, Proxy, Request, Upstream};

#[tokio::test]
async fn tenants_have_keys_of_their_own() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    let alice = proxy.request(&Request::charge("k").bearer("alice")).await;
    let bob = proxy.request(&Request::charge("k").bearer("bob")).await;
    let nobody = proxy.charge("k").await;
    assert_eq!(alice.expect_status(201).text(), r#"{"execution":1}"#);
    assert_eq!(bob.expect_status(201).text(), r#"{"execution":2}"#);
    assert_eq!(nobody.expect_status(201).text(), r#"{"execution":3}"#);
    proxy.request(&Request::charge("k").bearer("alice")).await.expect_replay_of(&alice);
    proxy.request(&Request::charge("k").bearer("bob")).await.expect_replay_of(&bob);
    proxy.charge("k").await.expect_replay_of(&nobody);
}

#[tokio::test]
async fn another_tenants_payload_is_no_mismatch_when_tenants_are_kept_apart() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    proxy.request(&Request::charge("k").bearer("alice")).await.expect_status(201);
    proxy.request(&Request::charge("k").bearer("bob").json("{}")).await.expect_status(201);
    upstream.expect_executions("k", 2);
}

#[tokio::test]
async fn callers_are_told_apart_by_everything_the_operator_lists() {
    let upstream = Upstream::start().await;
    let caller = "caller = [\"header:authorization\", \"header:x-tenant\"]";
    let proxy = Config::before(&upstream).idempotency(caller).start().await;
    let alice = || Request::charge("k").bearer("alice");
    let requests = [
        alice(),
        alice().field("X-Tenant", ""),
        alice().field("X-Tenant", "1"),
        alice().field("X-Tenant", "1").field("X-Tenant", "1"),
        alice().field("X-Tenant", "1").field("X-Tenant", "2"),
        Request::charge("k").field("X-Tenant", "1"),
        Request::charge("k").bearer("bob").field("X-Tenant", "1"),
    ];
    for (request, n) in requests.iter().zip(1..) {
        let first = proxy.request(request).await;
        assert_eq!(first.text(), format!(r#"{{"execution":{n}}}"#), "{request:?}: {first:?}");
        proxy.request(request).await.expect_replay_of(&first);
    }
}

#[tokio::test]
async fn a_cookie_can_tell_callers_apart() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).idempotency("caller = [\"cookie:session\"]").start().await;
    let with = |cookies: &str| Request::charge("k").field("Cookie", cookies);
    let first = proxy.request(&with("session=a; theme=dark")).await;
    first.expect_status(201);
    for same in ["session=a", "theme=light; session=a", "  x=1;session=a"] {
        proxy.request(&with(same)).await.expect_replay_of(&first);
    }
    proxy
        .request(&Request::charge("k").field("Cookie", "x=1").field("Cookie", "session=a"))
        .await
        .expect_replay_of(&first);
    for other in ["session=b", "session=A", "session=a; session=b", "session=b; session=a"] {
        let response = proxy.request(&with(other)).await;
        assert!(!response.expect_status(201).is_replay(), "{other}: {response:?}");
    }
    // Cookies of other names leave the caller unmarked, which is a caller too.
    let unmarked = proxy.charge("k").await;
    assert!(!unmarked.expect_status(201).is_replay(), "{unmarked:?}");
    for same in ["Session=a", "xsession=a", "theme=session=a", "theme=dark", "session"] {
        proxy.request(&with(same)).await.expect_replay_of(&unmarked);
    }
}

#[tokio::test]
async fn callers_who_share_keys_are_refused_each_others() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).idempotency("on_other_caller = \"refuse\"").start().await;
    let alice = proxy.request(&Request::charge("k").bearer("alice")).await;
    alice.expect_status(201);
    let bob = proxy.request(&Request::charge("k").bearer("bob")).await;
    bob.expect_problem(409, "other-caller");
    assert!(!bob.text().contains("execution"), "nothing of the answer leaks: {bob:?}");
    proxy.charge("k").await.expect_problem(409, "other-caller");
    proxy.request(&Request::charge("k").bearer("alice")).await.expect_replay_of(&alice);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_stranger_does_not_learn_whether_he_guessed_the_payload_or_the_state() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).idempotency("on_other_caller = \"refuse\"").start().await;
    let mut gate = upstream.hold_next();
    let alice = proxy.request_aside(Request::charge("k").bearer("alice"));
    gate.arrived().await;
    let mut answers = Vec::new();
    let bob = Request::charge("k").bearer("bob");
    answers.push(proxy.request(&bob).await);
    answers.push(proxy.request(&bob.clone().json("{}")).await);
    gate.release();
    alice.await.unwrap().expect_status(201);
    answers.push(proxy.request(&bob).await);
    answers.push(proxy.request(&bob.json("{}")).await);
    for answer in &answers {
        answer.expect_problem(409, "other-caller");
        assert_eq!(answer.body, answers[0].body, "they all say the same: {answer:?}");
    }
    upstream.expect_executions("k", 1);
}

const UNSTABLE: [&str; 4] = [
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, Signature=1",
    "Digest username=\"u\", nonce=\"1\"",
    "OAuth oauth_nonce=\"1\"",
    "hawk id=\"1\"",
];

#[tokio::test]
async fn an_authorization_that_is_new_on_every_try_is_refused_as_caller() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for authorization in UNSTABLE {
        let request = Request::charge("k").field("Authorization", authorization);
        let problem = proxy.request(&request).await;
        problem.expect_problem(500, "caller-unstable");
        let text = problem.text();
        assert!(text.contains("caller"), "it names the mend: {problem:?}");
        assert!(!text.contains("AKIDEXAMPLE"), "it repeats no credentials: {problem:?}");
    }
    upstream.expect_nothing();
}

#[tokio::test]
async fn where_another_field_tells_callers_apart_such_an_authorization_may_change() {
    let upstream = Upstream::start().await;
    let proxy = Config::before(&upstream).idempotency("caller = [\"header:x-tenant\"]").start().await;
    let with = |n: u8| {
        let authorization = format!("AWS4-HMAC-SHA256 Signature={n}");
        Request::charge("k").field("X-Tenant", "1").field("Authorization", authorization)
    };
    let first = proxy.request(&with(1)).await;
    proxy.request(&with(2)).await.expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

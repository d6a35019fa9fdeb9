//! Who may ask the admin listener for what.

use std::fs;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Certificates, Client, Config, Proxy, Request, Response, Upstream, within};

const TOKEN: &str = "0123456789abcdef-first";
const ID: &str = "/keys/0000000000000000000000000000000000000000000000000000000000000000";

/// Everything that there is, with what it takes: nothing, metrics that can be scraped, a page whose data can be had, to look, or to
/// change.
fn everything() -> Vec<(Request, char)> {
    let change = |action: &str| Request::post(&format!("{ID}/{action}"));
    vec![
        (Request::get("/livez"), 'n'),
        (Request::get("/readyz"), 'n'),
        (Request::get("/metrics"), 'm'),
        (Request::get("/"), 'p'),
        (Request::get("/status"), 'r'),
        (Request::get("/config"), 'r'),
        (Request::get("/log-level"), 'r'),
        (Request::get("/keys"), 'r'),
        (Request::get(ID), 'r'),
        (Request::post("/keys/lookup").json(r#"{"host":"api.test","path":"/v1/charges","key":"k"}"#), 'r'),
        (change("release").json(r#"{"reason":"a test"}"#), 'c'),
        (change("settle").json(r#"{"reason":"a test","status":201}"#), 'c'),
    ]
}

async fn start(lines: &str) -> Proxy {
    Config::before(&Upstream::start().await).admin(lines).start().await
}

fn token_file() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("admin.token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    (folder, format!("token_file = \"{}\"", file.display()))
}

#[track_caller]
fn expect_refusal(answer: &Response, status: u16, word: &str) {
    assert_eq!((answer.status, answer.problem().as_deref()), (status, Some(word)), "{answer:?}");
    assert_eq!(answer.value("content-type"), Some("application/problem+json"), "{answer:?}");
    assert_eq!(answer.value("cache-control"), Some("no-store"), "{answer:?}");
    let document = include_str!("../../docs/admin.md");
    assert!(document.contains(&format!("`{word}`")), "docs/admin.md does not tell of {word}");
}

/// It was let in: what was asked for may not be there.
#[track_caller]
fn expect_let_in(answer: &Response, request: &Request) {
    let is_in = answer.status == 200 || answer.problem().as_deref() == Some("no-key");
    assert!(is_in, "{request:?} was not let in: {answer:?}");
}

#[tokio::test]
async fn without_a_token_the_loopback_may_look_and_change_nothing() {
    let proxy = start("").await;
    for (request, needs) in everything() {
        let answer = proxy.operate(request.clone()).await;
        match needs {
            'c' => {
                expect_refusal(&answer, 403, "closed");
                assert!(answer.text().contains("token_file"), "it says what to configure: {answer:?}");
            }
            _ => expect_let_in(&answer, &request),
        }
    }
}

#[tokio::test]
async fn without_a_token_only_names_of_the_loopback_may_look() {
    let proxy = start("").await;
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9090", "[::1]", "[::1]:80", "127.8.8.8"]
    {
        for (request, needs) in everything() {
            let answer =
                Client::connect(proxy.admin_address()).await.request(&request.clone().host(host)).await;
            if needs != 'c' {
                expect_let_in(&answer, &request);
            }
        }
    }
    // A page whose own name points to 127.0.0.1 sends that name.
    for host in
        ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", "a@127.0.0.1.test", ""]
    {
        for (request, needs) in everything() {
            let answer =
                Client::connect(proxy.admin_address()).await.request(&request.clone().host(host)).await;
            match needs {
                'n' => expect_let_in(&answer, &request),
                'm' | 'p' | 'r' => expect_refusal(&answer, 421, "misdirected"),
                _ => expect_refusal(&answer, 403, "closed"),
            }
        }
    }
    let doubled = Request::get("/keys").host("localhost").field("Host", "evil.test");
    let answer = Client::connect(proxy.admin_address()).await.request(&doubled).await;
    expect_refusal(&answer, 421, "misdirected");
}

#[tokio::test]
async fn without_a_token_others_see_health_and_metrics_only() {
    let proxy = Config::before(&Upstream::start().await).admin_at("0.0.0.0:0").start().await;
    let address = format!("127.0.0.1:{}", proxy.admin_address().port()).parse().unwrap();
    for (request, needs) in everything() {
        let request = request.host("localhost");
        let answer = Client::connect(address).await.request(&request).await;
        match needs {
            'n' | 'm' => expect_let_in(&answer, &request),
            _ => expect_refusal(&answer, 403, "closed"),
        }
    }
}

#[tokio::test]
async fn with_a_token_only_those_are_let_in_who_show_it() {
    let (_folder, lines) = token_file();
    let proxy = start(&lines).await;
    for (request, needs) in everything() {
        for wrong in [None, Some(""), Some("0123456789abcdef-firs"), Some("0123456789abcdef-first2")] {
            let request = wrong.map_or_else(|| request.clone(), |wrong| request.clone().bearer(wrong));
            let answer = proxy.operate(request.clone()).await;
            if matches!(needs, 'n' | 'm' | 'p') {
                expect_let_in(&answer, &request);
            } else {
                expect_refusal(&answer, 401, "unauthenticated");
                assert_eq!(answer.value("www-authenticate"), Some("Bearer realm=\"oncegate\""));
            }
        }
        let doubled = request.clone().bearer(TOKEN).bearer(TOKEN);
        assert_eq!(proxy.operate(doubled).await.status == 401, needs == 'r' || needs == 'c');
        // By any name: who has the token is no page of a stranger's.
        let request = request.bearer(TOKEN).host("oncegate.internal");
        let answer = Client::connect(proxy.admin_address()).await.request(&request).await;
        expect_let_in(&answer, &request);
    }
}

#[tokio::test]
async fn a_new_token_is_taken_at_once_and_the_last_one_stays_while_the_file_is_gone() {
    let (folder, lines) = token_file();
    let proxy = start(&lines).await;
    let ask = async |token: &str| proxy.operate(Request::get("/keys").bearer(token)).await.status;
    let file = folder.path().join("admin.token");
    assert_eq!(ask(TOKEN).await, 200);
    fs::write(&file, "0123456789abcdef-second").unwrap();
    assert_eq!((ask(TOKEN).await, ask("0123456789abcdef-second").await), (401, 200));
    for useless in ["", "short", "0123456789abcdef\nand another line"] {
        fs::write(&file, useless).unwrap();
        let first_line = useless.lines().next().unwrap_or_default();
        assert_eq!((ask(first_line).await, ask("0123456789abcdef-second").await), (401, 200), "{useless:?}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!((ask("").await, ask("0123456789abcdef-second").await), (401, 200));
}

#[tokio::test]
async fn with_a_client_ca_only_certificates_let_in_and_probes_need_none() {
    let certificates = Certificates::with_server();
    let proxy = start(&certificates.toml("client_ca = \"@ca.crt\"")).await;
    let client = certificates.certify("operator", &[]);
    let ask = async |client, target: &str| {
        let stream = certificates.connect(proxy.admin_address(), "api.test", "http/1.1", client).await;
        let mut stream = stream.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.unwrap_or_default();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(ask(None, "/livez").await, "200");
    assert_eq!(ask(None, "/keys").await, "401");
    assert_eq!(ask(Some(&client), "/keys").await, "200");
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_whatever_it_shows() {
    let (_folder, lines) = token_file();
    let proxy = start(&lines).await;
    let own = format!("http://localhost:{}", proxy.admin_address().port());
    let host = format!("localhost:{}", proxy.admin_address().port());
    for (request, _) in everything().into_iter().filter(|(request, _)| request.bytes().starts_with(b"POST")) {
        let ask = async |name: &str, value: &str| {
            let request = request.clone().bearer(TOKEN).host(&host).field(name, value);
            Client::connect(proxy.admin_address()).await.request(&request).await
        };
        for (name, value) in [
            ("Origin", "https://evil.test"),
            ("Origin", "null"),
            ("Origin", "http://localhost"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
        ] {
            expect_refusal(&ask(name, value).await, 403, "cross-site");
        }
        for (name, value) in [("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")] {
            expect_let_in(&ask(name, value).await, &request);
        }
        // What a page can send without asking first.
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            let request =
                request.clone().bearer(TOKEN).without("content-type").field("Content-Type", content_type);
            expect_refusal(&proxy.operate(request).await, 415, "content-type");
        }
    }
}

#[tokio::test]
async fn what_is_asked_for_by_another_method_is_told_which_there_are() {
    let proxy = start("").await;
    for (target, method, allow) in [
        ("/livez", "POST", "GET, HEAD"),
        ("/keys", "DELETE", "GET, HEAD"),
        ("/log-level", "POST", "GET, HEAD, PUT"),
        ("/keys/lookup", "GET", "POST"),
        (&format!("{ID}/release"), "GET", "POST"),
        (&format!("{ID}/settle"), "PUT", "POST"),
    ] {
        let answer = proxy.operate(Request::new(method, target)).await;
        expect_refusal(&answer, 405, "method-not-allowed");
        assert_eq!(answer.value("allow"), Some(allow), "{target}");
    }
    assert_eq!(proxy.operate(Request::new("HEAD", "/livez")).await.status, 200);
    for nothing in
        ["/nothing", "/livez/", "/keys/", "/keys/00", &ID.to_uppercase(), "/keys/lookup/release", "*"]
    {
        expect_refusal(&proxy.operate(Request::get(nothing)).await, 404, "not-found");
    }
}

#[tokio::test]
async fn bodies_are_bounded_and_said_to_be_wrong_where_they_are() {
    let (_folder, lines) = token_file();
    let proxy = start(&lines).await;
    let release = |body: &str| Request::post(&format!("{ID}/release")).bearer(TOKEN).json(body);
    let large = format!(r#"{{"reason":"{}"}}"#, "a".repeat(70_000));
    expect_refusal(&proxy.operate(release(&large)).await, 413, "too-large");
    let long = format!(r#"{{"reason":"{}"}}"#, "a".repeat(501));
    for wrong in [
        "",
        "{}",
        r#"{"reason":""}"#,
        r#"{"reason":"  "}"#,
        r#"{"reason":"one\nand a forged line"}"#,
        r#"{"reason":"x","force":"yes"}"#,
        r#"{"reason":"x","more":1}"#,
        r#"{"reason":"x","route":"no such route"}"#,
        &long,
    ] {
        expect_refusal(&proxy.operate(release(wrong)).await, 400, "invalid");
    }
    for wrong in ["state=completed", "limit=0", "limit=1001", "limit=x", "after=1", "order=desc"] {
        let request = Request::get(&format!("/keys?{wrong}")).bearer(TOKEN);
        expect_refusal(&proxy.operate(request).await, 400, "invalid");
    }
}

#[tokio::test]
async fn connections_that_ask_for_nothing_keep_no_probe_out() {
    let proxy = start("").await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(Client::connect(proxy.admin_address()).await);
    }
    assert_eq!(proxy.admin("/livez").await, 200);
    assert_eq!(silent[0].closed().await, "", "the longest silent makes room");
    // And no more than that: nobody had to wait for the end of a timeout.
    assert_eq!(silent[100].request(&Request::get("/livez")).await.status, 200);
}

#[tokio::test]
async fn the_settings_in_effect_are_shown_without_a_secret() {
    let (_folder, lines) = token_file();
    let config = Config::before(&Upstream::start().await).admin(&lines);
    let config = config.charges(r#"request_headers = { set = { X-Api-Key = "s3cret-of-the-upstream" } }"#);
    let proxy = config.start().await;
    let answer = proxy.operate(Request::get("/config").bearer(TOKEN)).await;
    let shown = answer.text();
    assert!(shown.contains("guarded route charges") && shown.contains("by a token"), "{shown}");
    assert!(!shown.contains("s3cret") && !shown.contains(TOKEN), "{shown}");
}

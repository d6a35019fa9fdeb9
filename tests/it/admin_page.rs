//! The page for people, in a browser, and the snapshot that it reads.

use std::process::Command;

use data_encoding::BASE64;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{Config, Proxy, Reply, Request, Upstream, run, tools};

/// What a browser makes of the page at `url` after `milliseconds`, or `None` without a browser.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn in_a_browser(url: String, milliseconds: u32) -> Option<String> {
    let browser = tokio::task::spawn_blocking(|| {
        tools();
        Command::new("chromium").arg("--version").output().is_ok_and(|said| said.status.success())
    });
    if !browser.await.unwrap() {
        // Why it could not be installed is said by tests/tools.sh.
        eprintln!("skipped: there is no chromium (tests/tools.sh)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
        "--v=0",
        &format!("--user-data-dir={}", folder.path().display()),
        &format!("--virtual-time-budget={milliseconds}"),
        "--dump-dom",
        &url,
    ];
    let done = run("chromium", arguments.map(str::to_owned).to_vec()).await;
    let (document, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}");
    for word in ["Content Security Policy", "Uncaught", "SyntaxError"] {
        assert!(!said.contains(word), "the browser complains: {said}");
    }
    Some(document.into_owned())
}

fn url(proxy: &Proxy) -> String {
    format!("http://{}/", proxy.admin_address())
}

async fn unknown(upstream: &Upstream, proxy: &Proxy, key: &str) {
    upstream.next(Reply::hang_up());
    proxy.charge(key).await.expect_problem(502, "outcome-unknown");
}

#[tokio::test]
async fn the_page_may_load_and_run_nothing_but_itself() {
    let proxy = Proxy::start(&Upstream::start().await).await;
    let page = proxy.operate(Request::get("/")).await;
    page.expect_status(200);
    let (document, policy) = (page.text(), page.value("content-security-policy").unwrap().to_owned());
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for (directive, tag) in [("script-src", "script"), ("style-src", "style")] {
        let inside = document
            .split(&format!("<{tag}>"))
            .nth(1)
            .and_then(|rest| rest.split(&format!("</{tag}>")).next());
        let hash = BASE64.encode(&Sha256::digest(inside.unwrap()));
        assert!(policy.contains(&format!("{directive} 'sha256-{hash}';")), "{policy}");
    }
    for wrong in ["unsafe", "http:", "https:", "*"] {
        assert!(!policy.contains(wrong), "{policy}");
    }
    let outside = document.replace("http://www.w3.org/2000/svg", "");
    for wrong in ["http://", "https://", "//cdn", "<link", "<img", " style=", " onclick="] {
        assert!(!outside.contains(wrong), "the page holds {wrong}");
    }
}

#[tokio::test]
async fn a_snapshot_has_what_is_counted_and_the_unknown_keys_with_their_causes() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    proxy.charge("k").await.expect_status(201);
    proxy.charge("k").await.expect_status(201);
    unknown(&upstream, &proxy, "u1").await;
    unknown(&upstream, &proxy, "u2").await;
    let status = proxy.operate(Request::get("/status")).await.json();
    let count = |outcome: &str| {
        let samples = status["metrics"]["oncegate_requests_total"].as_array().unwrap();
        let of = |sample: &&Value| {
            sample["labels"]["route"] == "charges" && sample["labels"]["outcome"] == outcome
        };
        samples.iter().find(of).map(|sample| sample["value"].as_f64().unwrap())
    };
    assert_eq!((count("executed"), count("replayed"), count("unknown")), (Some(1.0), Some(1.0), Some(2.0)));
    assert_eq!((&status["is_ready"], &status["is_draining"]), (&Value::from(true), &Value::from(false)));
    let keys = &status["keys"];
    assert_eq!(
        (&keys["unknown"], &keys["unknown_by_cause"]["connection_lost"]),
        (&2.into(), &2.into()),
        "{keys}"
    );
    let newest = keys["newest_unknown"].as_array().unwrap();
    assert!(newest[0]["age_seconds"].as_f64() <= newest[1]["age_seconds"].as_f64(), "{keys}");
}

#[tokio::test]
async fn a_browser_shows_rates_unknown_keys_and_what_is_wrong() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream).await;
    for number in 0..5 {
        proxy.charge(&format!("k{number}")).await.expect_status(201);
    }
    unknown(&upstream, &proxy, "u").await;
    let Some(shown) = in_a_browser(url(&proxy), 9_000).await else { return };
    for part in
        ["1 key of unknown outcome", "connection_lost", "aria-label=\"charges: now", "Requests/s", ">ready<"]
    {
        assert!(shown.contains(part), "{part} is not shown: {shown}");
    }
}

#[tokio::test]
async fn a_browser_asks_for_the_token() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    let config = Config::before(&upstream).admin(&format!("token_file = \"{}\"", file.display()));
    let proxy = config.start().await;
    let Some(shown) = in_a_browser(url(&proxy), 3_000).await else { return };
    assert!(shown.contains("<form id=\"ask\">"), "the form is hidden: {shown}");
    assert!(shown.contains("The token is needed") && shown.contains("id=\"data\" hidden"), "{shown}");
}

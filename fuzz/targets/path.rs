//! The canonical form of a path, and its readings: no spelling of a guarded path runs unguarded.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use oncegate::proxy::path;
use oncegate::proxy::route::Routes;
use percent_encoding::percent_decode_str;

const GUARDED: &str = "/v1/charges";
const FILE: &str = r#"
[server]
listen = ["127.0.0.1:0"]
[upstreams.legacy]
endpoints = ["http://127.0.0.1:9"]
[[routes]]
name = "guarded"
path = "/v1/charges"
upstream = "legacy"
[[routes]]
name = "rest"
path = "/{*rest}"
upstream = "legacy"
guarded = false
"#;

static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let loaded = oncegate::config::parse(FILE, "proxy.toml").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    Routes::new(&loaded.settings.proxy.routes).expect("the routes fit")
});

fuzz_target!(|input: &str| {
    if path::is_canonical(input).is_ok() {
        let identity = path::identity(input);
        assert_eq!(path::identity(&identity), identity, "the identity of a canonical path has no other");
    }
    let mut is_read_as_sent = false;
    let mut seen = 0;
    // A path with too many readings is refused.
    let _ = path::any_reading(input, |reading| {
        is_read_as_sent |= reading == input;
        seen += 1;
        drop(path::fold(reading));
        false
    });
    assert!(is_read_as_sent && seen <= 65, "{seen} readings");
    if !input.starts_with('/') {
        return;
    }
    let found = ROUTES.find("api.test", input);
    if leniently(input).as_deref() == Some(GUARDED) && found != Some(0) {
        assert!(ROUTES.side_door("api.test", input, 1, &["POST"]), "{input:?} runs unguarded");
    }
});

/// What a back end may make of a path that does everything at once, in the usual order.
fn leniently(path: &str) -> Option<String> {
    let mut decoded = path.to_owned();
    for _ in 0..3 {
        decoded = percent_decode_str(&decoded).decode_utf8().ok()?.into_owned();
    }
    let decoded = decoded.replace('\\', "/").to_lowercase();
    let decoded = decoded.split(['\0', '?', '#']).next()?;
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        let segment = segment.split(';').next()?;
        match segment.trim_end_matches([' ', '.']) {
            _ if segment == ".." => drop(segments.pop()),
            "" => {}
            kept => segments.push(kept),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

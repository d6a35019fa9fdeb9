//! The structure that ARCHITECTURE.md describes, as a test over the sources.
//!
//! Imports go one way; the core is pure; the guard and the stores know nothing of HTTP; statuses are chosen in one file, and
//! those of the admin listener in another;
//! nothing is spawned that shutdown does not wait for; files stay short. A scanner reads paths, not types: it sees
//! `use`, renamed imports and paths in code, and does not look into macros' expansions.

#[path = "architecture/paths.rs"]
mod paths;

use std::fs;
use std::path::{Path, PathBuf};

use paths::{Found, paths_in};

/// Top-level modules: each may import those behind it.
const ORDER: [&str; 12] = [
    "main",
    "demo",
    "ctl",
    "app",
    "telemetry",
    "config",
    "server",
    "proxy",
    "guard",
    "store",
    "metrics",
    "idempotency",
];

/// The crates that the core may use.
const CORE_CRATES: [&str; 8] =
    ["std", "bytes", "httpdate", "sha2", "sfv", "serde", "serde_json", "thiserror"];

/// What of std is an effect, a clock or a lock.
const IMPURE: [&str; 10] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "std::time::Instant",
    "std::cell",
];

const HTTP_CRATES: [&str; 5] = ["http", "http_body", "http_body_util", "hyper", "hyper_util"];

const STATUS_FILES: [&str; 2] = ["src/proxy/reply.rs", "src/server/admin/reply.rs"];

const MAX_LINES: usize = 600;

#[test]
fn the_sources_keep_to_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        collect_sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "found only {files:?} below {root:?}");

    let mut violations = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        violations.extend(too_long(&name, &text));
        violations.extend(breaches(&name, &text));
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_rule_bites() {
    let cases = [
        // Imports go one way, however they are written.
        ("src/guard/mod.rs", "use crate::proxy::Reply;", "guard may not import proxy"),
        ("src/store/mod.rs", "use crate::{idempotency::Entry, guard::Permit};", "store may not import guard"),
        ("src/guard/permit.rs", "fn f() { crate::server::stop() }", "guard may not import server"),
        ("src/idempotency/key.rs", "use super::super::store::Store;", "idempotency may not import store"),
        ("src/server/mod.rs", "use crate::config::Settings;", "server may not import config"),
        ("src/config/mod.rs", "use crate::app::App;", "config may not import app"),
        ("src/guard/mod.rs", "use crate as root; use root::proxy::Reply;", "guard may not import proxy"),
        ("src/proxy/mod.rs", "use oncegate::app::App;", "proxy may not import app"),
        ("src/novelty.rs", "", "has no place in ORDER"),
        // Configuration takes parameters, not running parts.
        ("src/config/mod.rs", "use crate::guard; type G = guard::Guard;", "takes only parameters"),
        ("src/config/mod.rs", "use crate::store::memory::MemoryStore;", "takes only parameters"),
        // The core is pure.
        ("src/idempotency/key.rs", "use tokio::sync::Notify;", "core may not use tokio"),
        ("src/idempotency/key.rs", "use http::Method;", "core may not use http"),
        ("src/idempotency/key.rs", "fn f() { tracing::info!(\"x\") }", "core may not use tracing"),
        ("src/idempotency/key.rs", "use std::{fmt, io};", "core may not use std::io"),
        ("src/idempotency/key.rs", "use std::sync::{Arc, Mutex};", "core may not use std::sync::Mutex"),
        ("src/idempotency/key.rs", "use std::time::Instant;", "core may not use std::time::Instant"),
        ("src/idempotency/key.rs", "use std::time as t; fn f() { t::SystemTime::now(); }", "reads a clock"),
        ("src/idempotency/key.rs", "fn f(t: SystemTime) { t.elapsed(); }", "reads a clock"),
        // The guard and the stores know nothing of HTTP.
        ("src/guard/mod.rs", "use http::StatusCode;", "guard may not use http"),
        ("src/store/memory.rs", "use hyper::body::Incoming;", "store may not use hyper"),
        // Statuses and tasks.
        (
            "src/proxy/headers.rs",
            "use http::StatusCode; const S: StatusCode = StatusCode::OK;",
            "chooses a status",
        ),
        ("src/server/admin.rs", "fn f() { http::StatusCode::from_u16(200) }", "chooses a status"),
        ("src/server/accept.rs", "fn f() { tokio::spawn(async {}); }", "spawns"),
        ("src/server/accept.rs", "use tokio::task; fn f() { task::spawn(async {}); }", "spawns"),
        ("src/server/accept.rs", "use tokio::spawn as go; fn f() { go(async {}); }", "spawns"),
    ];
    for (file, text, expected) in cases {
        let said = breaches(file, text).join("\n");
        assert!(said.contains(expected) && said.contains(&format!("{file}:1")), "{text}: `{said}`");
    }
    assert!(too_long("src/a.rs", &"\n".repeat(MAX_LINES + 1)).is_some());
}

#[test]
fn what_is_allowed_passes() {
    let cases = [
        ("src/main.rs", "use oncegate::{app, config}; fn main() { app::run(config::load()) }"),
        ("src/app.rs", "use crate::{config, guard::Guard, proxy, server, store::memory};"),
        ("src/guard/mod.rs", "use crate::store::Store; use super::guard::Rules; mod http_free {}"),
        (
            "src/config/mod.rs",
            "use crate::{guard, proxy::policy::Route, server}; type P = (guard::Params, server::Params);",
        ),
        (
            "src/idempotency/entry.rs",
            "use std::{sync::Arc, time::{Duration, SystemTime}}; use super::Answer;",
        ),
        (
            "src/idempotency/key.rs",
            "// use tokio::spawn;\n/* crate::proxy /* :: */ http::x */ const S: &str = \"std::io::x\";",
        ),
        (
            "src/idempotency/key.rs",
            "const S: &str = r#\"\"tokio::spawn\"\"#; const C: char = '\"'; fn f<'a>(_: &'a str) {}",
        ),
        (
            "src/idempotency/key.rs",
            "#[cfg(test)]\nmod tests {\n use tokio::time::Instant;\n fn f() { {} }\n}\n",
        ),
        ("src/idempotency/key/tests.rs", "use tokio::time::Instant;"),
        (
            "src/idempotency/key.rs",
            "#[cfg(test)] fn t() -> [u8; 2] { tokio::f() } struct S { tokio: u8 } fn f(s: S) { s.tokio; }",
        ),
        ("src/proxy/reply.rs", "fn f() { http::StatusCode::OK }"),
        ("src/server/admin/reply.rs", "fn f() { http::StatusCode::OK }"),
        ("src/proxy/headers.rs", "use http::StatusCode; fn f(status: StatusCode) -> u16 { status.as_u16() }"),
        (
            "src/server/accept.rs",
            "fn f(tasks: TaskTracker) { tasks.spawn(async {}); tokio::task::spawn_blocking(g); }",
        ),
    ];
    for (file, text) in cases {
        let said = breaches(file, text);
        assert!(said.is_empty(), "{file}: {text}: {said:?}");
    }
    assert_eq!(too_long("src/a.rs", &"\n".repeat(MAX_LINES)), None);
}

fn collect_sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn too_long(file: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES)
        .then(|| format!("{file}:{MAX_LINES}: the file has {lines} lines; {MAX_LINES} is the most"))
}

/// What in a file goes against a rule, as `file:line: rule`. Tests may import what they like.
fn breaches(file: &str, text: &str) -> Vec<String> {
    let Some(below_src) = file.strip_prefix("src/") else { return Vec::new() };
    if file.ends_with("/tests.rs") || file.contains("/tests/") {
        return Vec::new();
    }
    let module = module_path(below_src);
    // `src/main.rs` and `src/lib.rs` join everything.
    let layer = module.first().map_or("main", String::as_str);
    if !ORDER.contains(&layer) {
        return vec![format!("{file}:1: the top-level module {layer} has no place in ORDER")];
    }
    paths_in(text, &module)
        .iter()
        .flat_map(|found| {
            [import(layer, found), parameters(layer, found), purity(layer, found), http(layer, found)]
                .into_iter()
                .chain([status(file, found), spawning(found)])
                .flatten()
                .map(|rule| format!("{file}:{}: {}: {rule}", found.line, found.path))
        })
        .collect()
}

/// `guard/permit.rs` is `guard::permit`; the crate's root is empty.
fn module_path(below_src: &str) -> Vec<String> {
    let path = below_src.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "main" || path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn import(layer: &str, found: &Found) -> Option<String> {
    let imported = found.in_crate()?;
    let place = |layer: &str| ORDER.iter().position(|known| *known == layer);
    // What is no module is an item at the crate's root.
    (place(imported)? < place(layer)?).then(|| format!("{layer} may not import {imported}"))
}

fn parameters(layer: &str, found: &Found) -> Option<String> {
    let imported = found.in_crate()?;
    if layer != "config" || !["server", "proxy", "guard", "store"].contains(&imported) {
        return None;
    }
    let only_the_module = found.path.split("::").count() == 2;
    let plain = found.path.split("::").any(|part| {
        ["policy", "params"].contains(&part)
            || part.ends_with("Params")
            || ["Rules", "OnInFlight"].contains(&part)
    });
    (!only_the_module && !plain).then(|| "config takes only parameters from the layers".to_owned())
}

fn purity(layer: &str, found: &Found) -> Option<String> {
    if layer != "idempotency" {
        return None;
    }
    let path = found.path.as_str();
    if path == ".elapsed" || path.ends_with("::now") {
        return Some("the core reads a clock".to_owned());
    }
    let outside = found.outside()?;
    if !CORE_CRATES.contains(&outside) {
        return Some(format!("the core may not use {outside}"));
    }
    let within = |module: &str| path == module || path.starts_with(&format!("{module}::"));
    let impure =
        IMPURE.iter().any(|module| within(module)) && path != "std::sync" && !within("std::sync::Arc");
    impure.then(|| format!("the core may not use {path}"))
}

fn http(layer: &str, found: &Found) -> Option<String> {
    let outside = found.outside()?;
    (["guard", "store"].contains(&layer) && HTTP_CRATES.contains(&outside))
        .then(|| format!("{layer} may not use {outside}: it knows nothing of HTTP"))
}

fn status(file: &str, found: &Found) -> Option<String> {
    (!STATUS_FILES.contains(&file) && found.path.contains("StatusCode::"))
        .then(|| format!("chooses a status, which only {} do", STATUS_FILES.join(" and ")))
}

fn spawning(found: &Found) -> Option<String> {
    ["tokio::spawn", "tokio::task::spawn"]
        .contains(&found.path.as_str())
        .then(|| "spawns what shutdown does not wait for; use a TaskTracker".to_owned())
}

//! Oncegate from the outside: real sockets, a scripted upstream, a client that speaks bytes.
//!
//! One binary, one module per theme, and tests that are sentences. A moment is held by a gate, never by a sleep. What a
//! test says about executions it counts at the upstream.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod admin;
mod admin_keys;
mod admin_page;
mod balance;
mod callers;
mod capacity;
mod clients;
mod concurrency;
mod conflict;
mod corpus;
mod cors;
mod deploy;
mod documentation;
mod endpoints;
mod forwarded;
mod framing;
mod grpc;
mod harness;
mod harness_itself;
mod headers;
mod hostile;
mod http2;
mod http2_malformed;
mod idle_race;
mod keys;
mod metrics;
mod mismatch;
mod observe;
mod passthrough;
mod problems;
mod proxy_protocol;
mod readiness;
mod real;
mod redis_faults;
mod redis_replicas;
mod redis_watch;
mod reload;
mod replay;
mod replicas;
mod retention;
mod rewriting;
#[path = "../servers/mod.rs"]
mod servers;
mod servers_themselves;
mod shapes;
mod shutdown;
mod side_doors;
mod slow_clients;
mod soak;
mod store_failure;
mod streams;
mod tls;
mod traces;
mod upstream_failure;
mod upstream_http2;
mod upstream_real;
mod upstream_time;
mod upstream_tls;
mod websocket;

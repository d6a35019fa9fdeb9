//! Oncegate: a reverse proxy that makes APIs safe to retry.
//!
//! It stands before an upstream that nobody may touch, reads `Idempotency-Key` headers, remembers what is in flight and
//! what was answered, and replays or refuses duplicate POSTs and PATCHes.
//!
//! **The promise.** For one key of one caller on one guarded resource (method, host, path), the upstream sees at most one
//! request per `ttl`. Every client that sends the key gets the answer of that one request, or a refusal that says why not.
//! Oncegate never guesses: if it cannot know whether the upstream acted, it says so and does not run it again.
//!
//! **The way of a request.** listener → route → identify → (detached) admit → upstream → settle → respond:
//! [`server`] accepts, [`proxy`] checks, routes, reads and identifies, [`guard`] admits by one atomic insert into a
//! [`store`], the proxy sends the request once, the guard records what came of it, and only then the client gets its end.
//!
//! **The map.** Imports go one way: `main → app → server → proxy → guard → store → metrics → idempotency`.
//!
//! - [`idempotency`]: the pure core. Keys, ids, fingerprints, entries, verdicts; the invariants I1–I8.
//! - [`store`]: where entries live. A public trait with a conformance suite, the memory store, and Redis.
//! - [`guard`]: permits, leases, waiting, writes that are tried again.
//! - [`proxy`]: the HTTP edge.
//! - [`server`]: listeners and connections.
//! - [`metrics`]: the instruments and the page that shows them.
//! - [`config`] reads `proxy.toml`.
//! - [`app`]: the composition root.
//! - [`demo`], [`ctl`] and [`telemetry`]: what the binary adds.

pub mod app;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod guard;
pub mod idempotency;
pub mod metrics;
pub mod proxy;
pub mod server;
pub mod store;
pub mod telemetry;

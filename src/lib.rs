//! Oncegate: a reverse proxy that makes APIs safe to retry.

pub mod config;
pub mod guard;
pub mod idempotency;
pub mod proxy;
pub mod server;
pub mod store;

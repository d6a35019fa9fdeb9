//! Tokens that no claim has carried before.
//!
//! A random number for the process and a count within it: no two claims of a process share a token, and two processes do
//! with a chance of 2^-64. A token is no secret: it tells claims apart, it does not authorise.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::idempotency::Owner;

#[derive(Debug)]
pub(super) struct Owners {
    process: u128,
    count: AtomicU64,
}

impl Owners {
    pub(super) fn new() -> Self {
        // Without randomness from the system, the hasher's seed is what is left: it is random too.
        let process = getrandom::u64().unwrap_or_else(|_| {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(std::process::id())
        });
        Self { process: u128::from(process) << 64, count: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> Owner {
        Owner::new(self.process | u128::from(self.count.fetch_add(1, Ordering::Relaxed)))
    }
}

//! Whether requests are welcome, and what is wrong if they are not.
//!
//! Readiness names what is wrong with the store, and depends on it only where the operator says so: what is not guarded goes
//! on without a store.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Store, Trouble};

/// What readiness is judged by.
#[derive(Debug)]
pub struct Readiness {
    is_draining: AtomicBool,
    store: Arc<dyn Store>,
    needs_store: bool,
}

impl Readiness {
    /// Ready, until it drains. With `needs_store`, not while `store` is unreachable.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, needs_store: bool) -> Self {
        Self { is_draining: AtomicBool::new(false), store, needs_store }
    }

    /// To be told when no new work is taken.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Whether requests are welcome, and a text that says so: a word, then a line for each trouble of the store.
    pub(in crate::server) fn word(&self) -> (bool, String) {
        let troubles = self.store.troubles();
        let (is_ready, word) = if self.is_draining.load(Ordering::Relaxed) {
            (false, "draining")
        } else if self.needs_store && troubles.contains(&Trouble::Unreachable) {
            (false, "not ready")
        } else {
            (true, "ready")
        };
        let mut text = format!("{word}\n");
        for trouble in troubles {
            // A String takes everything.
            writeln!(text, "store: {}", trouble.as_str()).unwrap_or(());
        }
        (is_ready, text)
    }
}

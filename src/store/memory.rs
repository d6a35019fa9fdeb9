//! The memory store.

use std::time::Duration;

/// What an operator may choose about the memory store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryParams {
    /// How many bytes of answers are kept.
    pub max_bytes: u64,
    /// How many entries may live at once.
    pub max_entries: u64,
    /// How often the guard prunes; the fill level's forecast is counted from prune to prune.
    pub prune_interval: Duration,
}

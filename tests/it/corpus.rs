//! The hostile corpora: messages that two readers could read differently, in text files.

mod cases;
mod readers;
mod recorder;
mod requests;
mod responses;

use std::time::Duration;

/// How many cases run at once.
const AT_ONCE: usize = 16;

/// How long a connection may take to end that should have ended.
const PATIENCE: Duration = Duration::from_secs(5);

//! The hostile corpora: messages that two readers could read differently, in text files.

mod cases;
mod readers;
mod recorder;
mod requests;
mod responses;

use std::time::Duration;

/// How many cases run at once.
const AT_ONCE: usize = 16;

/// How long a connection may take to end that should have ended: less than any wait of the harness, whose failure does not say
/// which case it was, and less than the proxy's own patience with a head.
const PATIENCE: Duration = Duration::from_secs(15);

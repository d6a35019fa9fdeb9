//! Log lines: where they go and in what form. Takes no decisions.

use std::io::{self, BufWriter, IsTerminal};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How many lines may wait for standard output; beyond it lines are dropped, so that a blocked reader never stops a
/// request.
const MAX_WAITING_LINES: usize = 65_536;

/// Lines that wait together are written together.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// Sends log lines to standard output: for humans on a terminal, as JSON elsewhere. `filter` is a tracing filter, as in
/// `warn` or `info,oncegate::access=off`. Lines that wait are written when the returned guard is dropped.
///
/// # Errors
///
/// A sentence, if the filter cannot be read.
pub fn init(filter: Option<&str>) -> Result<WorkerGuard, String> {
    let filter = filter.unwrap_or("info");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("ONCEGATE_LOG is not a filter ({error}); write a level, as in `info`"))?;
    let (lines, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .lossy(true)
        .finish(BufWriter::with_capacity(WRITE_BUFFER_BYTES, io::stdout()));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    let installed = if io::stdout().is_terminal() {
        subscriber.finish().try_init()
    } else {
        subscriber.with_ansi(false).json().flatten_event(true).finish().try_init()
    };
    // Only a second call fails, and then lines already go somewhere.
    installed.unwrap_or(());
    Ok(guard)
}

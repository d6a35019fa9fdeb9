//! Log lines: where they go, in what form and which; spans on their way to a collector; and what is known of this process. Takes
//! no decisions.
//!
//! There is one log in a process, so what is known of it is known of the process.

pub mod otlp;
#[cfg(target_os = "linux")]
mod process;

use std::io::{self, BufWriter, IsTerminal};
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

#[cfg(target_os = "linux")]
pub use process::ProcessNow;

use crate::server::admin::AUDIT_TARGET;

/// How many lines may wait for standard output; beyond it lines are dropped, so that a blocked reader never stops a
/// request.
const MAX_WAITING_LINES: usize = 65_536;

/// Lines that wait together are written together.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// The variable that goes before `[log] level`.
const VARIABLE: &str = "ONCEGATE_LOG";

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: ErrorCounter,
}

/// Sends log lines to standard output: for humans on a terminal, as JSON elsewhere. `level` is a tracing filter, as in
/// `warn` or `info,oncegate::access=off`; what `ONCEGATE_LOG` says goes before it. Audit lines are always written. Lines
/// that wait are written when the returned guard is dropped.
///
/// # Errors
///
/// A sentence, if the filter cannot be read.
pub fn init(level: &str) -> Result<WorkerGuard, String> {
    let filter = match std::env::var(VARIABLE) {
        Ok(filter) => parse(&filter).map_err(|error| format!("{VARIABLE}: {error}"))?,
        Err(_) => parse(level)?,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let (lines, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .lossy(true)
        .finish(BufWriter::with_capacity(WRITE_BUFFER_BYTES, io::stdout()));
    let dropped = lines.error_counter();
    let form = if io::stdout().is_terminal() {
        fmt::layer().with_writer(lines).boxed()
    } else {
        fmt::layer().with_writer(lines).with_ansi(false).json().flatten_event(true).boxed()
    };
    let installed = tracing_subscriber::registry().with(filter).with(form).try_init();
    // Only a second call fails, and then lines already go somewhere.
    if installed.is_ok() {
        LOG.set(Log { filter: handle, dropped }).unwrap_or(());
    }
    Ok(guard)
}

/// Which lines are written at present, as a filter. Empty where this process writes none.
#[must_use]
pub fn filter() -> String {
    let present = LOG.get().and_then(|log| log.filter.with_current(ToString::to_string).ok());
    present.unwrap_or_default()
}

/// Writes the lines of this filter from now on.
///
/// # Errors
///
/// A sentence, if the filter cannot be read, or this process writes no lines. Nothing has changed then.
pub fn set_filter(filter: &str) -> Result<(), String> {
    let filter = parse(filter)?;
    let log = LOG.get().ok_or_else(|| "this process writes no log".to_owned())?;
    log.filter.reload(filter).map_err(|error| error.to_string())
}

/// As [`set_filter`], by a new `[log] level`: where `ONCEGATE_LOG` is set, nothing changes.
///
/// # Errors
///
/// As [`set_filter`].
pub fn follow(level: &str) -> Result<(), String> {
    if std::env::var_os(VARIABLE).is_some() || LOG.get().is_none() {
        return Ok(());
    }
    set_filter(level)
}

/// How many lines were dropped since nobody took them in time.
#[must_use]
pub fn lines_dropped() -> u64 {
    LOG.get().map_or(0, |log| log.dropped.dropped_lines() as u64)
}

/// The filter, with the lines of the audit whatever it says: `warn` or `off` would leave out who changed what.
fn parse(filter: &str) -> Result<EnvFilter, String> {
    let audited = |filter: EnvFilter| Ok(filter.add_directive(format!("{AUDIT_TARGET}=info").parse()?));
    EnvFilter::try_new(filter)
        .and_then(audited)
        .map_err(|error| format!("\"{filter}\" is not a filter ({error}); write a level, as in `info`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_leaves_out_the_audit() {
        for filter in ["info", "warn", "off", "oncegate=error", "off,oncegate::audit=off"] {
            let directives = parse(filter).unwrap().to_string();
            assert!(directives.split(',').any(|one| one == "oncegate::audit=info"), "{filter}: {directives}");
        }
    }
}

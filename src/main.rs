//! A script: arguments, settings, build, run, drain.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use oncegate::app::{App, Drained};
use oncegate::config::{self, Contents, Loaded};
use oncegate::proxy::route::Routes;
use oncegate::server::Reload;
use oncegate::{ctl, demo, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Buffers are mostly freed by another thread than the one that made them, which glibc's allocator takes a lock for.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit codes: 0 done, 1 failed or work left unfinished, 2 wrong usage, 78 wrong configuration (sysexits EX_CONFIG).
const FAILED: u8 = 1;
const WRONG_CONFIGURATION: u8 = 78;

/// A reverse proxy that makes APIs safe to retry: at most one upstream request per Idempotency-Key.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// The configuration file.
    #[arg(
        short,
        long,
        global = true,
        env = "ONCEGATE_CONFIG",
        default_value = "proxy.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests (the default).
    Run,
    /// Read the configuration, say what would run and what it can carry, and change nothing.
    Check,
    /// Ask a running Oncegate whether it is well: exit code 0 if it is, 1 if not.
    Healthcheck(ctl::Healthcheck),
    /// Look up, list, free and settle keys of a running Oncegate.
    Keys(ctl::Keys),
    /// See it work: a small legacy API with the proxy before it, on loopback.
    Demo {
        /// End after the first request and its duplicate: 0 only if the duplicate was replayed.
        #[arg(long)]
        once: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command.unwrap_or(Command::Run) {
        Command::Check => check(&arguments.config),
        Command::Run => serve(&arguments.config),
        Command::Healthcheck(command) => {
            on_runtime(async { ctl::healthcheck(&command, &arguments.config).await.map_err(failed) })
        }
        Command::Keys(command) => on_runtime(async {
            ctl::keys(&command, &arguments.config, &mut io::stdout()).await.map_err(failed)
        }),
        Command::Demo { once } => on_runtime(demonstrate(once)),
    };
    done.map_or_else(
        |(code, text)| {
            // There is nowhere left to say that standard error is closed.
            writeln!(io::stderr(), "oncegate: {text}").unwrap_or(());
            ExitCode::from(code)
        },
        |()| ExitCode::SUCCESS,
    )
}

type Done = Result<(), (u8, String)>;

fn check(path: &Path) -> Done {
    let Loaded { settings, warnings } = config::load(path).map_err(misconfigured)?;
    Routes::new(&settings.proxy.routes).map_err(misconfigured)?;
    let mut text = config::describe(&settings);
    for warning in warnings {
        text.push_str(&format!("warning: {}:{warning}\n", path.display()));
    }
    io::stdout().write_all(text.as_bytes()).map_err(failed)
}

fn on_runtime(work: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?.block_on(work)
}

fn serve(path: &Path) -> Done {
    let contents = Contents::read(path).map_err(misconfigured)?;
    let loaded = contents.parse(path).map_err(misconfigured)?;
    // Dropped after the runtime: what is cut off at the end still gets its line.
    let _lines = telemetry::init(&loaded.settings.log.level).map_err(failed)?;
    on_runtime(run(loaded, path, contents))
}

async fn run(Loaded { settings, warnings }: Loaded, path: &Path, contents: Contents) -> Done {
    for warning in warnings {
        warn!("{}:{warning}", path.display());
    }
    let mut signals = Signals::new().map_err(failed)?;
    let hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let mut app = App::build(settings).await.map_err(failed)?;
    app.follow(path.to_owned(), contents);
    let reloading = reload_at_signals(hang_up, app.reload().clone());
    let admin = app.admin_address().map(tracing::field::display);
    info!(listen = ?app.addresses(), admin, version = env!("CARGO_PKG_VERSION"), "serving");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = app.run(async { stopped.await.unwrap_or(()) }, async { ended.await.unwrap_or(()) });
    let signalled = async {
        tokio::select! {
            () = signals.next() => {}
            never = reloading => never,
        }
        info!("a signal: no new work is taken; a second signal ends at once");
        drop(stop);
        signals.next().await;
        drop(end);
        std::future::pending().await
    };
    let drained = tokio::select! {
        drained = running => drained,
        never = signalled => never,
    };
    match drained {
        Drained::Complete | Drained::Marked(_) => Ok(()),
        Drained::Unfinished(count) => {
            error!(count, "ended with work unfinished");
            Err((FAILED, format!("ended with {count} connections or requests unfinished")))
        }
    }
}

async fn demonstrate(once: bool) -> Done {
    let mut signals = Signals::new().map_err(failed)?;
    demo::run(once, async move { signals.next().await }, &mut io::stdout()).await.map_err(failed)
}

fn misconfigured(error: impl ToString) -> (u8, String) {
    (WRONG_CONFIGURATION, error.to_string())
}

fn failed(error: impl ToString) -> (u8, String) {
    (FAILED, error.to_string())
}

/// Has the settings read again at every SIGHUP. What comes of it is in the log.
async fn reload_at_signals(mut hang_up: Signal, reload: Reload) {
    while hang_up.recv().await.is_some() {
        info!("SIGHUP: the settings are read again");
        drop(reload.ask().await);
    }
    std::future::pending::<()>().await;
}

/// SIGTERM and SIGINT: process 1 has no default for them.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

//! Child processes: started on a free port, read through /proc, ended with this process whatever happens.
//!
//! Every wait is in [`wait`], which gives up at the end of the run's time or on a signal; the error then unwinds through
//! the owners of the children, and each ends its own.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::Result;

static STOP: AtomicBool = AtomicBool::new(false);
static DEADLINE: OnceLock<Instant> = OnceLock::new();

const POLL: Duration = Duration::from_millis(10);
const START_PATIENCE: Duration = Duration::from_secs(10);
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Units of the times in `/proc/PID/stat`: USER_HZ, the same on every Linux that runs Rust.
const TICKS_PER_SECOND: u64 = 100;

/// Makes every wait fail after `time`.
pub(crate) fn stop_after(time: Duration) {
    DEADLINE.get_or_init(|| Instant::now() + time);
}

/// Makes every wait fail after SIGINT or SIGTERM.
pub(crate) fn stop_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            STOP.store(true, Ordering::Relaxed);
        });
    });
    Ok(())
}

/// Waits until `ready` is something.
pub(crate) fn wait<T>(
    what: &str,
    patience: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if STOP.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        if Instant::now() > end || DEADLINE.get().is_some_and(|deadline| Instant::now() > *deadline) {
            return Err(format!("{what}: out of time").into());
        }
        std::thread::sleep(POLL);
    }
}

/// A server that is up.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Runs `command` until something listens on `address`. What it says on standard error goes to `log`.
    pub(crate) fn start(mut command: Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let child = command
            .stderr(fs::File::create(log)?)
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
        let mut server = Self { address, child };
        wait("a server's start", START_PATIENCE, || {
            if let Some(status) = server.child.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{command:?} ended at once, {status}: {said}").into());
            }
            Ok(TcpStream::connect(address).ok())
        })?;
        Ok(server)
    }

    /// What the server writes, if `command` piped it.
    pub(crate) fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// CPU time of the server and its workers, all threads, user and system.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut ticks = 0;
        for pid in self.pids()? {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The second field, the name in parentheses, may hold spaces: count from behind it.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
            ticks += times.sum::<std::result::Result<u64, _>>()?;
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Memory that is not backed by a file, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kibibytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no RssAnon")?;
            bytes += kibibytes.parse::<u64>()? * 1024;
        }
        Ok(bytes)
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let parent = self.child.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let mut pids = vec![parent];
        for pid in children.split_whitespace() {
            pids.push(pid.parse()?);
        }
        Ok(pids)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that nginx takes its workers along; std can only kill.
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill \"$1\"", "sh", &pid]).stderr(Stdio::null()).status().ok();
        let end = Instant::now() + END_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                self.child.kill().ok();
                self.child.wait().ok();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

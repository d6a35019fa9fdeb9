//! The program itself, as a process of its own: for what belongs to a process, its memory and its environment.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Log, eventually};

/// A child, killed when dropped.
#[derive(Debug)]
pub struct Running(pub Child);

/// A running proxy.
#[derive(Debug)]
pub struct Process {
    running: Running,
    address: SocketAddr,
    config: tempfile::NamedTempFile,
    /// Kept open, though nobody reads what else is logged.
    _log: Log,
}

impl Process {
    /// Before an upstream of these settings, which other tables may follow; with a guarded `/v1/charges` beside an unguarded
    /// catch-all.
    pub fn start(upstream: &str, environment: &[(&str, &Path)]) -> Self {
        let config = tempfile::NamedTempFile::new().expect("a file");
        fs::write(config.path(), file(upstream)).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_oncegate"))
            .args(["run", "--config"])
            .arg(config.path())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        // Killed, too, if it never says where it listens.
        let mut running = Running(child);
        let mut log = Log::of(running.0.stdout.take().expect("a pipe"));
        let address = log.by_ref().map_while(Result::ok).find_map(|line| address_in(&line));
        Self { address: address.expect("it says where it listens"), running, config, _log: log }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes its file anew, as `start` does.
    pub fn rewrite(&self, upstream: &str) {
        fs::write(self.config.path(), file(upstream)).expect("a file");
    }

    /// Sends it a signal, as in `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.running.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success(), "it runs");
    }

    /// Waits for its end, and returns its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the program's end", async || {
            status = self.running.0.try_wait().expect("a process");
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }

    /// What of its memory is in use, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running.0.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

fn file(upstream: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nreload_interval = false\nshutdown_grace = \"500ms\"\n[log]\naccess = false\n\
         [upstreams.legacy]\n{upstream}\n\
         [[routes]]\nname = \"charges\"\npath = \"/v1/charges\"\nupstream = \"legacy\"\n\
         [[routes]]\nname = \"rest\"\npath = \"/{{*rest}}\"\nupstream = \"legacy\"\nguarded = false\n"
    )
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        self.0.kill().unwrap_or(());
        drop(self.0.wait());
    }
}

/// The first address in a line of the log.
fn address_in(line: &str) -> Option<SocketAddr> {
    let from = line.find("127.0.0.1:")?;
    let rest = &line[from..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

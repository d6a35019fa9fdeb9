//! A process that can be killed, stopped and started anew, and that outlives no test binary: see `supervise.sh`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A program that may run. Dropping this kills it and removes its folder.
#[derive(Debug)]
pub struct Supervised {
    shell: Child,
    /// Closed first of all when dropped.
    orders: Option<ChildStdin>,
    done: BufReader<ChildStdout>,
    /// Of the process, from its start until it is killed.
    id: Option<u32>,
    folder: PathBuf,
}

impl Supervised {
    /// Not started yet. From here on `folder` belongs to it.
    pub fn new(folder: &Path, program: &Path, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/supervise.sh");
        let mut shell = Command::new("sh")
            .arg(script)
            .arg(folder)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let orders = shell.stdin.take();
        let done = BufReader::new(shell.stdout.take().expect("a pipe"));
        Self { shell, orders, done, id: None, folder: folder.to_owned() }
    }

    pub fn start(&mut self) {
        self.order("start");
    }

    /// Sends a signal, `KILL` or `STOP`. After `KILL` the process is gone, and its port free.
    pub fn signal(&mut self, name: &str) {
        self.order(name);
    }

    /// Whether it does not run any more, be it that it ended by itself.
    pub fn has_ended(&self) -> bool {
        let Some(id) = self.id else { return true };
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return true };
        // Behind its name, which is in parentheses, stands its state: Z once it has ended, for as long as nobody waits for it.
        stat.rsplit(')').next().is_some_and(|state| state.trim_start().starts_with('Z'))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("not dropped");
        writeln!(orders, "{order}").expect("the shell reads");
        let mut id = String::new();
        self.done.read_line(&mut id).expect("the shell answers");
        self.id = id.trim().parse().ok();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.orders = None;
        drop(self.shell.wait());
    }
}

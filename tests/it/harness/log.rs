//! What a program writes to standard output, line by line: a test that waits for a line waits no longer than a deadline.

use std::io::{self, BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a test waits for a line before it gives up.
const DEADLINE: Duration = Duration::from_secs(20);

/// The lines, in order. They are read even while nobody asks for them: the program never waits for the test.
#[derive(Debug)]
pub struct Log(Receiver<io::Result<String>>);

impl Log {
    pub fn of(stdout: ChildStdout) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let is_last = line.is_err();
                if sender.send(line).is_err() || is_last {
                    return;
                }
            }
        });
        Self(lines)
    }
}

impl Iterator for Log {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited {DEADLINE:?} in vain for a line of the log"),
        }
    }
}

//! Readers of other make: what they find in a stream of bytes is what an upstream would act on.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::harness::tools;

const PYTHON: &str = "target/tools/bin/python";

/// Programs that read streams of requests. Both are strict where RFC 9112 leaves them the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// h11, from PyPI.
    H11,
    /// `node:http`.
    Node,
}

/// What a reader makes of one stream.
#[derive(Clone, Debug, Deserialize)]
pub struct Reading {
    /// The requests that are whole.
    pub requests: Vec<ReadRequest>,
    /// `clean`, `cut` (within a request), or what is malformed.
    pub end: String,
}

/// A whole request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadRequest {
    pub method: String,
    pub target: String,
    /// In hexadecimal digits.
    pub body: String,
}

impl Reader {
    pub const ALL: [Self; 2] = [Self::H11, Self::Node];

    /// Reads each stream by itself.
    pub fn read(self, streams: &[&[u8]]) -> Vec<Reading> {
        tools();
        let mut command = match self {
            Self::H11 => {
                let mut command = Command::new(PYTHON);
                command.arg("tests/it/corpus/read.py");
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg("tests/it/corpus/read.mjs");
                command
            }
        };
        let command = command.current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{self:?} does not start: {error}"));
        let streams: Vec<String> = streams.iter().map(|stream| hex(stream)).collect();
        let input = serde_json::to_vec(&streams).expect("JSON");
        // Both read all before they write.
        child.stdin.take().expect("a pipe").write_all(&input).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{self:?} failed: {}", output.status);
        let readings: Vec<Reading> = serde_json::from_slice(&output.stdout).expect("readings");
        assert_eq!(readings.len(), streams.len(), "{self:?} reads every stream");
        readings
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

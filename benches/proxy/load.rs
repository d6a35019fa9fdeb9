//! The requests: one definition for wrk, which loads, and for the probe, which looks at single answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::contenders::Keys;
use crate::hyper_server::BODY_BYTES;
use crate::process::wait;

pub(crate) const CONNECTIONS: u64 = 64;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/proxy/post.lua");
const REQUEST_BODY_BYTES: usize = 256;
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const FIXED_PREFIX: &str = "fixed-5b1c8e0a-3d0f-4c55-";

/// The request before its key, and after it.
fn request(path: &str) -> (String, String) {
    let before = format!(
        "POST {path} HTTP/1.1\r\n\
         Host: api.example.com\r\n\
         User-Agent: bench/1.0\r\n\
         Accept: application/json\r\n\
         Authorization: Bearer sk_test_4eC39HqLyjWDarjtT1zdp7dc\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {REQUEST_BODY_BYTES}\r\n\
         Idempotency-Key: "
    );
    let body = r#"{"amount":1200,"currency":"eur","description":""#;
    let filled = REQUEST_BODY_BYTES - 2;
    (before, format!("\r\n\r\n{body:x<filled$}\"}}"))
}

/// One run of wrk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) keys: Keys,
}

/// What wrk counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) duration: Duration,
    broken: u64,
    refused: u64,
    timeouts: u64,
}

impl Load {
    /// Sends for that many seconds (wrk knows whole ones only), with keys that start with `prefix`.
    pub(crate) fn run(&self, prefix: &str, seconds: u64) -> Result<Counts> {
        let (before, after) = request(self.path);
        let (prefix, keys) = match self.keys {
            Keys::Unique => (format!("{prefix}5b1c8e0a-3d0f-4c55-"), 0),
            Keys::Fixed(count) => (FIXED_PREFIX.to_owned(), count),
        };
        let mut wrk = Command::new("wrk")
            .args(["-t1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s")])
            .args(["--timeout", "5s", "-s", SCRIPT])
            .arg(format!("http://{}{}", self.address, self.path))
            .args(["--", &before, &after, &prefix, &keys.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("wrk: {error}"))?;
        let patience = Duration::from_secs(seconds + 10);
        if let Err(error) = wait("wrk", patience, || Ok(wrk.try_wait()?)) {
            wrk.kill().ok();
            wrk.wait().ok();
            return Err(error);
        }
        let mut said = String::new();
        if let Some(mut stdout) = wrk.stdout.take() {
            stdout.read_to_string(&mut said)?;
        }
        Counts::parse(&said).ok_or_else(|| format!("wrk said nothing that this reads: {said}").into())
    }
}

impl Counts {
    /// Reads the line that `post.lua` prints.
    fn parse(said: &str) -> Option<Self> {
        let line = said.lines().find_map(|line| line.strip_prefix("result "))?;
        let numbers: Vec<u64> =
            line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let [requests, micros, connect, read, write, status, timeouts] = numbers.try_into().ok()?;
        let broken = connect + read + write;
        let duration = Duration::from_micros(micros);
        Some(Self { requests, duration, broken, refused: status, timeouts })
    }

    /// Why this run counts for nothing, if so.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { requests, broken, refused, timeouts, .. } = self;
        if broken + refused + timeouts > 0 {
            return Some(format!(
                "of {requests} answers {refused} were errors; {broken} connections broke; {timeouts} timeouts"
            ));
        }
        (*requests == 0).then(|| "no answer".to_owned())
    }
}

/// Sends single requests, to see that a row does what its name says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    address: SocketAddr,
    path: &'static str,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: String,
}

impl Probe {
    pub(crate) fn new(address: SocketAddr, path: &'static str) -> Self {
        Self { address, path }
    }

    /// Sends a POST with `key`. Anything but a 201 with the whole body is an error.
    pub(crate) fn post(&self, key: &str) -> Result<Answered> {
        self.post_on(&mut self.connect()?, key)
    }

    /// Sends a POST with each of the fixed keys that [`Load`] uses.
    pub(crate) fn post_each_of(&self, keys: u64) -> Result<()> {
        let mut stream = self.connect()?;
        for key in 0..keys {
            self.post_on(&mut stream, &format!("{FIXED_PREFIX}{key}"))?;
        }
        Ok(())
    }

    /// Sends a GET and returns the body of its answer.
    pub(crate) fn get(&self) -> Result<String> {
        let mut stream = self.connect()?;
        write!(stream, "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        Ok(stream)
    }

    fn post_on(&self, stream: &mut TcpStream, key: &str) -> Result<Answered> {
        let (before, after) = request(self.path);
        stream.write_all(format!("{before}{key}{after}").as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer)?;
            answer.extend(buffer.iter().take(read));
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && (body.len() >= BODY_BYTES || !head.starts_with("HTTP/1.1 201"))
            {
                if !head.starts_with("HTTP/1.1 201") || body.len() != BODY_BYTES {
                    return Err(format!("not the answer of the back end: {text}").into());
                }
                return Ok(Answered { head: head.to_owned() });
            }
            if read == 0 {
                return Err(format!("the answer broke off: {text}").into());
            }
        }
    }
}

impl Answered {
    /// Whether it says that it is a replay.
    pub(crate) fn is_replay(&self) -> bool {
        self.head.to_ascii_lowercase().contains("\r\nidempotent-replayed: true")
    }
}

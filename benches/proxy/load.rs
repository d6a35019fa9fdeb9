//! The requests: one definition for wrk and h2load, which load, and for the probe, which looks at single answers.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
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

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// HTTP/1.1 in cleartext.
    Http1,
    /// HTTP/1.1 through TLS.
    Tls,
    /// HTTP/2 in cleartext, one stream at a time on each connection.
    Http2,
}

/// One run of wrk, or of h2load for HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) keys: Keys,
    pub(crate) wire: Wire,
    /// Where files may be put.
    pub(crate) files: &'a Path,
}

/// What the tool counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) duration: Duration,
    broken: u64,
    refused: u64,
    timeouts: u64,
}

impl Load<'_> {
    /// Sends for that many seconds (wrk knows whole ones only), with keys that start with `prefix`.
    pub(crate) fn run(&self, prefix: &str, seconds: u64) -> Result<Counts> {
        let counted = match self.wire {
            Wire::Http1 => {
                finish(self.wrk("http", prefix, seconds), seconds).map(|said| Counts::of_wrk(&said))
            }
            Wire::Tls => {
                finish(self.wrk("https", prefix, seconds), seconds).map(|said| Counts::of_wrk(&said))
            }
            Wire::Http2 => {
                finish(self.h2load(seconds)?, seconds).map(|said| Counts::of_h2load(&said, seconds))
            }
        };
        counted?.ok_or_else(|| "the tool said nothing that this reads".into())
    }

    fn wrk(&self, scheme: &str, prefix: &str, seconds: u64) -> Command {
        let (before, after) = request(self.path);
        let (prefix, keys) = match self.keys {
            Keys::Unique => (format!("{prefix}5b1c8e0a-3d0f-4c55-"), 0),
            Keys::Fixed(count) => (FIXED_PREFIX.to_owned(), count),
        };
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s")])
            .args(["--timeout", "5s", "-s", SCRIPT])
            .arg(format!("{scheme}://{}{}", self.address, self.path))
            .args(["--", &before, &after, &prefix, &keys.to_string()]);
        wrk
    }

    /// The same request, all with one key: h2load cannot count.
    fn h2load(&self, seconds: u64) -> Result<Command> {
        let (before, after) = request(self.path);
        let body = self.files.join("body.json");
        fs::write(&body, after.trim_start())?;
        let mut h2load = Command::new("h2load");
        h2load
            .args(["-t1", "-m1", "-c", &CONNECTIONS.to_string(), "-D", &seconds.to_string(), "-d"])
            .arg(body)
            .arg(format!("http://{}{}", self.address, self.path));
        // The request line, Host and Content-Length are its own.
        for field in before.lines().skip(2).filter(|line| !line.starts_with("Content-Length")) {
            h2load.args(["-H", &format!("{field}{}", if field.ends_with(": ") { FIXED_PREFIX } else { "" })]);
        }
        Ok(h2load)
    }
}

/// What `tool`, which works for `seconds`, says.
fn finish(mut tool: Command, seconds: u64) -> Result<String> {
    let name = tool.get_program().to_string_lossy().into_owned();
    let spawned = tool.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("{name}: {error}"))?;
    let patience = Duration::from_secs(seconds + 10);
    if let Err(error) = wait(&name, patience, || Ok(child.try_wait()?)) {
        child.kill().ok();
        child.wait().ok();
        return Err(error);
    }
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    Ok(said)
}

impl Counts {
    /// Reads the line that `post.lua` prints.
    fn of_wrk(said: &str) -> Option<Self> {
        let line = said.lines().find_map(|line| line.strip_prefix("result "))?;
        let numbers: Vec<u64> =
            line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let [requests, micros, connect, read, write, status, timeouts] = numbers.try_into().ok()?;
        let broken = connect + read + write;
        let duration = Duration::from_micros(micros);
        Some(Self { requests, duration, broken, refused: status, timeouts })
    }

    /// Reads h2load's sums: `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`.
    fn of_h2load(said: &str, seconds: u64) -> Option<Self> {
        let line = said.lines().find_map(|line| line.strip_prefix("requests: "))?;
        let count =
            |what: &str| line.split(", ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
        let (refused, broken, timeouts) = (count("failed")?, count("errored")?, count("timeout")?);
        let duration = Duration::from_secs(seconds);
        Some(Self { requests: count("succeeded")?, duration, broken, refused, timeouts })
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

    /// That many connections on each of which a POST was answered.
    pub(crate) fn connect_each(&self, connections: u64) -> Result<Vec<TcpStream>> {
        (0..connections)
            .map(|_| {
                let mut stream = self.connect()?;
                self.post_on(&mut stream, "idle")?;
                Ok(stream)
            })
            .collect()
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

//! The rows: how each server is started, what it is sent, and how often the back end must have been called for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use crate::Result;
use crate::load::{CONNECTIONS, Probe};
use crate::process::{Server, free_address};

const GUARDED_PATH: &str = "/v1/charges";
const UNGUARDED_PATH: &str = "/open/charges";
const REPLAYED_KEYS: u64 = 1000;

/// Which keys a row's requests carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Every request its own.
    Unique,
    /// That many, again and again.
    Fixed(u64),
}

/// What is measured in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// hyper answering from memory: the floor of a replay.
    Bare,
    /// nginx as a plain reverse proxy: the yardstick.
    Nginx,
    /// hyper passing on, and nothing else: the floor of a proxy.
    Passing,
    /// Oncegate on a route that it only passes on.
    Unguarded { access_log: bool },
    /// Oncegate claiming, forwarding and recording.
    FirstTime { access_log: bool },
    /// Oncegate answering from its store.
    Replays,
}

/// The rows, in the order of the table.
pub(crate) const ROWS: [Contender; 8] = [
    Contender::Bare,
    Contender::Nginx,
    Contender::Passing,
    Contender::Unguarded { access_log: false },
    Contender::FirstTime { access_log: false },
    Contender::Replays,
    Contender::Unguarded { access_log: true },
    Contender::FirstTime { access_log: true },
];

impl Contender {
    /// All rows with their numbers; every round starts with another one.
    pub(crate) fn in_round(round: u64) -> impl Iterator<Item = (usize, Self)> {
        let first = usize::try_from(round).unwrap_or_default() % ROWS.len();
        ROWS.into_iter().enumerate().cycle().skip(first).take(ROWS.len())
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare hyper server answering from memory",
            Self::Nginx => "nginx, plain reverse proxy",
            Self::Passing => "bare hyper proxy, nothing else",
            Self::Unguarded { access_log: false } => "Oncegate, unguarded",
            Self::FirstTime { access_log: false } => "Oncegate, guarded, first-time keys",
            Self::Replays => "Oncegate, guarded, replays",
            Self::Unguarded { access_log: true } => "Oncegate, unguarded, access log on",
            Self::FirstTime { access_log: true } => "Oncegate, guarded, first-time keys, access log on",
        }
    }

    /// The highest ratio to nginx that satisfies.
    pub(crate) fn goal(self) -> Option<f64> {
        match self {
            Self::Unguarded { access_log: false } => Some(1.25),
            Self::FirstTime { access_log: false } => Some(1.8),
            Self::Replays => Some(0.75),
            Self::Bare | Self::Nginx | Self::Passing | Self::Unguarded { .. } | Self::FirstTime { .. } => {
                None
            }
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Unguarded { .. } => UNGUARDED_PATH,
            Self::Bare | Self::Nginx | Self::Passing | Self::FirstTime { .. } | Self::Replays => GUARDED_PATH,
        }
    }

    pub(crate) fn keys(self) -> Keys {
        match self {
            Self::Replays => Keys::Fixed(REPLAYED_KEYS),
            Self::Bare | Self::Nginx | Self::Passing | Self::Unguarded { .. } | Self::FirstTime { .. } => {
                Keys::Unique
            }
        }
    }

    /// Starts the row's server, with its files in `files`.
    pub(crate) fn start(self, backend: &Backend, files: &Path) -> Result<Server> {
        match self {
            Self::Bare => hyper(files, "bare", None),
            Self::Nginx => nginx(backend, files),
            Self::Passing => hyper(files, "passing", Some(backend)),
            Self::Unguarded { access_log } | Self::FirstTime { access_log } => {
                oncegate(backend, files, access_log)
            }
            Self::Replays => oncegate(backend, files, false),
        }
    }

    /// Whether a request and its duplicate get what the row's name says.
    pub(crate) fn check_answers(self, probe: &Probe) -> Result<()> {
        let first = probe.post("probe")?.is_replay();
        let second = probe.post("probe")?.is_replay();
        let guarded = matches!(self, Self::FirstTime { .. } | Self::Replays);
        if first || second != guarded {
            return Err(format!("first answer replayed: {first}; second: {second}").into());
        }
        Ok(())
    }

    /// Why the row is void, judged by how often the back end was called for `requests` answers.
    pub(crate) fn fault(self, requests: u64, executions: u64) -> Option<String> {
        let expected = match self {
            Self::Bare | Self::Replays => 0..=0,
            // wrk stops with a request on every connection, after the warm-up too.
            Self::Nginx | Self::Passing | Self::Unguarded { .. } | Self::FirstTime { .. } => {
                requests..=requests + 2 * CONNECTIONS
            }
        };
        (!expected.contains(&executions))
            .then(|| format!("the back end was called {executions} times for {requests} answers"))
    }
}

/// The server behind the proxies.
#[derive(Debug)]
pub(crate) struct Backend(Server);

impl Backend {
    pub(crate) fn start(files: &Path) -> Result<Self> {
        hyper(files, "backend", None).map(Self)
    }

    /// How many POSTs it has answered.
    pub(crate) fn executions(&self) -> Result<u64> {
        Ok(Probe::new(self.0.address, "/").get()?.parse()?)
    }

    /// The length of the head that it answers with, status line and last empty line included.
    pub(crate) fn head_bytes(&self) -> Result<u64> {
        let answered = Probe::new(self.0.address, GUARDED_PATH).post("probe")?;
        Ok((answered.head.len() + "\r\n\r\n".len()) as u64)
    }
}

fn hyper(files: &Path, name: &str, upstream: Option<&Backend>) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", &address.to_string()]).args(upstream.map(|backend| backend.0.address.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    Server::start(command, address, &files.join(name))
}

fn nginx(backend: &Backend, files: &Path) -> Result<Server> {
    let address = free_address()?;
    let upstream = backend.0.address;
    let root = files.display();
    // Connections last for the whole run on both sides, as Oncegate's do.
    let text = format!(
        "daemon off;
worker_processes 2;
pid {root}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    upstream backend {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    );
    let file = files.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(files).arg("-e").arg("stderr").arg("-c").arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Server::start(command, address, &files.join("nginx.log"))
}

fn oncegate(backend: &Backend, files: &Path, access_log: bool) -> Result<Server> {
    let address = free_address()?;
    let upstream = backend.0.address;
    // The store never fills up, and nothing expires: every row measures one thing.
    let text = format!(
        r#"
[server]
listen = ["{address}"]

[log]
access = {access_log}

[store]
kind = "memory"
max_bytes = "8GiB"
max_entries = 10_000_000

[upstreams.backend]
endpoints = ["http://{upstream}"]

[[routes]]
name = "charges"
path = "/v1/{{*rest}}"
upstream = "backend"

[[routes]]
name = "open"
path = "/open/{{*rest}}"
upstream = "backend"
guarded = false
"#
    );
    let file = files.join("oncegate.toml");
    fs::write(&file, text)?;
    let binary = std::env::var_os("BENCH_ONCEGATE").unwrap_or_else(|| env!("CARGO_BIN_EXE_oncegate").into());
    let mut command = Command::new(binary);
    command.arg("--config").arg(file).stdin(Stdio::null());
    // A log that is on is read, as a container's is.
    command.stdout(if access_log { Stdio::piped() } else { Stdio::null() });
    let mut server = Server::start(command, address, &files.join("oncegate.log"))?;
    if let Some(stdout) = server.take_stdout() {
        std::thread::spawn(move || drain(stdout));
    }
    Ok(server)
}

fn drain(stdout: ChildStdout) {
    let mut reader = BufReader::with_capacity(1 << 16, stdout);
    while let Ok(read @ 1..) = reader.fill_buf().map(<[u8]>::len) {
        reader.consume(read);
    }
}

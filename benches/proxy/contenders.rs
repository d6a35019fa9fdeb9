//! The rows: how each server is started, what it is sent, and how often the back end must have been called for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use crate::Result;
use crate::load::{CONNECTIONS, Probe, Wire};
use crate::ports::free_address;
use crate::process::Server;
use crate::redis::Redis;

const GUARDED_PATH: &str = "/v1/charges";
const UNGUARDED_PATH: &str = "/open/charges";
const REPLAYED_KEYS: u64 = 1000;

/// The store never fills up, and nothing expires: every row measures one thing.
const MEMORY_STORE: &str = "kind = \"memory\"\nmax_bytes = \"8GiB\"\nmax_entries = 10_000_000";
const NOTHING_CACHED: &str = "cache_max_bytes = 0";
const ALL_CACHED: &str = "cache_ttl = \"1h\"";

/// How a row uses Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnRedis {
    /// How often Redis may be asked for a request.
    pub(crate) round_trips_goal: f64,
    /// The row that has the same done by the memory store.
    pub(crate) like: Contender,
    /// The highest ratio to its CPU time that satisfies.
    pub(crate) cpu_goal: Option<f64>,
    /// Of `[store.redis]`.
    settings: &'static str,
}

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
    /// Oncegate, as in `FirstTime`, with the Redis store.
    FirstTimeOnRedis,
    /// Oncegate answering from Redis.
    ReplaysOfRedis,
    /// Oncegate answering from its copies of what Redis has.
    ReplaysOfCopies,
    /// nginx, asked in another way.
    NginxOver(Wire),
    /// Oncegate on a route that it only passes on, asked in another way.
    UnguardedOver(Wire),
}

/// The rows, in the order of the table.
pub(crate) const ROWS: [Contender; 15] = [
    Contender::Bare,
    Contender::Nginx,
    Contender::Passing,
    Contender::Unguarded { access_log: false },
    Contender::FirstTime { access_log: false },
    Contender::Replays,
    Contender::FirstTimeOnRedis,
    Contender::ReplaysOfRedis,
    Contender::ReplaysOfCopies,
    Contender::Unguarded { access_log: true },
    Contender::FirstTime { access_log: true },
    Contender::NginxOver(Wire::Tls),
    Contender::UnguardedOver(Wire::Tls),
    Contender::NginxOver(Wire::Http2),
    Contender::UnguardedOver(Wire::Http2),
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
            Self::FirstTimeOnRedis => "Oncegate on Redis, first-time keys",
            Self::ReplaysOfRedis => "Oncegate on Redis, replays, nothing cached",
            Self::ReplaysOfCopies => "Oncegate on Redis, replays, cached",
            Self::Unguarded { access_log: true } => "Oncegate, unguarded, access log on",
            Self::FirstTime { access_log: true } => "Oncegate, guarded, first-time keys, access log on",
            Self::NginxOver(Wire::Tls) => "nginx, TLS",
            Self::UnguardedOver(Wire::Tls) => "Oncegate, unguarded, TLS",
            Self::NginxOver(Wire::Http1 | Wire::Http2) => "nginx, HTTP/2",
            Self::UnguardedOver(Wire::Http1 | Wire::Http2) => "Oncegate, unguarded, HTTP/2",
        }
    }

    /// The highest ratio to nginx that satisfies.
    pub(crate) fn goal(self) -> Option<f64> {
        match self {
            Self::Unguarded { access_log: false } => Some(1.25),
            Self::FirstTime { access_log: false } => Some(1.8),
            Self::Replays => Some(0.75),
            Self::Bare
            | Self::Nginx
            | Self::Passing
            | Self::Unguarded { .. }
            | Self::FirstTime { .. }
            | Self::FirstTimeOnRedis
            | Self::ReplaysOfRedis
            | Self::ReplaysOfCopies
            | Self::NginxOver(_)
            | Self::UnguardedOver(_) => None,
        }
    }

    /// How it uses Redis; `None` if it does not.
    pub(crate) fn on_redis(self) -> Option<OnRedis> {
        let (round_trips_goal, like, cpu_goal, settings) = match self {
            Self::FirstTimeOnRedis => (2.0, Self::FirstTime { access_log: false }, Some(1.6), NOTHING_CACHED),
            Self::ReplaysOfRedis => (1.0, Self::Replays, None, NOTHING_CACHED),
            Self::ReplaysOfCopies => (0.0, Self::Replays, None, ALL_CACHED),
            Self::Bare
            | Self::Nginx
            | Self::Passing
            | Self::Unguarded { .. }
            | Self::FirstTime { .. }
            | Self::Replays
            | Self::NginxOver(_)
            | Self::UnguardedOver(_) => return None,
        };
        Some(OnRedis { round_trips_goal, like, cpu_goal, settings })
    }

    /// Whether it is of use where only the Redis store is looked at.
    pub(crate) fn concerns_redis(self) -> bool {
        self.on_redis().is_some() || ROWS.iter().any(|row| row.on_redis().is_some_and(|on| on.like == self))
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Unguarded { .. } | Self::UnguardedOver(_) => UNGUARDED_PATH,
            Self::Bare
            | Self::Nginx
            | Self::NginxOver(_)
            | Self::Passing
            | Self::FirstTime { .. }
            | Self::Replays
            | Self::FirstTimeOnRedis
            | Self::ReplaysOfRedis
            | Self::ReplaysOfCopies => GUARDED_PATH,
        }
    }

    pub(crate) fn wire(self) -> Wire {
        match self {
            Self::NginxOver(wire) | Self::UnguardedOver(wire) => wire,
            Self::Bare
            | Self::Nginx
            | Self::Passing
            | Self::Unguarded { .. }
            | Self::FirstTime { .. }
            | Self::Replays
            | Self::FirstTimeOnRedis
            | Self::ReplaysOfRedis
            | Self::ReplaysOfCopies => Wire::Http1,
        }
    }

    pub(crate) fn keys(self) -> Keys {
        match self {
            Self::Replays | Self::ReplaysOfRedis | Self::ReplaysOfCopies => Keys::Fixed(REPLAYED_KEYS),
            Self::Bare
            | Self::Nginx
            | Self::Passing
            | Self::Unguarded { .. }
            | Self::FirstTime { .. }
            | Self::FirstTimeOnRedis
            | Self::NginxOver(_)
            | Self::UnguardedOver(_) => Keys::Unique,
        }
    }

    /// Starts the row's server, with its files in `files`, and before it `redis` if it needs one.
    pub(crate) fn start(self, backend: &Backend, redis: Option<&Redis>, files: &Path) -> Result<Server> {
        let store = redis.zip(self.on_redis()).map_or_else(
            || MEMORY_STORE.to_owned(),
            |(redis, OnRedis { settings, .. })| {
                format!("kind = \"redis\"\nurl = \"redis://{}\"\n[store.redis]\n{settings}", redis.address())
            },
        );
        match self {
            Self::Bare => hyper(files, "bare", None),
            Self::Nginx | Self::NginxOver(_) => nginx(backend, files, self.wire()),
            Self::Passing => hyper(files, "passing", Some(backend)),
            Self::Unguarded { access_log } | Self::FirstTime { access_log } => {
                oncegate(backend, files, access_log, Wire::Http1, &store)
            }
            Self::Replays
            | Self::FirstTimeOnRedis
            | Self::ReplaysOfRedis
            | Self::ReplaysOfCopies
            | Self::UnguardedOver(_) => oncegate(backend, files, false, self.wire(), &store),
        }
    }

    /// Whether a request and its duplicate get what the row's name says. The probe speaks HTTP/1.1 in cleartext only.
    pub(crate) fn check_answers(self, probe: &Probe) -> Result<()> {
        if self.wire() != Wire::Http1 {
            return Ok(());
        }
        let first = probe.post("probe")?.is_replay();
        let second = probe.post("probe")?.is_replay();
        let guarded = matches!(self, Self::FirstTime { .. } | Self::Replays) || self.on_redis().is_some();
        if first || second != guarded {
            return Err(format!("first answer replayed: {first}; second: {second}").into());
        }
        Ok(())
    }

    /// Why the row is void, judged by how often the back end was called for `requests` answers.
    pub(crate) fn fault(self, requests: u64, executions: u64) -> Option<String> {
        let expected = match self {
            Self::Bare | Self::Replays | Self::ReplaysOfRedis | Self::ReplaysOfCopies => 0..=0,
            // wrk stops with a request on every connection, after the warm-up too.
            Self::Nginx
            | Self::Passing
            | Self::Unguarded { .. }
            | Self::FirstTime { .. }
            | Self::FirstTimeOnRedis
            | Self::NginxOver(_)
            | Self::UnguardedOver(_) => requests..=requests + 2 * CONNECTIONS,
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
    let address = free_address();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", &address.to_string()]).args(upstream.map(|backend| backend.0.address.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    Server::start(command, address, &files.join(name))
}

fn nginx(backend: &Backend, files: &Path, wire: Wire) -> Result<Server> {
    let address = free_address();
    let upstream = backend.0.address;
    let root = files.display();
    let listen = match wire {
        Wire::Http1 => format!("listen {address};"),
        Wire::Http2 => format!("listen {address} http2;"),
        Wire::Tls => {
            let Certificate { cert, key } = certificate(files)?;
            format!("listen {address} ssl; ssl_certificate {cert}; ssl_certificate_key {key};")
        }
    };
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
        {listen}
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

fn oncegate(backend: &Backend, files: &Path, access_log: bool, wire: Wire, store: &str) -> Result<Server> {
    let address = free_address();
    let upstream = backend.0.address;
    let tls = match wire {
        Wire::Http1 | Wire::Http2 => String::new(),
        Wire::Tls => {
            let Certificate { cert, key } = certificate(files)?;
            format!("[server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"")
        }
    };
    let text = format!(
        r#"
[server]
listen = ["{address}"]
max_connections = 100_000
{tls}

[log]
access = {access_log}

[store]
{store}

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

/// Where a certificate is that nobody trusts, and its key.
struct Certificate {
    cert: String,
    key: String,
}

fn certificate(files: &Path) -> Result<Certificate> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (cert, key) = (files.join("cert.pem"), files.join("key.pem"));
    fs::write(&cert, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok(Certificate { cert: cert.display().to_string(), key: key.display().to_string() })
}

fn drain(stdout: ChildStdout) {
    let mut reader = BufReader::with_capacity(1 << 16, stdout);
    while let Ok(read @ 1..) = reader.fill_buf().map(<[u8]>::len) {
        reader.consume(read);
    }
}

//! What an operator may choose about routes and upstreams. Plain data: the pipeline reads it, nothing here acts.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::guard::Rules;
use crate::idempotency::{FingerprintRule, KeyRules};

/// Everything the edge needs to know.
#[derive(Clone, Debug)]
pub struct Params {
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// The upstreams that routes name by index.
    pub upstreams: Vec<Upstream>,
    /// The base of every problem's `type` URI, without trailing slash.
    pub problem_base: String,
    /// Where problems are documented for humans: the target of `Link: rel="describedby"`.
    pub documentation_url: Option<String>,
    /// How many guarded requests may be at work at once, duplicates and waiters included. One whose body is held begins
    /// when that is there.
    pub max_guarded_in_flight: usize,
    /// How many bytes of guarded request bodies, and of answers that clients have not taken yet, may be held at once.
    pub max_buffered_bytes: u64,
    /// The proxies before this one: what they say of the client is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether every request has an `X-Request-Id`.
    pub request_id: bool,
    /// The least rate of request bodies that are not guarded; the guarded ones' stands in their rules.
    pub min_body_rate: Option<MinRate>,
}

/// Where requests on one pattern go, and by which rules.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name in logs.
    pub name: String,
    /// The pattern as written: literal segments, `{name}`, and at most one trailing `{*rest}`.
    pub path: String,
    /// The hosts it serves, in lower case; empty for all.
    pub hosts: Vec<String>,
    /// Index into [`Params::upstreams`].
    pub upstream: usize,
    /// The rules of a guarded route; `None` streams everything through.
    pub guard: Option<GuardPolicy>,
    /// The `Upgrade` tokens that pass on requests that are not guarded, in lower case.
    pub upgrades: Vec<String>,
    /// The path before the pattern's rest that the upstream does not see: it begins with a slash and ends without one.
    pub strip_prefix: Option<String>,
    /// What changes in a request's fields on its way to the upstream.
    pub request_headers: HeaderChanges,
    /// What changes in an answer's fields on its way to the client, first answers and replays alike.
    pub response_headers: HeaderChanges,
    /// What browsers are told about other origins.
    pub cors: Option<Cors>,
}

/// Changes of a message's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Fields that are there with this value alone.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields that are not there.
    pub remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// What browsers are told about other origins (Fetch, "CORS protocol").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may read answers, as `Origin` writes it; `None` for all.
    pub origins: Option<Vec<HeaderValue>>,
    /// Whether cookies count.
    pub credentials: bool,
    /// How long a browser need not ask again.
    pub max_age: Duration,
}

/// The rules of a guarded route.
#[derive(Clone, Debug)]
pub struct GuardPolicy {
    /// Whether nothing is refused or replayed: it is forwarded, and what would have become of it is counted.
    pub observes: bool,
    /// The names under which a key may come.
    pub header: Vec<HeaderName>,
    /// The methods that are guarded.
    pub methods: Vec<Method>,
    /// Whether a request without key is refused, or else streams through unguarded.
    pub key_required: bool,
    /// How a key is read.
    pub key_rules: KeyRules,
    /// What tells callers apart.
    pub caller: Vec<CallerSource>,
    /// What another caller's use of a live key gets.
    pub on_other_caller: OnOtherCaller,
    /// How payloads are compared.
    pub fingerprint: FingerprintRule,
    /// Fields that count as payload, beside `Content-Type`.
    pub fingerprint_headers: Vec<HeaderName>,
    /// What admission is decided by.
    pub rules: Rules,
    /// What a request gets when the store cannot be asked.
    pub on_store_error: OnStoreError,
    /// Whether request bodies go to the upstream as they come, or are held until they are whole.
    pub streams: bool,
    /// The largest request body, in bytes.
    pub max_request_body_bytes: u64,
    /// How slowly a request body may come.
    pub patience: Patience,
    /// The largest response body that is kept, in bytes.
    pub max_response_body_bytes: usize,
    /// What `Retry-After` says to a duplicate of a request in flight.
    pub retry_after: Duration,
    /// Take paths that are not in canonical form.
    pub allow_ambiguous_path: bool,
    /// Replay `Set-Cookie`.
    pub replay_set_cookie: bool,
    /// Fields that are not replayed.
    pub strip_headers: Vec<HeaderName>,
    /// The field that carries the end of the entry's life, as an HTTP date.
    pub expires_header: Option<HeaderName>,
}

/// What is asked of a client that sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The least rate; `None` for any.
    pub min_rate: Option<MinRate>,
    /// How long nothing may come at a stretch.
    pub max_silence: Duration,
    /// How long the whole body may take, from when it is first waited for.
    pub max_total: Duration,
}

/// The least rate of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes per second.
    pub bytes_per_second: NonZeroU64,
    /// Over how long the rate is taken: so long a client may pause that kept it before.
    pub window: Duration,
}

/// A mark that tells callers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerSource {
    /// All values of a field.
    Header(HeaderName),
    /// All values of a cookie.
    Cookie(String),
    /// The certificate that the client has shown.
    ClientCert,
}

/// What another caller's use of a live key gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOtherCaller {
    /// Its own entry: every caller has its own keys.
    #[default]
    Isolate,
    /// A refusal: callers share their keys.
    Refuse,
}

/// What a request gets when the store cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreError {
    /// A refusal: nothing is sent.
    #[default]
    Reject,
    /// It runs without a claim: duplicates are possible.
    Pass,
}

/// A group of endpoints that serve the same API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name in logs.
    pub name: String,
    /// Where it listens: at least one.
    pub endpoints: Vec<Endpoint>,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// How TLS is spoken to those of its endpoints that want it.
    pub tls: UpstreamTls,
    /// How long a free place, a name, a connection and a TLS handshake may take, all together, for one endpoint.
    pub connect_timeout: Duration,
    /// The client's patience: how long the response head may take.
    pub response_timeout: Duration,
    /// Ours: how long a guarded attempt may take in all.
    pub attempt_timeout: Duration,
    /// How long nothing may come of a response that streams.
    pub stream_idle_timeout: Duration,
    /// How long nothing may move in a tunnel.
    pub tunnel_idle_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// A guarded request takes no connection that was idle for longer.
    pub max_reuse_idle: Duration,
    /// How many connections one endpoint may have, busy and idle ones together.
    pub max_connections: usize,
    /// How many idle connections are kept for each endpoint.
    pub max_idle_connections: usize,
    /// A connection that is older takes no further request, so that a name that changed is followed.
    pub max_connection_age: Duration,
    /// How many fields a response may have.
    pub max_response_headers: usize,
    /// How many bytes a response head may have.
    pub max_response_header_bytes: usize,
    /// How HTTP/2 is spoken to it.
    pub http2: Http2,
    /// When an endpoint that cannot be connected to is passed over, and for how long.
    pub ejection: Ejection,
    /// Whether the endpoints are asked how they are.
    pub health_check: Option<HealthCheck>,
    /// What `Host` the upstream sees.
    pub host: UpstreamHost,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge in cleartext (RFC 9113 §3).
    Http2,
    /// What ALPN says over TLS, HTTP/1.1 in cleartext.
    Auto,
}

/// How TLS is spoken to an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM file of the authorities that are believed; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must have, and that is asked for by SNI; the endpoint's host if there is none.
    pub server_name: Option<String>,
    /// PEM files of a certificate with its chain and of its key, by which this proxy shows who it is.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How HTTP/2 is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// How many requests one connection carries at once, if the upstream allows as many.
    pub max_streams: usize,
    /// How long nothing may come on a busy connection before it is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long that sign may take before the connection counts as lost.
    pub ping_timeout: Duration,
}

/// When an endpoint that cannot be connected to is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After how many failures in a row.
    pub after_failures: u32,
    /// For how long at first; each further time for twice as long.
    pub time: Duration,
    /// For how long at most.
    pub max_time: Duration,
}

/// How endpoints are asked how they are: a GET that is answered by a 2xx or 3xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for: path and query. The endpoint's base path goes before it.
    pub path: String,
    /// The `Host` of the question; the endpoint's authority if there is none.
    pub host: Option<String>,
    /// How long after one answer the next question is asked.
    pub interval: Duration,
    /// How long connecting and the answer's head may take, all together.
    pub timeout: Duration,
    /// After how many good answers in a row an unhealthy endpoint is healthy.
    pub healthy_after: u32,
    /// After how many failures in a row a healthy endpoint is unhealthy.
    pub unhealthy_after: u32,
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// `host:port` as a `Host` field has it, the default port left out.
    pub authority: String,
    /// What goes before the path of every request: empty, or a path that begins with a slash and ends without one.
    pub base_path: String,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address.
    Ip(SocketAddr),
    /// A name, looked up for every new connection, and a port.
    Name(String, u16),
    /// The path of a socket.
    Unix(PathBuf),
}

/// What `Host` an upstream sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The one that the client sent.
    #[default]
    Client,
    /// The endpoint's authority.
    Endpoint,
}

//! What an operator may choose about routes and upstreams. Plain data: the pipeline reads it, nothing here acts.

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
    /// How many guarded requests may be at work at once, duplicates and waiters included.
    pub max_guarded_in_flight: usize,
    /// How many bytes of guarded request bodies may be held at once.
    pub max_buffered_bytes: u64,
    /// The proxies before this one: what they say of the client is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether every request has an `X-Request-Id`.
    pub request_id: bool,
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
    /// The largest request body, in bytes.
    pub max_request_body_bytes: usize,
    /// How long a request body may take to arrive.
    pub request_body_timeout: Duration,
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

/// A mark that tells callers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerSource {
    /// All values of a field.
    Header(HeaderName),
    /// All values of a cookie.
    Cookie(String),
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
    /// How long resolving a name and connecting to one endpoint may take.
    pub connect_timeout: Duration,
    /// The client's patience: how long the response head may take.
    pub response_timeout: Duration,
    /// Ours: how long a guarded attempt may take in all.
    pub attempt_timeout: Duration,
    /// How long nothing may come of a response that streams.
    pub stream_idle_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// A guarded request takes no connection that was idle for longer.
    pub max_reuse_idle: Duration,
    /// How many idle connections are kept for each endpoint.
    pub max_idle_connections: usize,
    /// How many fields a response may have.
    pub max_response_headers: usize,
    /// How many bytes a response head may have.
    pub max_response_header_bytes: usize,
    /// What `Host` the upstream sees.
    pub host: UpstreamHost,
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `host:port` as a `Host` field has it, the default port left out.
    pub authority: String,
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

//! What the admin listener can be asked for, and what each of it takes.

use http::Method;

use super::problem::AdminProblem;
use crate::idempotency::RequestId;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Config,
    Key,
    Keys,
    Livez,
    LogLevel,
    Metrics,
    Lookup,
    Page,
    Readyz,
    Reload,
    Release,
    SetLogLevel,
    Settle,
    Status,
}

/// What it takes to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: probes show no token, and name whom they like.
    Nothing,
    /// No token, since scrapers show none; a name of the loopback's own where a page on the web could ask by its own.
    Metrics,
    /// As the metrics, and a listener where its data can be had: it holds none itself.
    Page,
    /// The right to look.
    Read,
    /// The right to change something.
    Change,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) endpoint: Endpoint,
    pub(super) needs: Needs,
    /// The key that the path names; of no meaning where it names none.
    pub(super) id: RequestId,
}

struct Row(Method, &'static str, Endpoint, Needs);

/// Methods, paths in which `{id}` stands for the 64 hex digits of a key's id, and what they lead to.
const TABLE: &[Row] = &[
    Row(Method::GET, "/livez", Endpoint::Livez, Needs::Nothing),
    Row(Method::GET, "/readyz", Endpoint::Readyz, Needs::Nothing),
    Row(Method::GET, "/metrics", Endpoint::Metrics, Needs::Metrics),
    Row(Method::GET, "/", Endpoint::Page, Needs::Page),
    Row(Method::GET, "/status", Endpoint::Status, Needs::Read),
    Row(Method::GET, "/config", Endpoint::Config, Needs::Read),
    Row(Method::POST, "/reload", Endpoint::Reload, Needs::Change),
    Row(Method::GET, "/log-level", Endpoint::LogLevel, Needs::Read),
    Row(Method::PUT, "/log-level", Endpoint::SetLogLevel, Needs::Change),
    Row(Method::GET, "/keys", Endpoint::Keys, Needs::Read),
    Row(Method::GET, "/keys/{id}", Endpoint::Key, Needs::Read),
    // By POST, so that no secret stands in a path: paths end up in histories and logs.
    Row(Method::POST, "/keys/lookup", Endpoint::Lookup, Needs::Read),
    Row(Method::POST, "/keys/{id}/release", Endpoint::Release, Needs::Change),
    Row(Method::POST, "/keys/{id}/settle", Endpoint::Settle, Needs::Change),
];

/// What `method` on `path` asks for. `HEAD` is as good as `GET`.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, AdminProblem> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for Row(own, pattern, endpoint, needs) in TABLE {
        let Some(id) = matches(pattern, path) else { continue };
        if own == method {
            return Ok(Found { endpoint: *endpoint, needs: *needs, id });
        }
        allowed.push(own.as_str());
        if *own == Method::GET {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() {
        return Err(AdminProblem::NotFound);
    }
    Err(AdminProblem::MethodNotAllowed { allow: allowed.join(", ") })
}

/// The id in `path` if it is of this pattern; any id if the pattern has none.
fn matches(pattern: &str, path: &str) -> Option<RequestId> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then_some(RequestId::from_bytes([0; 32]));
    };
    RequestId::from_hex(path.strip_prefix(before)?.strip_suffix(after)?)
}

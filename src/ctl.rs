//! A running Oncegate from a terminal, by its admin listener: keys, and its health.
//!
//! Decides nothing by itself: it asks, and prints what it is told.

mod client;
mod target;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use thiserror::Error;

use self::client::{Answer, Client, ClientError};
use self::target::Target;

/// How long a probe may take, and anything else.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(40);

/// How many keys are asked for at once.
const PAGE_ENTRIES: usize = 1_000;

/// Which Oncegate is asked, and how it is convinced.
#[derive(Args, Clone, Debug)]
pub struct Reach {
    /// Its admin listener; by default what [admin] of the configuration says, or http://127.0.0.1:9090.
    #[arg(long, global = true, value_name = "URL")]
    admin: Option<String>,
    /// A file with the token; or set ONCEGATE_ADMIN_TOKEN. By default what [admin] says, unless --admin is given.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Who vouches for its certificate, PEM; the system's authorities by default.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A client certificate with its chain, PEM, where the listener takes one.
    #[arg(long, global = true, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

/// Whether it is well.
#[derive(Args, Clone, Debug)]
pub struct Healthcheck {
    #[command(flatten)]
    reach: Reach,
    /// Ask whether it takes requests (/readyz), not whether it lives (/livez).
    #[arg(long)]
    ready: bool,
}

/// Keys: look them up, free them, settle them.
#[derive(Args, Clone, Debug)]
pub struct Keys {
    #[command(flatten)]
    reach: Reach,
    /// Print JSON as it comes.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// What is known of one key.
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// The keys that are in flight or unknown, oldest first.
    List {
        /// Only those: in_flight or unknown.
        #[arg(long)]
        state: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = PAGE_ENTRIES)]
        limit: usize,
    },
    /// Free a key: the next request with it runs.
    Release {
        #[command(flatten)]
        which: Which,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        /// Even if it is in flight, or completed.
        #[arg(long)]
        force: bool,
    },
    /// Settle an unknown key as carried out.
    Settle {
        #[command(flatten)]
        which: Which,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        /// The status that the upstream has answered with.
        #[arg(long)]
        status: u16,
    },
}

/// A key, by its id or by the request that carried it.
#[derive(Args, Clone, Debug)]
struct Which {
    /// Its id, 64 hex digits.
    #[arg(required_unless_present = "key", conflicts_with_all = ["key", "host", "path", "method", "caller"])]
    id: Option<String>,
    /// The key, as the client sends it.
    #[arg(long, requires_all = ["host", "path"])]
    key: Option<String>,
    /// The request's Host.
    #[arg(long)]
    host: Option<String>,
    /// The request's path.
    #[arg(long)]
    path: Option<String>,
    /// The request's method.
    #[arg(long)]
    method: Option<String>,
    /// What tells its caller, as in "header:authorization=Bearer …"; as often as needed.
    #[arg(long, value_name = "MARK=VALUE")]
    caller: Vec<String>,
}

/// Why a command has failed.
#[derive(Debug, Error)]
pub enum CtlError {
    /// It cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It said no.
    #[error("{status}: {detail}")]
    Refused {
        /// The status code.
        status: u16,
        /// What it said.
        detail: String,
    },
    /// What it said is not what was asked for.
    #[error("this is no answer of Oncegate's admin listener; look at --admin")]
    NoSense,
    /// A caller's mark without a value.
    #[error("--caller {0:?} has no value; write it as in \"header:authorization=Bearer …\"")]
    Caller(String),
    /// Standard output is closed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Asks a probe's question. `config` is the file whose `[admin]` says where.
///
/// # Errors
///
/// [`CtlError`] unless all is well.
pub async fn healthcheck(command: &Healthcheck, config: &Path) -> Result<(), CtlError> {
    let client = connect(&command.reach, config, PROBE_TIMEOUT)?;
    let path = if command.ready { "/readyz" } else { "/livez" };
    let answer = client.ask(Method::GET, path, None).await?;
    if answer.is_success() { Ok(()) } else { Err(refused(&answer)) }
}

/// Does what the command says and prints what came of it. `config` is the file whose `[admin]` says where.
///
/// # Errors
///
/// [`CtlError`].
pub async fn keys(command: &Keys, config: &Path, out: &mut impl Write) -> Result<(), CtlError> {
    let client = connect(&command.reach, config, TIMEOUT)?;
    match &command.what {
        What::Show { which } => {
            let shown = find(&client, which).await?;
            let text = if command.json { format!("{shown}\n") } else { one(&shown) };
            out.write_all(text.as_bytes())?;
        }
        What::List { state, limit } => {
            let keys = list(&client, state.as_deref(), *limit).await?;
            let text = if command.json { lines(&keys) } else { table(&keys) };
            out.write_all(text.as_bytes())?;
        }
        What::Release { which, reason, force } => {
            let body = json!({ "reason": reason, "force": force });
            change(&client, which, "release", body, command.json, out).await?;
        }
        What::Settle { which, reason, status } => {
            let body = json!({ "reason": reason, "status": status });
            change(&client, which, "settle", body, command.json, out).await?;
        }
    }
    Ok(())
}

fn connect(reach: &Reach, config: &Path, timeout: Duration) -> Result<Client, CtlError> {
    let Reach { admin, token_file, ca, client_cert, client_key } = reach;
    let target = match admin {
        Some(url) => Target::of_url(url)?,
        None => Target::of_config(config),
    };
    let identity = client_cert.clone().zip(client_key.clone());
    let target = target.with_token(token_file.as_deref())?.with_ca(ca.as_deref())?.with_identity(identity);
    Ok(Client::new(target, timeout))
}

async fn change(
    client: &Client,
    which: &Which,
    action: &str,
    mut body: Value,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), CtlError> {
    let (id, route) = match &which.id {
        Some(id) => (id.clone(), Value::Null),
        None => {
            let found = find(client, which).await?;
            (text(&found, "id"), found.get("route").cloned().unwrap_or_default())
        }
    };
    if let (Some(body), Value::String(_)) = (body.as_object_mut(), &route) {
        body.insert("route".to_owned(), route);
    }
    let changed = ask(client, Method::POST, &format!("/keys/{id}/{action}"), Some(&body)).await?;
    let text = if as_json {
        format!("{changed}\n")
    } else {
        format!("{id}: was {}, is {}\n", text(&changed, "before"), text(&changed, "after"))
    };
    Ok(out.write_all(text.as_bytes())?)
}

/// The key as it stands; absent ones have that state only if they were looked up.
async fn find(client: &Client, which: &Which) -> Result<Value, CtlError> {
    let Which { id, key, host, path, method, caller } = which;
    if let Some(id) = id {
        return ask(client, Method::GET, &format!("/keys/{id}"), None).await;
    }
    let mut request = Map::new();
    for (name, value) in [("key", key), ("host", host), ("path", path), ("method", method)] {
        if let Some(value) = value {
            request.insert(name.to_owned(), value.as_str().into());
        }
    }
    let mut marks: Map<String, Value> = Map::new();
    for mark in caller {
        let (source, value) = mark.split_once('=').ok_or_else(|| CtlError::Caller(mark.clone()))?;
        if let Value::Array(values) = marks.entry(source).or_insert_with(|| json!([])) {
            values.push(value.into());
        }
    }
    request.insert("caller".to_owned(), marks.into());
    ask(client, Method::POST, "/keys/lookup", Some(&request.into())).await
}

async fn list(client: &Client, state: Option<&str>, limit: usize) -> Result<Vec<Value>, CtlError> {
    let (mut keys, mut after) = (Vec::new(), None::<String>);
    while keys.len() < limit {
        let mut path = format!("/keys?limit={}", (limit - keys.len()).min(PAGE_ENTRIES));
        for (name, value) in [("state", state), ("after", after.as_deref())] {
            if let Some(value) = value {
                // A String takes everything.
                write!(path, "&{name}={value}").unwrap_or(());
            }
        }
        let mut page = ask(client, Method::GET, &path, None).await?;
        let Some(Value::Array(found)) = page.get_mut("keys").map(Value::take) else {
            return Err(CtlError::NoSense);
        };
        keys.extend(found);
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    Ok(keys)
}

async fn ask(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CtlError> {
    let answer = client.ask(method, path, body.map(Value::to_string)).await?;
    if !answer.is_success() {
        return Err(refused(&answer));
    }
    serde_json::from_slice(answer.body()).map_err(|_| CtlError::NoSense)
}

fn refused(answer: &Answer) -> CtlError {
    let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str).map(str::to_owned);
    let text = || String::from_utf8_lossy(answer.body()).trim().replace('\n', ", ");
    CtlError::Refused { status: answer.status(), detail: detail.unwrap_or_else(text) }
}

/// A line for each thing that is known.
fn one(key: &Value) -> String {
    let members = key.as_object().into_iter().flatten();
    let width = "answer_retained".len();
    members.map(|(name, _)| format!("{name:width$}  {}\n", text(key, name))).collect()
}

/// A line for each key.
fn table(keys: &[Value]) -> String {
    let line = |key: &Value| {
        let age = key.get("age_seconds").and_then(Value::as_f64).unwrap_or_default();
        // The server may say any number: one that is no duration costs no table.
        let age = Duration::try_from_secs_f64(age.floor()).unwrap_or_default();
        let age = humantime::format_duration(age).to_string();
        format!("{}  {:9}  {age:>12}  {}\n", text(key, "id"), text(key, "state"), text(key, "cause"))
    };
    keys.iter().map(line).map(|line| format!("{}\n", line.trim_end())).collect()
}

fn lines(keys: &[Value]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

fn text(value: &Value, member: &str) -> String {
    match value.get(member) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_age_that_is_no_duration_is_shown_as_none() {
        for age in [json!(1e300), json!(-1.5), json!("old"), json!(null)] {
            let line = table(&[json!({ "id": "ab", "state": "completed", "age_seconds": age })]);
            assert_eq!(line, "ab  completed            0s\n", "{age}");
        }
        assert_eq!(table(&[json!({ "id": "ab", "age_seconds": 61.9 })]), "ab                    1m 1s\n");
    }
}

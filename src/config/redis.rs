//! `[store.redis]`, and the `url` of `[store]`: the servers that replicas share.
//!
//! Files of passwords and certificates are read here, so that what is wrong with them is found before anything is served.

use std::fs;
use std::path::Path;
use std::time::Duration;

use http::Uri;

use super::defaults;
use super::reader::{Item, Section, Setting};
use super::records::records;
use super::report::Report;
use super::values::{DAY, MILLISECOND, SECOND, count, duration, flag, one_or_some_of, size, text, text_as};
use super::wording;
use crate::store::codec::CodecParams;
use crate::store::redis::params::{Login, Node, Password, RedisParams, TlsParams, Topology};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
const MAX_DATABASE: u32 = 65_535;
const LONGEST_PREFIX: usize = 64;

/// A server as `url` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    host: String,
    port: Option<u16>,
    database: Option<u32>,
    is_tls: bool,
}

/// What is said of the servers' faults.
struct Faults {
    max_waiting: usize,
    wait_replicas: u32,
    wait_timeout: Duration,
    wait_connections: usize,
    watch_interval: Duration,
}

/// Reads what is said of the servers and of what they keep; `timeout` and `lease` are those of `[store]`. `None` after a mistake.
pub(super) fn redis(
    store: &mut Section<'_>,
    timeout: Duration,
    lease: Duration,
    folder: &Path,
    report: &Report<'_>,
) -> Option<(RedisParams, CodecParams)> {
    let urls = store.require(
        "url",
        "name the server, as in url = \"redis://127.0.0.1:6379/0\"",
        one_or_some_of(text_as(url), "name at least one server"),
    );
    let mut section = store.section_or_empty("redis");
    let master = section.read("sentinel_master", Setting::from(None), |item| text(item).map(Some)).value;
    let is_cluster = section.read("cluster", false, flag);
    let sentinel_login =
        login(&mut section, folder, "sentinel_username", "sentinel_password_file", "sentinel_password_env");
    let login = login(&mut section, folder, "username", "password_file", "password_env");
    let tls = tls(&mut section, folder);
    let key_prefix =
        section.read("key_prefix", Setting::from(defaults::KEY_PREFIX.to_owned()), text_as(prefix)).value;
    let connections = section.read("connections", defaults::STORE_CONNECTIONS, count(1..=64)).value;
    let connect_timeout =
        section.read("connect_timeout", defaults::STORE_CONNECT_TIMEOUT, duration(MILLISECOND..=DAY)).value;
    let cache_max_bytes =
        section.read("cache_max_bytes", defaults::STORE_CACHE_BYTES, size(0..=u64::MAX)).value;
    let cache_ttl = section.read("cache_ttl", defaults::STORE_CACHE_TTL, duration(MILLISECOND..=DAY)).value;
    let records = records(&mut section, folder);
    let faults = faults(&mut section, timeout, lease, report);
    section.finish();

    let urls = urls?;
    let (at, urls) = (urls.at().unwrap_or_default(), urls.value);
    let first = urls.first()?.clone();
    if urls.iter().any(|url| url.is_tls != first.is_tls || url.database != first.database) {
        report.mistake(at, "`url`: the servers differ in scheme or database; write all alike");
        return None;
    }
    if tls.is_some() && !first.is_tls {
        report.mistake(
            at,
            "`url`: redis:// is not encrypted, and `tls` has no effect; write \"rediss://…\", or remove it",
        );
        return None;
    }
    let default_port = if master.is_some() { SENTINEL_PORT } else { PORT };
    let mut nodes: Vec<Node> =
        urls.into_iter().map(|url| Node { host: url.host, port: url.port.unwrap_or(default_port) }).collect();
    let topology = match (master, is_cluster.value) {
        (Some(_), true) => {
            let at = is_cluster.at().unwrap_or_default();
            report
                .mistake(at, "`cluster`: a cluster has no sentinels; remove `cluster` or `sentinel_master`");
            return None;
        }
        (Some(master), false) => Topology::Sentinel { sentinels: nodes, master, login: sentinel_login },
        (None, true) if first.database.unwrap_or(0) > 0 => {
            report.mistake(at, "`url`: a cluster has no databases but 0; remove the path");
            return None;
        }
        (None, true) => Topology::Cluster(nodes),
        (None, false) if nodes.len() > 1 => {
            report.mistake(
                at,
                "`url`: these are several servers; write one, or say in [store.redis] what they are: cluster = true, or \
                 sentinel_master = \"…\"",
            );
            return None;
        }
        (None, false) => Topology::Standalone(nodes.pop()?),
    };
    let servers = RedisParams {
        topology,
        tls: first.is_tls.then(|| tls.unwrap_or_default()),
        login,
        database: first.database.unwrap_or(0),
        key_prefix,
        connections,
        timeout,
        connect_timeout,
        max_waiting: faults.max_waiting,
        wait_replicas: faults.wait_replicas,
        wait_timeout: faults.wait_timeout,
        wait_connections: faults.wait_connections,
        watch_interval: faults.watch_interval,
        cache_max_bytes,
        cache_ttl,
    };
    Some((servers, records))
}

fn faults(section: &mut Section<'_>, timeout: Duration, lease: Duration, report: &Report<'_>) -> Faults {
    let wait_replicas = section.read("wait_replicas", defaults::WAIT_REPLICAS, count(0..=16)).value;
    let of_replicas = section.mark();
    let wait_timeout =
        section.read("wait_timeout", defaults::STORE_WAIT_TIMEOUT, duration(MILLISECOND..=DAY));
    let wait_connections =
        section.read("wait_connections", defaults::WAIT_CONNECTIONS, count(1..=1_024)).value;
    if wait_replicas == 0 {
        for (key, at) in section.written_since(of_replicas) {
            let reason = "this has no effect while no replica is waited for (wait_replicas = 0); remove it";
            report.warning(at, format!("`{key}`: {reason}"));
        }
    } else if timeout + wait_timeout.value > lease / 3 && !wait_timeout.is_mistaken() {
        let at = wait_timeout.at().unwrap_or_else(|| section.place());
        let (waited, timeout, lease) =
            (wording::duration(wait_timeout.value), wording::duration(timeout), wording::duration(lease));
        report.mistake(
            at,
            format!(
                "`wait_timeout`: {waited} and the `timeout` ({timeout}) are more than a third of the lease ({lease}), after \
                 which a claim must be renewed; lower it or raise `lease`"
            ),
        );
    }
    Faults {
        max_waiting: section.read("max_waiting", defaults::STORE_MAX_WAITING, count(1..=1_000_000)).value,
        wait_replicas,
        wait_timeout: wait_timeout.value,
        wait_connections,
        watch_interval: section
            .read("watch_interval", defaults::WATCH_INTERVAL, duration(SECOND..=Duration::from_hours(1)))
            .value,
    }
}

/// `redis://host:port/database`, or `rediss://` for TLS.
fn url(text: &str) -> Result<Url, String> {
    const MEND: &str = "write \"redis://host:port\", or \"rediss://host:port\" for TLS";
    if text.contains('@') {
        // The text may hold a secret, and is not repeated.
        return Err(
            "a name or password has no place here; set `username` and `password_file` in [store.redis]"
                .to_owned(),
        );
    }
    let uri: Uri = text.parse().map_err(|_| format!("\"{text}\" is no address of a server; {MEND}"))?;
    let is_tls = match uri.scheme_str() {
        Some("redis") => false,
        Some("rediss") => true,
        _ => return Err(format!("\"{text}\" is no address of a Redis server; {MEND}")),
    };
    let database = match uri.path().trim_start_matches('/') {
        "" => None,
        number => match number.parse() {
            Ok(number) if number <= MAX_DATABASE => Some(number),
            _ => {
                return Err(format!(
                    "\"{number}\" is no number of a database; write one, as in \"redis://host:6379/0\""
                ));
            }
        },
    };
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| format!("\"{text}\" names no host; {MEND}"))?;
    if uri.query().is_some() || uri.port().is_some() && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(format!("\"{text}\" is no address of a server; {MEND}"));
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Url { host, port: uri.port_u16(), database, is_tls })
}

fn login(
    section: &mut Section<'_>,
    folder: &Path,
    username: &'static str,
    password_file: &'static str,
    password_env: &'static str,
) -> Login {
    let username = section.read(username, Setting::from(None), |item| text(item).map(Some)).value;
    let file = section.read(password_file, Setting::from(None), |item| from_file(item, folder).map(Some));
    let env = section.read(password_env, Setting::from(None), |item| from_environment(item).map(Some));
    if file.at().is_some() && env.at().is_some() {
        section.refuse::<()>(password_env, "there is a file for it already; write the one or the other");
    }
    Login { username, password: file.value.or(env.value) }
}

fn from_file(item: &Item<'_>, folder: &Path) -> Option<Password> {
    let path = folder.join(text(item)?);
    match fs::read_to_string(&path) {
        Ok(password) => password_of(item, password.trim_end_matches(['\r', '\n'])),
        Err(error) => {
            item.refuse(format!("{} cannot be read ({error}); name a readable file", path.display()))
        }
    }
}

fn from_environment(item: &Item<'_>) -> Option<Password> {
    let name = text(item)?;
    match std::env::var(&name) {
        Ok(password) => password_of(item, &password),
        Err(_) => item.refuse(format!("the environment has no {name}; set it, or use the file")),
    }
}

fn password_of(item: &Item<'_>, password: &str) -> Option<Password> {
    if password.is_empty() {
        return item.refuse("the password is empty; write it there, or remove the setting");
    }
    Some(Password::new(password.to_owned()))
}

fn tls(section: &mut Section<'_>, folder: &Path) -> Option<TlsParams> {
    let mut own = section.section("tls")?;
    let mut pem = |key| {
        let read = |item: &Item<'_>| {
            let path = folder.join(text(item)?);
            let pem = fs::read(&path);
            pem.map_or_else(
                |error| {
                    item.refuse(format!(
                        "{} cannot be read ({error}); name a readable PEM file",
                        path.display()
                    ))
                },
                |pem| Some(Some(pem)),
            )
        };
        own.read(key, Setting::from(None), read).value
    };
    let (ca, cert, key) = (pem("ca"), pem("cert"), pem("key"));
    if cert.is_some() != key.is_some() {
        own.mistake("`tls`: a certificate needs its key and the other way round; write both cert and key");
    }
    own.finish();
    Some(TlsParams { ca, client: cert.zip(key) })
}

/// What keys begin with. Braces would choose the slot of a cluster.
fn prefix(text: &str) -> Result<String, String> {
    if text.len() > LONGEST_PREFIX
        || !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}*?[]\\\"'".contains(&byte))
    {
        return Err(format!(
            "\"{text}\" is no prefix; use up to {LONGEST_PREFIX} letters, digits and marks, as in \"oncegate:\", but no braces, \
             brackets, quotes or wildcards"
        ));
    }
    Ok(text.to_owned())
}

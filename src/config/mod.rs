//! From `proxy.toml` to validated settings.
//!
//! Owns the file's words: names, defaults, limits, and what is said about a mistake. It hands each layer its own plain
//! parameters; no layer knows this one. Reading has no side effects, and a file with a mistake yields no settings.
//!
//! The document is walked by hand rather than through serde, which stops at the first mistake: an operator sees all of
//! them at once, each with its place and its mend.

mod admin;
mod callers;
mod changes;
mod contents;
mod defaults;
mod describe;
mod difference;
mod fixed;
mod http2;
mod idempotency;
mod listeners;
mod names;
mod past;
mod pattern;
mod promise;
mod reader;
mod records;
mod redis;
mod report;
mod routes;
mod store;
mod syntax;
mod tls;
mod traces;
mod upstreams;
mod values;
mod wording;
mod words;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

pub use contents::Contents;
pub use describe::describe;
pub use past::{Past, left_unguarded};
pub use report::Diagnostic;

use self::idempotency::Idempotency;
use self::reader::Section;
use self::report::Report;
use crate::store::codec::CodecParams;
use crate::store::memory::MemoryParams;
use crate::store::redis::params::RedisParams;
use crate::{guard, proxy, server};

/// What a file asks for, as the parameters of each layer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Listeners and connections.
    pub server: server::Params,
    /// Routes and upstreams.
    pub proxy: proxy::policy::Params,
    /// Admission.
    pub guard: guard::Params,
    /// Where entries live.
    pub store: StoreSettings,
    /// What is logged.
    pub log: LogSettings,
    /// Where spans are sent; `None` if none are made.
    pub traces: Option<TraceSettings>,
    /// How often the file is looked at for new contents; `None` for never.
    pub reload_interval: Option<Duration>,
}

/// Where entries live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// In this process.
    Memory(MemoryParams),
    /// In servers that replicas share.
    Redis(Box<RedisParams>, CodecParams),
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// One line for each request.
    pub access: bool,
    /// Which lines are written: a tracing filter. `ONCEGATE_LOG` goes before it.
    pub level: String,
}

/// Spans: where they are sent, and of which requests.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// The collector, which takes OTLP over HTTP below `/v1/traces`. Never over TLS, and never a Unix socket.
    pub endpoint: proxy::policy::Endpoint,
    /// Which share of the traces that begin here is sampled, from 0 to 1.
    pub sample_ratio: f64,
    /// `service.name` of all spans.
    pub service_name: String,
    /// How long one batch may take to be sent.
    pub timeout: Duration,
}

/// A file without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it asks for.
    pub settings: Settings,
    /// Choices that weaken the promise or have no effect, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Why a file yields no settings. Printed with every mistake on a line of its own.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the file ({source}); {}", .path.display(), mend_of_reading(.source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has mistakes.
    #[error("{}", lines(.file_name, .mistakes))]
    Invalid {
        /// The file, as messages name it.
        file_name: String,
        /// All its mistakes in the order of the file; at least one.
        mistakes: Vec<Diagnostic>,
    },
}

/// Reads the file at `path`.
///
/// # Errors
///
/// [`ConfigError`] if it cannot be read, is larger than 1 MiB, or has mistakes: then all of them.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    Contents::read(path)?.parse(path)
}

/// Reads `text` as a file that messages call `file_name`. The files that it names are beside that one.
///
/// # Errors
///
/// [`ConfigError::Invalid`] with every mistake.
pub fn parse(text: &str, file_name: &str) -> Result<Loaded, ConfigError> {
    let report = Report::new(text);
    let document = syntax::document(text, &report);
    let settings = document.as_ref().map(|document| {
        let folder = Path::new(file_name).parent().unwrap_or_else(|| Path::new(""));
        settings(Section::root(document, &report), folder, &report)
    });
    let (mistakes, warnings) = report.finish();
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(Loaded { settings, warnings }),
        _ => Err(ConfigError::Invalid { file_name: file_name.to_owned(), mistakes }),
    }
}

fn settings(mut root: Section<'_>, folder: &Path, report: &Report<'_>) -> Settings {
    let server = listeners::server_and_admin(&mut root, folder, report);
    let log = listeners::log(&mut root);
    let traces = traces::traces(&mut root);
    let upstreams = upstreams::upstreams(&mut root, folder, report);

    let mut section = root.section_or_empty("idempotency");
    let base = Idempotency::read(&mut section, Idempotency::defaults());
    let shared: Vec<(&str, usize)> = section.written_since(0).collect();
    let max_waiters = idempotency::max_waiters(&mut section);
    section.finish();

    let routes = routes::routes(&mut root, &base, &upstreams, report);
    let store = store::store(&mut root, max_waiters.value, folder, report);

    let guarded = || routes.iter().filter_map(|route| route.idempotency.as_ref());
    for settings in guarded() {
        promise::weakened(settings, report);
        promise::judge_client_certificates(settings, &server.listeners, report);
        promise::oversized_answers(settings, &store.room, report);
        promise::refuse_bodies(settings, &server.max_buffered_bytes, report);
    }
    promise::without_effect(guarded(), report);
    promise::unneeded_waiters(&max_waiters, guarded(), report);
    routes::warn_of_overridden(&shared, &routes, report);
    routes::warn_of_other_hosts(&routes, report);
    let request_id = callers::request_id(&server.request_id, guarded(), report);
    if !routes.is_empty() && guarded().next().is_none() {
        report.warning(
            root.place(),
            "no route is guarded, so no request is safe to retry; guard the ones that change something",
        );
    }
    root.finish();

    let upstreams: Vec<proxy::policy::Upstream> = upstreams.into_iter().map(|named| named.upstream).collect();
    Settings {
        server: server::Params { ready_needs_store: store.ready_needs_store, ..server.listeners },
        proxy: proxy::policy::Params {
            routes: routes
                .into_iter()
                .map(|route| route.into_policy(&upstreams, server.min_body_rate))
                .collect(),
            upstreams,
            problem_base: server.problem_base,
            documentation_url: server.documentation_url,
            max_guarded_in_flight: server.max_guarded_in_flight,
            max_buffered_bytes: server.max_buffered_bytes.value,
            trusted_proxies: server.trusted_proxies,
            request_id,
            min_body_rate: server.min_body_rate,
        },
        guard: store.guard,
        store: store.settings,
        log,
        traces,
        reload_interval: server.reload_interval,
    }
}

fn mend_of_reading(source: &io::Error) -> &'static str {
    let kind = source.kind();
    if kind == io::ErrorKind::NotFound {
        "name an existing file with --config or ONCEGATE_CONFIG"
    } else if kind == io::ErrorKind::PermissionDenied {
        "let the user that runs Oncegate read it"
    } else if kind == io::ErrorKind::InvalidData {
        "save it as UTF-8"
    } else {
        "name a readable TOML file with --config or ONCEGATE_CONFIG"
    }
}

fn lines(file_name: &str, mistakes: &[Diagnostic]) -> String {
    let lines: Vec<String> = mistakes.iter().map(|mistake| format!("{file_name}:{mistake}")).collect();
    lines.join("\n")
}

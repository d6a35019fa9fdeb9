//! What the page shows: a snapshot of this process, as JSON.
//!
//! What is counted comes from the page of metrics, so that both always say the same. Rates are the reader's business: he has
//! two snapshots.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::keys::Shown;
use super::{Admin, reply};
use crate::idempotency::State;
use crate::proxy::body::ReplyBody;
use crate::store::{PageRequest, Trouble};

/// How old what is told of open keys may be: many readers do not keep the store busy.
const OPEN_KEYS_MAX_AGE: Duration = Duration::from_secs(5);

/// How many open keys are looked at, the oldest first.
const MAX_OPEN_KEYS: usize = 1_000;

/// How many unknown keys are shown, the newest of those.
const MAX_UNKNOWN_KEYS: usize = 20;

/// What does not change from one snapshot to the next, or not at once.
#[derive(Debug)]
pub(super) struct Snapshots {
    started: Instant,
    open_keys: Mutex<Option<(Instant, OpenKeys)>>,
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    uptime_seconds: u64,
    is_ready: bool,
    is_draining: bool,
    troubles: Vec<&'static str>,
    keys: OpenKeys,
    metrics: BTreeMap<String, Vec<Sample>>,
}

/// The keys that are in flight or unknown, all replicas' where they share a store.
#[derive(Clone, Debug, Default, Serialize)]
struct OpenKeys {
    /// Whether the store could be asked.
    is_known: bool,
    in_flight: usize,
    unknown: usize,
    /// Whether there are more than were looked at.
    has_more: bool,
    unknown_by_cause: BTreeMap<&'static str, usize>,
    newest_unknown: Vec<Shown>,
}

/// One line of the page of metrics.
#[derive(Debug, PartialEq, Serialize)]
struct Sample {
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Snapshots {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), open_keys: Mutex::default() }
    }
}

impl Admin {
    pub(super) async fn status(&self) -> Response<ReplyBody> {
        let readiness = &self.state.readiness;
        let (_, text) = self.state.metrics.write("");
        reply::json(&Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.snapshots.started.elapsed().as_secs(),
            is_ready: readiness.word().0,
            is_draining: readiness.is_draining(),
            troubles: self.state.store.troubles().into_iter().map(Trouble::as_str).collect(),
            keys: self.open_keys().await,
            metrics: samples(&text),
        })
    }

    async fn open_keys(&self) -> OpenKeys {
        let last = || self.snapshots.open_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last().as_ref().filter(|(at, _)| at.elapsed() < OPEN_KEYS_MAX_AGE).cloned();
        if let Some((_, keys)) = fresh {
            return keys;
        }
        let page = PageRequest { after: None, limit_entries: MAX_OPEN_KEYS };
        // That the store cannot be asked is among its troubles.
        let listed = self.read(self.state.guard.list(&page)).await.ok();
        let mut keys = OpenKeys { is_known: listed.is_some(), ..OpenKeys::default() };
        let listed = listed.unwrap_or_default();
        keys.has_more = listed.next.is_some();
        for listed in listed.entries.iter().rev() {
            match listed.entry.state {
                State::InFlight => keys.in_flight += 1,
                State::Unknown(cause) => {
                    keys.unknown += 1;
                    *keys.unknown_by_cause.entry(cause.as_str()).or_default() += 1;
                    if keys.newest_unknown.len() < MAX_UNKNOWN_KEYS {
                        keys.newest_unknown.push(Shown::listed(listed));
                    }
                }
                State::Completed { .. } => {}
            }
        }
        *last() = Some((Instant::now(), keys.clone()));
        keys
    }
}

/// The lines of a page in the classic text format, by name, but for the buckets of histograms.
fn samples(page: &str) -> BTreeMap<String, Vec<Sample>> {
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, sample)) = sample(line)
            && !name.ends_with("_bucket")
        {
            samples.entry(name.to_owned()).or_default().push(sample);
        }
    }
    samples
}

/// `name value` or `name{label="text",…} value`.
fn sample(line: &str) -> Option<(&str, Sample)> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = value.trim().parse().ok().filter(|value: &f64| value.is_finite())?;
    Some((name, Sample { labels, value }))
}

/// The labels before the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(value) = rest.strip_prefix('}') {
            return Some((labels, value));
        }
        let (name, text) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = text.char_indices();
        rest = loop {
            match letters.next()? {
                (end, '"') => break text.get(end + 1..)?,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    escaped => escaped,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_metrics_is_read_line_by_line() {
        let page = "# HELP a A.\n# TYPE a gauge\na 1\nb_total{route=\"x, \\\"y\\\"}\\\\\\n\",outcome=\"executed\"} 2.5\n\
                    b_total{route=\"\",outcome=\"passed\"} 3\nc_bucket{le=\"+Inf\"} 4\nd NaN\ne{\nf{a=\"b} 1\n";
        let read = samples(page);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["a", "b_total"]);
        let labels = |sample: &Sample| sample.labels.values().cloned().collect::<Vec<_>>();
        assert_eq!((read["a"][0].value, labels(&read["a"][0])), (1.0, vec![]));
        assert_eq!(labels(&read["b_total"][0]), ["executed", "x, \"y\"}\\\n"]);
        assert_eq!(
            (read["b_total"][1].value, labels(&read["b_total"][1])),
            (3.0, vec!["passed".into(), "".into()])
        );
    }
}

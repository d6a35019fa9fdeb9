//! What the edge counts.
//!
//! Owns the names and labels of its metrics. What a route counts is found once, when a proxy is made, by the route's name:
//! so it counts on when the settings change. What the edge knows anyway is read when the page is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Proxy;
use super::outcome::RequestOutcome;
use crate::guard::Admission;
use crate::idempotency::{MismatchCause, Verdict};
use crate::metrics::{HTTP, Histogram, Table, gauge, gauges};

/// What counts together: methods that are not known, and routes and upstreams beyond those that have a name of their own.
const OTHER: &str = "_OTHER";

/// How many routes, and how many upstreams, count under names of their own while the process runs: those that are gone are
/// kept, since a counter that vanishes loses what nobody has read yet.
const MAX_NAMES: usize = 1_000;

/// The status of what has none: no answer was sent, or none came.
const NO_STATUS: u16 = 0;

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// The edge's instruments. Cheap to clone: clones count as one.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    observed: Family<RequestLabels, Counter>,
    mismatches: Family<MismatchLabels, Counter>,
    server: Durations<ServerLabels>,
    client: Durations<ClientLabels>,
    routes: Names,
    upstreams: Names,
}

/// The names that were met.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<BTreeSet<Arc<str>>>>);

type Outcomes = [Counter; RequestOutcome::ALL.len()];

/// What one route counts.
#[derive(Debug)]
pub struct RouteMetrics {
    all: Metrics,
    route: Arc<str>,
    upstream: Arc<str>,
    outcomes: Outcomes,
    /// Where some route observes.
    observed: Option<Box<Outcomes>>,
    mismatches: [Counter; MismatchCause::ALL.len()],
    server: Table<Exchanged>,
    client: Table<Exchanged>,
}

/// What tells one exchange from another: the method as a label has it, and the status.
type Exchanged = (&'static str, u16);

/// Where exchanges are counted together that are of too many kinds.
const OTHER_EXCHANGED: Exchanged = (OTHER, NO_STATUS);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MismatchLabels {
    route: Arc<str>,
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ServerLabels(Exchanged, Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientLabels(Exchanged, Arc<str>);

impl Default for Metrics {
    fn default() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(&HTTP);
        Self {
            requests: Family::default(),
            observed: Family::default(),
            mismatches: Family::default(),
            server: Family::new_with_constructor(durations),
            client: Family::new_with_constructor(durations),
            routes: Names::default(),
            upstreams: Names::default(),
        }
    }
}

impl Names {
    /// The label for `name`.
    fn label(&self, name: &Arc<str>) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() || known.contains(name) {
            return name.clone();
        }
        if known.len() >= MAX_NAMES {
            return OTHER.into();
        }
        known.insert(name.clone());
        name.clone()
    }
}

impl Metrics {
    /// Puts all of them on the page.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "oncegate_requests",
            "Requests by how they ended; route is empty where none serves the request",
            self.requests.clone(),
        );
        registry.register(
            "oncegate_observed",
            "Requests that a route with mode = \"observe\" forwarded, by how they would have ended if it enforced",
            self.observed.clone(),
        );
        registry.register(
            "oncegate_fingerprint_mismatches",
            "Keys that came with another payload, or whose payload cannot be compared since the rule has changed",
            self.mismatches.clone(),
        );
        registry.register(
            "http_server_request_duration_seconds",
            "Duration of requests from their head to the end of the answer",
            self.server.clone(),
        );
        registry.register(
            "http_client_request_duration_seconds",
            "Duration of requests to upstreams to the head of the answer, or to the failure",
            self.client.clone(),
        );
    }

    /// What the route of this name counts that leads to the upstream of that name; empty names for what no route serves. With
    /// `observes`, also what would have become of requests.
    #[must_use]
    pub fn route(&self, route: &Arc<str>, upstream: &str, observes: bool) -> Arc<RouteMetrics> {
        let (route, upstream) = (self.routes.label(route), self.upstreams.label(&upstream.into()));
        let outcomes = |family: &Family<RequestLabels, Counter>| {
            RequestOutcome::ALL.map(|outcome| {
                let labels = RequestLabels { route: route.clone(), outcome: outcome.as_str() };
                family.get_or_create_owned(&labels)
            })
        };
        let observed = observes.then(|| Box::new(outcomes(&self.observed)));
        let outcomes = outcomes(&self.requests);
        let mismatches = MismatchCause::ALL.map(|cause| {
            let labels = MismatchLabels { route: route.clone(), part: cause.as_str() };
            self.mismatches.get_or_create_owned(&labels)
        });
        let (server, client) = (Table::default(), Table::default());
        let all = self.clone();
        Arc::new(RouteMetrics { all, route, upstream, outcomes, observed, mismatches, server, client })
    }
}

impl RouteMetrics {
    /// Counts a request that has ended so, and would have ended as the other outcome on a route that enforces; answered with
    /// this status if it was answered.
    pub fn ended(
        &self,
        method: &'static str,
        status: Option<StatusCode>,
        (outcome, observed): (RequestOutcome, Option<RequestOutcome>),
        took: Duration,
    ) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
        if let (Some(outcomes), Some(observed)) = (&self.observed, observed)
            && let Some(counter) = outcomes.get(observed as usize)
        {
            counter.inc();
        }
        let make =
            |exchanged| self.all.server.get_or_create_owned(&ServerLabels(exchanged, self.route.clone()));
        self.server.of((method, number(status)), OTHER_EXCHANGED, make).observe(took);
    }

    /// Counts a request whose head could not be read.
    pub fn unreadable(&self) {
        if let Some(counter) = self.outcomes.get(RequestOutcome::Refused as usize) {
            counter.inc();
        }
    }

    /// Counts a request to the upstream, which answered with this status if it did.
    pub fn sent(&self, method: &'static str, status: Option<StatusCode>, took: Duration) {
        let make =
            |exchanged| self.all.client.get_or_create_owned(&ClientLabels(exchanged, self.upstream.clone()));
        self.client.of((method, number(status)), OTHER_EXCHANGED, make).observe(took);
    }

    /// Counts what is to be counted of an admission.
    pub fn admitted<E>(&self, admission: &Result<Admission, E>) {
        if let Ok(Admission::Standing { verdict, .. }) = admission {
            self.judged(verdict);
        }
    }

    /// Counts what is to be counted of a verdict.
    pub fn judged(&self, verdict: &Verdict) {
        if let Verdict::Mismatch(cause) = verdict
            && let Some(counter) = self.mismatches.get(*cause as usize)
        {
            counter.inc();
        }
    }
}

/// A method as a label has it, so that no client can make new ones up.
#[must_use]
pub fn method_name(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 9] = [
        (Method::POST, "POST"),
        (Method::GET, "GET"),
        (Method::PATCH, "PATCH"),
        (Method::PUT, "PUT"),
        (Method::DELETE, "DELETE"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::CONNECT, "CONNECT"),
        (Method::TRACE, "TRACE"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or(OTHER, |(_, name)| name)
}

fn number(status: Option<StatusCode>) -> u16 {
    status.map_or(NO_STATUS, |status| status.as_u16())
}

impl EncodeLabelSet for ServerLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        encode_exchanged(encoder, self.0, ("http_route", &self.1))
    }
}

impl EncodeLabelSet for ClientLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        encode_exchanged(encoder, self.0, ("upstream", &self.1))
    }
}

fn encode_exchanged(
    encoder: &mut LabelSetEncoder<'_>,
    (method, status): Exchanged,
    own: (&str, &str),
) -> fmt::Result {
    let status = if status == NO_STATUS { String::new() } else { status.to_string() };
    let labels = [("http_request_method", method), ("http_response_status_code", &status), own];
    EncodeLabelSet::encode(&labels, encoder)
}

impl Proxy {
    /// Writes what is known of the edge at present.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn collect(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (quota, name, help, max_name, max_help) in [
            (
                &self.guarded_places,
                "oncegate_guarded_requests",
                "Guarded requests at work, duplicates and waiters included",
                "oncegate_max_guarded_requests",
                "How many guarded requests may be at work",
            ),
            (
                &self.buffered_bytes,
                "oncegate_buffered_bytes",
                "Bytes of guarded request bodies, and of answers that clients have not taken yet",
                "oncegate_max_buffered_bytes",
                "How many such bytes may be held before new work is refused",
            ),
        ] {
            gauge(encoder, name, help, quota.taken())?;
            gauge(encoder, max_name, max_help, quota.max())?;
        }
        // One that is named twice shows once.
        let mut endpoints = BTreeMap::new();
        for upstream in &self.upstreams {
            let name = upstream.params().name.as_str();
            endpoints.extend(upstream.endpoints_now().map(|now| ((name, now.address), now)));
        }
        let endpoints = || {
            let labels = |(upstream, endpoint)| [("upstream", upstream), ("endpoint", endpoint)];
            endpoints.iter().map(move |(names, now)| (labels(*names), now))
        };
        gauges(
            encoder,
            "oncegate_upstream_endpoint_healthy",
            "1 while an endpoint is neither passed over since it cannot be connected to nor failing its health check",
            endpoints().map(|(labels, now)| (labels, i64::from(now.is_usable))),
        )?;
        gauges(
            encoder,
            "oncegate_upstream_connections",
            "Connections to an endpoint, busy and idle ones together",
            endpoints().map(|(labels, now)| (labels, now.connections)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_add_up_for_ever() {
        let metrics = Metrics::default();
        let label = |name: String| metrics.route(&name.into(), "upstream", false).route.to_string();
        for number in 0..MAX_NAMES {
            let name = format!("r{number}");
            assert_eq!(label(name.clone()), name);
        }
        assert_eq!(label("one-more".to_owned()), OTHER);
        assert_eq!(label("another".to_owned()), OTHER);
        assert_eq!(label("r0".to_owned()), "r0", "one that is known stays");
        assert_eq!(label(String::new()), "", "what no route serves");
        let upstreams = (0..=MAX_NAMES)
            .map(|number| metrics.route(&"".into(), &format!("u{number}"), false).upstream.to_string());
        assert_eq!(upstreams.filter(|upstream| upstream == OTHER).count(), 2, "one was there before");
    }
}

//! What the edge counts.
//!
//! Owns the names and labels of its metrics. What a route counts is found once, when a proxy is made, by the route's name:
//! so it counts on when the settings change.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::outcome::RequestOutcome;

/// The edge's instruments. Cheap to clone: clones count as one.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    observed: Family<RequestLabels, Counter>,
}

type Outcomes = [Counter; RequestOutcome::ALL.len()];

/// What one route counts.
#[derive(Debug)]
pub struct RouteMetrics {
    outcomes: Outcomes,
    /// Where some route observes.
    observed: Option<Box<Outcomes>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    outcome: &'static str,
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
    }

    /// What the route of this name counts; an empty name for what no route serves. With `observes`, also what would have
    /// become of requests.
    #[must_use]
    pub fn route(&self, name: &Arc<str>, observes: bool) -> Arc<RouteMetrics> {
        let outcomes = |family: &Family<RequestLabels, Counter>| {
            RequestOutcome::ALL.map(|outcome| {
                let labels = RequestLabels { route: name.clone(), outcome: outcome.as_str() };
                family.get_or_create_owned(&labels)
            })
        };
        let observed = observes.then(|| Box::new(outcomes(&self.observed)));
        Arc::new(RouteMetrics { outcomes: outcomes(&self.requests), observed })
    }
}

impl RouteMetrics {
    /// Counts a request that has ended, and that would have ended as `observed` on a route that enforces.
    pub fn count(&self, outcome: RequestOutcome, observed: Option<RequestOutcome>) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
        if let (Some(outcomes), Some(observed)) = (&self.observed, observed)
            && let Some(counter) = outcomes.get(observed as usize)
        {
            counter.inc();
        }
    }
}

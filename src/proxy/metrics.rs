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
}

/// What one route counts.
#[derive(Debug)]
pub struct RouteMetrics {
    outcomes: [Counter; RequestOutcome::ALL.len()],
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
    }

    /// What the route of this name counts; an empty name for what no route serves.
    #[must_use]
    pub fn route(&self, name: &Arc<str>) -> Arc<RouteMetrics> {
        let outcomes = RequestOutcome::ALL.map(|outcome| {
            let labels = RequestLabels { route: name.clone(), outcome: outcome.as_str() };
            self.requests.get_or_create_owned(&labels)
        });
        Arc::new(RouteMetrics { outcomes })
    }
}

impl RouteMetrics {
    /// Counts a request that has ended.
    pub fn count(&self, outcome: RequestOutcome) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
    }
}

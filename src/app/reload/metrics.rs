//! What is counted of new settings.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::Contents;
use crate::server::Reloaded;

/// The instruments of reloads. Cheap to clone: clones count as one.
#[derive(Clone, Debug)]
pub(in crate::app) struct Metrics {
    reloads: Family<ResultLabels, Counter>,
    last_successful: Gauge,
    last_success: Gauge,
    info: Family<InfoLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InfoLabels {
    hash: String,
}

impl Default for Metrics {
    /// Those of a process whose first settings have just come into force.
    fn default() -> Self {
        let metrics = Self {
            reloads: Family::default(),
            last_successful: Gauge::default(),
            last_success: Gauge::default(),
            info: Family::default(),
        };
        metrics.of("success");
        metrics.of("failure");
        metrics.is_as_written();
        metrics.succeeds_now();
        metrics
    }
}

impl Metrics {
    /// Puts all of them on the page.
    pub(in crate::app) fn register(&self, registry: &mut Registry) {
        registry.register(
            "oncegate_config_reloads",
            "Readings of new settings by their result, the same refusal of the same file once",
            self.reloads.clone(),
        );
        registry.register(
            "oncegate_config_last_reload_successful",
            "Whether the settings in force are those that the file holds",
            self.last_successful.clone(),
        );
        registry.register(
            "oncegate_config_last_reload_success_timestamp_seconds",
            "When settings last came into force, as Unix time",
            self.last_success.clone(),
        );
        registry.register(
            "oncegate_config_info",
            "The file in force: the first 16 hexadecimal digits of its SHA-256",
            self.info.clone(),
        );
    }

    /// These contents are in force.
    pub(super) fn in_force(&self, contents: &Contents) {
        self.info.clear();
        self.info.get_or_create(&InfoLabels { hash: contents.hash() }).set(1);
    }

    /// Counts a reading.
    pub(super) fn count(&self, reloaded: &Reloaded) {
        match reloaded {
            Reloaded::Changed(_) | Reloaded::Unchanged => {
                self.of("success").inc();
                self.is_as_written();
                self.succeeds_now();
            }
            Reloaded::Invalid(_) | Reloaded::NeedsRestart(_) => {
                self.of("failure").inc();
                self.last_successful.set(0);
            }
            Reloaded::Impossible => {}
        }
    }

    /// What is in force is what the file holds.
    pub(super) fn is_as_written(&self) {
        self.last_successful.set(1);
    }

    fn succeeds_now(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    fn of(&self, result: &'static str) -> Counter {
        self.reloads.get_or_create_owned(&ResultLabels { result })
    }
}

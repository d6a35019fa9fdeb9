//! The page of metrics: what each layer counts, joined.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use super::reload;
use crate::guard::Guard;
use crate::metrics::{Page, counter, gauges};
use crate::proxy::{self, trace::Tracer};
use crate::server::admin::Readiness;
use crate::server::metrics::{Certificates, ReadinessNow};
use crate::server::{Server, TlsServer};
use crate::store::Store;
use crate::store::metrics::Health;
use crate::telemetry;

/// The commit that was built, if whoever built it said so.
const REVISION: Option<&str> = option_env!("ONCEGATE_REVISION");

/// What is on the page.
pub(super) struct Counted<'a> {
    pub(super) proxy: &'a proxy::metrics::Metrics,
    pub(super) reload: &'a reload::Metrics,
    pub(super) server: &'a Arc<Server>,
    pub(super) guard: &'a Guard,
    pub(super) store: Arc<dyn Store>,
    /// What a store of this kind knows, beside what all know.
    pub(super) store_itself: Option<Box<dyn Collector>>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) tls: Vec<Arc<TlsServer>>,
    pub(super) tracer: Option<Tracer>,
}

impl Counted<'_> {
    pub(super) fn page(self) -> Page {
        let mut registry = Registry::default();
        self.proxy.register(&mut registry);
        self.reload.register(&mut registry);
        self.guard.register(&mut registry);
        self.server.register(&mut registry);
        registry.register_collector(Box::new(Health(self.store)));
        if let Some(store_itself) = self.store_itself {
            registry.register_collector(store_itself);
        }
        registry.register_collector(Box::new(ReadinessNow(self.readiness)));
        registry.register_collector(Box::new(Certificates(self.tls)));
        registry.register_collector(Box::new(Process(self.tracer)));
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(telemetry::ProcessNow));
        Page::new(registry)
    }
}

/// What is known of this build, its log and its spans.
#[derive(Debug)]
struct Process(Option<Tracer>);

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let build = [("version", env!("CARGO_PKG_VERSION")), ("revision", REVISION.unwrap_or("unknown"))];
        gauges(encoder, "oncegate_build_info", "The build that runs", [(build, 1_i64)])?;
        let help = "Log lines that were dropped since nobody took them in time";
        counter(encoder, "oncegate_log_lines_dropped", help, telemetry::lines_dropped())?;
        let help = "Spans that were made and not taken by a collector";
        counter(encoder, "oncegate_spans_dropped", help, self.0.as_ref().map_or(0, Tracer::dropped))
    }
}

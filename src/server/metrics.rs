//! What the listeners count, and what is known of connections and certificates.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::admin::Readiness;
use super::opening::OpeningError;
use super::{Server, TlsServer};
use crate::metrics::{gauge, gauges};

/// The listeners' instruments.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) accepted: Counter,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Counts a connection that was closed before its first request.
    pub(super) fn refused(&self, error: &OpeningError) {
        self.refused.get_or_create(&[("reason", error.as_str())]).inc();
    }
}

impl Server {
    /// Puts what it counts on the page, and what it knows of itself.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        for reason in OpeningError::REASONS {
            let _made: Counter = self.metrics.refused.get_or_create_owned(&[("reason", reason)]);
        }
        registry.register(
            "oncegate_connections_accepted",
            "Connections accepted",
            self.metrics.accepted.clone(),
        );
        registry.register(
            "oncegate_connections_refused",
            "Connections that were closed before their first request",
            self.metrics.refused.clone(),
        );
        registry.register_collector(Box::new(Now(self.clone())));
    }
}

/// What is known of the listeners and the edge behind them at present.
#[derive(Debug)]
struct Now(Arc<Server>);

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (encoder, open) = (&mut encoder, &self.0.open);
        gauge(encoder, "oncegate_connections", "Connections that are open, tunnels included", open.taken())?;
        gauge(encoder, "oncegate_max_connections", "How many connections are served at once", open.max())?;
        self.0.proxy().collect(encoder)
    }
}

/// Whether requests are welcome.
#[derive(Debug)]
pub struct ReadinessNow(pub Arc<Readiness>);

impl Collector for ReadinessNow {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let is_ready = self.0.word().0;
        gauge(
            &mut encoder,
            "oncegate_ready",
            "1 while requests are welcome, as /readyz says",
            i64::from(is_ready),
        )
    }
}

/// The certificates that listeners show.
#[derive(Debug)]
pub struct Certificates(pub Vec<Arc<TlsServer>>);

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A file that two listeners show is one.
        let expiries: BTreeMap<String, i64> = self.0.iter().flat_map(|tls| tls.expiries()).collect();
        gauges(
            &mut encoder,
            "oncegate_tls_certificate_expiry_timestamp_seconds",
            "When the certificate in use expires",
            expiries.iter().map(|(file, at)| ([("file", file.as_str())], *at)),
        )
    }
}

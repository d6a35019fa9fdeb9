//! The page of metrics: what each layer counts, joined.

use prometheus_client::registry::Registry;

use super::reload;
use crate::metrics::Page;
use crate::proxy;

/// What the layers count with. Their parts take clones.
#[derive(Debug, Default)]
pub(super) struct Instruments {
    pub(super) proxy: proxy::metrics::Metrics,
    pub(super) reload: reload::Metrics,
}

impl Instruments {
    /// The page that shows all of it.
    pub(super) fn page(&self) -> Page {
        let mut registry = Registry::default();
        self.proxy.register(&mut registry);
        self.reload.register(&mut registry);
        Page::new(registry)
    }
}

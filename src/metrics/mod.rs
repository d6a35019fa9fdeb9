//! What is counted, and the page on which it is read.
//!
//! Owns the instruments that every layer may use and the text of `/metrics`. What is counted belongs to the layer that counts
//! it. On the way of a request nothing here takes a lock: an instrument is found once and is atomics from then on.

mod classic;
mod histogram;

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub use histogram::{Bounds, HTTP, Histogram, STORE, Table};

const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_1: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that is counted.
#[derive(Debug)]
pub struct Page(Registry);

impl Page {
    /// The page of what `registry` knows.
    #[must_use]
    pub const fn new(registry: Registry) -> Self {
        Self(registry)
    }

    /// The page as it is at present, and its media type: the classic text format 0.0.4, or OpenMetrics 1.0 where the
    /// `Accept` field asks for that.
    #[must_use]
    pub fn write(&self, accept: &str) -> (&'static str, String) {
        let mut text = String::new();
        // A String takes everything, and what is collected fails in nothing else.
        prometheus_client::encoding::text::encode(&mut text, &self.0).unwrap_or(());
        if accept.split(',').any(asks_for_open_metrics) {
            (OPEN_METRICS_1, text)
        } else {
            (CLASSIC, classic::from_open_metrics(&text))
        }
    }
}

/// Whether one media range of an `Accept` field (RFC 9110 §12.5.1) names OpenMetrics and does not refuse it.
fn asks_for_open_metrics(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(OPEN_METRICS));
    let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")?.parse::<f32>().ok());
    is_named && weight != Some(0.0)
}

/// Writes a counter that something else keeps. `name` comes without its `_total`.
///
/// # Errors
///
/// Those of the writer.
pub fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encoder
        .encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

/// Writes a gauge that something else keeps.
///
/// # Errors
///
/// Those of the writer.
pub fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?.encode_gauge(&value)
}

/// Writes a gauge with labels that something else keeps. Without a value there is no gauge.
///
/// # Errors
///
/// Those of the writer.
pub fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, V)>,
) -> fmt::Result {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let help = format!("{help}.");
    let mut family = encoder.encode_descriptor(name, &help, None, MetricType::Gauge)?;
    values.try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn open_metrics_comes_only_where_it_is_asked_for() {
        let mut registry = Registry::default();
        registry.register("requests", "Requests", Counter::<u64>::default());
        let page = Page::new(registry);
        for (accept, expected) in [
            ("", CLASSIC),
            ("*/*", CLASSIC),
            ("text/plain;version=0.0.4", CLASSIC),
            ("application/openmetrics-text;q=0", CLASSIC),
            ("application/openmetrics-text; version=1.0.0; q=0.5, text/plain; q=0.2", OPEN_METRICS_1),
            ("text/html, Application/OpenMetrics-Text", OPEN_METRICS_1),
        ] {
            let (media_type, text) = page.write(accept);
            assert_eq!(media_type, expected, "{accept}");
            assert_eq!(text.ends_with("# EOF\n"), expected == OPEN_METRICS_1, "{accept}: {text}");
        }
    }
}

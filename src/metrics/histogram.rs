//! Durations, counted without a lock.
//!
//! prometheus-client's own histogram takes a lock for each observation. This one is two relaxed additions: a scrape that comes
//! between them sees a sum that is one observation ahead or behind, and nothing else.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::{MetricType, TypedMetric};

const BOUNDS: usize = 14;

/// How many label sets one table remembers. What comes beyond it is counted as one.
const MAX_KNOWN: usize = 64;

/// The upper bounds of a histogram's buckets, in microseconds.
#[derive(Debug)]
pub struct Bounds([u64; BOUNDS]);

/// What OpenTelemetry's semantic conventions advise for the durations of HTTP requests.
pub static HTTP: Bounds = Bounds([
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000,
]);

/// For what is done in memory or over a local network.
pub static STORE: Bounds = Bounds([
    10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000,
]);

/// A histogram of durations. Cheap to clone: clones count as one.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    bounds: &'static Bounds,
    /// One for each bound, and the last for what is longer than all.
    buckets: [AtomicU64; BOUNDS + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self(Arc::new(Counts { bounds, buckets, sum_ns: AtomicU64::new(0) }))
    }

    /// Counts a duration.
    pub fn observe(&self, took: Duration) {
        let Counts { bounds, buckets, sum_ns } = &*self.0;
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = bounds.0.iter().position(|bound_us| took_ns <= bound_us * 1_000).unwrap_or(BOUNDS);
        if let Some(bucket) = buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        sum_ns.fetch_add(took_ns, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Counts { bounds, buckets, sum_ns } = &*self.0;
        let bounds = bounds.0.iter().map(|bound_us| *bound_us as f64 / 1e6).chain([f64::INFINITY]);
        let counts = buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        let none: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(sum, count, &buckets, none)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Histograms by a few labels, found without a lock: as many as are met, and no more than the table holds.
#[derive(Debug)]
pub struct Table<K> {
    known: [OnceLock<(K, Histogram)>; MAX_KNOWN],
    rest: OnceLock<Histogram>,
}

impl<K: Copy + PartialEq> Table<K> {
    /// The histogram of `key`. One that is met for the first time is made; where the table is full, `rest` stands for it.
    pub fn of(&self, key: K, rest: K, make: impl Fn(K) -> Histogram) -> &Histogram {
        for slot in &self.known {
            let (known, histogram) = slot.get_or_init(|| (key, make(key)));
            if *known == key {
                return histogram;
            }
        }
        self.rest.get_or_init(|| make(rest))
    }
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { known: std::array::from_fn(|_| OnceLock::new()), rest: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn page(histogram: &Histogram) -> String {
        let mut registry = Registry::default();
        registry.register("took", "How long it took", histogram.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_duration_counts_in_every_bucket_that_it_is_not_longer_than() {
        let histogram = Histogram::new(&HTTP);
        for took_us in [5_000, 5_001, 20_000, 10_000_001] {
            histogram.observe(Duration::from_micros(took_us));
        }
        let page = page(&histogram);
        for sample in [
            "took_bucket{le=\"0.005\"} 1\n",
            "took_bucket{le=\"0.01\"} 2\n",
            "took_bucket{le=\"0.025\"} 3\n",
            "took_bucket{le=\"10.0\"} 3\n",
            "took_bucket{le=\"+Inf\"} 4\n",
            "took_count 4\n",
            "took_sum 10.030002\n",
        ] {
            assert!(page.contains(sample), "{sample} in {page}");
        }
    }

    #[test]
    fn bounds_grow() {
        assert!([&HTTP, &STORE].iter().all(|bounds| bounds.0.is_sorted_by(|one, other| one < other)));
    }

    #[test]
    fn a_table_that_is_full_counts_the_rest_as_one() {
        let table = Table::default();
        let observed = |key| table.of(key, usize::MAX, |_| Histogram::new(&HTTP)).0.clone();
        let first = observed(0);
        for key in 1..MAX_KNOWN {
            assert!(!Arc::ptr_eq(&first, &observed(key)), "{key} has its own");
        }
        assert!(Arc::ptr_eq(&first, &observed(0)), "it is found again");
        assert!(Arc::ptr_eq(&observed(MAX_KNOWN), &observed(MAX_KNOWN + 1)), "the rest share one");
    }
}

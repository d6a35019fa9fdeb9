//! The page of a proxy's metrics, as a test reads it.

use std::collections::BTreeSet;
use std::fmt;

/// The page, in the classic text format.
#[derive(Clone)]
pub struct Metrics(pub String);

impl Metrics {
    /// The value of a sample, written as the page does: `name` or `name{label="value",…}`. Fails if it is not there.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        self.find(sample).unwrap_or_else(|| panic!("{sample} is not on the page:\n{self:?}"))
    }

    /// As `value`, if it is there.
    pub fn find(&self, sample: &str) -> Option<f64> {
        let value = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value)
    }

    /// The names and types of all metrics.
    pub fn families(&self) -> BTreeSet<(String, String)> {
        let family = |line: &str| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            Some((name.to_owned(), kind.to_owned()))
        };
        self.0.lines().filter_map(family).collect()
    }

    /// The names of the labels that samples of this metric have.
    pub fn labels(&self, name: &str) -> BTreeSet<String> {
        let is_of = |sample: &str| {
            sample.strip_prefix(name).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        };
        let samples =
            self.0.lines().filter_map(|line| line.split_once('{')).filter(|(sample, _)| is_of(sample));
        let labels = samples.filter_map(|(_, rest)| rest.rsplit_once("\"} ")).map(|(labels, _)| labels);
        let names =
            labels.flat_map(|labels| labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0)));
        names.map(str::to_owned).filter(|name| name != "le").collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

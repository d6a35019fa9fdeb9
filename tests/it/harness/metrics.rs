//! The page of a proxy's metrics, as a test reads it.

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
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

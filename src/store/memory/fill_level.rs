//! How full the store was at a prune, and when it will be full at this rate.

use std::time::Duration;

use super::clock::Millis;

/// From this share of the bound on, every prune warns.
const WARN_AT_PERCENT: u64 = 80;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FillLevel {
    pub(super) entries: u64,
    pub(super) at: Millis,
}

impl FillLevel {
    /// Warns if the store fills up, with the time left at the rate since `last`.
    pub(super) fn warn(self, last: Self, max_entries: u64) {
        if self.entries.saturating_mul(100) < max_entries.saturating_mul(WARN_AT_PERCENT) {
            return;
        }
        match self.full_in(last, max_entries) {
            Some(left) => tracing::warn!(
                entries = self.entries,
                max_entries,
                full_in = %humantime::format_duration(left),
                "the store fills up; once it is full, new keys are refused"
            ),
            None => tracing::warn!(
                entries = self.entries,
                max_entries,
                "the store is nearly full, though it has not grown since the last prune"
            ),
        }
    }

    /// How long until the bound is reached, if it goes on as since `last`; `None` if it did not grow.
    fn full_in(self, last: Self, max_entries: u64) -> Option<Duration> {
        let grown = self.entries.checked_sub(last.entries).filter(|grown| *grown > 0)?;
        let left = u128::from(max_entries.saturating_sub(self.entries));
        let millis = left * u128::from(self.at.saturating_sub(last.at)) / u128::from(grown);
        // Whole seconds: anything finer would feign a precision that a forecast has not.
        Some(Duration::from_secs(u64::try_from(millis / 1000).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_counted_at_the_rate_since_the_last_prune() {
        let last = FillLevel { entries: 700, at: 10_000 };
        let level = |entries| FillLevel { entries, at: 70_000 };
        assert_eq!(level(800).full_in(last, 1000), Some(Duration::from_secs(120)));
        assert_eq!(level(900).full_in(last, 1000), Some(Duration::from_secs(30)));
        assert_eq!(level(1000).full_in(last, 1000), Some(Duration::ZERO));
        assert_eq!(level(700).full_in(last, 1000), None, "it did not grow");
        assert_eq!(level(600).full_in(last, 1000), None, "it shrank");
    }
}

//! The store's clock: milliseconds since the store was made.
//!
//! Owns the rounding. A deadline is rounded up and the present down, so that no lease and no ttl ends before its time:
//! the owner of a lease that ended early would still be at work. It is monotonic and can be paused by tests. Wall-clock
//! time is taken once, so that every reader sees the same `expires_at`.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A point in time, in milliseconds since the store was made.
pub(super) type Millis = u64;

/// Later than any ttl that makes sense, and early enough to be a [`SystemTime`] everywhere: a thousand years.
const LATEST: Millis = 1000 * 365 * 24 * 60 * 60 * 1000;

#[derive(Debug)]
pub(super) struct Clock {
    born: Instant,
    born_at: SystemTime,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { born: Instant::now(), born_at: SystemTime::now() }
    }

    pub(super) fn now(&self) -> Millis {
        millis(self.born.elapsed())
    }

    /// Now, and the first point that is a whole `duration` later.
    pub(super) fn now_and_after(&self, duration: Duration) -> (Millis, Millis) {
        let (now, rounding_up) = (self.born.elapsed(), Duration::from_nanos(999_999));
        (millis(now), millis(now.saturating_add(duration).saturating_add(rounding_up)))
    }

    pub(super) fn instant(&self, at: Millis) -> Instant {
        self.born + Duration::from_millis(at.min(LATEST))
    }

    pub(super) fn system_time(&self, at: Millis) -> SystemTime {
        self.born_at + Duration::from_millis(at.min(LATEST))
    }
}

/// Whole milliseconds, rounded down.
pub(super) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).map_or(LATEST, |millis| millis.min(LATEST))
}

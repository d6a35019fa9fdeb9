//! Whether anything goes on on a connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How many streams a connection has, and since when it has none.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    streams: usize,
    changed: Instant,
}

/// A stream that goes on until this is dropped.
#[derive(Debug)]
pub(super) struct Begun(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { streams: 0, changed: Instant::now() }))
    }

    pub(super) fn begin(self: &Arc<Self>) -> Begun {
        self.change(|streams| streams + 1);
        Begun(self.clone())
    }

    /// Returns once there has been no stream for `patience`.
    pub(super) async fn none_for(&self, patience: Duration) {
        let begun = Instant::now();
        let mut until = begun + patience;
        loop {
            sleep_until(until).await;
            let now = Instant::now();
            until = match *self.lock() {
                State { streams: 0, changed } => changed.max(begun) + patience,
                State { .. } => now + patience,
            };
            if until <= now {
                return;
            }
        }
    }

    fn change(&self, change: impl Fn(usize) -> usize) {
        let mut state = self.lock();
        *state = State { streams: change(state.streams), changed: Instant::now() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.change(|streams| streams.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_counts_from_the_end_of_the_last_stream() {
        let activity = Arc::new(Activity::new());
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let streams = async {
            let first = activity.begin();
            tokio::time::sleep(3 * second).await;
            drop(activity.begin());
            tokio::time::sleep(2 * second).await;
            drop(first);
        };
        tokio::join!(streams, activity.none_for(10 * second));
        assert!(begun.elapsed() >= 15 * second, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < 26 * second, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_had_a_stream_is_waited_for_once() {
        let activity = Activity::new();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        activity.none_for(Duration::from_secs(1)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }
}

//! How slowly a client may send a body.
//!
//! Owns the clock of a body that is read: a least rate, a longest silence, a longest time in all. Only waiting for the client
//! counts; while an upstream takes nothing, nobody waits for the client. Cheap where nobody waits: a body that is there when
//! it is asked for costs no clock and no timer, and one that dribbles in keeps one timer, which is not touched by what comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::policy::Patience;

/// The clock of one body.
#[derive(Debug)]
pub struct Pace {
    patience: Patience,
    /// There from the first wait on.
    waits: Option<Box<Waits>>,
}

#[derive(Debug)]
struct Waits {
    begun: Instant,
    /// Since when there was nothing to read, if there is nothing now.
    since: Option<Instant>,
    /// How long the client may still keep us waiting at its least rate. Bytes add to it, up to the window.
    credit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// The clock of a body that begins.
    #[must_use]
    pub const fn new(patience: Patience) -> Self {
        Self { patience, waits: None }
    }

    /// So many bytes were there.
    pub fn came(&mut self, bytes: usize) {
        let Some(waits) = &mut self.waits else { return };
        let waited = waits.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let Some(rate) = self.patience.min_rate else { return };
        let earned = bytes as u128 * 1_000_000_000 / u128::from(rate.bytes_per_second.get());
        let earned = u64::try_from(earned).map_or(rate.window, Duration::from_nanos);
        waits.credit = waits.credit.saturating_sub(waited).saturating_add(earned).min(rate.window);
    }

    /// Whether nothing was there when it was last asked for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.since.is_some())
    }

    /// Nothing is there: ready when that has lasted for too long.
    pub fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Patience { min_rate, max_silence, max_total } = self.patience;
        let waits = self.waits.get_or_insert_with(|| {
            let credit = min_rate.map_or(Duration::ZERO, |rate| rate.window);
            Box::new(Waits { begun: Instant::now(), since: None, credit, timer: None })
        });
        let since = *waits.since.get_or_insert_with(Instant::now);
        let ends = [
            since.checked_add(max_silence),
            waits.begun.checked_add(max_total),
            min_rate.and_then(|_| since.checked_add(waits.credit)),
        ];
        let Some(end) = ends.into_iter().flatten().min() else { return Poll::Pending };
        // The end only ever moves on, so a timer that was set before wakes early and is set again.
        let timer = waits.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::num::NonZeroU64;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::proxy::policy::MinRate;

    const WINDOW: Duration = Duration::from_secs(10);
    const FOREVER: Duration = Duration::MAX;

    fn rate(bytes_per_second: u64) -> Patience {
        let bytes_per_second = NonZeroU64::new(bytes_per_second).unwrap();
        let min_rate = Some(MinRate { bytes_per_second, window: WINDOW });
        Patience { min_rate, max_silence: FOREVER, max_total: FOREVER }
    }

    /// Waits for a client that sends `bytes` every `pause`: after how many pauses it is too slow, if it ever is.
    async fn sends(patience: Patience, pause: Duration, bytes: usize) -> Option<u32> {
        let mut pace = Pace::new(patience);
        for pauses in 0..1_000 {
            if timeout(pause, poll_fn(|cx| pace.poll_too_slow(cx))).await.is_ok() {
                return Some(pauses);
            }
            pace.came(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_the_rate_is_never_too_slow_in_whatever_pieces() {
        for (pause_ms, bytes) in [(10, 1), (100, 10), (1_000, 100), (9_000, 900)] {
            assert_eq!(sends(rate(100), Duration::from_millis(pause_ms), bytes).await, None, "{bytes} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_at_half_the_rate_is_too_slow_after_two_windows() {
        let pauses = sends(rate(100), Duration::from_secs(1), 50).await;
        assert!(matches!(pauses, Some(18..=20)), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_buys_no_more_than_one_window() {
        let mut pace = Pace::new(rate(100));
        assert!(timeout(WINDOW / 2, poll_fn(|cx| pace.poll_too_slow(cx))).await.is_err());
        pace.came(1 << 30);
        let begun = Instant::now();
        poll_fn(|cx| pace.poll_too_slow(cx)).await;
        assert_eq!(begun.elapsed(), WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = Pace::new(rate(100));
        for _ in 0..10 {
            assert!(timeout(WINDOW / 2, poll_fn(|cx| pace.poll_too_slow(cx))).await.is_err());
            pace.came(500);
            sleep(3 * WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_the_whole_have_bounds_of_their_own() {
        let second = Duration::from_secs(1);
        let silent = Patience { min_rate: None, max_silence: 3 * second, max_total: FOREVER };
        assert_eq!(sends(silent, 2 * second, 1).await, None);
        assert_eq!(sends(silent, 4 * second, 1).await, Some(0));
        let long = Patience { min_rate: None, max_silence: FOREVER, max_total: 10 * second };
        assert_eq!(sends(long, 2 * second, 1 << 20).await, Some(4));
        let boundless = Patience { min_rate: None, max_silence: FOREVER, max_total: FOREVER };
        assert_eq!(sends(boundless, 2 * second, 0).await, None);
    }
}

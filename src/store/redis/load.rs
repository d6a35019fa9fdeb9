//! What is under way on a connection, and whether more should be.
//!
//! Owns the choice's rule, and no connection. Calls that are under way together share writes, so one connection is best used
//! for all, until it falls behind. To a cluster a connection is one to each server, of which a single one may be dead while the
//! others answer: a call that got no answer counts, however much is heard otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Calls under way on one connection: more would gain little by sharing its writes, and wait for each other.
const MANY_CALLS: usize = 64;

/// A connection on which nothing came back for so long, though something was asked, is left to those who ask already.
const HESITATION: Duration = Duration::from_millis(20);

/// A connection that left a call without an answer is avoided for so long.
const DOUBT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Load {
    calls: AtomicUsize,
    unanswered: watch::Sender<Option<Instant>>,
}

/// A call that is under way.
pub(super) struct UnderWay<'a>(&'a Load);

impl Load {
    /// A call is under way until what is returned is dropped.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// To be told when an answer did not come in time.
    pub(super) fn left_unanswered(&self) {
        self.unanswered.send_replace(Some(Instant::now()));
    }

    /// Whether one more call would be answered at once, as far as can be seen. The server was `heard` last then.
    pub(super) fn bears_more(&self, heard: impl FnOnce() -> Instant) -> bool {
        let calls = self.calls.load(Ordering::Relaxed);
        calls < MANY_CALLS
            && self.unanswered.borrow().is_none_or(|at| at.elapsed() >= DOUBT)
            && (calls == 0 || heard().elapsed() < HESITATION)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_is_under_way_bears_a_call_though_nothing_was_heard_for_long() {
        let (load, heard) = (Load::default(), Instant::now());
        advance(Duration::from_secs(60)).await;
        assert!(load.bears_more(|| heard));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_owes_an_answer_for_a_while_bears_no_more_until_it_is_given_or_given_up() {
        let (load, heard) = (Load::default(), Instant::now());
        let call = load.begin();
        assert!(load.bears_more(|| heard));
        advance(HESITATION).await;
        assert!(!load.bears_more(|| heard));
        assert!(load.bears_more(Instant::now));
        drop(call);
        assert!(load.bears_more(|| heard));
    }

    #[tokio::test(start_paused = true)]
    async fn many_calls_are_enough() {
        let load = Load::default();
        let mut calls: Vec<_> = (0..MANY_CALLS).map(|_| load.begin()).collect();
        assert!(!load.bears_more(Instant::now));
        calls.pop();
        assert!(load.bears_more(Instant::now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_left_a_call_unanswered_is_avoided_for_a_while_whatever_else_it_answers() {
        let load = Load::default();
        load.left_unanswered();
        assert!(!load.bears_more(Instant::now));
        advance(DOUBT).await;
        assert!(load.bears_more(Instant::now));
    }
}

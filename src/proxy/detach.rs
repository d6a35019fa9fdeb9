//! Work that outlives whoever waits for it (I8).
//!
//! Guarded work runs in its client's own task for as long as the client is there, which spares it a task and two wake-ups;
//! the moment nobody polls it any more, because the client left or got its reply, what is left of it goes on by itself.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::RecvError;
use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where work goes on that nobody waits for any more. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Background {
    tracker: TaskTracker,
    given_up: CancellationToken,
}

impl Background {
    /// What shutdown waits for.
    #[must_use]
    pub const fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Drops what is unfinished: its permits settle their keys as unknown.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Returns once what is unfinished is given up.
    pub async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

/// Drives `work` until `reply` is there. Dropped before the work is done, it leaves the work to `background`.
pub(super) struct Detachable<T> {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    reply: Receiver<T>,
    background: Background,
}

impl<T> Detachable<T> {
    pub(super) fn new(
        work: impl Future<Output = ()> + Send + 'static,
        reply: Receiver<T>,
        background: &Background,
    ) -> Self {
        Self { work: Some(Box::pin(work)), reply, background: background.clone() }
    }
}

impl<T> Future for Detachable<T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Taken out while it is polled: work that panics is dropped, and its permit settles the key as unknown.
        if let Some(mut work) = self.work.take()
            && work.as_mut().poll(cx).is_pending()
        {
            self.work = Some(work);
        }
        // Only the work sends it, so that nobody else needs to be woken by it.
        pin!(unconstrained(&mut self.reply)).poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl<T> Drop for Detachable<T> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end; dropped work settles its key as unknown.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            let Background { tracker, given_up } = self.background.clone();
            drop(tracker.spawn_on(given_up.run_until_cancelled_owned(work), &runtime));
        }
    }
}

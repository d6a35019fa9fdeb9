//! One timer for a whole connection.
//!
//! hyper gives every head a deadline of its own. A timer set and withdrawn with each request costs two turns at a lock that
//! all connections share; so the deadline is only noted, and the connection's one timer, when it rings too early, is set to
//! what was noted last. Deadlines move on with time, so that it is hardly ever set.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt;
use tokio::time::{Instant, Sleep, sleep_until};

/// The deadline that hyper set last on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadline(Arc<Mutex<Option<Instant>>>);

/// Rings at a connection's deadline.
#[derive(Debug)]
pub(super) struct Alarm {
    deadline: Deadline,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Over once `deadline` is. Wakes nobody: the alarm does.
struct Due(Instant);

impl Deadline {
    fn note(&self, deadline: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
    }

    fn noted(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl rt::Timer for Deadline {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn rt::Sleep>> {
        let deadline = Instant::from_std(deadline);
        self.note(deadline);
        Box::pin(Due(deadline))
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

impl Future for Due {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() < self.0 { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl rt::Sleep for Due {}

impl Alarm {
    pub(super) const fn new(deadline: Deadline) -> Self {
        Self { deadline, timer: None }
    }

    /// Drives the connection, which looks at its clock when the alarm rings.
    pub(super) async fn watch<T>(&mut self, mut connection: Pin<&mut impl Future<Output = T>>) -> T {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                ready!(self.poll(cx));
            }
        })
        .await
    }

    /// Ready when the deadline is over, once.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(deadline) = self.deadline.noted() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if deadline <= Instant::now() {
                self.deadline.forget();
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

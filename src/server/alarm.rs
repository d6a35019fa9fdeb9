//! One timer for a whole connection.
//!
//! hyper gives every head a deadline of its own. A timer set and withdrawn with each request costs two turns at a lock that
//! all connections share; so the deadline is only noted, and the connection's one timer, when it rings too early, is set to
//! what was noted last. Deadlines move on with time, so that it is hardly ever set. It tells, too, when a connection rests.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::proxy::hush::OwnWaker;

/// How long a connection waits for a head before it may rest.
const REST_AFTER: Duration = Duration::from_millis(100);

/// The deadline of the head that hyper waits for on one connection.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    noted: Arc<Mutex<Option<Instant>>>,
    /// How far ahead hyper sets it.
    patience: Duration,
}

/// Rings at a connection's deadline, and once before, when it may rest.
#[derive(Debug)]
pub(super) struct Alarm {
    deadline: Deadline,
    timer: Option<Pin<Box<Sleep>>>,
    waker: OwnWaker,
    /// The deadline of a head that has begun, or that would not let the connection rest.
    restless: Option<Instant>,
}

/// Over once the alarm has rung, which takes the note of the deadline away. Wakes nobody: the alarm does.
struct Due {
    deadline: Deadline,
    at: Instant,
}

impl Deadline {
    pub(super) fn new(patience: Duration) -> Self {
        Self { noted: Arc::default(), patience }
    }

    fn noted(&self) -> Option<Instant> {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, at: Option<Instant>) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl rt::Timer for Deadline {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn rt::Sleep>> {
        let at = Instant::from_std(deadline);
        self.note(Some(at));
        Box::pin(Due { deadline: self.clone(), at })
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

impl Future for Due {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.deadline.noted() == Some(self.at) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        // The head is there, or never will be: hyper waits for none.
        self.deadline.note(None);
    }
}

impl rt::Sleep for Due {}

impl Alarm {
    pub(super) fn new(deadline: Deadline) -> Self {
        Self { deadline, timer: None, waker: OwnWaker::default(), restless: None }
    }

    /// Drives the connection, which looks at its clock when the alarm rings. `None`: it waits for a head, of which nothing
    /// has come, and `is_at_rest`.
    pub(super) async fn watch<T>(
        &mut self,
        mut connection: Pin<&mut impl Future<Output = T>>,
        is_at_rest: impl Fn() -> bool,
    ) -> Option<T> {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(&mut self.waker.context(cx)) {
                    return Poll::Ready(Some(ended));
                }
                let deadline = ready!(self.poll(cx));
                if deadline <= Instant::now() {
                    self.deadline.note(None);
                } else if is_at_rest() {
                    return Poll::Ready(None);
                }
                self.restless = Some(deadline);
            }
        })
        .await
    }

    /// Ready with the deadline when it is over, and before that once when the connection may rest.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        while let Some(deadline) = self.deadline.noted() {
            let rings_at = match deadline.checked_sub(self.deadline.patience) {
                Some(since) if self.restless != Some(deadline) => deadline.min(since + REST_AFTER),
                _ => deadline,
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(rings_at)));
            if rings_at < timer.deadline() {
                timer.as_mut().reset(rings_at);
            }
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if rings_at <= Instant::now() {
                return Poll::Ready(deadline);
            }
        }
        Poll::Pending
    }
}

//! Wake-ups that are good for nothing.
//!
//! hyper wakes whoever drives a connection each time a frame of a body is taken from it. After the last frame there is nothing
//! left to do, and mostly the taker is the driver: each request would have its connection polled once more. Only what is woken
//! by the taking itself, on its thread, is held back: nothing else that happens to the connection can be missed.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

thread_local! {
    static WINDOW: Cell<Window> = const { Cell::new(Window::Closed) };
}

/// Whether this thread holds wake-ups back.
#[derive(Debug)]
enum Window {
    Closed,
    Open(Option<Waker>),
}

/// Closes the window, even if something panics behind it.
struct Closing;

/// A task's waker for what it drives itself, which can be held back.
#[derive(Debug)]
pub struct OwnWaker {
    task: Waker,
    own: Waker,
}

#[derive(Debug)]
struct Holdable(Waker);

impl Default for OwnWaker {
    fn default() -> Self {
        Self { task: Waker::noop().clone(), own: Waker::noop().clone() }
    }
}

impl OwnWaker {
    /// The context to drive with while the task is polled with `task`.
    pub fn context(&mut self, task: &Context<'_>) -> Context<'_> {
        if !self.task.will_wake(task.waker()) {
            self.task = task.waker().clone();
            self.own = Arc::new(Holdable(self.task.clone())).into();
        }
        Context::from_waker(&self.own)
    }
}

/// Drives `work` in a task of its own.
pub async fn driven<T>(work: impl Future<Output = T>) -> T {
    let (mut work, mut waker) = (pin!(work), OwnWaker::default());
    poll_fn(|cx| work.as_mut().poll(&mut waker.context(cx))).await
}

/// The next frame of a body that comes from a connection.
pub fn poll_frame(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    let (frame, driver) = taking(|| Pin::new(&mut *body).poll_frame(cx));
    // After the last frame it has nothing to do.
    if let Some(driver) = driver.filter(|_| !body.is_end_stream()) {
        driver.wake();
    }
    frame
}

/// What `take` returns, and the waker that it called, if that was a task's own: it was not woken.
fn taking<T>(take: impl FnOnce() -> T) -> (T, Option<Waker>) {
    let closing = Closing;
    WINDOW.set(Window::Open(None));
    let taken = take();
    let held = match WINDOW.replace(Window::Closed) {
        Window::Open(held) => held,
        Window::Closed => None,
    };
    drop(closing);
    (taken, held)
}

impl Drop for Closing {
    fn drop(&mut self) {
        WINDOW.set(Window::Closed);
    }
}

impl Wake for Holdable {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let hold = || Waker::from(self.clone());
        // A thread at its end has no window any more.
        let is_held = WINDOW.try_with(|window| match window.replace(Window::Closed) {
            Window::Closed => false,
            Window::Open(None) => {
                window.set(Window::Open(Some(hold())));
                true
            }
            held @ Window::Open(Some(_)) => {
                window.set(held);
                false
            }
        });
        if !is_held.unwrap_or(false) {
            self.0.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// A task that is never polled.
    #[derive(Debug, Default)]
    struct Task {
        woken: AtomicUsize,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.woken.load(Ordering::SeqCst)
        }
    }

    /// A task, and its waker for what it drives.
    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task::default());
        let waker = Waker::from(task.clone());
        let own = OwnWaker::default().context(&Context::from_waker(&waker)).waker().clone();
        (task, own)
    }

    #[test]
    fn only_while_something_is_taken_a_wake_up_is_held_back() {
        let (task, own) = task();
        own.wake_by_ref();
        assert_eq!(task.woken(), 1);
        let (taken, held) = taking(|| {
            own.wake_by_ref();
            "a frame"
        });
        assert_eq!((taken, task.woken()), ("a frame", 1));
        own.wake_by_ref();
        assert_eq!(task.woken(), 2);
        held.unwrap().wake();
        assert_eq!(task.woken(), 3);
        assert!(taking(|| ()).1.is_none());
    }

    #[test]
    fn what_another_thread_or_a_second_task_wakes_meanwhile_is_woken() {
        let (one, own) = task();
        let (other, others) = task();
        let (_, held) = taking(|| {
            thread::scope(|scope| scope.spawn(|| own.wake_by_ref()).join()).unwrap();
            assert_eq!(one.woken(), 1);
            own.wake_by_ref();
            others.wake_by_ref();
        });
        assert_eq!((one.woken(), other.woken(), held.is_some()), (1, 1, true));
    }

    #[test]
    fn after_a_panic_nothing_is_held_back() {
        let (task, own) = task();
        std::panic::catch_unwind(|| taking(|| panic!("a broken body"))).unwrap_err();
        own.wake();
        assert_eq!(task.woken(), 1);
    }

    #[test]
    fn a_task_that_moves_on_is_woken_where_it_is() {
        let mut own = OwnWaker::default();
        let (before, after) = (Arc::new(Task::default()), Arc::new(Task::default()));
        for task in [&before, &after] {
            own.context(&Context::from_waker(&task.clone().into())).waker().wake_by_ref();
        }
        assert_eq!((before.woken(), after.woken()), (1, 1));
    }
}

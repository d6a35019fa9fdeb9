//! Wake-ups that are good for nothing.
//!
//! hyper wakes whoever drives an HTTP/1.1 connection each time a frame of a body is taken from it. After the last frame of a
//! body of known length there is nothing left to do: each request would have its connections polled once more. Only what is
//! woken on the taker's thread while it takes that frame is held back. That is the taking itself, or a wake-up of the taker,
//! who has the frame and needs none: nothing else that happens to the connection can be missed.

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
    if let Some(driver) = driver.filter(|_| frame.is_pending() || !body.is_end_stream()) {
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

    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::join;
    use tokio::task::yield_now;
    use tokio_util::task::TaskTracker;

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

    /// How often a connection is driven after a frame was taken of an answer of ten bytes, `sent` of which are there.
    async fn driven_after_taking(sent: &str) -> usize {
        let (ours, mut theirs) = duplex(1024);
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        let driven_count = Arc::new(AtomicUsize::new(0));
        let count = driven_count.clone();
        drop(TaskTracker::new().spawn(async move {
            let mut connection = pin!(connection);
            let counted = poll_fn(|cx| {
                count.fetch_add(1, Ordering::SeqCst);
                connection.as_mut().poll(cx)
            });
            driven(counted).await
        }));
        let asked = sender.send_request(Request::new(Empty::<Bytes>::new()));
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{sent}");
        let answering = async {
            theirs.read_u8().await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
        };
        let (response, ()) = join!(asked, answering);
        let mut body = response.unwrap().into_body();
        let before = driven_count.load(Ordering::SeqCst);
        let frame = poll_fn(|cx| poll_frame(&mut body, cx)).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), sent);
        yield_now().await;
        driven_count.load(Ordering::SeqCst) - before
    }

    #[tokio::test]
    async fn a_connection_is_not_driven_because_its_last_frame_was_taken() {
        assert_eq!((driven_after_taking("0123456789").await, driven_after_taking("01234").await), (0, 1));
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

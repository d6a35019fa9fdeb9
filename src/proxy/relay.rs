//! A guarded answer on its way to the client while it is being recorded.
//!
//! Owns the queue between the task that reads the upstream and the client's connection. The reader never waits for the
//! client as long as it records: a slow client holds neither its key nor the upstream's connection. The end is passed on
//! only when the reader says so (I5); a relay that is dropped without an end breaks the client's connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Semaphore, mpsc};

use super::body::BodyError;
use super::held;
use super::quota::Quota;
use super::socket::Probe;
use super::tally::Tally;

/// A frame in the queue costs at least this much, so that empty frames are bounded too.
const MIN_FRAME_COST_BYTES: usize = 256;

/// The reader's end.
#[derive(Debug)]
pub struct Relay {
    frames: mpsc::UnboundedSender<Queued>,
    window: Arc<Semaphore>,
    window_bytes: usize,
    buffered_bytes: Quota,
    tally: Tally,
}

/// The client's end.
#[derive(Debug)]
pub struct RelayBody {
    frames: mpsc::UnboundedReceiver<Queued>,
    window: Arc<Semaphore>,
    remaining_bytes: Option<u64>,
    client: Probe,
    ended: bool,
}

#[derive(Debug)]
struct Queued {
    frame: Option<Frame<Bytes>>,
    cost: usize,
}

/// The client is gone, or too slow for its window.
#[derive(Clone, Copy, Debug)]
pub struct ClientLost;

/// A queue to `client` of at most `window_bytes`, for a body of `length_bytes` if that is known. What is queued counts in
/// `buffered_bytes` until it was written (under TLS: encrypted), and what was sent in `tally`.
#[must_use]
pub fn relay(
    window_bytes: usize,
    length_bytes: Option<u64>,
    client: Probe,
    buffered_bytes: Quota,
    tally: Tally,
) -> (Relay, RelayBody) {
    let window_bytes = window_bytes.clamp(MIN_FRAME_COST_BYTES, u32::MAX as usize);
    let (sender, frames) = mpsc::unbounded_channel();
    let window = Arc::new(Semaphore::new(window_bytes));
    let body =
        RelayBody { frames, window: window.clone(), remaining_bytes: length_bytes, client, ended: false };
    (Relay { frames: sender, window, window_bytes, buffered_bytes, tally }, body)
}

impl Relay {
    /// Queues `data` without waiting.
    ///
    /// # Errors
    ///
    /// [`ClientLost`] if the client is gone or the window is full.
    pub fn push(&self, data: Bytes) -> Result<(), ClientLost> {
        let cost = self.cost(&data);
        self.window.try_acquire_many(cost).map_err(|_| ClientLost)?.forget();
        self.queue_data(data, cost)
    }

    /// Queues `data` as soon as the client has read enough.
    ///
    /// # Errors
    ///
    /// [`ClientLost`] if the client is gone.
    pub async fn send(&self, data: Bytes) -> Result<(), ClientLost> {
        let cost = self.cost(&data);
        self.window.acquire_many(cost).await.map_err(|_| ClientLost)?.forget();
        self.queue_data(data, cost)
    }

    /// Returns once the client is gone.
    pub async fn client_gone(&self) {
        self.frames.closed().await;
    }

    /// Ends the body well.
    pub fn finish(self, trailers: HeaderMap) {
        let trailers = (!trailers.is_empty()).then(|| Frame::trailers(trailers));
        let ended = match trailers {
            Some(trailers) => self.queue(Some(trailers), 0).and_then(|()| self.queue(None, 0)),
            None => self.queue(None, 0),
        };
        // A client that is gone needs no end.
        ended.unwrap_or(());
    }

    fn cost(&self, data: &Bytes) -> u32 {
        u32::try_from(data.len().max(MIN_FRAME_COST_BYTES).min(self.window_bytes)).unwrap_or(u32::MAX)
    }

    fn queue_data(&self, data: Bytes, cost: u32) -> Result<(), ClientLost> {
        self.tally.sent(data.len());
        // The connection takes what is queued long before it can write it.
        let data = held::counted(data, self.buffered_bytes.charge(u64::from(cost)));
        self.queue(Some(Frame::data(data)), cost)
    }

    fn queue(&self, frame: Option<Frame<Bytes>>, cost: u32) -> Result<(), ClientLost> {
        self.frames.send(Queued { frame, cost: cost as usize }).map_err(|_| ClientLost)
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.frames.poll_recv(cx).map(|queued| {
            self.ended = queued.as_ref().is_none_or(|queued| queued.frame.is_none());
            let Some(Queued { frame, cost }) = queued else {
                self.client.reset_on_close();
                return Some(Err(BodyError::Cut));
            };
            self.window.add_permits(cost);
            if let (Some(remaining), Some(data)) =
                (&mut self.remaining_bytes, frame.as_ref().and_then(|frame| frame.data_ref()))
            {
                *remaining = remaining.saturating_sub(data.len() as u64);
            }
            frame.map(Ok)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining_bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        self.window.close();
    }
}

//! An answer on its way to an HTTP/2 client.
//!
//! Owns the deadline for a client that takes nothing of it. Flow control makes such a client invisible to the socket, which
//! may be busy with other streams. hyper asks for the next frame only when the client has room for the last one, and that
//! is what is looked at here.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task_local;
use tokio::time::{Instant, sleep_until};

use crate::proxy::body::{BodyError, ReplyBody};

/// Larger chunks are handed on in pieces: what h2 has taken and cannot send is held without a deadline.
const PIECE_BYTES: usize = 16 * 1024;

/// Who is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The proxy, or its upstream.
    Us,
    /// The client, which has been given so many frames.
    Client { frames: u64 },
}

task_local! {
    /// Said by the body of the stream whose task runs.
    static AWAITED: Cell<Awaited>;
}

/// An answer's body, in pieces.
#[derive(Debug)]
pub(super) struct Http2Body {
    body: ReplyBody,
    /// What is left of a chunk.
    rest: Bytes,
    frames: u64,
}

impl Http2Body {
    pub(super) const fn new(body: ReplyBody) -> Self {
        Self { body, rest: Bytes::new(), frames: 0 }
    }

    fn next_piece(&mut self) -> Option<Frame<Bytes>> {
        if self.rest.is_empty() {
            return None;
        }
        let piece = self.rest.split_to(PIECE_BYTES.min(self.rest.len()));
        // The last piece may be held for long: it must not hold all that it was cut from.
        let is_last_of_several = self.rest.is_empty();
        Some(Frame::data(if is_last_of_several { Bytes::copy_from_slice(&piece) } else { piece }))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.next_piece() {
            return Poll::Ready(Some(Ok(piece)));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
        Poll::Ready(match frame.into_data() {
            Ok(data) if data.len() > PIECE_BYTES => {
                self.rest = data;
                self.next_piece().map(Ok)
            }
            Ok(data) => Some(Ok(Frame::data(data))),
            Err(frame) => Some(Ok(frame)),
        })
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_piece(cx);
        let awaited = if polled.is_ready() {
            self.frames += 1;
            Awaited::Client { frames: self.frames }
        } else {
            Awaited::Us
        };
        // Outside a stream's task nobody asks.
        AWAITED.try_with(|said| said.set(awaited)).unwrap_or(());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// Asked for before anything was taken.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs a stream to its end, or until its client has taken nothing for `max_stall`: then it is reset.
pub(super) async fn attend(stream: impl Future<Output = ()>, max_stall: Duration) {
    let mut stream = pin!(stream);
    let mut awaited = Awaited::Us;
    let mut stall = pin!(None);
    poll_fn(|cx| {
        let (polled, now_awaited) =
            AWAITED.sync_scope(Cell::new(awaited), || (stream.as_mut().poll(cx), AWAITED.with(Cell::get)));
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if awaited != now_awaited {
            awaited = now_awaited;
            stall.set(match awaited {
                Awaited::Us => None,
                Awaited::Client { .. } => Some(sleep_until(Instant::now() + max_stall)),
            });
        }
        stall.as_mut().as_pin_mut().map_or(Poll::Pending, |stall| stall.poll(cx))
    })
    .await;
}

#[cfg(test)]
mod tests;

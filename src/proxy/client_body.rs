//! A client's body as it comes.
//!
//! Owns the one place that says that a body has come to its end: what only stopped coming is an error, so that nobody takes
//! half an upload for a whole one.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::BodyError;
use super::hush;
use super::pace::Pace;
use super::policy::Patience;
use super::quota::Share;
use super::tally::Tally;

/// A body that a client sends.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Incoming,
    over_http2: bool,
    pace: Pace,
    tally: Tally,
    unread: Option<Box<Unread>>,
}

/// What was read already and is to be read again.
#[derive(Debug)]
struct Unread {
    data: Bytes,
    trailers: HeaderMap,
    _share: Option<Share>,
}

impl ClientBody {
    /// The body of a request of this `version`, waited for with `patience`.
    #[must_use]
    pub fn new(incoming: Incoming, version: Version, patience: Patience) -> Self {
        let (over_http2, pace) = (version == Version::HTTP_2, Pace::new(patience));
        Self { incoming, over_http2, pace, tally: Tally::default(), unread: None }
    }

    /// The same, whose bytes count.
    #[must_use]
    pub fn counted(self, tally: Tally) -> Self {
        Self { tally, ..self }
    }

    /// The next frame; `None` at the end, if it is one.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.unread.as_mut().and_then(|unread| unread.frame()) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Poll::Ready(frame) = hush::poll_frame(&mut self.incoming, cx) else {
            return self.pace.poll_too_slow(cx).map(|()| Some(Err(BodyError::TooSlow)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.pace.came(length);
                self.tally.received(length);
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(BodyError::Request(error))),
            None if self.has_ended() => None,
            None => Some(Err(BodyError::CutOff)),
        })
    }

    /// Puts back what was read of it so far: `data`, and `trailers` if it came to its end. `share` is held meanwhile.
    pub(super) fn put_back(&mut self, data: Bytes, trailers: HeaderMap, share: Option<Share>) {
        self.unread = Some(Box::new(Unread { data, trailers, _share: share }));
    }

    /// As [`ClientBody::poll_frame`].
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Whether the client keeps its reader waiting.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.pace.is_waiting()
    }

    /// Whether nothing follows. A chunked body may be at its end all the same.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.unread.as_ref().is_none_or(|unread| unread.is_empty()) && self.incoming.is_end_stream()
    }

    /// How much is still to come.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        match (&self.unread, rest.exact()) {
            (None, _) => rest,
            (Some(unread), Some(bytes)) => SizeHint::with_exact(bytes + unread.data.len() as u64),
            (Some(_), None) => SizeHint::default(),
        }
    }

    /// hyper ends a body without an error where a client resets its HTTP/2 stream and says that it is no error.
    fn has_ended(&self) -> bool {
        self.incoming.is_end_stream() || !self.over_http2 && self.incoming.size_hint().lower() == 0
    }
}

impl Unread {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailers.is_empty()
    }

    fn frame(&mut self) -> Option<Frame<Bytes>> {
        if !self.data.is_empty() {
            return Some(Frame::data(std::mem::take(&mut self.data)));
        }
        (!self.trailers.is_empty()).then(|| Frame::trailers(std::mem::take(&mut self.trailers)))
    }
}

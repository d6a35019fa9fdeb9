//! A client's body as it comes.
//!
//! Owns the one place that says that a body has come to its end: what only stopped coming is an error, so that nobody takes
//! half an upload for a whole one.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::BodyError;
use super::pace::Pace;
use super::policy::Patience;

/// A body that a client sends.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Incoming,
    over_http2: bool,
    pace: Pace,
}

impl ClientBody {
    /// The body of a request of this `version`, waited for with `patience`.
    #[must_use]
    pub fn new(incoming: Incoming, version: Version, patience: Patience) -> Self {
        Self { incoming, over_http2: version == Version::HTTP_2, pace: Pace::new(patience) }
    }

    /// The next frame; `None` at the end, if it is one.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.pace.poll_too_slow(cx).map(|()| Some(Err(BodyError::TooSlow)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.pace.came(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(BodyError::Request(error))),
            None if self.has_ended() => None,
            None => Some(Err(BodyError::CutOff)),
        })
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
        self.incoming.is_end_stream()
    }

    /// How much is still to come.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// hyper ends a body without an error where a client resets its HTTP/2 stream and says that it is no error.
    fn has_ended(&self) -> bool {
        self.incoming.is_end_stream() || !self.over_http2 && self.incoming.size_hint().lower() == 0
    }
}

//! The bodies that pass through the edge.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::pass::PassedBody;
use super::relay::RelayBody;
use super::upload::Upload;
use super::upstream::ResponseError;

/// A body that is in memory.
#[derive(Clone, Debug, Default)]
pub struct WholeBody {
    data: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
}

/// What is sent to an upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// Read whole before anything was claimed.
    Whole(WholeBody),
    /// Passed on as it comes.
    Stream(Upload),
}

/// What is sent to a client.
#[derive(Debug)]
pub enum ReplyBody {
    /// A problem, a replay, or an answer that was recorded before it is sent.
    Whole(WholeBody),
    /// A guarded answer that is being recorded while it is sent.
    Relay(RelayBody),
    /// Passed on as it comes.
    Stream(PassedBody),
}

/// Why a body ends early. The connection it was to be written to breaks.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The client has left.
    #[error("the client has left")]
    ClientGone,
    /// The client's body broke off.
    #[error("the request broke off: {0}")]
    Request(#[from] hyper::Error),
    /// Nothing of the client's body came for too long.
    #[error("nothing of the request came for too long")]
    Silent,
    /// The upstream's body broke off.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The answer's outcome is unknown, or its client is too slow: it must not look whole.
    #[error("the answer was cut off on purpose")]
    Cut,
}

impl WholeBody {
    /// A body of `data`, followed by `trailers` unless they are empty.
    #[must_use]
    pub fn new(data: Bytes, trailers: HeaderMap) -> Self {
        let trailers = (!trailers.is_empty()).then(|| Box::new(trailers));
        Self { data: (!data.is_empty()).then_some(data), trailers }
    }
}

impl Body for WholeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(|trailers| Frame::trailers(*trailers)));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.data.as_ref().map_or(0, |data| data.len() as u64);
        if self.trailers.is_none() {
            return SizeHint::with_exact(length);
        }
        // Trailers need the chunked coding, which hyper takes only where the length is not known.
        let mut hint = SizeHint::new();
        hint.set_lower(length);
        hint
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Relay(body) => Pin::new(body).poll_frame(cx),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Relay(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Relay(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

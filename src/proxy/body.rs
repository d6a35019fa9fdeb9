//! The bodies that pass through the edge.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::hashed_upload::HashedUpload;
use super::pass::PassedBody;
use super::problem::{BadRequest, Problem};
use super::relay::RelayBody;
use super::upload::Upload;
use super::upstream::ResponseError;

/// A body that is in memory.
#[derive(Clone, Debug, Default)]
pub struct WholeBody {
    data: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
}

/// What is sent to an upstream. What is large is boxed: a body passes many hands.
#[derive(Debug)]
pub enum RequestBody {
    /// Read whole before anything was claimed.
    Whole(WholeBody),
    /// Passed on as it comes.
    Stream(Box<Upload>),
    /// Passed on as it comes, and hashed.
    Hashed(Box<HashedUpload>),
}

/// What is sent to a client. What is large is boxed: a body passes many hands.
#[derive(Debug)]
pub enum ReplyBody {
    /// A problem, a replay, or an answer that was recorded before it is sent.
    Whole(WholeBody),
    /// A guarded answer that is being recorded while it is sent.
    Relay(Box<RelayBody>),
    /// Passed on as it comes.
    Stream(Box<PassedBody>),
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
    /// The client's body stopped before its end, without an error.
    #[error("the request was cut off")]
    CutOff,
    /// The client's body came too slowly.
    #[error("the request came too slowly")]
    TooSlow,
    /// The client's body grew larger than the route takes.
    #[error("the request is larger than {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The upstream's body broke off.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The answer's outcome is unknown, or its client is too slow: it must not look whole.
    #[error("the answer was cut off on purpose")]
    Cut,
}

impl BodyError {
    /// What a client is told whose body ended so before anything of it was sent. A body that is not framed as it should be is
    /// malformed; any other early end is the client's own.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::TooSlow => Problem::RequestTimeout { is_passed_on: false },
            Self::TooLarge { max_bytes } => Problem::RequestTooLarge { max_bytes: *max_bytes },
            Self::Request(error) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
                match cause.map(io::Error::kind) {
                    Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => BadRequest::Body.into(),
                    _ => Problem::ClientGone,
                }
            }
            Self::CutOff | Self::ClientGone | Self::Response(_) | Self::Cut => Problem::ClientGone,
        }
    }
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
            Self::Hashed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
            Self::Hashed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
            Self::Hashed(body) => body.size_hint(),
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

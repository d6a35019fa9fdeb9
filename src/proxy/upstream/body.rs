//! A response body on its way from an upstream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Sleep, sleep};

use super::balance::InFlight;
use super::endpoint::Connection;
use crate::proxy::hush;

/// A response body. At its end the connection goes back to the pool; dropped early, the connection is closed, or the stream
/// on it is.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    over_http2: bool,
    returning: Option<Returning>,
    max_silence: Duration,
    /// Runs while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
}

/// Why a response body ends early.
#[derive(Debug, Error)]
pub enum ResponseError {
    /// It broke off.
    #[error("the response broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// It stopped before its end, without an error.
    #[error("the response was cut off")]
    CutOff,
    /// Nothing came for longer than `stream_idle_timeout`.
    #[error("nothing came for too long")]
    Silent,
}

/// What is given back at the end.
#[derive(Debug)]
pub(super) struct Returning {
    pub(super) connection: Connection,
    pub(super) in_flight: InFlight,
    pub(super) keep: Duration,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, returning: Returning, max_silence: Duration) -> Self {
        let over_http2 = matches!(returning.connection, Connection::Http2(_));
        let mut body = Self { incoming, over_http2, returning: Some(returning), max_silence, silence: None };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
    }

    /// hyper ends a body without an error where the upstream resets the stream and says that it is no error.
    fn is_cut_off(&self) -> bool {
        self.over_http2 && !self.incoming.is_end_stream()
    }

    /// Whether nothing has come for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let max_silence = self.max_silence;
        self.silence.get_or_insert_with(|| Box::pin(sleep(max_silence))).as_mut().poll(cx)
    }

    fn give_back(&mut self) {
        if let Some(Returning { connection, in_flight, keep }) = self.returning.take() {
            in_flight.endpoint.give_back(connection, keep);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let Poll::Ready(frame) = hush::poll_frame(&mut self.incoming, cx) else {
            return self.poll_silence(cx).map(|()| Some(Err(ResponseError::Silent)));
        };
        self.silence = None;
        match &frame {
            None if self.is_cut_off() => {
                self.returning = None;
                return Poll::Ready(Some(Err(ResponseError::CutOff)));
            }
            None => self.give_back(),
            // Nobody asks for what follows trailers.
            Some(Ok(frame)) if frame.is_trailers() || self.incoming.is_end_stream() => self.give_back(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.returning = None,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(ResponseError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

//! A request body on its way to an upstream, passed on as it comes.
//!
//! Says when it has ended, since only then the upstream can be expected to answer, and how, where that is the client's
//! fault. It ends itself when nothing comes for too long.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::body::BodyError;
use super::headers::Protected;
use super::problem::Problem;
use super::request;

/// A body that streams to an upstream.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    protected: Arc<Protected>,
    /// Dropped at the end, which is what the other half waits for; it says so first if the upload is not whole.
    ended: Option<oneshot::Sender<Problem>>,
    max_silence: Duration,
    /// Runs while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// The upload, and what resolves when it has ended, with the problem if it ended early: `None` if there is nothing to
    /// upload.
    #[must_use]
    pub fn new(
        body: Incoming,
        max_silence: Duration,
        protected: Arc<Protected>,
    ) -> (Self, Option<oneshot::Receiver<Problem>>) {
        let (ended, ending) = oneshot::channel();
        let ending = (!body.is_end_stream()).then_some(ending);
        (Self { body, protected, ended: Some(ended), max_silence, silence: None }, ending)
    }

    fn ends_early(&mut self, problem: Problem) {
        if let Some(ended) = self.ended.take() {
            // The other half may be gone already: then nobody is left to be told.
            drop(ended.send(problem));
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let max_silence = self.max_silence;
            let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(max_silence)));
            let silent = silence.as_mut().poll(cx);
            if silent.is_ready() {
                self.ends_early(Problem::RequestTimeout);
            }
            return silent.map(|()| Some(Err(BodyError::Silent)));
        };
        self.silence = None;
        match &frame {
            Some(Err(error)) => self.ends_early(request::broken_off(error)),
            Some(Ok(_)) if !self.body.is_end_stream() => {}
            Some(Ok(_)) | None => self.ended = None,
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(BodyError::Request)?;
            Ok(match frame.into_trailers() {
                Ok(trailers) => Frame::trailers(self.protected.without(trailers)),
                Err(data) => data,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

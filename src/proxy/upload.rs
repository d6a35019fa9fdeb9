//! A request body on its way to an upstream, passed on as it comes.
//!
//! Says when it has ended, since only then the upstream can be expected to answer, and how, where that is the client's
//! fault.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::body::BodyError;
use super::client_body::ClientBody;
use super::headers::Protected;
use super::problem::Problem;

/// A body that streams to an upstream.
#[derive(Debug)]
pub struct Upload {
    body: ClientBody,
    protected: Arc<Protected>,
    /// Dropped at the end, which is what the other half waits for; it says so first if the upload is not whole.
    ended: Option<oneshot::Sender<Problem>>,
}

impl Upload {
    /// The upload, and what resolves when it has ended, with the problem if it ended early: `None` if there is nothing to
    /// upload.
    #[must_use]
    pub fn new(body: ClientBody, protected: Arc<Protected>) -> (Self, Option<oneshot::Receiver<Problem>>) {
        let (ended, ending) = oneshot::channel();
        let ending = (!body.is_end_stream()).then_some(ending);
        (Self { body, protected, ended: Some(ended) }, ending)
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
        let Poll::Ready(frame) = self.body.poll_frame(cx) else { return Poll::Pending };
        match &frame {
            Some(Err(BodyError::TooSlow)) => {
                self.ends_early(Problem::RequestTimeout { is_passed_on: true });
            }
            Some(Err(error)) => self.ends_early(error.problem()),
            Some(Ok(_)) if !self.body.is_end_stream() => {}
            Some(Ok(_)) | None => self.ended = None,
        }
        Poll::Ready(frame.map(|frame| {
            Ok(match frame?.into_trailers() {
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

//! A guarded request's body on its way to an upstream, hashed as it passes.
//!
//! Owns the fingerprint of a stream: there is one if, and only if, the body came to its end (I4). Two hold the body: what is
//! sent to the upstream, and the guarded work, which reads on by itself once the upstream is done with it. A body that does
//! not come to its end never looks whole to the upstream: it ends in an error, which breaks the connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::body::BodyError;
use super::client_body::ClientBody;
use super::headers::Protected;
use super::problem::Problem;
use super::request::fields;
use crate::idempotency::{Fingerprint, FingerprintHasher};

/// A body that is hashed as it is read.
#[derive(Debug)]
pub struct HashedBody {
    body: ClientBody,
    protected: Arc<Protected>,
    max_bytes: u64,
    read_bytes: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading(FingerprintHasher),
    Whole(Fingerprint),
    Broken(Problem),
}

/// What goes to the upstream.
#[derive(Debug)]
pub struct HashedUpload {
    /// What was read before anything was sent.
    first: Option<Frame<Bytes>>,
    shared: Arc<Shared>,
    /// Dropped when nothing more is read here.
    ended: Option<DropGuard>,
    remaining_bytes: Option<u64>,
}

/// What stays with the guarded work.
#[derive(Debug)]
pub struct Reading {
    shared: Arc<Shared>,
    ended: CancellationToken,
}

#[derive(Debug)]
struct Shared(Mutex<(HashedBody, Reader)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Upload,
    Work,
}

impl HashedBody {
    /// A body of at most `max_bytes`.
    ///
    /// # Errors
    ///
    /// [`Problem::RequestTooLarge`] if it says beforehand that it is larger.
    pub fn new(
        body: ClientBody,
        hasher: FingerprintHasher,
        max_bytes: u64,
        protected: Arc<Protected>,
    ) -> Result<Self, Problem> {
        if body.size_hint().lower() > max_bytes {
            return Err(Problem::RequestTooLarge { max_bytes });
        }
        let is_empty = body.is_end_stream();
        let mut reading = Self { body, protected, max_bytes, read_bytes: 0, state: State::Reading(hasher) };
        if is_empty {
            reading.end(&HeaderMap::new());
        }
        Ok(reading)
    }

    /// The first frame; `None` if there is none. Nothing may be sent before it is there.
    ///
    /// # Errors
    ///
    /// [`Problem`]: it did not come.
    pub async fn first(&mut self) -> Result<Option<Frame<Bytes>>, Problem> {
        poll_fn(|cx| self.poll_frame(cx)).await.transpose().map_err(|error| error.problem())
    }

    /// Reads to the end, and keeps nothing.
    ///
    /// # Errors
    ///
    /// [`Problem`]: it did not come to its end.
    pub async fn read_whole(&mut self) -> Result<Fingerprint, Problem> {
        poll_fn(|cx| self.poll_whole(cx)).await
    }

    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fingerprint, Problem>> {
        loop {
            match &self.state {
                State::Whole(fingerprint) => return Poll::Ready(Ok(*fingerprint)),
                State::Broken(problem) => return Poll::Ready(Err(problem.clone())),
                State::Reading(_) => drop(ready!(self.poll_frame(cx))),
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let State::Reading(hasher) = &mut self.state else { return Poll::Ready(None) };
        let Some(frame) = ready!(self.body.poll_frame(cx)) else {
            self.end(&HeaderMap::new());
            return Poll::Ready(None);
        };
        let frame = match frame.map(Frame::into_data) {
            Err(error) => Err(error),
            Ok(Ok(data)) => {
                self.read_bytes += data.len() as u64;
                hasher.update(&data);
                let max_bytes = self.max_bytes;
                if self.read_bytes > max_bytes {
                    Err(BodyError::TooLarge { max_bytes })
                } else {
                    if self.body.is_end_stream() {
                        self.end(&HeaderMap::new());
                    }
                    Ok(Frame::data(data))
                }
            }
            Ok(Err(frame)) => {
                let trailers = self.protected.without(frame.into_trailers().unwrap_or_default());
                self.end(&trailers);
                Ok(Frame::trailers(trailers))
            }
        };
        if let Err(error) = &frame {
            self.state = State::Broken(error.problem());
        }
        Poll::Ready(Some(frame))
    }

    fn end(&mut self, trailers: &HeaderMap) {
        if let State::Reading(hasher) = &self.state {
            self.state = State::Whole(hasher.clone().finish(fields(trailers)));
        }
    }
}

impl HashedUpload {
    /// The two halves of `body`, whose `first` frame was read.
    #[must_use]
    pub fn new(body: HashedBody, first: Option<Frame<Bytes>>) -> (Self, Reading) {
        let ended = CancellationToken::new();
        let first_bytes = first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        let remaining_bytes = body.body.size_hint().exact().map(|rest| rest + first_bytes as u64);
        let is_whole = !matches!(body.state, State::Reading(_));
        let shared = Arc::new(Shared(Mutex::new((body, Reader::Upload))));
        let guard = ended.clone().drop_guard();
        let upload =
            Self { first, shared: shared.clone(), ended: (!is_whole).then_some(guard), remaining_bytes };
        (upload, Reading { shared, ended })
    }
}

impl Body for HashedUpload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => {
                let shared = self.shared.clone();
                let mut shared = shared.lock();
                let (body, reader) = &mut *shared;
                if *reader == Reader::Work || matches!(body.state, State::Broken(_)) {
                    return Poll::Ready(Some(Err(BodyError::Cut)));
                }
                let frame = ready!(body.poll_frame(cx));
                if !matches!(body.state, State::Reading(_)) {
                    self.ended = None;
                }
                frame
            }
        };
        if let (Some(remaining), Some(Ok(frame))) = (&mut self.remaining_bytes, &frame) {
            *remaining = remaining.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.remaining_bytes == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining_bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Reading {
    /// Returns once the upload reads no more: the body has ended, or the upstream is done with it.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// How the body ended, if it has: with its fingerprint, or with what the client could be told.
    #[must_use]
    pub fn end(&self) -> Option<Result<Fingerprint, Problem>> {
        match &self.shared.lock().0.state {
            State::Reading(_) => None,
            State::Whole(fingerprint) => Some(Ok(*fingerprint)),
            State::Broken(problem) => Some(Err(problem.clone())),
        }
    }

    /// Whether the client keeps the upstream waiting, rather than the upstream the client.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.shared.lock().0.body.is_waited_for()
    }

    /// How many bytes were read.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.shared.lock().0.read_bytes
    }

    /// Takes the body away from the upload, which ends in an error if it is not done, and reads what is left.
    ///
    /// # Errors
    ///
    /// [`Problem`]: it did not come to its end.
    pub async fn read_rest(&self) -> Result<Fingerprint, Problem> {
        self.shared.lock().1 = Reader::Work;
        poll_fn(|cx| self.shared.lock().0.poll_whole(cx)).await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (HashedBody, Reader)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

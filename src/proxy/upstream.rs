//! The way to an upstream, and the one place that knows whether anything was sent.
//!
//! Owns the classification of failures at the connection itself: a request that was never handed to a socket comes back and
//! may go to the next endpoint; once a byte may have been written it never goes anywhere again.

mod connect;
mod pool;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::body::RequestBody;
use super::policy::{self, UpstreamHost};
use super::reply::is_switch;
use crate::idempotency::{NotSentCause, UnknownCause};
use connect::Connector;
use pool::{Connection, Pool};

pub use pool::Reuse;

/// How many fields hyper reads unless told otherwise. Told the same number it would not keep them on the stack.
pub const HYPER_MAX_HEADERS: usize = 100;

/// A connection's own `Keep-Alive` promise is trusted for this much less: the answer was under way when it was made.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(500);

/// A group of endpoints that serve the same API.
#[derive(Debug)]
pub struct Upstream {
    params: policy::Upstream,
    endpoints: Vec<Endpoint>,
    /// Round robin: the endpoint that the next request tries first.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Endpoint {
    connector: Connector,
    pool: Arc<Pool>,
    host: Option<HeaderValue>,
}

/// Why a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Provably no byte was sent.
    NotSent(NotSentCause),
    /// A byte may have been sent.
    Lost(UnknownCause),
}

/// A response body. At its end the connection goes back to the pool; dropped early, the connection is closed.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
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
    /// Nothing came for longer than `stream_idle_timeout`.
    #[error("nothing came for too long")]
    Silent,
}

#[derive(Debug)]
struct Returning {
    connection: Connection,
    pool: Arc<Pool>,
    keep: Duration,
}

impl Upstream {
    /// The upstream that `params` describe. Nothing is connected yet.
    #[must_use]
    pub fn new(params: policy::Upstream) -> Self {
        let endpoint = |endpoint: &policy::Endpoint| Endpoint {
            connector: Connector::new(endpoint, &params),
            pool: Arc::new(Pool::new(params.max_idle_connections)),
            host: match params.host {
                UpstreamHost::Client => None,
                UpstreamHost::Endpoint => HeaderValue::from_str(&endpoint.authority).ok(),
            },
        };
        Self { endpoints: params.endpoints.iter().map(endpoint).collect(), next: AtomicUsize::new(0), params }
    }

    /// The upstream's settings.
    #[must_use]
    pub const fn params(&self) -> &policy::Upstream {
        &self.params
    }

    /// Sends `request` to one endpoint and returns once the response head is there. Each endpoint is tried once, in turn,
    /// as long as nothing was sent. Right before the request is handed to a connection `may_send` is asked a last time.
    /// `reuse` says which idle connections may be taken.
    ///
    /// # Errors
    ///
    /// [`SendError`]: no response, and whether anything was sent.
    pub async fn send(
        &self,
        mut request: Request<RequestBody>,
        reuse: Reuse,
        may_send: impl Fn() -> bool,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let upgrading = request.headers().contains_key(UPGRADE);
        let mut cause = NotSentCause::ConnectFailed;
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len().max(1);
        for endpoint in self.endpoints.iter().cycle().skip(first).take(self.endpoints.len()) {
            if let Some(host) = &endpoint.host {
                request.headers_mut().insert(HOST, host.clone());
            }
            loop {
                let idle = endpoint.pool.take(reuse);
                let fresh = idle.is_none();
                let mut connection = match idle {
                    Some(connection) => connection,
                    // Boxed, as it is rare and would make every exchange larger.
                    None => match Box::pin(endpoint.connector.connect()).await {
                        Ok(connection) => connection,
                        Err(failed) => {
                            cause = failed;
                            break;
                        }
                    },
                };
                if !may_send() {
                    return Err(SendError::NotSent(NotSentCause::LeaseLapsed));
                }
                match connection.sender.try_send_request(request).await {
                    Ok(response) => return self.received(response, upgrading, connection, endpoint),
                    Err(mut error) => match error.take_message() {
                        // hyper hands a request back only if no byte of it was written.
                        Some(unwritten) => request = unwritten,
                        None => return Err(SendError::Lost(classify(&error.into_error()))),
                    },
                }
                cause = NotSentCause::Unwritten;
                if fresh {
                    break;
                }
            }
        }
        Err(SendError::NotSent(cause))
    }

    /// Closes the connections that were idle for too long.
    pub fn sweep(&self) {
        for endpoint in &self.endpoints {
            endpoint.pool.sweep();
        }
    }

    fn received(
        &self,
        response: Response<Incoming>,
        upgrading: bool,
        connection: Connection,
        endpoint: &Endpoint,
    ) -> Result<Response<UpstreamBody>, SendError> {
        if !is_framed_once(response.headers()) || is_switch(response.status()) && !upgrading {
            return Err(SendError::Lost(UnknownCause::InvalidAnswer));
        }
        let keep = keep_alive(response.headers()).map_or(self.params.idle_timeout, |promised| {
            promised.saturating_sub(KEEP_ALIVE_MARGIN).min(self.params.idle_timeout)
        });
        let returning = Some(Returning { connection, pool: endpoint.pool.clone(), keep });
        Ok(response.map(|incoming| {
            let max_silence = self.params.stream_idle_timeout;
            let mut body = UpstreamBody { incoming, returning, max_silence, silence: None };
            if body.incoming.is_end_stream() {
                body.give_back();
            }
            body
        }))
    }
}

impl UpstreamBody {
    /// Whether nothing has come for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let max_silence = self.max_silence;
        self.silence.get_or_insert_with(|| Box::pin(sleep(max_silence))).as_mut().poll(cx)
    }

    fn give_back(&mut self) {
        if let Some(Returning { connection, pool, keep }) = self.returning.take() {
            pool.give_back(connection, keep);
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
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.poll_silence(cx).map(|()| Some(Err(ResponseError::Silent)));
        };
        self.silence = None;
        match &frame {
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

/// Why an exchange failed, in the words of the core.
#[must_use]
pub fn classify(error: &hyper::Error) -> UnknownCause {
    debug!(%error, "an exchange with an upstream failed after its request may have been sent");
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        UnknownCause::InvalidAnswer
    } else {
        UnknownCause::ConnectionLost
    }
}

/// Whether the head frames its body in one way only: a length, or the chunked coding and nothing else (RFC 9112 §6.3).
/// hyper refuses lengths that differ.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && !headers.contains_key(CONTENT_LENGTH)
        }
        (Some(_), Some(_)) => false,
    }
}

/// How long the upstream says that it keeps an idle connection (`Keep-Alive: timeout=5`).
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value.split(',').find_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.trim().parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

//! The way to an upstream, and the one place that knows whether anything was sent.
//!
//! Owns the classification of failures at the connection itself: a request that was never handed to a socket comes back and
//! may go to the next endpoint; once a byte may have been written it never goes anywhere again.

mod balance;
mod body;
mod connect;
mod endpoint;
mod health;
mod http2;
mod pool;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use thiserror::Error;
use tracing::debug;

pub use self::body::{ResponseError, UpstreamBody};
pub use self::pool::Reuse;
pub use self::tls::TlsError;

use self::balance::{Balance, InFlight};
use self::body::Returning;
use self::endpoint::{Connection, Endpoint, Found};
use self::tls::{FilesDigest, Tls};
use super::body::RequestBody;
use super::policy::{self, Protocol};
use super::reply::is_switch;
use super::tally::Tally;
use crate::idempotency::{NotSentCause, UnknownCause};

/// How many bytes hyper may hold of what one connection reads, and again of what it writes, where a head may have
/// `max_header_bytes`: as many, and 16 KiB of a body. hyper's own bound is 408 KiB, which a slow reader would fill.
#[must_use]
pub const fn hyper_buffer_bytes(max_header_bytes: usize) -> usize {
    max_header_bytes.saturating_add(16 * 1024)
}

/// How many fields hyper reads unless told otherwise. Told the same number it would not keep them on the stack.
pub const HYPER_MAX_HEADERS: usize = 100;

/// A connection's own `Keep-Alive` promise is trusted for this much less: the answer was under way when it was made.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(500);

/// How often one endpoint is tried with connections that others have used before: each try found one that had just ended.
const MAX_REUSE_TRIES: usize = 64;

/// A group of endpoints that serve the same API.
#[derive(Debug)]
pub struct Upstream {
    params: policy::Upstream,
    endpoints: Vec<Arc<Endpoint>>,
    balance: Balance,
    /// What it was made of, beside the parameters.
    files: FilesDigest,
    is_watched: AtomicBool,
}

/// How an endpoint is at present.
#[derive(Clone, Copy, Debug)]
pub struct EndpointNow<'a> {
    /// Where it is, as the file says it.
    pub address: &'a str,
    /// Whether it is neither passed over nor failing its health check.
    pub is_usable: bool,
    /// How many connections it has, busy and idle ones together.
    pub connections: usize,
}

/// Why an upstream cannot be used.
#[derive(Debug, Error)]
#[error("upstream {name}: {source}")]
pub struct UpstreamError {
    /// Its name.
    name: String,
    /// What is wrong.
    source: TlsError,
}

/// Why a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Provably no byte was sent, or the upstream itself said that it processed none.
    NotSent(NotSentCause),
    /// A byte may have been sent.
    Lost(UnknownCause),
}

/// Why one endpoint gave no response. What comes back may be sent elsewhere.
struct Failed {
    error: SendError,
    request: Option<Box<Request<RequestBody>>>,
}

/// What holds for one request at every endpoint.
#[derive(Clone, Copy)]
struct Terms {
    reuse: Reuse,
    /// It may switch protocols, which only HTTP/1.1 can.
    may_switch: bool,
}

impl Upstream {
    /// The upstream that `params` describe. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] if TLS cannot be spoken as `params` want it.
    pub fn new(params: policy::Upstream) -> Result<Self, UpstreamError> {
        // Taken first: what is written meanwhile is found by the next look.
        let files = params.tls.digest();
        let endpoints =
            endpoints(&params).map_err(|source| UpstreamError { name: params.name.clone(), source })?;
        Ok(Self {
            endpoints,
            balance: Balance::new(params.ejection),
            params,
            files,
            is_watched: AtomicBool::new(false),
        })
    }

    /// Whether it was made of other files than there are now: certificates are renewed.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.files != self.params.tls.digest()
    }

    /// The upstream's settings.
    #[must_use]
    pub const fn params(&self) -> &policy::Upstream {
        &self.params
    }

    /// Sends `request` to one endpoint and returns once the response head is there. Each endpoint is tried once, in turn,
    /// as long as nothing was sent. Right before the request is handed to a connection `may_send` is asked a last time.
    /// `reuse` says which idle connections may be taken; `tally` hears where the request goes.
    ///
    /// # Errors
    ///
    /// [`SendError`]: no response, and whether anything was sent.
    pub async fn send(
        &self,
        mut request: Box<Request<RequestBody>>,
        reuse: Reuse,
        may_send: impl Fn() -> bool,
        tally: &Tally,
    ) -> Result<Box<Response<UpstreamBody>>, SendError> {
        let may_switch = self.params.protocol != Protocol::Http2 && request.headers().contains_key(UPGRADE);
        let terms = Terms { reuse, may_switch };
        let first = self.balance.first(&self.endpoints);
        let mut others = None;
        let mut next = self.endpoints.get(first).cloned();
        let mut cause = NotSentCause::ConnectFailed;
        while let Some(endpoint) = next {
            match self.send_to(endpoint, request, terms, (&may_send, tally)).await {
                Ok(response) => return Ok(response),
                Err(Failed { error: SendError::NotSent(failed), request: Some(unsent) }) => {
                    (cause, request) = (failed, unsent);
                }
                Err(Failed { error, .. }) => return Err(error),
            }
            next =
                others.get_or_insert_with(|| self.balance.others(first, &self.endpoints).into_iter()).next();
        }
        Err(SendError::NotSent(cause))
    }

    /// How its endpoints are at present.
    pub fn endpoints_now(&self) -> impl Iterator<Item = EndpointNow<'_>> {
        self.endpoints.iter().map(|endpoint| EndpointNow {
            address: &endpoint.label,
            is_usable: self.balance.is_usable(&endpoint.standing),
            connections: endpoint.connections(),
        })
    }

    /// Closes the connections that were idle for too long.
    pub fn sweep(&self) {
        for endpoint in &self.endpoints {
            endpoint.sweep();
        }
    }

    /// The work of watching the endpoints' health for as long as there is this upstream: one future for each endpoint, none
    /// without a check, and none but the first time.
    pub fn health_checks(self: &Arc<Self>) -> Vec<impl Future<Output = ()> + Send + use<>> {
        let Some(check) = &self.params.health_check else { return Vec::new() };
        if self.is_watched.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let watch = |index| health::watch(Arc::downgrade(self), index, check.clone());
        (0..self.endpoints.len()).map(watch).collect()
    }

    async fn send_to(
        &self,
        endpoint: Arc<Endpoint>,
        mut request: Box<Request<RequestBody>>,
        terms: Terms,
        (may_send, tally): (&impl Fn() -> bool, &Tally),
    ) -> Result<Box<Response<UpstreamBody>>, Failed> {
        let in_flight = InFlight::begin(endpoint, self.endpoints.len() > 1);
        let endpoint = &in_flight.endpoint;
        let own_target =
            endpoint.address(&mut request).map_err(|_| Failed::for_good(NotSentCause::Unwritten))?;
        let mut cause = NotSentCause::Unwritten;
        for _ in 0..MAX_REUSE_TRIES {
            let found = match endpoint.take(terms.reuse, terms.may_switch) {
                Some(connection) => Found { connection, is_fresh: false },
                // Boxed, as it is rare and would make every exchange larger.
                None => match Box::pin(self.connect(endpoint, terms)).await {
                    Ok(found) => found,
                    Err(failed) => {
                        cause = failed;
                        break;
                    }
                },
            };
            if !may_send() {
                return Err(Failed::for_good(NotSentCause::LeaseLapsed));
            }
            tally.goes_to(&endpoint.label);
            let is_fresh = found.is_fresh;
            match exchange(found, request, &endpoint.scheme).await {
                Ok((response, connection)) => {
                    return self.received(response, connection, in_flight, terms.may_switch);
                }
                Err(Failed { error: SendError::NotSent(failed), request: Some(unsent) }) => {
                    (cause, request) = (failed, unsent);
                }
                Err(failed) => return Err(failed),
            }
            if is_fresh || cause == NotSentCause::Refused {
                break;
            }
        }
        if let Some(target) = own_target {
            *request.uri_mut() = target;
        }
        Err(Failed { error: SendError::NotSent(cause), request: Some(request) })
    }

    async fn connect(&self, endpoint: &Endpoint, terms: Terms) -> Result<Found, NotSentCause> {
        let found = endpoint.connect(terms.reuse, terms.may_switch).await;
        match &found {
            Ok(_) => self.balance.connected(endpoint),
            Err(NotSentCause::Saturated) => {}
            Err(_) => self.balance.failed(endpoint, &self.endpoints),
        }
        found
    }

    fn received(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        in_flight: InFlight,
        may_switch: bool,
    ) -> Result<Box<Response<UpstreamBody>>, Failed> {
        self.balance.worked(&in_flight.endpoint);
        let is_sound = is_framed_once(response.headers())
            && (may_switch || !is_switch(response.status()))
            && response.headers().len() <= self.params.max_response_headers;
        if !is_sound {
            return Err(Failed { error: SendError::Lost(UnknownCause::InvalidAnswer), request: None });
        }
        let keep = keep_alive(response.headers()).map_or(self.params.idle_timeout, |promised| {
            promised.saturating_sub(KEEP_ALIVE_MARGIN).min(self.params.idle_timeout)
        });
        let returning = Returning { connection, in_flight, keep };
        let max_silence = self.params.stream_idle_timeout;
        // Boxed, as the request is.
        Ok(Box::new(response.map(|incoming| UpstreamBody::new(incoming, returning, max_silence))))
    }
}

impl Failed {
    const fn for_good(cause: NotSentCause) -> Self {
        Self { error: SendError::NotSent(cause), request: None }
    }
}

fn endpoints(params: &policy::Upstream) -> Result<Vec<Arc<Endpoint>>, TlsError> {
    let config = match params.endpoints.iter().any(|endpoint| endpoint.is_tls) {
        true => Some(params.tls.client_config()?),
        false => None,
    };
    let endpoint = |endpoint: &policy::Endpoint| {
        let tls = match (&config, endpoint.is_tls) {
            (Some(config), true) => Some(Tls::new(config, &endpoint.address, params)?),
            _ => None,
        };
        Ok(Arc::new(Endpoint::new(endpoint, params, tls)))
    };
    params.endpoints.iter().map(endpoint).collect()
}

/// One request on one connection, which comes back with the response head.
async fn exchange(
    found: Found,
    request: Box<Request<RequestBody>>,
    scheme: &Scheme,
) -> Result<(Response<Incoming>, Connection), Failed> {
    match found.connection {
        Connection::Http1(mut connection) => {
            connection.probe.begin_exchange(connection.is_stale);
            match connection.sender.try_send_request(*request).await {
                Ok(response) => Ok((response, Connection::Http1(connection))),
                Err(mut error) => Err(match error.take_message() {
                    // hyper hands a request back only if no byte of it was written.
                    Some(unwritten) => Failed {
                        error: SendError::NotSent(NotSentCause::Unwritten),
                        request: Some(Box::new(unwritten)),
                    },
                    // hyper had begun with it, but it came no further than its own buffers.
                    None if connection.probe.seal_unwritten() => Failed::for_good(NotSentCause::Unwritten),
                    None => match error.into_error() {
                        error if found.is_fresh && tls::is_turned_away(&error) => {
                            Failed::for_good(NotSentCause::TlsFailed)
                        }
                        error => Failed { error: SendError::Lost(classify(&error)), request: None },
                    },
                }),
            }
        }
        // Boxed, as it is larger than what most requests need.
        Connection::Http2(mut stream) => match Box::pin(stream.send(*request, scheme.clone())).await {
            Ok(response) => Ok((response, Connection::Http2(stream))),
            Err(failed) => Err(failed),
        },
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

//! HTTP/2 to one endpoint (RFC 9113): connections that carry several requests at once.
//!
//! Owns how many each carries, what a request looks like on them, and the one proof that HTTP/2 has of a request that was
//! not processed: the peer itself refused its stream, or said goodbye with a lower last stream id (§8.7). A request that
//! was handed over may have been written, so that everything else proves nothing.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::{self, Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{Failed, SendError, classify};
use crate::idempotency::NotSentCause;
use crate::proxy::body::RequestBody;
use crate::proxy::policy;
use crate::proxy::socket::Probe;

/// How many streams are opened before the peer has said how many it allows: what hyper assumes too.
const INITIAL_MAX_STREAMS: usize = 100;

/// How a connection begins.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    max_header_list_bytes: u32,
    ping_interval: Duration,
    ping_timeout: Duration,
}

/// A connection that has sent nothing yet.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    probe: Probe,
    /// How many streams the peer allows.
    allowed_streams: Arc<AtomicUsize>,
}

/// The connections to one endpoint.
#[derive(Debug)]
pub(super) struct Connections {
    max_streams: usize,
    idle_timeout: Duration,
    max_age: Duration,
    /// None is given twice: streams may outlive their connection's place in `open`.
    next_id: AtomicU64,
    open: Mutex<Vec<Open>>,
}

/// The right to one stream on a connection, given back on drop.
#[derive(Debug)]
pub(super) struct Stream {
    /// Gone once the request is handed over: one that is handed over while hyper closes its queue comes back when nobody
    /// can send any more.
    sender: Option<SendRequest<RequestBody>>,
    id: u64,
    connections: Arc<Connections>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    connection: Connection,
    streams: usize,
    idle_since: Instant,
    until: Instant,
}

/// Runs hyper's tasks, but for the first, which is the connection itself: that is left where it can be taken.
#[derive(Clone)]
struct Tasks {
    tracker: TaskTracker,
    first: Arc<Mutex<Option<oneshot::Sender<Task>>>>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The other half waits in the same function.
            Some(first) => drop(first.send(Box::pin(task))),
            None => drop(self.tracker.spawn(task)),
        }
    }
}

impl Handshake {
    pub(super) fn new(params: &policy::Upstream) -> Self {
        Self {
            max_header_list_bytes: u32::try_from(params.max_response_header_bytes).unwrap_or(u32::MAX),
            ping_interval: params.http2.ping_interval,
            ping_timeout: params.http2.ping_timeout,
        }
    }

    /// Says hello on `stream`, and drives the connection on `tasks`.
    pub(super) async fn begin<T>(
        &self,
        stream: TokioIo<T>,
        probe: Probe,
        tasks: &TaskTracker,
    ) -> hyper::Result<Connection>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (first, mut reading) = oneshot::channel();
        let first = Arc::new(Mutex::new(Some(first)));
        let mut builder = Builder::new(Tasks { tracker: tasks.clone(), first });
        builder
            .timer(TokioTimer::new())
            .initial_max_send_streams(INITIAL_MAX_STREAMS)
            .max_header_list_size(self.max_header_list_bytes)
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout);
        let (sender, connection) = builder.handshake(stream).await?;
        let allowed_streams = Arc::new(AtomicUsize::new(INITIAL_MAX_STREAMS));
        let driven = drive(reading.try_recv().ok(), connection, allowed_streams.clone());
        drop(tasks.spawn(driven));
        Ok(Connection { sender, probe, allowed_streams })
    }
}

/// Drives the half of a connection that reads frames and the one that takes requests, in one task. hyper would read in a
/// task of its own, and a goodbye that was read between the two steps in which a request is handed over is told of that
/// request, whatever last stream it names: h2 had taken it by then, and the peer processes it.
async fn drive<T>(
    mut reading: Option<Task>,
    connection: hyper::client::conn::http2::Connection<T, RequestBody, Tasks>,
    allowed_streams: Arc<AtomicUsize>,
) where
    T: rt::Read + rt::Write + Send + Unpin + 'static,
{
    let mut taking = pin!(Some(connection));
    poll_fn(|cx| {
        if reading.as_mut().is_some_and(|reading| reading.as_mut().poll(cx).is_ready()) {
            reading = None;
        }
        if let Some(connection) = taking.as_mut().as_pin_mut() {
            let polled = connection.poll(cx);
            if let Some(connection) = &*taking {
                allowed_streams.store(connection.current_max_send_streams(), Ordering::Relaxed);
            }
            if let Poll::Ready(ended) = polled {
                taking.set(None);
                if let Err(error) = ended {
                    debug!(%error, "an HTTP/2 connection to an upstream ended");
                }
            }
        }
        if reading.is_none() && taking.is_none() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Connections {
    pub(super) fn new(params: &policy::Upstream) -> Arc<Self> {
        Arc::new(Self {
            max_streams: params.http2.max_streams,
            idle_timeout: params.idle_timeout,
            max_age: params.max_connection_age,
            next_id: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        })
    }

    /// A stream on a connection that has room. One that carries nothing at the moment must not have idled for longer than
    /// `max_idle`, and nothing may have arrived on it meanwhile.
    pub(super) fn take(self: &Arc<Self>, max_idle: Duration) -> Option<Stream> {
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|own| !own.connection.sender.is_closed());
        let found = open.iter_mut().find(|own| {
            let allowed = own.connection.allowed_streams.load(Ordering::Relaxed).min(self.max_streams);
            let is_fresh = own.streams > 0
                || now.duration_since(own.idle_since) <= max_idle && own.connection.probe.is_quiet();
            own.streams < allowed && now < own.until && is_fresh
        })?;
        found.streams += 1;
        Some(self.stream(found))
    }

    /// The first stream on a connection that was just made.
    pub(super) fn add(self: &Arc<Self>, connection: Connection) -> Stream {
        let now = Instant::now();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let own = Open { id, connection, streams: 1, idle_since: now, until: now + self.max_age };
        let stream = self.stream(&own);
        self.lock().push(own);
        stream
    }

    /// Closes a connection that carries nothing, if there is one.
    pub(super) fn drop_idle(&self) -> bool {
        let mut open = self.lock();
        let idle = open.iter().position(|own| own.streams == 0);
        idle.map(|index| open.remove(index)).is_some()
    }

    /// Closes the connections that were idle for too long or are too old.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|own| {
            let is_idle = own.streams == 0;
            let is_over = now.duration_since(own.idle_since) > self.idle_timeout || now >= own.until;
            !(own.connection.sender.is_closed() || is_idle && is_over)
        });
    }

    fn stream(self: &Arc<Self>, own: &Open) -> Stream {
        Stream { sender: Some(own.connection.sender.clone()), id: own.id, connections: self.clone() }
    }

    /// Takes a connection out of service. What it carries goes on.
    fn retire(&self, id: u64) {
        self.lock().retain(|own| own.id != id);
    }

    fn give_back(&self, id: u64) {
        if let Some(own) = self.lock().iter_mut().find(|own| own.id == id) {
            own.streams = own.streams.saturating_sub(1);
            own.idle_since = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Sends `request` and returns once the response head is there.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        scheme: Scheme,
    ) -> Result<Response<Incoming>, Failed> {
        let (parts, body) = request.into_parts();
        let not_sent = |cause, body: Option<RequestBody>| {
            let request = body.map(|body| Box::new(Request::from_parts(parts.clone(), body)));
            Failed { error: SendError::NotSent(cause), request }
        };
        let Some(head) = head(&parts, scheme) else { return Err(not_sent(NotSentCause::Unwritten, None)) };
        let spare = match &body {
            RequestBody::Whole(whole) => Some(RequestBody::Whole(whole.clone())),
            RequestBody::Stream(_) | RequestBody::Hashed(_) => None,
        };
        let Some(mut sender) = self.sender.take() else {
            return Err(not_sent(NotSentCause::Unwritten, Some(body)));
        };
        let sending = sender.try_send_request(Request::from_parts(head, body));
        drop(sender);
        match sending.await {
            Ok(response) => Ok(response),
            Err(mut error) => match error.take_message() {
                Some(unwritten) => {
                    self.connections.retire(self.id);
                    Err(not_sent(NotSentCause::Unwritten, Some(unwritten.into_body())))
                }
                None => {
                    let error = error.into_error();
                    match refusal(&error) {
                        Some(Refusal::Goodbye) => {
                            self.connections.retire(self.id);
                            Err(not_sent(NotSentCause::Unwritten, spare))
                        }
                        Some(Refusal::Stream) => Err(not_sent(NotSentCause::Refused, spare)),
                        None => Err(Failed { error: SendError::Lost(classify(&error)), request: None }),
                    }
                }
            },
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connections.give_back(self.id);
    }
}

/// Sends `request` on a connection that is for it alone.
pub(super) async fn ask(
    connection: Connection,
    request: Request<RequestBody>,
    scheme: Scheme,
) -> Option<Response<Incoming>> {
    let (parts, body) = request.into_parts();
    let mut sender = connection.sender;
    sender.send_request(Request::from_parts(head(&parts, scheme)?, body)).await.ok()
}

/// Proof that a request was not processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The peer said goodbye, and its last stream is an earlier one.
    Goodbye,
    /// The peer refused the stream.
    Stream,
}

/// What the peer itself said of a request that has no response. h2 gives its goodbye only to streams beyond the last one
/// that it names; what h2 or this proxy found wrong by itself is no proof.
fn refusal(error: &hyper::Error) -> Option<Refusal> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    if !error.is_remote() {
        None
    } else if error.is_go_away() {
        Some(Refusal::Goodbye)
    } else {
        (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)).then_some(Refusal::Stream)
    }
}

/// The head as HTTP/2 has it: the target in its parts, no fields of the connection (RFC 9113 §8.2.2, §8.3.1).
fn head(parts: &Parts, scheme: Scheme) -> Option<Parts> {
    let authority = Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok()?;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.authority = Some(authority);
    uri.path_and_query = parts.uri.path_and_query().cloned();
    let mut head = Request::new(()).into_parts().0;
    head.method = parts.method.clone();
    head.uri = Uri::from_parts(uri).ok()?;
    head.version = Version::HTTP_2;
    head.headers = parts.headers.clone();
    for name in [HOST, CONNECTION, UPGRADE, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Some(head)
}

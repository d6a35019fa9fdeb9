//! HTTP/2 towards clients.
//!
//! Owns the bounds of a connection and of its streams. A stream runs in a task of its own. A client that takes nothing of
//! one answer loses that stream, one that sends no request its connection; hyper and h2 have no deadline for either.

mod activity;
mod body;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stream::Stream;
use super::{Http2Params, Params, Server};
use crate::proxy::request::{InParts, Protocol};
use crate::proxy::{Client, reply};
use activity::Activity;
use body::{Http2Body, attend};

/// How many bytes of answers a connection may hold for each of its streams, beside a chunk under way.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long a connection that was told to go may stay without a request: one may be under way.
const LINGER: Duration = Duration::from_secs(1);

/// How HTTP/2 is spoken.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    builder: Builder<Streams>,
    streams: Streams,
    max_headers: usize,
    idle_timeout: Duration,
}

/// Runs the streams of one connection.
#[derive(Clone, Debug)]
struct Streams {
    activity: Arc<Activity>,
    tracker: TaskTracker,
    max_stall: Duration,
}

impl Http2 {
    /// Streams run on `tracker`.
    pub(super) fn new(limits: &Http2Params, params: &Params, tracker: TaskTracker) -> Self {
        let activity = Arc::new(Activity::new());
        let streams = Streams { activity, tracker, max_stall: params.write_timeout };
        let mut builder = Builder::new(streams.clone());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(u32::try_from(params.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(limits.max_pending_resets)
            .max_local_error_reset_streams(limits.max_error_resets)
            .initial_stream_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout);
        Self { builder, streams, max_headers: params.max_headers, idle_timeout: params.idle_timeout }
    }

    /// Serves requests until the client is done, sends none for too long, or `stop`.
    pub(super) async fn serve(
        self,
        stream: Stream,
        server: Arc<Server>,
        client: Arc<Client>,
        stop: CancellationToken,
    ) -> hyper::Result<()> {
        let Self { builder, streams, max_headers, idle_timeout } = self;
        // Who comes late is not sent away at once.
        let leave = if server.is_leaving.load(Ordering::Relaxed) {
            CancellationToken::new()
        } else {
            server.leave.child_token()
        };
        let service = service_fn(|request: Request<Incoming>| {
            let (proxy, client) = (server.proxy(), client.clone());
            async move {
                let response = if request.headers().len() > max_headers {
                    reply::too_many_fields()
                } else {
                    proxy.handle(InParts::of(request), client, Protocol::Http2).await
                };
                Ok::<_, Infallible>(response.map(Http2Body::new))
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => {}
            () = leave.cancelled() => {}
            () = streams.activity.none_for(idle_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => ended,
            () = streams.activity.none_for(LINGER) => Ok(()),
            () = server.background.given_up() => Ok(()),
        }
    }
}

impl<S: Future<Output = ()> + Send + 'static> Executor<S> for Streams {
    fn execute(&self, stream: S) {
        let begun = self.activity.begin();
        let max_stall = self.max_stall;
        drop(self.tracker.spawn(async move {
            attend(stream, max_stall).await;
            drop(begun);
        }));
    }
}

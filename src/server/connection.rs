//! One client's connection.
//!
//! From the accepted socket to the protocol that it speaks. What each protocol does is its own file's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::http1;
use super::http2::Http2;
use super::opening::{Opened, open};
use super::stream::Stream;
use super::{Accepted, Http2Params, ListenerParams, Params, Server};
use crate::proxy::forwarded::Peer;
use crate::proxy::{Client, Quota};

/// How long a connection that has sent no request yet is kept while draining: its first request may be under way.
pub(super) const DRAIN_LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Connection {
    accepted: Accepted,
    server: Arc<Server>,
    how: ListenerParams,
}

impl Connection {
    pub(super) const fn new(accepted: Accepted, server: Arc<Server>, how: ListenerParams) -> Self {
        Self { accepted, server, how }
    }

    /// Serves requests until the client is done, or `stop`.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { accepted: (stream, peer, place), server, how } = self;
        let params = server.params();
        // There is room: it has a place.
        let counted = server.open.take(1);
        let opened = tokio::select! {
            biased;
            opened = open(stream, peer.ip(), how, &server, &params) => opened,
            () = lingered(&stop) => return,
        };
        let Opened { stream, probe, address, place_of_address, tls, is_http2 } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                server.metrics.refused(&error);
                return debug!(%error, peer = %peer.ip(), "a connection sent no request");
            }
        };
        let http2 = params.http2.filter(|_| is_http2);
        let client = Arc::new(Client {
            peer: Peer::new(address),
            connection: if is_http2 { probe.shared() } else { probe },
            place,
            counted,
            place_of_address,
            tls,
            attempts: http2.map(|limits| Quota::new(limits.max_attempts as u64)),
        });
        let ended = match http2 {
            // Boxed, so that connections of HTTP/1.1 need not hold what it needs.
            Some(limits) => Box::pin(serve_http2(stream, server, &params, client, limits, stop)).await,
            None => {
                let ended = http1::serve(stream, &server, &params, client, stop).await;
                if ended.as_ref().is_err_and(hyper::Error::is_parse) {
                    server.proxy().unreadable_head(address);
                }
                ended
            }
        };
        if let Err(error) = ended {
            debug!(%error, client = %address, "a connection ended");
        }
    }
}

async fn serve_http2(
    stream: Stream,
    server: Arc<Server>,
    params: &Params,
    client: Arc<Client>,
    limits: Http2Params,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let http2 = Http2::new(&limits, params, server.connections.clone());
    http2.serve(stream, server, client, stop).await
}

async fn lingered(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(DRAIN_LINGER).await;
}

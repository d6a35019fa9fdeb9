//! New connections to one endpoint.

use std::time::Duration;

use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::HYPER_MAX_HEADERS;
use super::pool::Connection;
use crate::idempotency::NotSentCause;
use crate::proxy::policy;
use crate::proxy::socket::Socket;

#[derive(Debug)]
pub(super) struct Connector {
    host: String,
    port: u16,
    connect_timeout: Duration,
    max_stall: Duration,
    http1: Builder,
    /// Never waited for: an idle connection has no work to finish.
    connections: TaskTracker,
}

impl Connector {
    pub(super) fn new(endpoint: &policy::Endpoint, params: &policy::Upstream) -> Self {
        let mut http1 = Builder::new();
        http1.max_header_size(params.max_response_header_bytes);
        if params.max_response_headers != HYPER_MAX_HEADERS {
            http1.max_headers(params.max_response_headers);
        }
        Self {
            host: endpoint.host.clone(),
            port: endpoint.port,
            connect_timeout: params.connect_timeout,
            max_stall: params.stream_idle_timeout,
            http1,
            connections: TaskTracker::new(),
        }
    }

    /// A connection that has sent nothing yet.
    pub(super) async fn connect(&self) -> Result<Connection, NotSentCause> {
        let connecting = timeout(self.connect_timeout, self.dial());
        let stream = connecting.await.unwrap_or(Err(NotSentCause::ConnectTimeout))?;
        let (socket, probe) = Socket::new(stream, self.max_stall);
        let handshake = self.http1.handshake(TokioIo::new(socket)).await;
        let (sender, connection) = handshake.map_err(|_| NotSentCause::ConnectFailed)?;
        let driven = async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "a connection to an upstream ended");
            }
        };
        drop(self.connections.spawn(driven));
        Ok(Connection { sender, probe })
    }

    async fn dial(&self) -> Result<TcpStream, NotSentCause> {
        let addresses = lookup_host((self.host.as_str(), self.port)).await.map_err(|error| {
            debug!(%error, host = self.host, "a name was not resolved");
            NotSentCause::NameNotResolved
        })?;
        let mut cause = NotSentCause::NameNotResolved;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    debug!(%error, %address, "an endpoint was not connected to");
                    cause = NotSentCause::ConnectFailed;
                }
            }
        }
        Err(cause)
    }
}

//! New connections to one endpoint.
//!
//! Owns the way from a name to a connection that has sent nothing yet: look the name up, try its addresses, shake hands.
//! All of it ends at one deadline, and whatever fails here has cost no request anything.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::http2::Handshake;
use super::pool;
use super::tls::Tls;
use super::{HYPER_MAX_HEADERS, hyper_buffer_bytes};
use crate::idempotency::NotSentCause;
use crate::proxy::hush;
use crate::proxy::policy::{self, Address, Protocol};
use crate::proxy::socket::{Probe, Socket, Stream};

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 8;

/// How many lookups of one name may be at work. They cannot be cancelled, and a resolver that hangs must not take the
/// threads that others need.
const MAX_LOOKUPS: usize = 4;

/// The addresses of a name, as they are now.
type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

#[derive(Debug)]
pub(super) struct Connector {
    address: Address,
    tls: Option<Tls>,
    protocol: Protocol,
    max_stall: Duration,
    http1: http1::Builder,
    http2: Handshake,
    /// Asks the system, which may block.
    resolve: Resolve,
    lookups: Arc<Semaphore>,
    /// Never waited for: an idle connection has no work to finish.
    connections: TaskTracker,
}

/// A connection that has sent nothing yet.
#[derive(Debug)]
pub(super) enum Fresh {
    Http1(pool::Connection),
    Http2(super::http2::Connection),
}

impl Connector {
    pub(super) fn new(endpoint: &policy::Endpoint, params: &policy::Upstream, tls: Option<Tls>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .max_header_size(params.max_response_header_bytes)
            .max_buf_size(hyper_buffer_bytes(params.max_response_header_bytes));
        if params.max_response_headers != HYPER_MAX_HEADERS {
            http1.max_headers(params.max_response_headers);
        }
        Self {
            address: endpoint.address.clone(),
            tls,
            protocol: params.protocol,
            max_stall: params.stream_idle_timeout,
            http1,
            http2: Handshake::new(params),
            resolve,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            connections: TaskTracker::new(),
        }
    }

    /// Whether a connection may turn out to carry several requests at once.
    pub(super) const fn may_multiplex(&self) -> bool {
        match self.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.tls.is_some(),
        }
    }

    /// A connection that holds `place`. `http1_only` for a request that may switch protocols.
    pub(super) async fn connect(
        &self,
        place: Option<OwnedSemaphorePermit>,
        http1_only: bool,
        deadline: Instant,
    ) -> Result<Fresh, NotSentCause> {
        let connecting = timeout_at(deadline, self.establish(place, http1_only, deadline));
        connecting.await.unwrap_or(Err(NotSentCause::ConnectTimeout))
    }

    async fn establish(
        &self,
        place: Option<OwnedSemaphorePermit>,
        http1_only: bool,
        deadline: Instant,
    ) -> Result<Fresh, NotSentCause> {
        let (socket, probe) = Socket::new(self.dial(deadline).await?, self.max_stall);
        let socket = socket.holding(place);
        let Some(tls) = &self.tls else {
            let is_http2 = self.protocol == Protocol::Http2;
            return self.speak(socket, probe, is_http2).await;
        };
        let (stream, is_http2) = tls.handshake(socket, http1_only).await.map_err(|error| {
            debug!(%error, "a TLS handshake with an upstream failed");
            NotSentCause::TlsFailed
        })?;
        if self.protocol == Protocol::Http2 && !is_http2 {
            debug!("an upstream with protocol = \"http2\" does not know ALPN");
            return Err(NotSentCause::TlsFailed);
        }
        self.speak(stream, probe, is_http2).await
    }

    async fn speak<T>(&self, stream: T, probe: Probe, is_http2: bool) -> Result<Fresh, NotSentCause>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        if is_http2 {
            let connection = self.http2.begin(stream, probe, &self.connections).await;
            return connection.map(Fresh::Http2).map_err(|_| NotSentCause::ConnectFailed);
        }
        let handshake = self.http1.handshake(stream).await;
        let (sender, connection) = handshake.map_err(|_| NotSentCause::ConnectFailed)?;
        let driven = async move {
            if let Err(error) = hush::driven(connection.with_upgrades()).await {
                debug!(%error, "a connection to an upstream ended");
            }
        };
        drop(self.connections.spawn(driven));
        Ok(Fresh::Http1(pool::Connection { sender, probe, since: Instant::now(), is_stale: false }))
    }

    async fn dial(&self, deadline: Instant) -> Result<Stream, NotSentCause> {
        match &self.address {
            Address::Ip(address) => connect_tcp(*address).await,
            Address::Name(host, port) => {
                let addresses = self.look_up(host, *port).await?;
                connect_to_one_of(&addresses, deadline).await
            }
            Address::Unix(path) => connect_unix(path).await,
        }
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NotSentCause> {
        let lookup = self.lookups.clone().acquire_owned().await.map_err(|_| NotSentCause::NameNotResolved)?;
        let (name, resolve) = (host.to_owned(), self.resolve);
        let looking_up = spawn_blocking(move || {
            let addresses = resolve(&name, port);
            drop(lookup);
            addresses
        });
        let found = looking_up.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        found.map_err(|error: io::Error| {
            debug!(%error, host, "a name was not resolved");
            NotSentCause::NameNotResolved
        })
    }
}

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.take(MAX_ADDRESSES).collect())
}

/// Each address gets an equal share of the time that is left, so that one that is silent leaves the others theirs.
async fn connect_to_one_of(addresses: &[SocketAddr], deadline: Instant) -> Result<Stream, NotSentCause> {
    let mut cause = NotSentCause::NameNotResolved;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        match timeout_at(Instant::now() + share, connect_tcp(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(failed)) => cause = failed,
            Err(_) => cause = NotSentCause::ConnectTimeout,
        }
    }
    Err(cause)
}

async fn connect_tcp(address: SocketAddr) -> Result<Stream, NotSentCause> {
    TcpStream::connect(address).await.map(Stream::Tcp).map_err(|error| {
        debug!(%error, %address, "an endpoint was not connected to");
        NotSentCause::ConnectFailed
    })
}

async fn connect_unix(path: &Path) -> Result<Stream, NotSentCause> {
    UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| {
        debug!(%error, path = %path.display(), "an endpoint was not connected to");
        NotSentCause::ConnectFailed
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU16, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::proxy::policy::{Ejection, Http2, Upstream, UpstreamHost, UpstreamTls};

    /// What the name stands for, at any moment.
    static PORT: AtomicU16 = AtomicU16::new(0);

    #[tokio::test]
    async fn a_name_that_changes_is_followed_by_every_new_connection() {
        let connector = Connector {
            resolve: |host, port| {
                assert_eq!((host, port), ("api.internal", 443));
                Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT.load(Ordering::SeqCst)))])
            },
            ..Connector::new(&endpoint(), &upstream(), None)
        };
        let (one, other) = (listener().await, listener().await);
        for listener in [&one, &other, &one] {
            PORT.store(listener.local_addr().unwrap().port(), Ordering::SeqCst);
            let deadline = Instant::now() + Duration::from_secs(10);
            connector.connect(None, false, deadline).await.unwrap();
            timeout_at(deadline, listener.accept())
                .await
                .expect("a connection where the name leads now")
                .unwrap();
        }
    }

    async fn listener() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    fn endpoint() -> policy::Endpoint {
        policy::Endpoint {
            address: Address::Name("api.internal".to_owned(), 443),
            is_tls: false,
            authority: "api.internal:443".to_owned(),
            base_path: String::new(),
        }
    }

    fn upstream() -> Upstream {
        let time = Duration::from_secs(10);
        Upstream {
            name: "legacy".to_owned(),
            endpoints: vec![endpoint()],
            protocol: Protocol::Http1,
            tls: UpstreamTls::default(),
            connect_timeout: time,
            response_timeout: time,
            attempt_timeout: time,
            stream_idle_timeout: time,
            tunnel_idle_timeout: time,
            idle_timeout: time,
            max_reuse_idle: time,
            max_connections: 10,
            max_idle_connections: 10,
            max_connection_age: time,
            max_response_headers: HYPER_MAX_HEADERS,
            max_response_header_bytes: 65_536,
            http2: Http2 { max_streams: 10, ping_interval: time, ping_timeout: time },
            ejection: Ejection { after_failures: 1, time, max_time: time },
            health_check: None,
            host: UpstreamHost::Client,
        }
    }
}

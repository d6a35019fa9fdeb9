//! What comes before the first request of a connection: the PROXY header, the TLS handshake, the protocol.
//!
//! Every step has its deadline. Without any of them nothing is waited for.

use std::net::IpAddr;

use bytes::{Buf, BufMut, BytesMut};
use proxy_header::{ParseConfig, ProxyHeader};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::stream::Stream;
use super::tls::Secured;
use super::{ListenerParams, Params, Server};
use crate::proxy::socket::{Probe, Socket};
use crate::proxy::{Share, Tls};

/// How much is read before it is known what it is: the largest PROXY header with room to spare.
const FIRST_BYTES: usize = 4 * 1024;

/// How an HTTP/2 connection begins (RFC 9113 §3.4). No request of HTTP/1.1 has this method.
const HTTP2_BEGINS: &[u8] = b"PRI ";

/// A connection that is about to send its first request.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) probe: Probe,
    pub(super) address: IpAddr,
    pub(super) place_of_address: Option<Share>,
    pub(super) tls: Option<Tls>,
    pub(super) is_http2: bool,
}

/// Why a connection was closed before its first request.
#[derive(Debug, Error)]
pub(super) enum OpeningError {
    #[error("nothing came in time")]
    TooSlow(#[from] Elapsed),
    #[error(transparent)]
    Broken(#[from] std::io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] std::io::Error),
    #[error("it does not begin with a PROXY header")]
    NoProxyHeader,
    #[error("its address has max_connections_per_address already")]
    TooMany,
}

impl OpeningError {
    /// Every reason.
    pub(super) const REASONS: [&str; 5] = ["broken", "no_proxy_header", "tls", "too_many", "too_slow"];

    /// The reason, in a word.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::NoProxyHeader => "no_proxy_header",
            Self::Tls(_) => "tls",
            Self::TooMany => "too_many",
            Self::TooSlow(_) => "too_slow",
        }
    }
}

/// Opens the connection that `peer` has made to the listener of `how`.
pub(super) async fn open(
    stream: TcpStream,
    peer: IpAddr,
    how: ListenerParams,
    server: &Server,
    params: &Params,
) -> Result<Opened, OpeningError> {
    let Params { header_timeout, write_timeout, http2, .. } = *params;
    let (mut socket, probe) = Socket::new(stream, write_timeout);
    let mut address = peer;
    if how.proxy_protocol {
        address = timeout(header_timeout, proxied_address(&mut socket)).await??.unwrap_or(peer);
    }
    let place_of_address = match &server.addresses {
        Some(addresses) => Some(addresses.take(address).ok_or(OpeningError::TooMany)?),
        None => None,
    };
    let opened = |stream, tls, is_http2| Opened { stream, probe, address, place_of_address, tls, is_http2 };
    if let Some(tls) = server.tls.as_ref().filter(|_| how.tls) {
        let Secured { stream, tls, is_http2 } =
            Box::pin(tls.accept(socket)).await.map_err(OpeningError::Tls)?;
        return Ok(opened(Stream::Tls(Box::new(stream)), Some(tls), is_http2));
    }
    let is_http2 = http2.is_some() && timeout(header_timeout, begins_with_http2(&mut socket)).await??;
    Ok(opened(Stream::Plain(socket), None, is_http2))
}

/// The client's address by the PROXY header; `None` if whoever sent it speaks for himself.
async fn proxied_address(socket: &mut Socket) -> Result<Option<IpAddr>, OpeningError> {
    socket.readable().await?;
    let mut first = BytesMut::with_capacity(FIRST_BYTES);
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    loop {
        // Ends with the connection, and where a header may be no longer.
        let room = FIRST_BYTES - first.len();
        if socket.read_buf(&mut (&mut first).limit(room)).await? == 0 {
            return Err(OpeningError::NoProxyHeader);
        }
        match ProxyHeader::parse(&first, config) {
            Ok((header, length)) => {
                let source = header.proxied_address().map(|address| address.source.ip());
                first.advance(length);
                socket.unread(first.freeze());
                return Ok(source);
            }
            Err(proxy_header::Error::BufferTooShort) => {}
            Err(_) => return Err(OpeningError::NoProxyHeader),
        }
    }
}

/// Whether the connection speaks HTTP/2, by its first bytes.
async fn begins_with_http2(socket: &mut Socket) -> std::io::Result<bool> {
    // A connection that sends nothing holds no buffer.
    socket.readable().await?;
    let mut first = BytesMut::with_capacity(FIRST_BYTES);
    while first.len() < HTTP2_BEGINS.len() && HTTP2_BEGINS.starts_with(&first) {
        if socket.read_buf(&mut first).await? == 0 {
            break;
        }
    }
    let is_http2 = first.starts_with(HTTP2_BEGINS);
    socket.unread(first.freeze());
    Ok(is_http2)
}

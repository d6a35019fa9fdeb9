//! A socket that can be looked at while hyper owns it.
//!
//! Towards an upstream: an idle connection on which anything has arrived must not be used. It was closed, or the upstream
//! sent bytes that nobody asked for, which the next request would take for its answer. hyper notices as soon as its task
//! runs; the pool looks at the socket itself, at the last moment.
//!
//! Towards a client: hyper, told that clients may close their sending side, looks at nothing until it writes. Whether a
//! client has reset or closed its connection is found out here.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The half that hyper owns.
#[derive(Debug)]
pub struct Socket(Arc<TcpStream>);

/// The half that looks.
#[derive(Clone, Debug)]
pub struct Probe(Arc<TcpStream>);

impl Socket {
    /// The two halves of `stream`.
    #[must_use]
    pub fn new(stream: TcpStream) -> (Self, Probe) {
        let stream = Arc::new(stream);
        (Self(stream.clone()), Probe(stream))
    }
}

impl Probe {
    /// Whether nothing has arrived: no byte, no end, no error.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the peer has closed its sending side or is gone. What it sent before that hides it.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.peek().map_or_else(|error| error.kind() != io::ErrorKind::WouldBlock, |bytes| bytes == 0)
    }

    /// Whether the connection is broken. Closing only its sending side does not break it.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.peek().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    }

    fn peek(&self) -> io::Result<usize> {
        SockRef::from(&*self.0).peek(&mut [MaybeUninit::uninit()])
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

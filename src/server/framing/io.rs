//! The socket whose bytes are watched, and what was found, for the service.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Framing, FramingWatch};

/// The findings about one connection.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<FramingWatch>>);

/// A connection that shows every byte read from it to a [`FramingWatch`].
#[derive(Debug)]
pub struct WatchedIo<T> {
    inner: T,
    findings: Findings,
}

impl Findings {
    /// Takes the finding about the next request: to be called once for each, in the order in which hyper hands them out.
    /// `None` if the watch lost its way: nothing is known about that request, nor about any later one.
    #[must_use]
    pub fn take(&self) -> Option<Framing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_finding()
    }

    fn feed(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).feed(bytes);
    }
}

impl<T> WatchedIo<T> {
    /// Watches a connection from its first byte.
    pub fn new(inner: T) -> (Self, Findings) {
        let findings = Findings::default();
        (Self { inner, findings: findings.clone() }, findings)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Some(read @ [_, ..]) = buf.filled().get(before..) {
            this.findings.feed(read);
        }
        poll
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

//! The socket whose bytes are watched, and what was found, for the service.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Framing, FramingWatch};

/// The findings about one connection.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    watch: Mutex<FramingWatch>,
    /// Whether something was written that may not have been sent yet.
    is_unsent: AtomicBool,
}

/// A connection that shows every byte read from it to a [`FramingWatch`], and ends where a body is malformed.
#[derive(Debug)]
pub struct WatchedIo<T> {
    inner: T,
    findings: Findings,
    /// What follows is malformed, and is not read.
    is_malformed: bool,
}

impl Findings {
    /// Takes the finding about the next request: to be called once for each, in the order in which hyper hands them out.
    /// `None` if the watch lost its way: nothing is known about that request, nor about any later one.
    #[must_use]
    pub fn take(&self) -> Option<Framing> {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner).next_finding()
    }

    /// Whether nothing is under way: every request that began has ended and was taken, every answer was sent.
    #[must_use]
    pub fn are_at_rest(&self) -> bool {
        let is_between = self.0.watch.lock().unwrap_or_else(PoisonError::into_inner).is_between_requests();
        is_between && !self.0.is_unsent.load(Ordering::Relaxed)
    }

    /// Ends the watch: the connection goes on with another protocol.
    pub fn end(&self) {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner).end();
    }

    fn feed(&self, bytes: &[u8]) -> usize {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner).feed(bytes)
    }
}

impl<T> WatchedIo<T> {
    /// Watches a connection from its first byte.
    pub fn new(inner: T) -> (Self, Findings) {
        let findings = Findings::default();
        (Self { inner, findings: findings.clone(), is_malformed: false }, findings)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_malformed {
            return Poll::Ready(Err(malformed()));
        }
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Some(read @ [_, ..]) = buf.filled().get(before..) {
            let length = read.len();
            let well_formed = this.findings.feed(read);
            if well_formed < length {
                this.is_malformed = true;
                buf.set_filled(before + well_formed);
                // Nothing read would be the end of the stream.
                return if well_formed == 0 { Poll::Ready(Err(malformed())) } else { poll };
            }
        }
        poll
    }
}

/// As hyper calls it where it finds such a body itself.
fn malformed() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.findings.0.is_unsent.store(true, Ordering::Relaxed);
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            this.findings.0.is_unsent.store(false, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.findings.0.is_unsent.store(true, Ordering::Relaxed);
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

//! A socket that can be looked at while hyper owns it.
//!
//! Towards an upstream: an idle connection on which anything has arrived must not be used. It was closed, or the upstream
//! sent bytes that nobody asked for, which the next request would take for its answer. hyper notices as soon as its task
//! runs; the pool looks at the socket itself, at the last moment.
//!
//! Towards a client: hyper, told that clients may close their sending side, looks at nothing until it writes. Whether a
//! client has reset or closed its connection is found out here.
//!
//! What was written of an exchange is known here too, whatever hyper makes of an error: see `watch`.
//!
//! Under TLS the same look is stricter than need be, never laxer: what has arrived and was not decrypted yet may be the end,
//! bytes that nobody asked for, or only a session ticket, and none of these connections is used. What was decrypted already
//! hyper itself looks at before it takes the next request off its queue.

mod watch;

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use self::watch::Watch;

/// Several pieces of up to so many bytes in all are copied to one place, to be written at once.
const MAX_JOINED_BYTES: usize = 4096;

/// The half that hyper owns. A peer that takes nothing for `max_stall` ends it.
#[derive(Debug)]
pub struct Socket {
    line: Arc<Line>,
    /// Was read before hyper, and is read again.
    unread: Bytes,
    max_stall: Duration,
    /// Runs while the peer takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// The connection's place among those that may be open, given back when it is closed.
    _place: Option<OwnedSemaphorePermit>,
}

/// The half that looks.
#[derive(Clone, Debug)]
pub struct Probe {
    line: Arc<Line>,
    is_shared: bool,
}

/// What both halves have.
#[derive(Debug)]
struct Line {
    stream: Stream,
    watch: Watch,
}

/// A connection of either kind.
#[derive(Debug)]
pub enum Stream {
    /// To an address.
    Tcp(TcpStream),
    /// To a path of this machine.
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Stream {
    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    fn try_read_io(&self, read: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, read),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, read),
        }
    }

    fn try_read_buf(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buf),
            Self::Unix(stream) => stream.try_read_buf(buf),
        }
    }

    /// What is short is copied to one place: that costs less than to have the system read a list.
    fn try_write_vectored(&self, data: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if let [data] = data {
            return self.try_write(data);
        }
        if data.iter().map(|part| part.len()).sum::<usize>() > MAX_JOINED_BYTES {
            return match self {
                Self::Tcp(stream) => stream.try_write_vectored(data),
                Self::Unix(stream) => stream.try_write_vectored(data),
            };
        }
        let mut room = [MaybeUninit::uninit(); MAX_JOINED_BYTES];
        let mut joined = ReadBuf::uninit(&mut room);
        data.iter().for_each(|part| joined.put_slice(part));
        self.try_write(joined.filled())
    }

    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(data),
            Self::Unix(stream) => stream.try_write(data),
        }
    }
}

impl Socket {
    /// The two halves of `stream`.
    #[must_use]
    pub fn new(stream: impl Into<Stream>, max_stall: Duration) -> (Self, Probe) {
        let stream = stream.into();
        // Neither is needed for anything to be right: without the first a short message may wait for an acknowledgement,
        // without the second a peer that vanished is noticed later.
        if let Stream::Tcp(stream) = &stream {
            stream.set_nodelay(true).unwrap_or(());
            SockRef::from(stream).set_keepalive(true).unwrap_or(());
        }
        let line = Arc::new(Line { stream, watch: Watch::default() });
        let probe = Probe { line: line.clone(), is_shared: false };
        (Self { line, unread: Bytes::new(), max_stall, stall: None, _place: None }, probe)
    }

    /// Holds `place` until the connection is closed, whatever is spoken on it by then.
    #[must_use]
    pub fn holding(self, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { _place: place, ..self }
    }

    /// Returns when there is something to read, or the connection has ended.
    ///
    /// # Errors
    ///
    /// What the system says of a connection that is broken.
    pub async fn readable(&self) -> io::Result<()> {
        if self.unread.is_empty() {
            self.line.stream.ready(Interest::READABLE).await.map(drop)
        } else {
            Ok(())
        }
    }

    /// Puts `bytes`, which were read last, back in front of what is still to be read.
    pub fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    fn read_again(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(length));
        if self.unread.is_empty() {
            // What they stood in is given back.
            self.unread = Bytes::new();
        }
    }

    /// Reads what is there. A short read has emptied the socket: readiness is cleared as tokio's own streams do, by the
    /// event that was seen before the read, or each read would cost a second one that finds nothing.
    fn try_read(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut is_short = false;
        let tried = self.line.stream.try_read_io(|| {
            let room = buf.remaining();
            let read = self.line.stream.try_read_buf(buf)?;
            is_short = 0 < read && read < room;
            if is_short { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if is_short { Ok(()) } else { tried }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let max_stall = self.max_stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(max_stall)));
        stall.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Probe {
    /// The probe of a connection on which several messages are under way at once (HTTP/2).
    #[must_use]
    pub fn shared(self) -> Self {
        Self { is_shared: true, ..self }
    }

    /// Returns when something has arrived: a byte, the end, an error.
    ///
    /// # Errors
    ///
    /// What the system says of a connection that is broken.
    pub async fn readable(&self) -> io::Result<()> {
        self.line.stream.ready(Interest::READABLE).await.map(drop)
    }

    /// Whether nothing has arrived: no byte, no end, no error.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.line.is_quiet()
    }

    /// Whether the peer has closed its sending side or is gone, whatever it sent before: a client of TLS says goodbye.
    #[must_use]
    pub fn has_left(&self) -> bool {
        let ready = pin!(self.line.stream.ready(Interest::READABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Whether the connection is broken. Closing only its sending side does not break it.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.peek().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    }

    /// Has the connection reset when it is closed: what the peer got must not look whole, even where only the end of the
    /// connection ends a message (HTTP/1.0). A shared connection is left alone: its messages are cut one by one.
    pub fn reset_on_close(&self) {
        if !self.is_shared {
            // A connection that is gone already needs no reset.
            self.line.stream.socket().set_linger(Some(Duration::ZERO)).unwrap_or(());
        }
    }

    /// Watches what is written from now on. `looks_first`: the first write fails if anything has arrived by then.
    pub fn begin_exchange(&self, looks_first: bool) {
        self.line.watch.begin(looks_first);
    }

    /// Whether nothing was written since the exchange began. If so, nothing will be: the connection is of no use any more.
    #[must_use]
    pub fn seal_unwritten(&self) -> bool {
        self.line.watch.seal()
    }

    fn peek(&self) -> io::Result<usize> {
        self.line.peek()
    }
}

impl Line {
    fn is_quiet(&self) -> bool {
        self.peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn peek(&self) -> io::Result<usize> {
        self.stream.socket().peek(&mut [MaybeUninit::uninit()])
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            self.read_again(buf);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.line.stream.poll_read_ready(cx))?;
            match self.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.watch.pass(|| self.line.is_quiet())?;
        loop {
            let Poll::Ready(ready) = self.line.stream.poll_write_ready(cx) else {
                return self.poll_stall(cx);
            };
            ready?;
            match self.line.stream.try_write_vectored(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.stall = None;
                    return Poll::Ready(written);
                }
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
        Poll::Ready(self.line.stream.socket().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order_however_many_and_long() {
        let filler = |length| vec![b'x'; length];
        for pieces in [
            vec![],
            vec![filler(0)],
            vec![filler(1)],
            vec![b"a".to_vec(), filler(0), b"b".to_vec()],
            vec![filler(0), filler(MAX_JOINED_BYTES)],
            vec![b"a".to_vec(), filler(MAX_JOINED_BYTES - 1)],
            vec![b"a".to_vec(), filler(MAX_JOINED_BYTES)],
            vec![filler(MAX_JOINED_BYTES + 1)],
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (mut socket, probe) = Socket::new(ours, Duration::from_mins(1));
            let slices: Vec<_> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
            let written = socket.write_vectored(&slices).await.unwrap();
            assert_eq!(written, pieces.concat().len());
            drop((socket, probe));
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.unwrap();
            assert!(read == pieces.concat(), "{} of {written} bytes arrived", read.len());
        }
    }
}

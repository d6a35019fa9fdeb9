//! Two connections joined after a protocol switch (RFC 9110 §7.8): WebSocket and its kin.
//!
//! No byte crosses before the upstream has answered 101 with the protocol that was asked for. A tunnel keeps its client's place
//! among the connections, and ends when nothing has moved in it for too long. It is no guarded work: shutdown does not wait for
//! it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Request, Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Client;
use super::body::{ReplyBody, WholeBody};
use super::headers::{self, Protected};
use super::problem::Problem;
use super::upstream::UpstreamBody;
use crate::idempotency::UnknownCause;

/// What a client asks to switch to, and its connection, as it will be once the switch is answered.
#[derive(Debug)]
pub struct Switch {
    protocol: HeaderValue,
    downstream: OnUpgrade,
}

/// When something last moved in a tunnel.
#[derive(Debug)]
struct Activity {
    begun: Instant,
    last_ms: AtomicU64,
}

/// One end of a tunnel: notes what comes from it.
#[derive(Debug)]
struct Noted<'a, T> {
    io: T,
    activity: &'a Activity,
}

/// The switch to `protocol` that a request asks for.
#[must_use]
pub fn switch(parts: &mut Parts, protocol: HeaderValue) -> Switch {
    let mut request = Request::new(());
    std::mem::swap(request.extensions_mut(), &mut parts.extensions);
    Switch { protocol, downstream: hyper::upgrade::on(&mut request) }
}

/// Answers the client's switch with the upstream's, and joins the two connections until one ends, or nothing has moved for
/// `max_idle`.
///
/// # Errors
///
/// [`Problem::OutcomeUnknown`] if the upstream switches to anything else.
pub fn join(
    switch: Switch,
    mut response: Response<UpstreamBody>,
    protected: &Protected,
    client: Arc<Client>,
    max_idle: Duration,
) -> Result<Response<ReplyBody>, Problem> {
    let Switch { protocol, downstream } = switch;
    let chosen = response.headers().get(UPGRADE);
    if chosen.is_none_or(|chosen| !chosen.as_bytes().eq_ignore_ascii_case(protocol.as_bytes())) {
        return Err(Problem::OutcomeUnknown { cause: UnknownCause::InvalidAnswer });
    }
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    headers::to_client(&mut parts.headers, false, protected);
    headers::via(&mut parts.headers, Version::HTTP_11);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, protocol);
    parts.extensions.clear();
    let tunnel = async move {
        let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) else { return };
        let ended = carry(TokioIo::new(downstream), TokioIo::new(upstream), max_idle).await;
        drop(client);
        debug!(ended = ?ended.map_err(|error| error.kind()), "a tunnel ended");
    };
    drop(TaskTracker::new().spawn(tunnel));
    Ok(Response::from_parts(parts, ReplyBody::Whole(WholeBody::default())))
}

/// Carries bytes both ways until both ends are through, one breaks off, or nothing has come from either for `max_idle`.
async fn carry<A, B>(one: A, other: B, max_idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity { begun: Instant::now(), last_ms: AtomicU64::new(0) };
    let mut one = Noted { io: one, activity: &activity };
    let mut other = Noted { io: other, activity: &activity };
    tokio::select! {
        biased;
        ended = copy_bidirectional(&mut one, &mut other) => ended.map(|_| ()),
        () = activity.idle_for(max_idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

impl Activity {
    fn note(&self) {
        // A tunnel does not last for 584 million years.
        self.last_ms.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns once nothing has moved for `patience`.
    async fn idle_for(&self, patience: Duration) {
        loop {
            let last = self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let end = last + patience;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Noted<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.note();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noted<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const MAX_IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_when_nothing_has_moved_for_too_long_and_no_sooner() {
        let (mut client, downstream) = duplex(64);
        let (upstream, mut server) = duplex(64);
        let begun = Instant::now();
        let talk = async {
            for _ in 0..3 {
                sleep(MAX_IDLE - Duration::from_secs(1)).await;
                client.write_all(b"ping").await.unwrap();
                server.read_exact(&mut [0; 4]).await.unwrap();
                sleep(MAX_IDLE - Duration::from_secs(1)).await;
                server.write_all(b"pong").await.unwrap();
                client.read_exact(&mut [0; 4]).await.unwrap();
            }
            begun.elapsed()
        };
        let (ended, last) = tokio::join!(carry(downstream, upstream, MAX_IDLE), talk);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!((begun.elapsed() - last).as_secs(), MAX_IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_whose_bytes_nobody_takes_is_idle() {
        let (mut client, downstream) = duplex(64);
        let (upstream, _server) = duplex(64);
        let push = async {
            let pushed = client.write_all(&[0; 1 << 20]).await;
            assert!(pushed.is_err(), "the tunnel ends under the client's hands");
        };
        let (ended, ()) = tokio::join!(carry(downstream, upstream, MAX_IDLE), push);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_an_end_arrives_and_ends_there_too() {
        let (mut client, downstream) = duplex(64);
        let (upstream, mut server) = duplex(64);
        let talk = async {
            client.write_all(b"bye").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            server.read_to_string(&mut heard).await.unwrap();
            server.write_all(b"bye too").await.unwrap();
            drop(server);
            client.read_to_string(&mut heard).await.unwrap();
            heard
        };
        let (ended, heard) = tokio::join!(carry(downstream, upstream, MAX_IDLE), talk);
        assert!(ended.is_ok() && heard == "byebye too", "{ended:?} {heard}");
    }
}

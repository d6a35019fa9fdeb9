//! What other processes settle and release, heard of as it happens.
//!
//! Owns this process's one subscription. A message is a hint: it wakes somebody who then looks for himself, or drops a copy that is
//! asked for again. So messages that are lost, doubled or made up cost time and never the promise: waiters ask now and
//! then all the same, and copies go by themselves. A subscription that was lost may have missed anything, so every copy
//! goes when it is there again, before anybody relies on it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisResult, Value};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::idempotency::RequestId;

use super::connect;
use super::lane::jittered;
use super::near::Near;
use super::params::RedisParams;
use super::waiters::Waiters;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A server that has said nothing for so long is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(5);

/// And has this long to give it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What another process has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Settled(RequestId),
    Removed(RequestId),
}

/// Who is told.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) params: Arc<RedisParams>,
    pub(super) channel: String,
    pub(super) near: Arc<Near>,
    pub(super) waiters: Arc<Waiters>,
}

impl Listener {
    /// Listens, and subscribes again whenever the subscription is lost. Never returns.
    pub(super) async fn listen_forever(self) {
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            match self.subscribe().await {
                Ok((mut sink, stream)) => {
                    if told {
                        info!("settlements and releases by other processes are heard of again");
                        told = false;
                    }
                    self.near.clear();
                    self.waiters.set_listening(true);
                    let since = Instant::now();
                    self.hear(&mut sink, stream).await;
                    self.waiters.set_listening(false);
                    if since.elapsed() >= LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                }
                Err(error) if !told => {
                    warn!(%error, "settlements and releases by other processes are not heard of; they are asked for meanwhile");
                    told = true;
                }
                Err(_) => {}
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn subscribe(&self) -> RedisResult<(PubSubSink, PubSubStream)> {
        let subscribing = async {
            let (mut sink, stream) = connect::client(&self.params).await?.get_async_pubsub().await?.split();
            sink.subscribe(&self.channel).await?;
            Ok((sink, stream))
        };
        connect::within(self.params.connect_timeout, subscribing).await
    }

    /// Returns when the subscription is lost.
    async fn hear(&self, sink: &mut PubSubSink, stream: PubSubStream) {
        let mut stream = pin!(stream);
        let mut next = async || std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await;
        loop {
            match timeout(SILENCE, next()).await {
                Ok(Some(message)) => self.tell(&message),
                Ok(None) => return,
                Err(_) => match timeout(PATIENCE, sink.ping::<Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) | Err(_) => return,
                },
            }
        }
    }

    fn tell(&self, message: &Msg) {
        match Event::read(message.get_payload_bytes()) {
            Some(Event::Settled(id)) => self.waiters.settled(&id),
            Some(Event::Removed(id)) => {
                self.near.released(&id);
                self.waiters.wake(&id);
            }
            None => {}
        }
    }
}

impl Event {
    /// What the scripts publish: `s` or `r`, and the id.
    fn read(message: &[u8]) -> Option<Self> {
        let (kind, id) = message.split_first()?;
        let id = RequestId::from_hex(id)?;
        match kind {
            b's' => Some(Self::Settled(id)),
            b'r' => Some(Self::Removed(id)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_with_anything_else_in_them_are_ignored() {
        let id = RequestId::from_bytes([0xab; 32]);
        let hex = id.to_hex();
        assert_eq!(Event::read(format!("s{hex}").as_bytes()), Some(Event::Settled(id)));
        assert_eq!(Event::read(format!("r{hex}").as_bytes()), Some(Event::Removed(id)));
        for other in [String::new(), "s".to_owned(), hex.clone(), format!("x{hex}"), format!("s{hex}0")] {
            assert_eq!(Event::read(other.as_bytes()), None, "{other:?}");
        }
    }
}

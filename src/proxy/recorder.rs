//! Reading a guarded answer: recorded for the store, and on its way to the client as it comes.
//!
//! Owns how an answer's body ends, in the words of the outcome table. A short body reaches the client whole and after its
//! record; of a long or slow one the client gets what is there, save the end (I5).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{DATE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, TRAILER};
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::sleep;

use super::Client;
use super::body::ReplyBody;
use super::headers::{self, Protected};
use super::held::Held;
use super::outcome::RequestOutcome;
use super::pass::LOOK_AFTER;
use super::policy::GuardPolicy;
use super::quota::Quota;
use super::relay::{Relay, relay};
use super::reply::{self, Reply};
use super::slot::Slot;
use super::upstream::{ResponseError, UpstreamBody, classify};
use crate::idempotency::{Answer, Attempt, UnknownCause};

/// An answer that is not whole this long after its head begins to stream. Until then it can still be answered cleanly
/// should it break off.
const HOLD: Duration = Duration::from_millis(100);

/// How much a client may lag behind while the answer is recorded, beyond what is recorded.
const RELAY_WINDOW_BYTES: usize = 64 * 1024;

/// An answer while it is read.
#[derive(Debug)]
pub struct Recording {
    client: Arc<Client>,
    status: StatusCode,
    headers: HeaderMap,
    body: UpstreamBody,
    recorded: BytesMut,
    held: Held,
    trailers: HeaderMap,
    /// Whether trailers may come that the head does not announce: in HTTP/2 nobody announces them, gRPC least of all.
    trails_unannounced: bool,
    relay: Option<Relay>,
    relayed_bytes: usize,
    max_bytes: usize,
}

impl Recording {
    /// Begins with the response head.
    #[must_use]
    pub fn begin(
        response: Response<UpstreamBody>,
        policy: &GuardPolicy,
        protected: &Protected,
        client: Arc<Client>,
    ) -> Self {
        let (mut parts, body) = response.into_parts();
        // A body that is not there (a 304's, say) may still have its length told; any other tells its own.
        headers::to_client(&mut parts.headers, reply::is_bodyless_with_length(parts.status), protected);
        // Whether an answer is a replay is for this proxy to say, once it replays.
        if !policy.observes {
            parts.headers.remove(reply::IDEMPOTENT_REPLAYED);
        }
        if !parts.headers.contains_key(DATE)
            && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
        {
            // RFC 9110 §6.6.1: whoever records an answer without a date gives it one.
            parts.headers.insert(DATE, now);
        }
        Self {
            client,
            status: parts.status,
            headers: parts.headers,
            body,
            recorded: BytesMut::new(),
            held: Held::default(),
            trailers: HeaderMap::new(),
            trails_unannounced: parts.version == Version::HTTP_2,
            relay: None,
            relayed_bytes: 0,
            max_bytes: policy.max_response_body_bytes,
        }
    }

    /// Reads until the answer is whole, breaks off or grows too big: what there is to record of it. Streams to the client
    /// meanwhile, save the end. What is held counts in `buffered_bytes`.
    pub async fn record(&mut self, slot: &mut Slot, policy: &GuardPolicy, buffered_bytes: &Quota) -> Attempt {
        let not_kept = self.not_kept();
        if self.body.size_hint().lower() > self.max_bytes as u64 {
            return not_kept;
        }
        let mut hold = None;
        loop {
            let frame = match poll_fn(|cx| Poll::Ready(Pin::new(&mut self.body).poll_frame(cx))).await {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let hold = hold.get_or_insert_with(|| Box::pin(sleep(HOLD)));
                    tokio::select! {
                        biased;
                        frame = self.body.frame() => frame,
                        () = hold, if self.relay.is_none() && slot.is_waited_for() => {
                            self.stream(slot, buffered_bytes);
                            continue;
                        }
                    }
                }
            };
            match frame {
                None => return self.answer(policy).map_or(not_kept, Attempt::Answered),
                Some(Err(ResponseError::Broken(error))) => return Attempt::Unknown(classify(&error)),
                Some(Err(ResponseError::CutOff)) => return Attempt::Unknown(UnknownCause::ConnectionLost),
                Some(Err(ResponseError::Silent)) => return not_kept,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.recorded.extend_from_slice(&data);
                        self.held.grow(self.recorded.len(), data.len(), buffered_bytes);
                        if self.recorded.len() > self.max_bytes {
                            return not_kept;
                        }
                        if self.body.is_end_stream() {
                            return self.answer(policy).map_or(not_kept, Attempt::Answered);
                        }
                        self.push();
                    }
                    Err(frame) => self.trail(frame.into_trailers()),
                },
            }
        }
    }

    /// What there is to record of an answer that is not read to its end.
    #[must_use]
    pub fn not_kept(&self) -> Attempt {
        Attempt::NotKept { status: self.status.as_u16() }
    }

    /// Gives the client the rest of an answer that was recorded: all of it if nothing streamed yet, the end if it did.
    pub async fn finish_kept(
        mut self: Box<Self>,
        outcome: RequestOutcome,
        expires_at: Option<SystemTime>,
        mut slot: Slot,
        policy: &GuardPolicy,
    ) {
        slot.account().outcome(outcome);
        if let Some(relay) = self.relay.take() {
            let rest = self.unsent();
            // A client that is gone gets the replay.
            if rest.is_empty() || relay.send(rest).await.is_ok() {
                relay.finish(self.trailers);
            }
            return;
        }
        headers::via(&mut self.headers, Version::HTTP_11);
        reply::expires(&mut self.headers, expires_at, policy);
        let data = self.held.until_dropped(self.recorded.freeze());
        let response = reply::whole(self.status, self.headers, data, self.trailers);
        slot.reply(Reply { response: Box::new(response), outcome });
    }

    /// Streams an answer that was not kept to its end, for as long as this client reads.
    pub async fn finish_not_kept(
        mut self: Box<Self>,
        outcome: RequestOutcome,
        mut slot: Slot,
        buffered_bytes: &Quota,
    ) {
        if self.relay.is_none() && slot.is_waited_for() {
            self.stream(&mut slot, buffered_bytes);
        }
        slot.account().outcome(outcome);
        let Some(relay) = self.relay.take() else { return };
        let rest = self.unsent();
        let mut next = (!rest.is_empty()).then_some(rest);
        loop {
            if let Some(data) = next.take()
                && relay.send(data).await.is_err()
            {
                return;
            }
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = relay.client_gone() => return,
                () = sleep(LOOK_AFTER) => {
                    if self.client.connection.is_reset() {
                        return;
                    }
                    continue;
                }
            };
            match frame {
                None => {
                    relay.finish(self.trailers);
                    return;
                }
                // Dropping the relay breaks the client's connection: what it got must not look whole.
                Some(Err(_)) => return,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => next = Some(data),
                    Err(frame) => self.trail(frame.into_trailers()),
                },
            }
        }
    }

    /// Trailers that an HTTP/1.1 head did not announce are left out: hyper would not send them on a stream, and first answer
    /// and replay are to be the same.
    fn trail(&mut self, trailers: Result<HeaderMap, Frame<Bytes>>) {
        if self.trails_unannounced || self.headers.contains_key(TRAILER) {
            self.trailers = trailers.unwrap_or_default();
        }
    }

    fn stream(&mut self, slot: &mut Slot, buffered_bytes: &Quota) {
        let length = self.body.size_hint().exact().map(|rest| rest + self.recorded.len() as u64);
        let window_bytes = self.max_bytes.saturating_add(RELAY_WINDOW_BYTES);
        let (connection, tally) = (self.client.connection.clone(), slot.account().tally());
        let (sender, body) = relay(window_bytes, length, connection, buffered_bytes.clone(), tally);
        let mut response = Response::new(ReplyBody::Relay(Box::new(body)));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        headers::via(response.headers_mut(), Version::HTTP_11);
        self.relay = Some(sender);
        self.push();
        slot.stream(response);
    }

    /// Queues what is recorded and not yet queued. A client that is too slow for its window loses its connection: its
    /// retry gets the replay.
    fn push(&mut self) {
        let Some(relay) = &self.relay else { return };
        let Some(unsent) = self.recorded.get(self.relayed_bytes..) else { return };
        if unsent.is_empty() {
            return;
        }
        let data = Bytes::copy_from_slice(unsent);
        self.relayed_bytes = self.recorded.len();
        if relay.push(data).is_err() {
            self.relay = None;
        }
    }

    /// What is recorded and was not queued. The recording goes, and does not count any more: what was queued is a copy.
    fn unsent(&mut self) -> Bytes {
        self.held = Held::default();
        let recorded = std::mem::take(&mut self.recorded);
        Bytes::copy_from_slice(recorded.get(self.relayed_bytes..).unwrap_or_default())
    }

    fn answer(&self, policy: &GuardPolicy) -> Option<Answer> {
        let is_replayed = |name: &HeaderName| {
            (policy.replay_set_cookie || name != SET_COOKIE) && !policy.strip_headers.contains(name)
        };
        let fields = self.headers.iter().filter(|(name, _)| is_replayed(name));
        let fields = fields.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let trailers = self.trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Answer::new(self.status.as_u16(), fields, &self.recorded, trailers).ok()
    }
}

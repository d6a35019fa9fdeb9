//! Requests that are not guarded: they stream through both ways, unbuffered.
//!
//! A client that leaves takes its request along. hyper does not tell while nothing is written, so that the connection is
//! looked at whenever nothing has come from the upstream for a while.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::account::Account;
use super::body::{BodyError, ReplyBody, RequestBody};
use super::client_body::ClientBody;
use super::exchange::{answered_with, unanswered};
use super::outcome::RequestOutcome;
use super::policy::Patience;
use super::problem::Problem;
use super::socket::Probe;
use super::upload::Upload;
use super::upstream::{Reuse, SendError, UpstreamBody};
use super::{Client, Proxy, Site, grpc, headers, reply, rewrite, tunnel};
use crate::idempotency::UnknownCause;

/// How long nothing comes from the upstream before the client's connection is looked at.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(1);

/// A connection that was idle for less is taken as it is.
const TRUSTED_IDLE: Duration = Duration::from_millis(10);

/// A response body that ends with its client.
#[derive(Debug)]
pub struct PassedBody {
    body: UpstreamBody,
    connection: Probe,
    /// Runs while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
    /// Closed at the end.
    account: Account,
}

impl Proxy {
    /// Streams the request to the upstream and the answer to the client. A client that leaves ends the exchange.
    pub(super) fn pass(
        &self,
        site: &Site,
        parts: Box<Parts>,
        body: Incoming,
        client: &Arc<Client>,
        account: &mut Account,
    ) -> impl Future<Output = Result<Response<ReplyBody>, Problem>> {
        let body = ClientBody::new(body, parts.version, self.patience(site, &parts)).counted(account.tally());
        self.pass_on(site, parts, body, client, account)
    }

    /// How slowly a body may come that is not guarded.
    pub(super) fn patience(&self, site: &Site, parts: &Parts) -> Patience {
        // Calls that stream may well be silent for as long as a stream may; gRPC is spoken over HTTP/2 alone.
        let is_call = parts.version == Version::HTTP_2 && grpc::media_type(&parts.headers).is_some();
        Patience {
            min_rate: self.min_body_rate.filter(|_| !is_call),
            max_silence: site.upstream.params().stream_idle_timeout,
            max_total: Duration::MAX,
        }
    }

    /// As `pass`, for a body of which something was read.
    pub(super) async fn pass_on(
        &self,
        site: &Site,
        mut parts: Box<Parts>,
        body: ClientBody,
        client: &Arc<Client>,
        account: &mut Account,
    ) -> Result<Response<ReplyBody>, Problem> {
        let params = site.upstream.params();
        let is_head = parts.method == Method::HEAD;
        let upgrade = headers::upgrade(&parts.headers, &site.route.upgrades);
        let switch = upgrade.clone().map(|protocol| tunnel::switch(&mut parts, protocol));
        let received = client.received(parts.version, &self.trust);
        headers::to_upstream(&mut parts.headers, &received, upgrade, self.names.protected());
        account.sends(&mut parts.headers);
        let protected = self.names.protected().clone();
        let (upload, mut uploaded) = Upload::new(body, protected);
        let request = rewrite::outbound(parts, RequestBody::Stream(Box::new(upload)), &site.route);
        let reuse = Reuse { max_idle: params.idle_timeout, trusted_idle: TRUSTED_IDLE };
        let begun = Instant::now();
        let tally = account.tally();
        let sending = pin!(site.upstream.send(request, reuse, || true, &tally));
        let sent = while_there(client, uploaded.as_mut(), params.response_timeout, sending).await;
        let took = begun.elapsed();
        let status = answered_with(sent.as_ref().ok());
        site.metrics.sent(account.method(), status, took);
        account.upstream(took);
        account.answered(
            status,
            match &sent {
                Ok(sent) => unanswered(Some(sent)),
                Err(problem) => Some(problem.outcome().as_str()),
            },
        );
        let response = match sent? {
            Ok(response) => response,
            Err(SendError::NotSent(cause)) => {
                account.cause(cause.as_str());
                return Err(Problem::Unreachable { cause });
            }
            Err(SendError::Lost(cause)) => {
                // An upload that breaks off breaks the upstream's connection, which then is not the upstream's fault.
                if let Some(problem) = uploaded.and_then(|mut uploaded| uploaded.try_recv().ok()) {
                    return Err(problem);
                }
                account.cause(cause.as_str());
                return Err(Problem::OutcomeUnknown { cause });
            }
        };
        account.end(response.status(), RequestOutcome::Passed);
        if let Some(switch) = switch.filter(|_| reply::is_switch(response.status())) {
            let max_idle = params.tunnel_idle_timeout;
            return tunnel::join(switch, *response, self.names.protected(), client.clone(), max_idle);
        }
        if response.body().is_end_stream() {
            account.close();
        }
        let (connection, account) = (client.connection.clone(), account.take());
        let passed = |body| PassedBody { body, connection, silence: None, account };
        let mut response = response.map(|body| ReplyBody::Stream(Box::new(passed(body))));
        let keep_length = is_head || reply::is_bodyless_with_length(response.status());
        headers::to_client(response.headers_mut(), keep_length, self.names.protected());
        let version = response.version();
        headers::via(response.headers_mut(), version);
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }
}

/// Drives `work` to its end, unless the client leaves, or its patience is over, which begins when it has `uploaded` all.
async fn while_there<T>(
    client: &Client,
    uploaded: Option<&mut oneshot::Receiver<Problem>>,
    patience: Duration,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Problem> {
    if let Some(uploaded) = uploaded {
        tokio::select! {
            biased;
            // The other half ends with the upload.
            ended = uploaded => if let Ok(problem) = ended {
                return Err(problem);
            },
            done = &mut work => return Ok(done),
        }
    }
    let mut now = Instant::now();
    let deadline = now + patience;
    loop {
        let look_at = deadline.min(now + LOOK_AFTER);
        match timeout_at(look_at, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_) if client.connection.has_left() => return Err(Problem::ClientGone),
            Err(_) if look_at == deadline => {
                return Err(Problem::OutcomeUnknown { cause: UnknownCause::AttemptTimeout });
            }
            Err(_) => now = look_at,
        }
    }
}

impl Body for PassedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.silence = None;
            match &frame {
                Some(Ok(frame)) => self.account.sent(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) => {
                    self.account.cause(UnknownCause::ConnectionLost.as_str());
                    self.connection.reset_on_close();
                }
                None => {}
            }
            // Told before the client has the end: who asks then finds the request counted.
            if self.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
                self.account.close();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Response)));
        }
        while self.silence.get_or_insert_with(|| Box::pin(sleep(LOOK_AFTER))).as_mut().poll(cx).is_ready() {
            if self.connection.has_left() {
                return Poll::Ready(Some(Err(BodyError::ClientGone)));
            }
            self.silence = None;
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for PassedBody {
    fn drop(&mut self) {
        // Whoever took all of it has closed the account.
        self.account.client_gone();
    }
}

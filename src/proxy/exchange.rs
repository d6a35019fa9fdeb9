//! One attempt and its answer, once it is permitted.
//!
//! Owns how long a request is waited for, what its client is told meanwhile, and what goes to the client at the end. Admits
//! nothing and settles nothing: the permit is its caller's.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::account::Account;
use super::body::RequestBody;
use super::client::Client;
use super::outcome::RequestOutcome;
use super::policy::{GuardPolicy, Route};
use super::problem::Problem;
use super::recorder::Recording;
use super::slot::Slot;
use super::upstream::{Reuse, SendError, UpstreamBody};
use super::{Proxy, Site, headers, rewrite};
use crate::guard::{Permit, Settled};
use crate::idempotency::{Attempt, UnknownCause};

impl Proxy {
    /// A guarded request as it is sent.
    pub(super) fn outbound(
        &self,
        mut parts: Box<Parts>,
        body: RequestBody,
        route: &Route,
        client: &Client,
        account: &mut Account,
    ) -> Box<Request<RequestBody>> {
        let received = client.received(parts.version, &self.trust);
        headers::to_upstream(&mut parts.headers, &received, None, self.names.protected());
        account.sends(&mut parts.headers);
        rewrite::outbound(parts, body, route)
    }

    /// One attempt: at most one request, and what became of it.
    pub(super) async fn exchange(
        &self,
        site: &Site,
        policy: &GuardPolicy,
        request: Box<Request<RequestBody>>,
        permit: Option<&Permit>,
        client: &Arc<Client>,
        slot: &mut Slot,
    ) -> (Attempt, Option<Box<Recording>>) {
        // Always looked at: a connection that the upstream has closed costs the key its outcome.
        let reuse = Reuse { max_idle: site.upstream.params().max_reuse_idle, trusted_idle: Duration::ZERO };
        let may_send = || self.may_send(policy, permit);
        let tally = slot.account().tally();
        let sending = pin!(site.upstream.send(request, reuse, may_send, &tally));
        self.answered(site, policy, sending, permit, client, slot).await
    }

    /// What became of a request that is being sent. After `response_timeout` the client is told that the attempt goes on;
    /// without a permit it does not, since nothing would remember its end.
    pub(super) async fn answered(
        &self,
        site: &Site,
        policy: &GuardPolicy,
        mut sending: Pin<&mut impl Future<Output = Result<Box<Response<UpstreamBody>>, SendError>>>,
        permit: Option<&Permit>,
        client: &Arc<Client>,
        slot: &mut Slot,
    ) -> (Attempt, Option<Box<Recording>>) {
        let params = site.upstream.params();
        let begun = Instant::now();
        let deadline =
            begun + if permit.is_some() { params.attempt_timeout } else { params.response_timeout };
        let mut sent = hold(permit, deadline.min(begun + params.response_timeout), sending.as_mut()).await;
        if sent.is_none() && permit.is_some() {
            slot.account().upstream(begun.elapsed());
            slot.reply(self.replies.problem(&Problem::StillRunning { retry_after: policy.retry_after }));
            sent = hold(permit, deadline, sending).await;
            let answered = matches!(sent, Some(Ok(_)));
            info!(route = %site.name, answered, "an attempt ended after its client was answered");
        }
        let (took, status) = (slot.sent_at().unwrap_or(begun).elapsed(), answered_with(sent.as_ref()));
        site.metrics.sent(slot.method(), status, took);
        slot.account().upstream(took);
        slot.account().answered(status, unanswered(sent.as_ref()));
        match sent {
            None => (Attempt::Unknown(UnknownCause::AttemptTimeout), None),
            Some(Err(SendError::NotSent(cause))) => (Attempt::NotSent(cause), None),
            Some(Err(SendError::Lost(cause))) => (Attempt::Unknown(cause), None),
            Some(Ok(response)) => {
                let mut recording =
                    Box::new(Recording::begin(*response, policy, self.names.protected(), client.clone()));
                let recorded =
                    hold(permit, deadline, pin!(recording.record(slot, policy, &self.buffered_bytes))).await;
                (recorded.unwrap_or_else(|| recording.not_kept()), Some(recording))
            }
        }
    }

    /// Gives the client what there is, now that it is recorded. `settled` is missing where nothing was claimed.
    pub(super) async fn respond(
        &self,
        attempt: Attempt,
        recording: Option<Box<Recording>>,
        settled: Option<Settled>,
        mut slot: Slot,
        policy: &GuardPolicy,
    ) {
        let outcome = match settled {
            None if policy.observes => RequestOutcome::Passed,
            None => RequestOutcome::Unprotected,
            Some(Settled { release: Some(_), .. }) => RequestOutcome::Released,
            Some(Settled { release: None, .. }) => RequestOutcome::Executed,
        };
        let expires_at = settled.and_then(|settled| settled.expires_at).filter(|_| !policy.observes);
        let problem = match (attempt, recording) {
            (Attempt::Answered(_), Some(recording)) => {
                return recording.finish_kept(outcome, expires_at, slot, policy).await;
            }
            (Attempt::NotKept { .. }, Some(recording)) => {
                return Box::pin(recording.finish_not_kept(outcome, slot, &self.buffered_bytes)).await;
            }
            (Attempt::NotSent(cause), _) => {
                slot.account().cause(cause.as_str());
                Problem::Unreachable { cause }
            }
            (Attempt::Unknown(cause), _) => {
                slot.account().cause(cause.as_str());
                Problem::OutcomeUnknown { cause }
            }
            (Attempt::Answered(_) | Attempt::NotKept { .. }, None) => {
                Problem::OutcomeUnknown { cause: UnknownCause::Abandoned }
            }
        };
        slot.reply(self.replies.problem(&problem));
    }
}

/// The status of the answer, if there is one.
pub(super) fn answered_with<B, E>(sent: Option<&Result<Box<Response<B>>, E>>) -> Option<StatusCode> {
    sent.and_then(|sent| sent.as_ref().ok()).map(|response| response.status())
}

/// Why there is no answer, if there is none.
pub(super) fn unanswered<T>(sent: Option<&Result<T, SendError>>) -> Option<&'static str> {
    match sent {
        None => Some(UnknownCause::AttemptTimeout.as_str()),
        Some(Err(SendError::NotSent(cause))) => Some(cause.as_str()),
        Some(Err(SendError::Lost(cause))) => Some(cause.as_str()),
        Some(Ok(_)) => None,
    }
}

/// Drives `work` until `deadline`, and keeps what is claimed alive meanwhile.
pub(super) async fn hold<T>(
    permit: Option<&Permit>,
    deadline: Instant,
    work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    match permit {
        Some(permit) => permit.holding(deadline, work).await,
        None => timeout_at(deadline, work).await.ok(),
    }
}

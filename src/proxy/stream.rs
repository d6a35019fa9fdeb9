//! Guarded requests whose body streams: claimed by their head, sent as they come, told apart by what they were.
//!
//! Until the body has come to its end the work depends on its client, and if it breaks off after a byte may have been sent,
//! the outcome is unknown. Before that nothing was sent, and the key is free. From the end on nothing depends on the client
//! (I8), and the upstream's time begins.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::asking::settle;
use super::body::RequestBody;
use super::client_body::ClientBody;
use super::exchange::{answered_with, hold};
use super::hashed_upload::{HashedBody, HashedUpload, Reading};
use super::outcome::RequestOutcome;
use super::policy::GuardPolicy;
use super::problem::Problem;
use super::recorder::Recording;
use super::request::Keyed;
use super::slot::Slot;
use super::upstream::Reuse;
use super::{Client, Proxy, Site, Work};
use crate::guard::{Admission, Permit};
use crate::idempotency::{
    Attempt, Entry, Fingerprint, FingerprintHasher, NotSentCause, OnUnknown, Presented, UnknownCause,
    Verdict, judge,
};

/// How long an upload may take that is only observed: as good as for ever.
const LONGEST_OBSERVED: Duration = Duration::from_hours(24 * 365);

/// A guarded request whose body is still to come.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) keyed: Keyed,
    pub(super) body: ClientBody,
    pub(super) hasher: FingerprintHasher,
}

/// What became of an upload.
struct Uploaded {
    attempt: Attempt,
    recording: Option<Box<Recording>>,
    /// There if the body came to its end.
    fingerprint: Option<Fingerprint>,
    /// Why nothing was sent, if that was the client's doing.
    fault: Option<Problem>,
}

impl Proxy {
    /// As `guarded`, for a body that streams.
    pub(super) async fn streamed(self: Arc<Self>, work: Work<Unread>, mut slot: Slot) {
        let Work { site, request, client, places } = work;
        let Unread { keyed, body, hasher } = *request;
        let Some(policy) = &site.route.guard else { return };
        let protected = self.names.protected().clone();
        let max_bytes = if policy.observes { u64::MAX } else { policy.max_request_body_bytes };
        let body = match HashedBody::new(body, hasher, max_bytes, protected) {
            Ok(body) => body,
            Err(problem) => return slot.reply(self.replies.problem(&problem)),
        };
        let presented = keyed.present(policy, None);
        let admission = self.admit(&presented, policy, slot.account()).await;
        site.metrics.admitted(&admission);
        let mut compared = None;
        let mut permit = match admission {
            Ok(Admission::Standing { verdict: Verdict::Compare(standing), .. })
                if self.still_observes(policy) =>
            {
                compared = Some(standing);
                None
            }
            Ok(Admission::Standing { verdict: Verdict::Compare(standing), waited }) => {
                return self.compare(&site, (*standing, &presented), waited, body, slot, policy).await;
            }
            admission => match self.admitted(admission, &presented, policy) {
                Ok(permit) => permit,
                Err(refusal) if self.still_observes(policy) => {
                    slot.account().observed(refusal.outcome);
                    None
                }
                Err(refusal) => return slot.reply(refusal),
            },
        };
        let uploading =
            Box::pin(self.upload(&site, policy, (keyed, body), permit.as_ref(), &client, &mut slot));
        let Uploaded { attempt, recording, fingerprint, fault } = uploading.await;
        if let (Some(permit), Some(fingerprint)) = (&mut permit, fingerprint) {
            permit.read_whole(fingerprint);
        }
        if let (Some(standing), Some(_)) = (compared, fingerprint) {
            let presented = Presented { fingerprint, ..presented };
            let verdict = judge(*standing, &presented, OnUnknown::Reject);
            site.metrics.judged(&verdict);
            slot.account().observed(self.verdict(verdict, false, policy).outcome);
        }
        let settled = settle(permit, &attempt, slot.account()).await;
        drop(places);
        if let Some(problem) = fault {
            return slot.reply(self.replies.problem(&problem));
        }
        let is_recorded_as_broken = fingerprint.is_none() && settled.is_some_and(|it| it.release.is_none());
        let has_answer = matches!(attempt, Attempt::Answered(_) | Attempt::NotKept { .. });
        let attempt = if has_answer && is_recorded_as_broken {
            Attempt::Unknown(UnknownCause::UploadBroken)
        } else {
            attempt
        };
        self.respond(attempt, recording, settled, slot, policy).await;
    }

    /// Reads the body to know whether it is that of `standing`. Then there is nothing left to send: what the operator wants
    /// run again where its outcome is unknown is told to be unknown.
    async fn compare(
        &self,
        site: &Site,
        (standing, presented): (Entry, &Presented),
        waited: bool,
        mut body: HashedBody,
        mut slot: Slot,
        policy: &GuardPolicy,
    ) {
        slot.reply(match body.read_whole().await {
            Ok(fingerprint) => {
                let presented = Presented { fingerprint: Some(fingerprint), ..*presented };
                let verdict = judge(standing, &presented, OnUnknown::Reject);
                site.metrics.judged(&verdict);
                self.verdict(verdict, waited, policy)
            }
            Err(problem) => self.replies.problem(&problem),
        });
    }

    /// One attempt: at most one request, and what became of it and of its body.
    async fn upload(
        &self,
        site: &Site,
        policy: &GuardPolicy,
        (keyed, mut body): (Keyed, HashedBody),
        permit: Option<&Permit>,
        client: &Arc<Client>,
        slot: &mut Slot,
    ) -> Uploaded {
        let params = site.upstream.params();
        let until =
            Instant::now() + if policy.observes { LONGEST_OBSERVED } else { policy.patience.max_total };
        let too_slow = Problem::RequestTimeout { is_passed_on: false };
        let first = match hold(permit, until, pin!(body.first())).await.unwrap_or(Err(too_slow)) {
            Ok(first) => first,
            Err(problem) => {
                let attempt = Attempt::NotSent(NotSentCause::UploadBroken);
                return Uploaded { attempt, recording: None, fingerprint: None, fault: Some(problem) };
            }
        };
        let (upload, reading) = HashedUpload::new(body, first);
        let body = RequestBody::Hashed(Box::new(upload));
        let request = self.outbound(keyed.parts, body, &site.route, client, slot.account());
        let reuse = Reuse { max_idle: params.max_reuse_idle, trusted_idle: Duration::ZERO };
        let may_send = || self.may_send(policy, permit);
        slot.begins_to_send();
        let tally = slot.account().tally();
        let mut sending = pin!(site.upstream.send(request, reuse, may_send, &tally));
        // The upstream may answer before it has read all.
        let under_way = async {
            tokio::select! {
                biased;
                () = reading.ended() => None,
                sent = sending.as_mut() => Some(sent),
            }
        };
        let under_way = hold(permit, until, pin!(under_way)).await;
        let is_broken = |reading: &Reading| matches!(reading.end(), Some(Err(_)));
        let (attempt, recording) = match under_way {
            Some(sent) if !is_broken(&reading) => match sent {
                Some(sent) => self.answered(site, policy, pin!(ready(sent)), permit, client, slot).await,
                None => self.answered(site, policy, sending, permit, client, slot).await,
            },
            given_up => {
                let took = slot.sent_at().map_or(Duration::ZERO, |sent_at| sent_at.elapsed());
                let is_late = given_up.is_none() && !reading.is_waited_for();
                site.metrics.sent(slot.method(), answered_with(given_up.flatten().as_ref()), took);
                slot.account().upstream(took);
                let cause = if is_late { UnknownCause::AttemptTimeout } else { UnknownCause::UploadBroken };
                (Attempt::Unknown(cause), None)
            }
        };
        if reading.read_bytes() > policy.max_request_body_bytes {
            slot.account().observed(RequestOutcome::TooLarge);
        }
        let fingerprint = match attempt {
            Attempt::Answered(_) | Attempt::NotKept { .. } => {
                read_to_the_end(&reading, permit, until, params.response_timeout).await
            }
            Attempt::NotSent(_) | Attempt::Unknown(_) => reading.end().and_then(Result::ok),
        };
        let attempt = if is_broken(&reading) && matches!(attempt, Attempt::Unknown(_)) {
            Attempt::Unknown(UnknownCause::UploadBroken)
        } else {
            attempt
        };
        Uploaded { attempt, recording, fingerprint, fault: None }
    }
}

/// The fingerprint of a body that its upstream has answered already, if it comes to its end. It goes on to the upstream for
/// as long as that takes some of it every `patience`; after that it is only read.
async fn read_to_the_end(
    reading: &Reading,
    permit: Option<&Permit>,
    until: Instant,
    patience: Duration,
) -> Option<Fingerprint> {
    loop {
        let read_bytes = reading.read_bytes();
        let look_at = until.min(Instant::now() + patience);
        let ended = hold(permit, look_at, pin!(reading.ended())).await.is_some();
        if let Some(end) = reading.end() {
            return end.ok();
        }
        if ended || look_at == until || reading.read_bytes() == read_bytes {
            return hold(permit, until, pin!(reading.read_rest())).await?.ok();
        }
    }
}

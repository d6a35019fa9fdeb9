//! What the proxy does around the guard, and the upstream behind it.

use std::num::NonZeroU32;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use oncegate::guard::{Admission, Guard, Permit, Rules};
use oncegate::idempotency::{
    Answer, Attempt, Fingerprint, NotSentCause, OnUnknown, Presented, State, UnknownCause, Verdict, judge,
};
use oncegate::store::Store;
use tokio::time::{Instant, sleep};

use super::bugs::Bug;
use super::ledger::{Ledger, Try, short};
use super::plan::{Attempted, Fate, RELEASE_STATUS, Script};

/// What a client is told.
#[derive(Debug)]
pub(crate) enum Response {
    /// The outcome of its own attempt.
    Own,
    Standing(Verdict),
    /// Try again: nothing was done for now.
    Refused,
    /// The work was cancelled under it, or its process died.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) guards: [Guard; 2],
    /// The store behind the faults.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) bug: Option<Bug>,
}

impl Driver {
    pub(crate) async fn serve(
        &self,
        by: Try,
        guard: usize,
        (presented, streams): (Presented, bool),
        rules: Rules,
        attempted: Attempted,
    ) -> Response {
        let mut asked = presented;
        if self.bug == Some(Bug::IgnoresFingerprint) {
            asked.fingerprint = Some(Fingerprint::from_parts(NonZeroU32::MIN, [0; 16]));
        }
        if streams {
            asked.fingerprint = None;
        }
        match self.guards[guard].admit(&asked, &rules).await {
            Err(error) => {
                self.ledger.note(&by, &format!("is refused: {error}"));
                Response::Refused
            }
            Ok(Admission::Released(reason)) => {
                self.ledger.note(&by, &format!("waited in vain: {reason:?}"));
                Response::Refused
            }
            Ok(Admission::Standing { verdict, waited }) => {
                let verdict = self.compared(by, &presented, verdict).await;
                self.ledger.given(by, &presented, &verdict, waited);
                Response::Standing(verdict)
            }
            Ok(Admission::Granted(permit)) => {
                self.ledger.note(&by, &format!("is granted {}: {attempted:?}", short(&presented.id)));
                self.run(by, permit, &presented, &asked, attempted).await
            }
        }
    }

    async fn run(
        &self,
        by: Try,
        mut permit: Permit,
        presented: &Presented,
        asked: &Presented,
        attempted: Attempted,
    ) -> Response {
        match attempted.fate {
            Fate::Pauses(pause) => sleep(pause).await,
            Fate::DiesBefore => {
                std::mem::forget(permit);
                return Response::Broken;
            }
            Fate::DropsBefore => return Response::Broken,
            Fate::PanicsBefore => resume_unwind(Box::new("the work panics")),
            Fate::Steady | Fate::DiesAfter | Fate::DropsAfter | Fate::PanicsAfter => {}
        }
        hold(&permit, sleep(attempted.connects_in)).await;
        if let Script::NeverSent(cause) = attempted.script {
            return self.settle(by, permit, presented, None, Attempt::NotSent(cause)).await;
        }
        if !permit.is_held() && self.bug != Some(Bug::SendsAfterLapse) {
            let lapsed = Attempt::NotSent(NotSentCause::LeaseLapsed);
            return self.settle(by, permit, presented, None, lapsed).await;
        }
        let standing = self.store.lookup(&presented.id).await.expect("the store itself does not fail");
        let number = self.ledger.dispatched(by, presented, asked, standing);
        let attempt = match attempted.fate {
            Fate::DiesAfter => {
                std::mem::forget(permit);
                return Response::Broken;
            }
            Fate::PanicsAfter => {
                hold(&permit, async {
                    sleep(attempted.takes / 2).await;
                    resume_unwind(Box::new("the work panics"))
                })
                .await
            }
            Fate::DropsAfter => {
                hold(&permit, sleep(attempted.takes / 2)).await;
                return Response::Broken;
            }
            Fate::Steady | Fate::Pauses(_) | Fate::DiesBefore | Fate::DropsBefore | Fate::PanicsBefore => {
                hold(&permit, self.upstream(number, attempted)).await
            }
        };
        if let (None, Some(fingerprint)) = (asked.fingerprint, presented.fingerprint) {
            let is_whole = !attempted.upload_breaks;
            self.ledger.note(&by, &if is_whole { "has uploaded all" } else { "breaks off its upload" });
            self.ledger.pages().dispatches[number].is_whole = is_whole;
            if is_whole || self.bug == Some(Bug::SettlesHalfAnUpload) {
                permit.read_whole(fingerprint);
            }
        }
        self.settle(by, permit, presented, Some(number), attempt).await
    }

    /// The verdict where it depends on a body that is still to come: it is read, and then there is nothing left to send.
    async fn compared(&self, by: Try, presented: &Presented, verdict: Verdict) -> Verdict {
        let Verdict::Compare(standing) = verdict else { return verdict };
        self.ledger.note(&by, &"reads its body to compare it");
        sleep(Duration::from_millis(5)).await;
        judge(*standing, presented, OnUnknown::Reject)
    }

    /// The upstream carries the request out, and answers as its script says.
    async fn upstream(&self, number: usize, attempted: Attempted) -> Attempt {
        sleep(attempted.takes).await;
        let mut pages = self.ledger.pages();
        let sent = &mut pages.dispatches[number];
        match attempted.script {
            Script::Answers(status) => {
                let body = format!("execution {number}");
                let answer = Answer::new(status, [].into_iter(), body.as_bytes(), [].into_iter()).unwrap();
                sent.status = Some(status);
                sent.answer = Some(answer.clone());
                sent.void = RELEASE_STATUS.contains(&status);
                Attempt::Answered(answer)
            }
            Script::TooBig(status) => {
                sent.status = Some(status);
                sent.void = RELEASE_STATUS.contains(&status);
                Attempt::NotKept { status }
            }
            Script::Loses(cause) => Attempt::Unknown(cause),
            Script::NeverSent(cause) => Attempt::NotSent(cause),
        }
    }

    async fn settle(
        &self,
        by: Try,
        permit: Permit,
        presented: &Presented,
        number: Option<usize>,
        mut attempt: Attempt,
    ) -> Response {
        if self.bug == Some(Bug::ReleasesOnError) && matches!(attempt, Attempt::Unknown(_)) {
            attempt = Attempt::NotSent(NotSentCause::Unwritten);
        }
        if let Some(number) = number {
            let sent = &mut self.ledger.pages().dispatches[number];
            sent.settled_as_answered = sent.status.is_some() && !sent.void && sent.is_whole;
        }
        self.ledger.note(&by, &format!("settles {attempt:?}"));
        let settled = permit.settle(attempt.clone()).await;
        self.ledger.note(
            &by,
            &format!("responds, {}", if settled.expires_at.is_some() { "recorded" } else { "not recorded" }),
        );
        if let (Some(number), Some(expires_at), None) = (number, settled.expires_at, settled.release) {
            self.ledger.pages().dispatches[number].expires_at = Some(expires_at);
            let attempt = if self.ledger.pages().dispatches[number].is_whole {
                attempt
            } else {
                Attempt::Unknown(UnknownCause::UploadBroken)
            };
            self.check_record(by, presented, &attempt).await;
        }
        Response::Own
    }

    /// Record before respond (I5).
    async fn check_record(&self, by: Try, presented: &Presented, attempt: &Attempt) {
        let entry = self.store.lookup(&presented.id).await.expect("the store itself does not fail");
        let recorded = match (entry.map(|entry| entry.state), attempt) {
            (Some(State::Completed { answer: Some(kept), .. }), Attempt::Answered(answer)) => kept == *answer,
            (Some(State::Completed { status: kept, answer: None }), Attempt::NotKept { status }) => {
                kept == *status
            }
            (Some(State::Unknown(_)), Attempt::Unknown(_)) => true,
            // Another may have taken it over already.
            (_, Attempt::Unknown(_)) => self.ledger.reruns_unknown,
            _ => false,
        };
        if !recorded {
            self.ledger.violation(format!("I5: {by} responds before the record stands"));
        }
    }
}

/// Holds the permit for as long as `work` takes.
async fn hold<T>(permit: &Permit, work: impl Future<Output = T>) -> T {
    permit.holding(Instant::now() + Duration::from_secs(86_400), pin!(work)).await.expect("the work ends")
}

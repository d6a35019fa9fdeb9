//! What a presented request gets where an entry already stands.
//!
//! Owns the order of the verdicts (I4): other caller, then mismatch, then what the state says. Every combination of state,
//! request and setting is decided here and nowhere else.

use std::time::SystemTime;

use super::{Answer, CallerHash, Entry, Fingerprint, RequestId, State, UnknownCause};

/// A request that asks for admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The key of this caller on this resource.
    pub id: RequestId,
    /// The caller, where the id leaves him out (`on_other_caller = "refuse"`).
    pub caller: Option<CallerHash>,
    /// The payload's fingerprint; `None` if the body is still to come.
    pub fingerprint: Option<Fingerprint>,
    /// Whose entry it is counted as, where callers are bounded.
    pub counted_as: CallerHash,
}

/// What to do with a key whose outcome is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Say so, and do not run it again.
    #[default]
    Reject,
    /// Run it again: the operator knows that the upstream bears it.
    Retry,
}

/// What a request gets that may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It depends on the payload, which is still to come: to be read, and judged against this entry.
    Compare(Box<Entry>),
    /// The first request is still at work.
    InFlight,
    /// The key belongs to another payload.
    Mismatch(MismatchCause),
    /// The upstream answered with `status`, but the answer is gone.
    NotRetained {
        /// The upstream's status code.
        status: u16,
    },
    /// The key belongs to another caller.
    OtherCaller,
    /// This is the answer.
    Replay {
        /// The upstream's answer.
        answer: Answer,
        /// When the entry will be gone.
        expires_at: Option<SystemTime>,
    },
    /// The outcome is unknown, and the operator wants it run again in this entry's place.
    RunAgain,
    /// Nobody can tell whether the upstream acted.
    Unknown(UnknownCause),
}

/// How a payload differs from the entry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MismatchCause {
    /// It is another payload.
    Payload,
    /// The entry's fingerprint was taken by another rule, so that nobody can tell.
    Rule,
}

impl MismatchCause {
    /// Every cause, in its order.
    pub const ALL: [Self; 2] = [Self::Payload, Self::Rule];

    /// The cause's name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Rule => "rule",
        }
    }
}

/// Judges `presented` against what stands.
#[must_use]
pub fn judge(standing: Entry, presented: &Presented, on_unknown: OnUnknown) -> Verdict {
    if standing.caller != presented.caller {
        return Verdict::OtherCaller;
    }
    let Some(claimed) = standing.fingerprint else { return of_unknown_payload(&standing.state, on_unknown) };
    let Some(fingerprint) = presented.fingerprint else { return Verdict::Compare(Box::new(standing)) };
    if !claimed.is_comparable_to(&fingerprint) {
        return Verdict::Mismatch(MismatchCause::Rule);
    }
    if claimed != fingerprint {
        return Verdict::Mismatch(MismatchCause::Payload);
    }
    match (standing.state, on_unknown) {
        (State::InFlight, _) => Verdict::InFlight,
        (State::Unknown(_), OnUnknown::Retry) => Verdict::RunAgain,
        (State::Unknown(cause), OnUnknown::Reject) => Verdict::Unknown(cause),
        (State::Completed { answer: Some(answer), .. }, _) => {
            Verdict::Replay { answer, expires_at: standing.expires_at }
        }
        (State::Completed { status, answer: None }, _) => Verdict::NotRetained { status },
    }
}

/// The verdict where the first request's body was not read to its end, or is not yet: nothing is equal to it, so that no
/// payload matters and no answer is given. `OnUnknown::Retry` is the operator's word that it may run again all the same.
const fn of_unknown_payload(state: &State, on_unknown: OnUnknown) -> Verdict {
    match (state, on_unknown) {
        (State::InFlight, _) => Verdict::InFlight,
        (State::Unknown(_), OnUnknown::Retry) => Verdict::RunAgain,
        (State::Unknown(cause), OnUnknown::Reject) => Verdict::Unknown(*cause),
        // No guard writes this: what is settled without its payload is unknown.
        (State::Completed { .. }, _) => Verdict::Unknown(UnknownCause::UploadBroken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::{BodyRule, CallerHasher, FingerprintRule, Owner, Payload};

    fn caller(name: &[u8]) -> CallerHash {
        let mut hasher = CallerHasher::new();
        hasher.mark("header:authorization", [name]);
        hasher.finish()
    }

    fn fingerprint(body: &[u8], fields: &[&str]) -> Option<Fingerprint> {
        let rule = FingerprintRule::new(BodyRule::Raw, fields);
        Some(rule.fingerprint(&Payload { query: None, fields: &[], body, trailers: &[] }).unwrap())
    }

    fn states() -> Vec<State> {
        let answer = Answer::new(201, [].into_iter(), b"made", [].into_iter()).unwrap();
        let mut states = vec![
            State::InFlight,
            State::Completed { status: 201, answer: Some(answer) },
            State::Completed { status: 201, answer: None },
        ];
        states.extend(UnknownCause::ALL.map(State::Unknown));
        states
    }

    /// What the state alone says, for the request that made the entry.
    fn of_state(state: &State, on_unknown: OnUnknown, expires_at: Option<SystemTime>) -> Verdict {
        match state {
            State::InFlight => Verdict::InFlight,
            State::Unknown(_) if on_unknown == OnUnknown::Retry => Verdict::RunAgain,
            State::Unknown(cause) => Verdict::Unknown(*cause),
            State::Completed { answer: Some(answer), .. } => {
                Verdict::Replay { answer: answer.clone(), expires_at }
            }
            State::Completed { status, answer: None } => Verdict::NotRetained { status: *status },
        }
    }

    #[test]
    fn every_state_and_request_and_setting_has_its_verdict() {
        let id = RequestId::from_bytes([7; 32]);
        let callers = [None, Some(caller(b"alice")), Some(caller(b"bob"))];
        let fingerprints = [fingerprint(b"a", &[]), fingerprint(b"b", &[]), fingerprint(b"a", &["x-tenant"])];
        let mut judged = 0;
        for state in states() {
            for on_unknown in [OnUnknown::Reject, OnUnknown::Retry] {
                for (standing_caller, caller) in
                    callers.iter().flat_map(|s| callers.iter().map(move |p| (s, p)))
                {
                    for (index, presented) in fingerprints.iter().enumerate() {
                        let expires_at = (state != State::InFlight).then_some(SystemTime::UNIX_EPOCH);
                        let standing = Entry {
                            owner: Owner::new(1),
                            caller: *standing_caller,
                            fingerprint: fingerprint(b"a", &[]),
                            state: state.clone(),
                            expires_at,
                        };
                        let counted_as = CallerHash::from_bytes([1; 32]);
                        let request = Presented { id, caller: *caller, fingerprint: *presented, counted_as };
                        let expected = match (standing_caller == caller, index) {
                            (false, _) => Verdict::OtherCaller,
                            (true, 0) => of_state(&state, on_unknown, expires_at),
                            (true, 1) => Verdict::Mismatch(MismatchCause::Payload),
                            (true, _) => Verdict::Mismatch(MismatchCause::Rule),
                        };
                        let verdict = judge(standing, &request, on_unknown);
                        assert_eq!(
                            verdict, expected,
                            "{state:?} {on_unknown:?} {standing_caller:?} {request:?}"
                        );
                        judged += 1;
                    }
                }
            }
        }
        assert_eq!(judged, 9 * 2 * 9 * 3);
    }

    /// Every pair of an entry and a request of which one or both have no fingerprint.
    #[test]
    fn a_payload_that_is_not_known_is_never_taken_for_equal() {
        let id = RequestId::from_bytes([7; 32]);
        let known = fingerprint(b"a", &[]);
        for (state, on_unknown) in states()
            .into_iter()
            .flat_map(|state| [OnUnknown::Reject, OnUnknown::Retry].map(|on| (state.clone(), on)))
        {
            let entry = |fingerprint| Entry {
                owner: Owner::new(1),
                caller: None,
                fingerprint,
                state: state.clone(),
                expires_at: None,
            };
            for presented in [None, known] {
                let counted_as = CallerHash::from_bytes([1; 32]);
                let request = Presented { id, caller: None, fingerprint: presented, counted_as };
                let expected = match (&state, on_unknown) {
                    (State::InFlight, _) => Verdict::InFlight,
                    (State::Unknown(_), OnUnknown::Retry) => Verdict::RunAgain,
                    (State::Unknown(cause), OnUnknown::Reject) => Verdict::Unknown(*cause),
                    (State::Completed { .. }, _) => Verdict::Unknown(UnknownCause::UploadBroken),
                };
                assert_eq!(judge(entry(None), &request, on_unknown), expected, "{state:?} {presented:?}");
                let stranger = Presented { caller: Some(caller(b"bob")), ..request };
                assert_eq!(judge(entry(None), &stranger, on_unknown), Verdict::OtherCaller, "{state:?}");
            }
            let counted_as = CallerHash::from_bytes([1; 32]);
            let unread = Presented { id, caller: None, fingerprint: None, counted_as };
            let verdict = judge(entry(known), &unread, on_unknown);
            assert_eq!(verdict, Verdict::Compare(Box::new(entry(known))), "{state:?}");
        }
    }
}

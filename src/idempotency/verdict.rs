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
    /// The payload's fingerprint.
    pub fingerprint: Fingerprint,
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

/// Judges `presented` against what stands.
#[must_use]
pub fn judge(standing: Entry, presented: &Presented, on_unknown: OnUnknown) -> Verdict {
    if standing.caller != presented.caller {
        return Verdict::OtherCaller;
    }
    if !standing.fingerprint.is_comparable_to(&presented.fingerprint) {
        return Verdict::Mismatch(MismatchCause::Rule);
    }
    if standing.fingerprint != presented.fingerprint {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::{BodyRule, CallerHasher, FingerprintRule, Owner, Payload};

    fn caller(name: &[u8]) -> CallerHash {
        let mut hasher = CallerHasher::new();
        hasher.mark("header:authorization", [name]);
        hasher.finish()
    }

    fn fingerprint(body: &[u8], fields: &[&str]) -> Fingerprint {
        let rule = FingerprintRule::new(BodyRule::Raw, fields);
        rule.fingerprint(&Payload { query: None, fields: &[], body }).unwrap()
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
                        let request = Presented { id, caller: *caller, fingerprint: *presented };
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
        assert_eq!(judged, 8 * 2 * 9 * 3);
    }
}

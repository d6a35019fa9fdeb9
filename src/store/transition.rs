//! What an owner's update comes to, by what stands there.

use crate::idempotency::{Answer, Outcome, State};

/// What an update by the owner comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// The outcome is to be recorded.
    Apply,
    /// It is recorded already.
    Stands,
    /// Another outcome is recorded.
    Refused,
}

impl Transition {
    /// Judges an owner's update against what stands there. An answer that is no longer kept is taken for the same.
    pub(super) fn judge(standing: &State, outcome: &Outcome) -> Self {
        let same = match (standing, outcome) {
            (State::InFlight, _)
            | (State::Unknown(_), Outcome::Completed(_) | Outcome::NotRetained { .. }) => return Self::Apply,
            (State::Unknown(stands), Outcome::Unknown(cause)) => stands == cause,
            (State::Completed { .. }, Outcome::Unknown(_)) => false,
            (State::Completed { status, answer }, Outcome::NotRetained { status: new }) => {
                status == new && answer.is_none()
            }
            (State::Completed { status, answer }, Outcome::Completed(new)) => {
                *status == new.status() && answer.as_ref().is_none_or(|kept: &Answer| kept == new)
            }
        };
        if same { Self::Stands } else { Self::Refused }
    }
}

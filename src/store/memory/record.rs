//! One entry as it lies in memory, and the transitions it may make.
//!
//! Owns the rules of the contract for a single record: which owner may change it, when its lease has lapsed, when it is
//! gone. It has no lock and no clock: `now` comes in. It is kept small, since there may be millions; the caller, whom few
//! entries name, is the shard's matter.

use crate::idempotency::{Claim, Fingerprint, Outcome, Owner, RequestId, UnknownCause};

use super::answers::Serial;
use super::clock::Millis;
use super::u48::U48;

#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: RequestId,
    /// As bytes: a `u128` would be aligned to 16 and cost padding.
    owner: [u8; 16],
    fingerprint: Option<Fingerprint>,
    standing: Standing,
}

/// What is known of the request. Times are kept in six bytes: eight would make every record larger.
#[derive(Debug)]
enum Standing {
    /// `ttl` runs from the lease's end, should the owner die.
    InFlight {
        claimed_at: U48,
        lease_ends_at: U48,
        ttl: U48,
    },
    Unknown {
        cause: UnknownCause,
        claimed_at: U48,
        expires_at: U48,
    },
    Completed {
        status: u16,
        answer: Option<Serial>,
        expires_at: U48,
    },
}

/// What a reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    InFlight { lease_ends_at: Millis },
    Unknown { cause: UnknownCause, expires_at: Millis },
    Completed { status: u16, answer: Option<Serial>, expires_at: Millis },
}

impl Record {
    pub(super) fn new(
        id: &RequestId,
        claim: &Claim,
        now: Millis,
        lease_ends_at: Millis,
        ttl_ms: Millis,
    ) -> Self {
        Self {
            id: *id,
            owner: claim.owner.token().to_le_bytes(),
            fingerprint: claim.fingerprint,
            standing: Standing::InFlight {
                claimed_at: U48::new(now),
                lease_ends_at: U48::new(lease_ends_at),
                ttl: U48::new(ttl_ms),
            },
        }
    }

    pub(super) const fn owner(&self) -> Owner {
        Owner::new(u128::from_le_bytes(self.owner))
    }

    pub(super) const fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// When the record is gone if nothing more is heard of it. Renewals move it.
    pub(super) const fn expires_at(&self) -> Millis {
        match self.standing {
            Standing::InFlight { lease_ends_at, ttl, .. } => lease_ends_at.get() + ttl.get(),
            Standing::Unknown { expires_at, .. } | Standing::Completed { expires_at, .. } => expires_at.get(),
        }
    }

    /// What a reader finds in a record that has not expired.
    pub(super) fn read(&self, now: Millis) -> Reading {
        let expires_at = self.expires_at();
        match self.standing {
            Standing::InFlight { lease_ends_at, .. } if now < lease_ends_at.get() => {
                Reading::InFlight { lease_ends_at: lease_ends_at.get() }
            }
            Standing::InFlight { .. } => Reading::Unknown { cause: UnknownCause::OwnerLost, expires_at },
            Standing::Unknown { cause, .. } => Reading::Unknown { cause, expires_at },
            Standing::Completed { status, answer, .. } => Reading::Completed { status, answer, expires_at },
        }
    }

    /// When an entry that is not completed was claimed.
    pub(super) const fn claimed_at(&self) -> Option<Millis> {
        match self.standing {
            Standing::InFlight { claimed_at, .. } | Standing::Unknown { claimed_at, .. } => {
                Some(claimed_at.get())
            }
            Standing::Completed { .. } => None,
        }
    }

    /// The kept answer's serial number.
    pub(super) const fn answer(&self) -> Option<Serial> {
        match self.standing {
            Standing::Completed { answer, .. } => answer,
            Standing::InFlight { .. } | Standing::Unknown { .. } => None,
        }
    }

    /// Begins the lease anew; `false` if it does not run.
    pub(super) fn renew(&mut self, now: Millis, ends_at: Millis) -> bool {
        match &mut self.standing {
            Standing::InFlight { lease_ends_at, .. } if now < lease_ends_at.get() => {
                *lease_ends_at = U48::new(ends_at);
                true
            }
            Standing::InFlight { .. } | Standing::Unknown { .. } | Standing::Completed { .. } => false,
        }
    }

    /// Records how the request ended. Ask [`Transition`] first.
    pub(super) fn settle(
        &mut self,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        answer: Option<Serial>,
        now: Millis,
        expires_at: Millis,
    ) {
        self.fingerprint = self.fingerprint.or(fingerprint);
        let expires_at = U48::new(expires_at);
        self.standing = match outcome {
            Outcome::Completed(kept) => Standing::Completed { status: kept.status(), answer, expires_at },
            Outcome::NotRetained { status } => {
                Standing::Completed { status: *status, answer: None, expires_at }
            }
            Outcome::Unknown(cause) => {
                let claimed_at = U48::new(self.claimed_at().unwrap_or(now));
                Standing::Unknown { cause: *cause, claimed_at, expires_at }
            }
        };
    }
}

#[cfg(test)]
impl Record {
    /// One in flight that expires at `at`.
    pub(super) fn expiring(id: &RequestId, at: Millis) -> Self {
        use std::time::Duration;
        let claim = Claim {
            owner: Owner::new(at.into()),
            caller: None,
            fingerprint: None,
            lease: Duration::ZERO,
            ttl: Duration::ZERO,
            share: None,
            replaces: None,
        };
        Self::new(id, &claim, 0, at, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        // What a stored answer costs beside its bytes is mostly moka's; this is our part of it.
        assert_eq!(size_of::<Record>(), 88);
    }
}

//! What stands under a request's id.
//!
//! Owns the shape of an entry as a store shows it. Lapsed leases and expired ttls are already judged by the store's
//! clock: a reader sees `Unknown` for a dead owner, and nothing for an expired entry.

use std::time::{Duration, SystemTime};

use super::{Answer, CallerHash, Fingerprint};

/// A token that names one claim. Whoever holds it may change the entry it stands in; no two claims share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(u128);

impl Owner {
    /// A token out of a number that was never used before.
    #[must_use]
    pub const fn new(token: u128) -> Self {
        Self(token)
    }

    /// The number, for a store that has to keep it.
    #[must_use]
    pub const fn token(self) -> u128 {
        self.0
    }
}

/// What a guard asks a store to insert: an in-flight entry of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The new token.
    pub owner: Owner,
    /// The caller, where the id leaves him out (`on_other_caller = "refuse"`).
    pub caller: Option<CallerHash>,
    /// The payload's fingerprint; `None` if the body is still to come, and its settlement will bring it.
    pub fingerprint: Option<Fingerprint>,
    /// How long the entry reads as in flight without being renewed.
    pub lease: Duration,
    /// How long the entry lives from the lease's end, should its owner die.
    pub ttl: Duration,
    /// Whose entry it is counted as, where callers are bounded. It is no part of the entry that is shown.
    pub share: Option<CallerShare>,
    /// An `Unknown` entry's token: if it still stands there, still `Unknown`, this claim takes its place
    /// (`on_unknown = "retry"`).
    pub replaces: Option<Owner>,
}

/// How many live entries one caller may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerShare {
    /// The caller.
    pub caller: CallerHash,
    /// The bound.
    pub max_entries: u64,
}

/// What stands under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The token of the claim that made the entry.
    pub owner: Owner,
    /// The caller, as claimed.
    pub caller: Option<CallerHash>,
    /// The fingerprint, as claimed or as settled; `None` until then. Once set it never changes (I4).
    pub fingerprint: Option<Fingerprint>,
    /// What is known of the request.
    pub state: State,
    /// When the entry will be gone: `None` while in flight. The same time for every reader.
    pub expires_at: Option<SystemTime>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its owner is at work and his lease runs.
    InFlight,
    /// It may or may not have been carried out.
    Unknown(UnknownCause),
    /// The upstream answered with `status`. Without `answer`, it was too big to be kept or had to make room.
    Completed {
        /// The upstream's status code.
        status: u16,
        /// The whole answer, unless it was not retained.
        answer: Option<Answer>,
    },
}

/// Why nobody can tell whether the upstream acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownCause {
    /// The work ended without saying how: a panic, or a process that stopped before its end.
    Abandoned,
    /// No whole answer came within `attempt_timeout`.
    AttemptTimeout,
    /// The connection broke after the request may have been sent and before the answer was whole.
    ConnectionLost,
    /// What came back was no well-formed answer.
    InvalidAnswer,
    /// The lease ran out: the owner is dead, or cut off from the store.
    OwnerLost,
    /// The client's body broke off, was too slow or too large after a part of it was sent.
    UploadBroken,
}

impl UnknownCause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::Abandoned,
        Self::AttemptTimeout,
        Self::ConnectionLost,
        Self::InvalidAnswer,
        Self::OwnerLost,
        Self::UploadBroken,
    ];

    /// The cause's name in logs and stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::AttemptTimeout => "attempt_timeout",
            Self::ConnectionLost => "connection_lost",
            Self::InvalidAnswer => "invalid_answer",
            Self::OwnerLost => "owner_lost",
            Self::UploadBroken => "upload_broken",
        }
    }
}

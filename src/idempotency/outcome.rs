//! From what was seen of an attempt to what is recorded of it.
//!
//! Owns the one rule that frees a key: nothing was sent, or the upstream's status says that nothing was done. Everything
//! else is recorded. Whoever observes the attempt classifies it, at the connection itself; this file only applies policy.

use super::{Answer, Fingerprint, UnknownCause};

/// What was seen of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A whole, well-formed answer.
    Answered(Answer),
    /// An answer that cannot be kept: too big, or still running at the end of the attempt.
    NotKept {
        /// The upstream's status code.
        status: u16,
    },
    /// Provably no byte of the request reached the upstream.
    NotSent(NotSentCause),
    /// A byte may have reached the upstream, and no whole answer came back.
    Unknown(UnknownCause),
}

/// What a store records of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered, and this is the answer.
    Completed(Answer),
    /// The upstream answered with this status, and the answer is not kept.
    NotRetained {
        /// The upstream's status code.
        status: u16,
    },
    /// Nobody can tell whether the upstream acted.
    Unknown(UnknownCause),
}

/// What becomes of an entry when its attempt ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The outcome is recorded and the ttl begins.
    Record(Outcome),
    /// The entry is removed: the key is as good as new.
    Release(ReleaseReason),
}

/// Why a key is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseReason {
    /// Nothing was sent.
    NotSent(NotSentCause),
    /// The upstream answered with a status that says that nothing was done (`release_status`).
    Status(u16),
}

/// How it is known that nothing was sent, or that nothing of what was sent was processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotSentCause {
    /// No connection could be made.
    ConnectFailed,
    /// No connection was made in time.
    ConnectTimeout,
    /// The owner's lease had run out before the request could be sent, so it was not.
    LeaseLapsed,
    /// The name of the endpoint could not be resolved.
    NameNotResolved,
    /// The upstream itself said that it did not process the request (RFC 9113 §8.7).
    Refused,
    /// All connections that there may be were busy for too long.
    Saturated,
    /// The TLS handshake failed.
    TlsFailed,
    /// The client's body broke off, was too slow or too large before a byte of it came.
    UploadBroken,
    /// Every connection that was tried handed the request back unwritten.
    Unwritten,
}

impl NotSentCause {
    /// The cause's name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::LeaseLapsed => "lease_lapsed",
            Self::NameNotResolved => "name_not_resolved",
            Self::Refused => "refused",
            Self::Saturated => "saturated",
            Self::TlsFailed => "tls_failed",
            Self::UploadBroken => "upload_broken",
            Self::Unwritten => "unwritten",
        }
    }
}

/// What becomes of the entry, given its fingerprint and the statuses that count as not run. Without a fingerprint, since the
/// body was not read to its end, no later request can be told to be the same, so that there is no answer for any.
#[must_use]
pub fn settlement(attempt: Attempt, fingerprint: Option<Fingerprint>, release_status: &[u16]) -> Settlement {
    match attempt {
        Attempt::NotSent(cause) => Settlement::Release(ReleaseReason::NotSent(cause)),
        Attempt::Answered(answer) if release_status.contains(&answer.status()) => {
            Settlement::Release(ReleaseReason::Status(answer.status()))
        }
        Attempt::Answered(answer) if fingerprint.is_some() => Settlement::Record(Outcome::Completed(answer)),
        Attempt::NotKept { status } if release_status.contains(&status) => {
            Settlement::Release(ReleaseReason::Status(status))
        }
        Attempt::NotKept { status } if fingerprint.is_some() => {
            Settlement::Record(Outcome::NotRetained { status })
        }
        Attempt::Answered(_) | Attempt::NotKept { .. } => {
            Settlement::Record(Outcome::Unknown(UnknownCause::UploadBroken))
        }
        Attempt::Unknown(cause) => Settlement::Record(Outcome::Unknown(cause)),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn answer(status: u16) -> Answer {
        Answer::new(status, [].into_iter(), b"body", [].into_iter()).unwrap()
    }

    #[test]
    fn only_what_was_not_sent_or_not_done_frees_a_key() {
        const RELEASED: [u16; 2] = [425, 429];
        let mut table = Vec::new();
        for cause in [
            NotSentCause::ConnectFailed,
            NotSentCause::ConnectTimeout,
            NotSentCause::LeaseLapsed,
            NotSentCause::NameNotResolved,
            NotSentCause::Refused,
            NotSentCause::Saturated,
            NotSentCause::TlsFailed,
            NotSentCause::UploadBroken,
            NotSentCause::Unwritten,
        ] {
            table.push((Attempt::NotSent(cause), Settlement::Release(ReleaseReason::NotSent(cause))));
        }
        for cause in UnknownCause::ALL {
            table.push((Attempt::Unknown(cause), Settlement::Record(Outcome::Unknown(cause))));
        }
        for status in 200..=599 {
            let (kept, not_kept) = if RELEASED.contains(&status) {
                let release = Settlement::Release(ReleaseReason::Status(status));
                (release.clone(), release)
            } else {
                let record = Settlement::Record;
                (record(Outcome::Completed(answer(status))), record(Outcome::NotRetained { status }))
            };
            table.push((Attempt::Answered(answer(status)), kept));
            table.push((Attempt::NotKept { status }, not_kept));
        }
        for (attempt, expected) in table {
            let fingerprint = Some(Fingerprint::from_parts(NonZeroU32::MIN, [0; 16]));
            assert_eq!(settlement(attempt.clone(), fingerprint, &RELEASED), expected, "{attempt:?}");
            let unread = match expected {
                Settlement::Record(Outcome::Completed(_) | Outcome::NotRetained { .. }) => {
                    Settlement::Record(Outcome::Unknown(UnknownCause::UploadBroken))
                }
                other @ (Settlement::Record(_) | Settlement::Release(_)) => other,
            };
            assert_eq!(settlement(attempt.clone(), None, &RELEASED), unread, "{attempt:?} of half a body");
        }
        assert_eq!(
            settlement(
                Attempt::Answered(answer(429)),
                Some(Fingerprint::from_parts(NonZeroU32::MIN, [0; 16])),
                &[]
            ),
            Settlement::Record(Outcome::Completed(answer(429))),
            "an empty list releases nothing"
        );
    }
}

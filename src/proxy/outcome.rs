//! How a request ended: one closed list, the same word in log, metric and trace.

/// How a request ended, seen from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// The client went away before it could be answered and before anything was sent for it.
    ClientGone,
    /// It ran, and its answer was recorded.
    Executed,
    /// Refused: a request with its key is at work.
    InFlight,
    /// Refused: the key cannot be read.
    KeyInvalid,
    /// Refused: a key is required and there is none.
    KeyMissing,
    /// Refused: the key belongs to another payload.
    Mismatch,
    /// No route serves it.
    NoRoute,
    /// Refused: it ran before, and its answer was not kept.
    NotRetained,
    /// Nothing was sent.
    NotSent,
    /// Refused: the key belongs to another caller.
    OtherCaller,
    /// Refused: too much is in flight.
    Overloaded,
    /// Not guarded: it streamed through.
    Passed,
    /// A browser asked whether it may send a request, and was told.
    Preflight,
    /// Refused: malformed or ambiguous.
    Refused,
    /// It ran, and its status says that nothing was done: the key is free again.
    Released,
    /// It ran before: this is the answer of then.
    Replayed,
    /// Refused: the process is about to end.
    ShuttingDown,
    /// No answer yet: the attempt goes on without the client.
    StillRunning,
    /// Refused: the store is full.
    StoreFull,
    /// Refused: the store cannot be asked.
    StoreUnavailable,
    /// The body took too long to arrive.
    TimedOut,
    /// The body is too large.
    TooLarge,
    /// Refused: its caller has as many keys as it may.
    TooManyKeys,
    /// Nobody can tell whether the upstream acted.
    Unknown,
    /// It ran without a claim, because the store could not be asked and the operator wants that.
    Unprotected,
    /// A replay that was waited for.
    Waited,
}

impl RequestOutcome {
    /// All of them, in their order.
    pub const ALL: [Self; 26] = [
        Self::ClientGone,
        Self::Executed,
        Self::InFlight,
        Self::KeyInvalid,
        Self::KeyMissing,
        Self::Mismatch,
        Self::NoRoute,
        Self::NotRetained,
        Self::NotSent,
        Self::OtherCaller,
        Self::Overloaded,
        Self::Passed,
        Self::Preflight,
        Self::Refused,
        Self::Released,
        Self::Replayed,
        Self::ShuttingDown,
        Self::StillRunning,
        Self::StoreFull,
        Self::StoreUnavailable,
        Self::TimedOut,
        Self::TooLarge,
        Self::TooManyKeys,
        Self::Unknown,
        Self::Unprotected,
        Self::Waited,
    ];

    /// The outcome's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Executed => "executed",
            Self::InFlight => "in_flight",
            Self::KeyInvalid => "key_invalid",
            Self::KeyMissing => "key_missing",
            Self::Mismatch => "mismatch",
            Self::NoRoute => "no_route",
            Self::NotRetained => "not_retained",
            Self::NotSent => "not_sent",
            Self::OtherCaller => "other_caller",
            Self::Overloaded => "overloaded",
            Self::Passed => "passed",
            Self::Preflight => "preflight",
            Self::Refused => "refused",
            Self::Released => "released",
            Self::Replayed => "replayed",
            Self::ShuttingDown => "shutting_down",
            Self::StillRunning => "still_running",
            Self::StoreFull => "store_full",
            Self::StoreUnavailable => "store_unavailable",
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::TooManyKeys => "too_many_keys",
            Self::Unknown => "unknown",
            Self::Unprotected => "unprotected",
            Self::Waited => "waited",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_all_outcomes_is_in_their_order_and_no_two_share_a_word() {
        for (index, outcome) in RequestOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{outcome:?}");
            let sharing = RequestOutcome::ALL.iter().filter(|other| other.as_str() == outcome.as_str());
            assert_eq!(sharing.count(), 1, "{outcome:?}");
        }
    }
}

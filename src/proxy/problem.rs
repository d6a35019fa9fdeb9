//! Everything that Oncegate answers by itself instead of the upstream's answer.
//!
//! Owns the closed list of problems and the words for them: the type, the title, the detail. What status and which fields
//! a problem gets stands in `reply`, in one table.

use std::time::Duration;

use thiserror::Error;

use super::outcome::RequestOutcome;
use super::path::PathFault;
use crate::idempotency::{JsonError, KeyError, MismatchCause, NotSentCause, ReleaseReason, UnknownCause};

/// Why a request does not get the upstream's answer. The texts are for the client.
#[derive(Clone, Debug, Error)]
pub enum Problem {
    /// See [`BadRequest`].
    #[error("{0}")]
    BadRequest(BadRequest),
    /// The fingerprint reads JSON, and the body is none.
    #[error("{0}; the route compares requests by their JSON")]
    BodyInvalid(JsonError),
    /// What tells callers apart is new on every try.
    #[error(
        "this API's operator tells callers apart by the Authorization field, and a {scheme} authorization is new on every \
         try; the operator has to name another mark in `caller`, or set on_other_caller = \"refuse\""
    )]
    CallerUnstable {
        /// The authentication scheme.
        scheme: &'static str,
    },
    /// The client has left: nobody reads this.
    #[error("the client has left")]
    ClientGone,
    /// A request with this key is at work.
    #[error(
        "a request with this key is still at work; ask again after the time in Retry-After, with the same key"
    )]
    InFlight {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The key cannot be read.
    #[error("{0}")]
    KeyInvalid(KeyError),
    /// A key is required and there is none.
    #[error("this request needs an idempotency key in the field {header}; send a new one for each operation")]
    KeyMissing {
        /// The names that the field may have.
        header: String,
    },
    /// The key belongs to another payload.
    #[error("{}", match cause {
        MismatchCause::Payload => "this key was used for another payload; send the payload of then, or a new key",
        MismatchCause::Rule => "this key was used while payloads were compared by another rule, so that nobody can tell \
            whether it is the same payload; send a new key only if the first request is known not to have acted",
    })]
    KeyReused {
        /// How the payload differs.
        cause: MismatchCause,
    },
    /// No route serves the path.
    #[error("no route of this proxy serves this path")]
    NoRoute,
    /// It ran before, and the answer is gone.
    #[error(
        "the request with this key was carried out and answered with {original_status}; the answer was not kept"
    )]
    NotRetained {
        /// The upstream's status code.
        original_status: u16,
    },
    /// The key belongs to another caller.
    #[error("this key is in use by another caller; send a new key")]
    OtherCaller,
    /// Nobody can tell whether the upstream acted.
    #[error("{}; it was not and will not be sent again, so look up its effect before you try with a new key", match cause {
        UnknownCause::Abandoned => "the work on this request ended early, and it may or may not have been carried out",
        UnknownCause::AttemptTimeout => "the upstream did not answer in time, and may or may not have acted",
        UnknownCause::ConnectionLost => "the connection to the upstream broke, and it may or may not have acted",
        UnknownCause::InvalidAnswer => "the upstream's answer was not valid HTTP, and it may or may not have acted",
        UnknownCause::OwnerLost => "the process that carried this request was lost, and it may or may not have been carried out",
        UnknownCause::UploadBroken => "the upload of this request broke off, and the upstream may or may not have acted on what it got",
    })]
    OutcomeUnknown {
        /// Why nobody can tell.
        cause: UnknownCause,
    },
    /// Too much is in flight.
    #[error("too many requests are in flight; nothing was sent, try again with the same key")]
    Overloaded,
    /// The request waited for attempts that were not carried out.
    #[error("the request that this one waited for was not carried out; the key is free, try again with it")]
    Released {
        /// Why the key is free.
        reason: ReleaseReason,
    },
    /// The request body came too slowly.
    #[error("the request body did not arrive in time; {}", if *is_passed_on {
        "what came of it was passed on, and the upstream may or may not have acted on it"
    } else {
        "nothing was sent, try again with the same key"
    })]
    RequestTimeout {
        /// Whether a part of it was sent.
        is_passed_on: bool,
    },
    /// The request body is too large.
    #[error("the request body is larger than {max_bytes} bytes, the most that this route takes")]
    RequestTooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The process is about to end.
    #[error("this proxy is shutting down; nothing was sent, try again with the same key")]
    ShuttingDown,
    /// No answer yet: the attempt goes on.
    #[error(
        "the upstream has not answered yet; the attempt goes on, ask again with the same key to get its answer"
    )]
    StillRunning {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The store is full.
    #[error("no room is left to remember new keys; nothing was sent, try again with the same key")]
    StoreFull,
    /// The store cannot be asked.
    #[error("the store of keys cannot be reached; nothing was sent, try again with the same key")]
    StoreUnavailable,
    /// The caller has as many keys as it may.
    #[error(
        "{max_entries} keys of this caller are remembered, as many as this API takes; nothing was sent, try again later \
         with the same key"
    )]
    TooManyKeys {
        /// The bound.
        max_entries: u64,
    },
    /// Nothing was carried out.
    #[error("{}; {}, try again with the same key", match cause {
        NotSentCause::ConnectFailed => "the upstream refused the connection",
        NotSentCause::ConnectTimeout => "the upstream could not be connected to in time",
        NotSentCause::LeaseLapsed => "this proxy was held up for too long before it could send the request",
        NotSentCause::NameNotResolved => "the upstream's name could not be resolved",
        NotSentCause::Refused => "the upstream refused the request",
        NotSentCause::Saturated => "all connections to the upstream that there may be were busy for too long",
        NotSentCause::TlsFailed => "no secure connection to the upstream could be made",
        NotSentCause::UploadBroken => "the request body did not come",
        NotSentCause::Unwritten => "the upstream closed every connection before the request could be written",
    }, if *cause == NotSentCause::Refused { "nothing was processed" } else { "nothing was sent" })]
    Unreachable {
        /// How it is known that nothing was carried out.
        cause: NotSentCause,
    },
}

/// Why a request is malformed or ambiguous.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadRequest {
    /// The path on a guarded route is not in canonical form.
    #[error("{0}")]
    AmbiguousPath(PathFault),
    /// The upload broke off.
    #[error("the request body broke off or was malformed")]
    Body,
    /// The target is not a path.
    #[error("the request target must be a path, or an absolute http URI")]
    Form,
    /// Where the request begins and ends could be read in two ways.
    #[error("the framing of the requests on this connection is ambiguous")]
    Framing,
    /// `Host` is missing, doubled, not an authority, or differs from the absolute target.
    #[error("{0}")]
    Host(&'static str),
    /// Two lengths.
    #[error("the request carries both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// A line of the head ends in a bare line feed.
    #[error("a line of the request head ends without a carriage return")]
    LineEnd,
    /// A guarded method in another case.
    #[error("methods are case-sensitive: write {0}")]
    MethodCase(String),
    /// `Connection` names a field that must reach the upstream.
    #[error("the Connection field nominates {0}, which must not be removed")]
    Nominated(String),
    /// A field value of HTTP/2 that HTTP/1.1 would change.
    #[error("the value of the field {0} begins or ends with white space")]
    PaddedValue(String),
    /// A spelling of a guarded resource that no route names.
    #[error("this path may be read as a guarded resource; write it in its plain form")]
    SideDoor,
    /// `Transfer-Encoding` other than exactly `chunked`.
    #[error("the only transfer coding taken is chunked, once")]
    TransferCoding,
    /// A transfer coding that is not known at all.
    #[error("the request's transfer coding is not known")]
    UnknownCoding,
    /// A protected field's name written with underscores.
    #[error("the field {0} could be read as {1}; write it with hyphens or leave it out")]
    Underscore(String, String),
}

impl From<BadRequest> for Problem {
    fn from(fault: BadRequest) -> Self {
        Self::BadRequest(fault)
    }
}

impl Problem {
    /// The last part of the problem's `type`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::BodyInvalid(_) => "body-invalid",
            Self::CallerUnstable { .. } => "caller-unstable",
            Self::ClientGone => "client-gone",
            Self::InFlight { .. } => "request-in-flight",
            Self::KeyInvalid(_) => "key-invalid",
            Self::KeyMissing { .. } => "key-missing",
            Self::KeyReused { .. } => "key-reused",
            Self::NoRoute => "no-route",
            Self::NotRetained { .. } => "response-not-retained",
            Self::OtherCaller => "other-caller",
            Self::OutcomeUnknown { .. } => "outcome-unknown",
            Self::Overloaded => "overloaded",
            Self::Released { .. } => "attempt-released",
            Self::RequestTimeout { .. } => "request-timeout",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::ShuttingDown => "shutting-down",
            Self::StillRunning { .. } => "still-running",
            Self::StoreFull => "store-full",
            Self::StoreUnavailable => "store-unavailable",
            Self::TooManyKeys { .. } => "too-many-keys",
            Self::Unreachable { .. } => "upstream-unreachable",
        }
    }

    /// The problem's title: the same for every occurrence (RFC 9457 §3.1.3).
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "The request is malformed or ambiguous",
            Self::BodyInvalid(_) => "The request body is not what this route compares",
            Self::CallerUnstable { .. } => "The caller cannot be told",
            Self::ClientGone => "The client has left",
            Self::InFlight { .. } => "A request with this key is in flight",
            Self::KeyInvalid(_) => "The idempotency key is not valid",
            Self::KeyMissing { .. } => "An idempotency key is required",
            Self::KeyReused { .. } => "The idempotency key belongs to another payload",
            Self::NoRoute => "No such route",
            Self::NotRetained { .. } => "The answer was not retained",
            Self::OtherCaller => "The idempotency key belongs to another caller",
            Self::OutcomeUnknown { .. } => "The outcome is unknown",
            Self::Overloaded => "Too much is in flight",
            Self::Released { .. } => "The awaited attempt was not carried out",
            Self::RequestTimeout { .. } => "The request body was too slow",
            Self::RequestTooLarge { .. } => "The request body is too large",
            Self::ShuttingDown => "Shutting down",
            Self::StillRunning { .. } => "The request is still running",
            Self::StoreFull => "The store is full",
            Self::StoreUnavailable => "The store is unavailable",
            Self::TooManyKeys { .. } => "The caller has too many keys",
            Self::Unreachable { .. } => "The upstream is unreachable",
        }
    }

    /// How a guarded request ended that got this problem.
    #[must_use]
    pub const fn outcome(&self) -> RequestOutcome {
        match self {
            Self::BadRequest(_) | Self::BodyInvalid(_) | Self::CallerUnstable { .. } => {
                RequestOutcome::Refused
            }
            Self::ClientGone => RequestOutcome::ClientGone,
            Self::InFlight { .. } => RequestOutcome::InFlight,
            Self::KeyInvalid(_) => RequestOutcome::KeyInvalid,
            Self::KeyMissing { .. } => RequestOutcome::KeyMissing,
            Self::KeyReused { .. } => RequestOutcome::Mismatch,
            Self::NoRoute => RequestOutcome::NoRoute,
            Self::NotRetained { .. } => RequestOutcome::NotRetained,
            Self::OtherCaller => RequestOutcome::OtherCaller,
            Self::OutcomeUnknown { .. } => RequestOutcome::Unknown,
            Self::Overloaded => RequestOutcome::Overloaded,
            Self::Released { reason: ReleaseReason::Status(_) } => RequestOutcome::Released,
            Self::Released { reason: ReleaseReason::NotSent(_) } | Self::Unreachable { .. } => {
                RequestOutcome::NotSent
            }
            Self::RequestTimeout { .. } => RequestOutcome::TimedOut,
            Self::RequestTooLarge { .. } => RequestOutcome::TooLarge,
            Self::ShuttingDown => RequestOutcome::ShuttingDown,
            Self::StillRunning { .. } => RequestOutcome::StillRunning,
            Self::StoreFull => RequestOutcome::StoreFull,
            Self::StoreUnavailable => RequestOutcome::StoreUnavailable,
            Self::TooManyKeys { .. } => RequestOutcome::TooManyKeys,
        }
    }
}

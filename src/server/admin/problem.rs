//! Why the admin listener does not do what it is asked. The texts are for the operator.

use thiserror::Error;

use crate::guard::ChangeError;
use crate::store::StoreError;

/// Why a request is not answered.
#[derive(Debug, Error)]
pub(super) enum AdminProblem {
    /// A page of another site sent it.
    #[error(
        "a page of another site sent this request; changes are made from a terminal or from this listener's own page"
    )]
    CrossSite,
    /// The key was not changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The body is not of the type that is taken.
    #[error("send the body as Content-Type: {expected}")]
    ContentType { expected: &'static str },
    /// Something in the request cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// There is no such method here.
    #[error("this can be asked for by {allow} only")]
    MethodNotAllowed { allow: String },
    /// By its name this listener is not the one that is meant: a page may have had its own name point here.
    #[error(
        "without a token or client certificates this listener answers to 127.0.0.1, [::1] and localhost only; ask by one of \
         these names, or set token_file in [admin]"
    )]
    Misdirected,
    /// Other settings would take a restart. They are named.
    #[error("nothing has changed: what the file says takes a restart")]
    NeedsRestart(Vec<String>),
    /// There are no settings to read again.
    #[error("nothing has changed: this process reads no file, or is about to end")]
    NoSettings,
    /// No such key is known.
    #[error("there is no such key, or not any more")]
    NoKey,
    /// There is nothing here.
    #[error("there is nothing here; docs/admin.md lists what there is")]
    NotFound,
    /// The file of settings has mistakes. They are named.
    #[error("nothing has changed: the file of settings has mistakes")]
    Settings(Vec<String>),
    /// Nobody could prove that he may.
    #[error(
        "{}; set token_file in [admin], or client_ca in its tls, and show the token or a certificate", if *is_loopback {
            "without a token or client certificates nothing can be changed here"
        } else {
            "without a token or client certificates a listener that others can reach shows its health and metrics only"
        }
    )]
    Closed { is_loopback: bool },
    /// The store cannot be asked.
    #[error("{0}")]
    Store(StoreError),
    /// The body is too large.
    #[error("the body is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    /// It took too long.
    #[error("this took too long; what was asked for may have been done, so look before you ask again")]
    TooSlow,
    /// Whoever asks has not shown that he may.
    #[error("{}", if *by_token {
        "this needs the token: send Authorization: Bearer, and the token"
    } else {
        "this needs a client certificate of an authority that [admin] names"
    })]
    Unauthenticated { by_token: bool },
}

impl AdminProblem {
    /// What is wrong in particular.
    pub(super) fn errors(&self) -> &[String] {
        if let Self::NeedsRestart(errors) | Self::Settings(errors) = self { errors } else { &[] }
    }

    /// The problem's word, the end of its `type`.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Change(error) => match error {
                ChangeError::Absent => "no-key",
                ChangeError::Completed => "key-completed",
                ChangeError::InFlight => "key-in-flight",
                ChangeError::NotUnknown => "key-not-unknown",
                ChangeError::Raced => "key-changed",
                ChangeError::Store(_) => "store-unavailable",
                ChangeError::Unread => "key-unread",
            },
            Self::Closed { .. } => "closed",
            Self::ContentType { .. } => "content-type",
            Self::CrossSite => "cross-site",
            Self::Invalid(_) => "invalid",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::Misdirected => "misdirected",
            Self::NeedsRestart(_) => "needs-restart",
            Self::NoSettings => "no-settings",
            Self::Settings(_) => "settings-invalid",
            Self::NoKey => "no-key",
            Self::NotFound => "not-found",
            Self::Store(_) => "store-unavailable",
            Self::TooLarge { .. } => "too-large",
            Self::TooSlow => "too-slow",
            Self::Unauthenticated { .. } => "unauthenticated",
        }
    }
}

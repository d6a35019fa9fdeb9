//! Who changed what, and why: one line in the log for each change.
//!
//! Never holds a key, only its id.

use std::net::IpAddr;

use tracing::info;

use super::access::{Peer, Proof};
use super::problem::AdminProblem;
use crate::guard::ChangeError;
use crate::idempotency::RequestId;

/// The target of audit lines. The log writes them whatever its filter says: who changed what must not depend on it.
pub const TARGET: &str = "oncegate::audit";

const MAX_REASON_CHARS: usize = 500;

/// What is done to a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Release,
    Settle,
}

/// Who does it.
#[derive(Clone, Debug)]
pub(super) struct By {
    name: String,
    address: IpAddr,
}

/// A change of a key, with its reason.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) id: RequestId,
    action: Action,
    reason: String,
    route: Option<String>,
    by: By,
}

impl By {
    pub(super) fn new(proof: &Proof, peer: &Peer) -> Self {
        Self { name: proof.name(), address: peer.address }
    }
}

/// Writes the line of somebody who has the settings read again. What came of it is said where they are read.
pub(super) fn reload(by: &By) {
    info!(target: TARGET, action = "reload", by = by.name, address = %by.address, "the settings are read again");
}

/// Writes the line of somebody who has other log lines written.
pub(super) fn log_level(by: &By, filter: &str) {
    info!(target: TARGET, action = "log_level", by = by.name, address = %by.address, filter, "the log level is changed");
}

impl Change {
    /// A change for a reason of 1 to 500 characters on one line.
    pub(super) fn new(
        action: Action,
        id: RequestId,
        reason: String,
        route: Option<String>,
        by: By,
    ) -> Result<Self, AdminProblem> {
        let length = reason.trim().chars().count();
        if !(1..=MAX_REASON_CHARS).contains(&length) || reason.chars().any(char::is_control) {
            return Err(AdminProblem::Invalid(format!(
                "`reason` says why, in 1 to {MAX_REASON_CHARS} characters on one line"
            )));
        }
        Ok(Self { id, action, reason, route, by })
    }

    /// Writes the line of a change from one state to another, or of one that may have been made. What was refused has
    /// changed nothing.
    pub(super) fn tell(&self, made: Result<(&'static str, &'static str), &ChangeError>) {
        let (before, after) = match made {
            Ok((before, after)) => (Some(before), Some(after)),
            Err(ChangeError::Store(_)) => (None, None),
            Err(_) => return,
        };
        info!(
            target: TARGET,
            action = self.action.as_str(),
            id = self.id.to_hex(),
            route = self.route.as_deref(),
            by = self.by.name,
            address = %self.by.address,
            reason = self.reason.trim(),
            before,
            after,
            uncertain = before.is_none().then_some(true),
            "a key was changed by hand"
        );
    }
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Settle => "settle",
        }
    }
}

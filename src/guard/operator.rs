//! What an operator changes by hand: a key is freed, or an unknown one is settled.
//!
//! Each is judged by what stands there and made only if that still stands: what an owner records meanwhile is never
//! overwritten and never lost, and what he would record or free afterwards is refused. A key that is freed runs again, on
//! the operator's word (I3).

use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::time::Instant;

use super::Guard;
use super::metrics::Operation;
use crate::idempotency::{Claim, Entry, Outcome, Owner, RequestId, State};
use crate::store::{Insert, StoreError, Update, Write};

/// Why a key was not changed.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// Nothing stands there.
    #[error("there is no such key, or not any more")]
    Absent,
    /// It was freed without force, and it is known what became of it.
    #[error(
        "the request with this key was carried out, and its retries are answered; freed, it would run again: send force to have \
         that"
    )]
    Completed,
    /// Its owner is at work.
    #[error("the request with this key is at work; wait for its end, or for that of its lease")]
    InFlight,
    /// It is not unknown what became of it.
    #[error("it is known that the request with this key was carried out; there is nothing to settle")]
    NotUnknown,
    /// It was settled, and of half its body.
    #[error(
        "the body of the request with this key was never read to its end, so that no retry can be told to be the same; free the \
         key if you know that nothing was done, or let it expire"
    )]
    Unread,
    /// Something else was faster.
    #[error("the key has changed meanwhile; look at it again")]
    Raced,
    /// The store cannot be asked. The change may have been made.
    #[error("{0}; it may have been done all the same, so look at the key again")]
    Store(#[from] StoreError),
}

impl Guard {
    /// Frees a key: the next request with it runs. Returns what stood there. What is in flight or completed is freed only with
    /// `force`, and so is what is unknown only until this process has recorded it: an owner that is at work goes on, and what
    /// he records is refused. Should this process die in between, the key reads as unknown for `ttl`, or as long as it would
    /// have if that is longer.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub async fn release(&self, id: &RequestId, force: bool, ttl: Duration) -> Result<Entry, ChangeError> {
        let inner = &self.0;
        let standing = self.standing(id).await?;
        let owner = match &standing.state {
            State::InFlight if !force => return Err(ChangeError::InFlight),
            State::Completed { .. } if !force => return Err(ChangeError::Completed),
            State::InFlight | State::Completed { .. } => standing.owner,
            // Its lease is over, and this very process is about to record what came of it.
            State::Unknown(_) if !force && inner.pending.is_overdue(standing.owner) => {
                return Err(ChangeError::InFlight);
            }
            State::Unknown(_) => self.take_over(id, &standing, ttl).await?,
        };
        match inner.within(Operation::Remove, Instant::now(), inner.store.remove(id, owner)).await? {
            Write::Applied => Ok(standing),
            Write::Lost => Err(ChangeError::Raced),
        }
    }

    /// Settles an unknown key as carried out and answered with `status`: its retries are told so, for as long as `ttl`, or as
    /// the key would have lived if that is longer. What its owner records from now on is refused. Returns what stood there.
    /// Should this process die in between, the key reads as in flight for a lease, and as unknown from then on.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub async fn settle_unknown(
        &self,
        id: &RequestId,
        status: u16,
        ttl: Duration,
    ) -> Result<Entry, ChangeError> {
        let inner = &self.0;
        let standing = self.standing(id).await?;
        match standing.state {
            State::InFlight => return Err(ChangeError::InFlight),
            State::Completed { .. } => return Err(ChangeError::NotUnknown),
            State::Unknown(_) if standing.fingerprint.is_none() => return Err(ChangeError::Unread),
            State::Unknown(_) => {}
        }
        let outcome = Outcome::NotRetained { status };
        let ttl = ttl.max(left(&standing));
        let owner = self.take_over(id, &standing, ttl).await?;
        let updating = inner.store.update(id, owner, &outcome, None, ttl);
        match inner.within(Operation::Update, Instant::now(), updating).await? {
            Update::Applied { .. } => Ok(standing),
            Update::Lost => Err(ChangeError::Raced),
        }
    }

    /// Claims what is unknown. Its owner may complete it at any moment: the claim takes its place only as long as he has not,
    /// and from then on he changes nothing. Whose share it is counted in is not known here: on a server that share has its
    /// place back when the entry would have expired.
    async fn take_over(&self, id: &RequestId, standing: &Entry, ttl: Duration) -> Result<Owner, ChangeError> {
        let inner = &self.0;
        let claim = Claim {
            owner: inner.owners.next(),
            caller: standing.caller,
            fingerprint: standing.fingerprint,
            lease: inner.params.lease,
            ttl: ttl.max(left(standing)),
            share: None,
            replaces: Some(standing.owner),
        };
        match inner.within(Operation::Insert, Instant::now(), inner.store.insert(id, &claim)).await? {
            Insert::Inserted => Ok(claim.owner),
            Insert::Exists(_) => Err(ChangeError::Raced),
        }
    }

    async fn standing(&self, id: &RequestId) -> Result<Entry, ChangeError> {
        self.lookup(id).await?.ok_or(ChangeError::Absent)
    }
}

/// How long an entry would live on, by this process's clock.
fn left(standing: &Entry) -> Duration {
    let until = standing.expires_at.and_then(|at| at.duration_since(SystemTime::now()).ok());
    until.unwrap_or_default()
}

//! The right to run one request once.
//!
//! A permit is made by a won claim and by nothing else, cannot be copied, and is consumed by settling (I2). Dropped
//! unsettled, be it by a panic, it settles its key as unknown. While it is held, its lease is renewed.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::metrics::{Operation, Second};
use super::pending::{self, Record};
use super::{Inner, Rules, at_once};
use crate::idempotency::{
    Attempt, Claim, Fingerprint, Outcome, ReleaseReason, RequestId, Settlement, UnknownCause, settlement,
};
use crate::store::{StoreError, Update, Write};

/// The lease is renewed this many times before it would run out.
const RENEWALS_PER_LEASE: u32 = 3;

/// The right to run one request once.
#[derive(Debug)]
#[must_use = "a permit that is dropped settles its key as unknown"]
pub struct Permit {
    inner: Arc<Inner>,
    /// What is written when it ends: unknown, unless it is settled.
    record: Record,
    release_status: Arc<[u16]>,
    /// When the lease ends; `None` once it is lost.
    lease_until: Mutex<Option<Instant>>,
    /// Once its lease could not be renewed.
    is_overdue: AtomicBool,
    /// What is unknown of an earlier attempt that this one has taken over.
    earlier: Option<UnknownCause>,
    begun: Second,
    /// Whether it is known what to write.
    is_ended: bool,
    settled: bool,
}

/// What became of a settled key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Why the request may run again: the key is free, or (`on_unknown = "retry"`) as unknown as before this attempt took
    /// it over. `None` if the outcome was to be recorded.
    pub release: Option<ReleaseReason>,
    /// When the record will be gone; `None` if there is none, or the store has not taken it yet.
    pub expires_at: Option<SystemTime>,
}

impl Permit {
    pub(super) fn new(
        inner: Arc<Inner>,
        id: RequestId,
        claim: &Claim,
        rules: &Rules,
        lease_until: Instant,
        earlier: Option<UnknownCause>,
    ) -> Self {
        // The lease is counted from when the claim was made.
        let claimed_at = lease_until.checked_sub(inner.params.lease).unwrap_or(lease_until);
        let begun = inner.metrics.in_flight.begin(claimed_at);
        Self {
            inner,
            record: Record {
                id,
                owner: claim.owner,
                fingerprint: claim.fingerprint,
                ttl: rules.ttl,
                settlement: Settlement::Record(Outcome::Unknown(UnknownCause::Abandoned)),
            },
            release_status: rules.release_status.clone(),
            lease_until: Mutex::new(Some(lease_until)),
            is_overdue: AtomicBool::new(false),
            earlier,
            begun,
            is_ended: false,
            settled: false,
        }
    }

    /// Whether the lease still runs by this process's clock. To be asked right before the request is sent: a process that
    /// was paused may find that its key was given up for it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lease_until().is_some_and(|until| Instant::now() < until)
    }

    /// Drives `work` until it is done or `deadline` is over, and renews the lease meanwhile. `None`: it is not done.
    pub async fn holding<T>(
        &self,
        deadline: Instant,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        // What is done at once needs no timer.
        if let Some(done) = at_once(work.as_mut()).await {
            return Some(done);
        }
        let pause = self.inner.params.lease / RENEWALS_PER_LEASE;
        let mut renew_at =
            self.lease_until().and_then(|until| (until + pause).checked_sub(self.inner.params.lease));
        loop {
            let wake_at = renew_at.map_or(deadline, |renew_at| renew_at.min(deadline));
            if let Ok(done) = timeout_at(wake_at, work.as_mut()).await {
                return Some(done);
            }
            if wake_at == deadline {
                return None;
            }
            let mut renewing = pin!(self.renew());
            tokio::select! {
                biased;
                done = work.as_mut() => return Some(done),
                () = &mut renewing => {}
            }
            renew_at = self.lease_until().map(|_| Instant::now() + pause);
        }
    }

    /// Sets the fingerprint that the claim left open, now that the body was read to its end (I4).
    pub const fn read_whole(&mut self, fingerprint: Fingerprint) {
        if self.record.fingerprint.is_none() {
            self.record.fingerprint = Some(fingerprint);
        }
    }

    /// Records the attempt, or frees the key. Returns once the store has taken it, or has failed to take it once: the
    /// write is then tried again in the background (I5), and so it is if this is dropped meanwhile.
    ///
    /// As long as the fingerprint is open, an answer is not recorded: nothing could be told to be its retry.
    pub async fn settle(mut self, attempt: Attempt) -> Settled {
        let settlement = settlement(attempt, self.record.fingerprint, &self.release_status);
        let release = match &settlement {
            Settlement::Release(reason) => Some(*reason),
            Settlement::Record(_) => None,
        };
        self.is_ended = true;
        if let Settlement::Record(Outcome::Unknown(cause)) = &settlement {
            self.inner.metrics.became_unknown(*cause);
        }
        if let Some(reason) = release {
            self.inner.waiting.released(&self.record.id, reason);
        }
        // That this attempt was not carried out says nothing of the earlier one: the key is as unknown as before.
        self.record.settlement = match (settlement, self.earlier) {
            (Settlement::Release(_), Some(cause)) => Settlement::Record(Outcome::Unknown(cause)),
            (settlement, _) => settlement,
        };
        match self.record.write(&self.inner).await {
            Ok(expires_at) => {
                self.settled = true;
                Settled { release, expires_at }
            }
            Err(error) => {
                warn!(id = ?self.record.id, %error, "a record was not taken; it is tried again in the background");
                Settled { release, expires_at: None }
            }
        }
    }

    async fn renew(&self) {
        let lease = self.inner.params.lease;
        let lease_until = Instant::now() + lease;
        let (inner, now) = (&self.inner, lease_until - lease);
        let renewing = inner.store.renew(&self.record.id, self.record.owner, lease);
        let renewed = inner.within(Operation::Renew, now, renewing).await;
        if !matches!(renewed, Ok(Write::Applied)) && !self.is_overdue.swap(true, Ordering::Relaxed) {
            inner.pending.set_overdue(self.record.owner);
        }
        match renewed {
            Ok(Write::Applied) => self.set_lease(Some(lease_until)),
            Ok(Write::Lost) => {
                warn!(id = ?self.record.id, "the lease is lost; the attempt goes on and its outcome is still recorded");
                self.set_lease(None);
            }
            Err(error) => debug!(id = ?self.record.id, %error, "a lease was not renewed"),
        }
    }

    fn lease_until(&self) -> Option<Instant> {
        *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_lease(&self, until: Option<Instant>) {
        *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.metrics.in_flight.end(self.begun);
        if !self.is_ended {
            self.inner.metrics.permits_dropped.inc();
            self.inner.metrics.became_unknown(UnknownCause::Abandoned);
        }
        if !self.settled {
            pending::retry(&self.inner, self.record.clone());
        }
        if *self.is_overdue.get_mut() {
            self.inner.pending.not_overdue(self.record.owner);
        }
    }
}

impl Record {
    /// One try: when the record will be gone, if there is one.
    pub(super) async fn write(&self, inner: &Inner) -> Result<Option<SystemTime>, StoreError> {
        let begun = Instant::now();
        match &self.settlement {
            Settlement::Release(_) => {
                let removing = inner.store.remove(&self.id, self.owner);
                let write = inner.within(Operation::Remove, begun, removing).await?;
                if write == Write::Lost {
                    warn!(id = ?self.id, "a key was to be freed, but another owner stands there");
                }
                Ok(None)
            }
            Settlement::Record(outcome) => {
                let updating = inner.store.update(&self.id, self.owner, outcome, self.fingerprint, self.ttl);
                match inner.within(Operation::Update, begun, updating).await? {
                    Update::Applied { expires_at } => Ok(Some(expires_at)),
                    Update::Lost => {
                        warn!(id = ?self.id, "an outcome was to be recorded, but the entry is no longer this owner's");
                        Ok(None)
                    }
                }
            }
        }
    }
}

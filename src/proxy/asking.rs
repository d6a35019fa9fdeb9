//! Asking the guard, with an account of what that took.
//!
//! Owns no decision. What the store was asked for becomes spans where the request is traced; else it is one look.

use super::Proxy;
use super::account::Account;
use super::policy::GuardPolicy;
use crate::guard::{Admission, Permit, Settled};
use crate::idempotency::{Attempt, Presented};
use crate::store::StoreError;

impl Proxy {
    /// Asks for admission.
    pub(super) async fn admit(
        &self,
        presented: &Presented,
        policy: &GuardPolicy,
        account: &mut Account,
    ) -> Result<Admission, StoreError> {
        let asked_at = account.asks_store();
        let admission = if account.is_traced() {
            account.traced(Box::pin(self.guard.admit(presented, &policy.rules))).await
        } else {
            self.guard.admit(presented, &policy.rules).await
        };
        account.store_answered(asked_at);
        admission
    }
}

/// Settles what was claimed, if anything was.
pub(super) async fn settle(
    permit: Option<Permit>,
    attempt: &Attempt,
    account: &mut Account,
) -> Option<Settled> {
    let permit = permit?;
    let asked_at = account.asks_store();
    let settled = if account.is_traced() {
        account.traced(Box::pin(permit.settle(attempt.clone()))).await
    } else {
        permit.settle(attempt.clone()).await
    };
    account.store_answered(asked_at);
    Some(settled)
}

//! Routes that only observe: everything is forwarded, and what would have been refused or replayed is counted.
//!
//! Keys are claimed and answers recorded as ever, so that the figures are those of a route that enforces. What cannot be
//! claimed goes on as if the route were not guarded: nothing is waited for, and no body is too large, too slow or unreadable.
//! What other routes enforce is not loosened. A request that began while its route observed is not run beside the one that
//! the route, or another, admits once it enforces.

use std::sync::atomic::Ordering;

use http::request::Parts;
use tokio::time::timeout;

use super::account::Account;
use super::client::Client;
use super::client_body::ClientBody;
use super::path;
use super::policy::{GuardPolicy, Route};
use super::problem::{BadRequest, Problem};
use super::request::{self, Buffered, ReadError};
use super::{Proxy, Site, headers};
use crate::guard::Permit;
use crate::idempotency::{CallerHash, Key};

/// What `judged` says; where a route observes, nothing instead of a problem, which is counted.
pub(super) fn or_count<T>(
    judged: Result<Option<T>, Problem>,
    policy: &GuardPolicy,
    account: &mut Account,
) -> Result<Option<T>, Problem> {
    match judged {
        Err(problem) if policy.observes => {
            account.observed(problem.outcome());
            Ok(None)
        }
        judged => judged,
    }
}

/// Whether keys of this route are promised something.
pub(super) fn is_enforced(route: &Route) -> bool {
    route.guard.as_ref().is_some_and(|policy| !policy.observes)
}

/// Whether an observed request asks for another protocol, which only an unguarded one gets.
pub(super) fn switches(site: &Site, policy: &GuardPolicy, parts: &Parts) -> bool {
    policy.observes && headers::upgrade(&parts.headers, &site.route.upgrades).is_some()
}

impl Proxy {
    /// Whether a request is only observed, and no route has begun to enforce since it came.
    pub(super) fn still_observes(&self, policy: &GuardPolicy) -> bool {
        policy.observes && self.eras.load(Ordering::Acquire) == self.era
    }

    /// Whether a request may be handed to a connection now. One that is observed needs no permit, for as long as it is.
    pub(super) fn may_send(&self, policy: &GuardPolicy, permit: Option<&Permit>) -> bool {
        self.still_observes(policy) || permit.map_or(!policy.observes, Permit::is_held)
    }

    /// Key and caller of a request that may be claimed; `None` for one that needs no key and has none.
    pub(super) fn key_and_caller(
        &self,
        policy: &GuardPolicy,
        parts: &Parts,
        client: &Client,
        account: &mut Account,
    ) -> Result<Option<(Key, CallerHash)>, Problem> {
        let Some(key) = request::key(&parts.headers, policy)? else {
            return if policy.key_required { Err(request::key_missing(policy)) } else { Ok(None) };
        };
        account.key(&key);
        let caller = request::caller(&parts.headers, client.tls.as_ref(), policy)?;
        if self.buffered_bytes.is_full() || self.guarded_places.is_full() {
            return Err(Problem::Overloaded);
        }
        Ok(Some((key, caller)))
    }

    /// Reads the whole `body` into `held`. What is observed waits no longer for it than what is guarded would.
    pub(super) async fn read(
        &self,
        body: &mut ClientBody,
        held: &mut Buffered,
        policy: &GuardPolicy,
    ) -> Result<(), ReadError> {
        let reading = request::read_body(body, held, policy, &self.buffered_bytes, self.names.protected());
        if !policy.observes {
            return reading.await;
        }
        let too_slow = Problem::RequestTimeout { is_passed_on: false };
        let timed = Box::pin(timeout(policy.patience.max_total, reading));
        timed.await.unwrap_or(Err(ReadError::Unfit(too_slow)))
    }

    /// Counts a request whose head would be refused if all routes enforced. It found `site`, the route `found`.
    pub(super) fn observe_head(
        &self,
        site: &Site,
        found: usize,
        host: &str,
        parts: &Parts,
        account: &mut Account,
    ) {
        let path = parts.uri.path();
        let others = request::other_methods(parts);
        let is_guarded = |policy: &&GuardPolicy| request::guarded_by(parts, &others, policy).is_some();
        let policy = site.route.guard.as_ref().filter(is_guarded);
        let methods: Vec<&str> = request::methods(parts, &others).collect();
        let spelled = match policy {
            Some(policy) if policy.allow_ambiguous_path => Ok(()),
            Some(_) => path::is_canonical(path).map_err(BadRequest::AmbiguousPath),
            None if self.routes.side_door(host, path, found, &methods) => Err(BadRequest::SideDoor),
            None => Ok(()),
        };
        if let Err(problem) = spelled.and_then(|()| self.names.check_observed(parts)) {
            account.observed(Problem::from(problem).outcome());
        }
    }
}

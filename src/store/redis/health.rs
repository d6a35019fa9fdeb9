//! What is known of the server's health, and how often it was bad.
//!
//! Owns what is said of it: each change once, however many connections notice. Nothing here asks the server.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::info::Facts;
use crate::store::Trouble;

/// How long a loss is shown. Nobody can take it back, and who looks at intervals has seen it by then.
const SHOWN: Duration = Duration::from_hours(1);

/// Who may lose the server: a connection, by its number, or the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Watch,
    Connection(usize),
}

/// Shared by all connections of a store and its watch.
#[derive(Debug, Default)]
pub(super) struct Health {
    reach: Mutex<Reach>,
    evicts: AtomicBool,
    is_not_durable: AtomicBool,
    forgot_at: Mutex<Option<Instant>>,
    outages: AtomicU64,
    losses: AtomicU64,
    policy_changes: AtomicU64,
    unreplicated_claims: AtomicU64,
}

#[derive(Debug, Default)]
struct Reach {
    lost_to: BTreeSet<Who>,
    /// When the last one found it again: from then on nobody missed it.
    found_at: Option<Instant>,
}

/// What a Redis store has met since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisStats {
    /// How often the server was out of reach.
    pub outages: u64,
    /// How often it was found to have lost entries.
    pub losses: u64,
    /// How often its policy changed to one that drops entries.
    pub policy_changes: u64,
    /// Claims that were taken back since too few replicas had them.
    pub unreplicated_claims: u64,
}

impl Health {
    /// To be told when the server could not be reached by an attempt that began at `since`.
    pub(super) fn lost(&self, who: Who, since: Instant, cause: &dyn Display) {
        let mut reach = lock(&self.reach);
        if reach.lost_to.is_empty() {
            // It met the outage that is over. If there is another, the next attempt meets it.
            if reach.found_at.is_some_and(|found_at| since <= found_at) {
                return;
            }
            warn!(%cause, "the store is not reached; it is tried again and again");
            self.outages.fetch_add(1, Ordering::Relaxed);
        }
        reach.lost_to.insert(who);
    }

    /// To be told when the server was reached, or is no longer looked for.
    pub(super) fn found(&self, who: Who) {
        let mut reach = lock(&self.reach);
        if reach.lost_to.remove(&who) && reach.lost_to.is_empty() {
            info!("the store is reached again");
            reach.found_at = Some(Instant::now());
        }
    }

    /// To be told what the server says of itself.
    pub(super) fn looked_at(&self, facts: &Facts) {
        let evicts = facts.evicts();
        if self.evicts.swap(evicts.is_some(), Ordering::Relaxed) != evicts.is_some() {
            match evicts {
                Some(policy) => {
                    self.policy_changes.fetch_add(1, Ordering::Relaxed);
                    error!(
                        %policy,
                        "the store's server was told to drop live keys when it is full, and their duplicates would run \
                         again; set its maxmemory-policy to noeviction"
                    );
                }
                None => info!("the store's server keeps live keys again"),
            }
        }
        let is_not_durable = !facts.is_durable();
        if is_not_durable && !self.is_not_durable.load(Ordering::Relaxed) {
            warn!(
                "the store's server has neither an append-only file nor replicas: it forgets all keys when it ends; set \
                 appendonly to yes, or give it a replica"
            );
        }
        self.is_not_durable.store(is_not_durable, Ordering::Relaxed);
    }

    /// To be told when entries are gone that should be there.
    pub(super) fn forgot(&self, epochs: usize, of: usize) {
        self.losses.fetch_add(1, Ordering::Relaxed);
        *lock(&self.forgot_at) = Some(Instant::now());
        error!(
            epochs,
            of,
            "the store has lost entries: it was flushed, replaced, or failed over to a server without them; duplicates of \
             theirs may run again"
        );
    }

    /// To be told of a claim that too few replicas have.
    pub(super) fn not_replicated(&self) {
        self.unreplicated_claims.fetch_add(1, Ordering::Relaxed);
    }

    /// What is wrong now.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        let forgot = lock(&self.forgot_at).is_some_and(|at| at.elapsed() < SHOWN);
        let known = [
            (Trouble::Unreachable, lock(&self.reach).lost_to.contains(&Who::Watch)),
            (Trouble::Evicts, self.evicts.load(Ordering::Relaxed)),
            (Trouble::Forgot, forgot),
            (Trouble::NotDurable, self.is_not_durable.load(Ordering::Relaxed)),
        ];
        known.into_iter().filter_map(|(trouble, is_there)| is_there.then_some(trouble)).collect()
    }

    /// What was met since the start.
    pub(super) fn stats(&self) -> RedisStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RedisStats {
            outages: count(&self.outages),
            losses: count(&self.losses),
            policy_changes: count(&self.policy_changes),
            unreplicated_claims: count(&self.unreplicated_claims),
        }
    }
}

/// Nothing is left half-done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_counted_once_however_many_meet_it_and_however_late() {
        let health = Health::default();
        let (begun, connection) = (Instant::now(), Who::Connection(0));
        health.lost(connection, begun, &"refused");
        health.lost(Who::Connection(1), begun, &"refused");
        health.found(connection);
        health.found(Who::Connection(1));
        health.lost(Who::Watch, begun, &"no answer in time");
        assert_eq!(health.stats().outages, 1, "the watch asked before the server was back");
        assert_eq!(health.troubles(), [], "and it is");
        let found_at = lock(&health.reach).found_at.expect("it was found");
        health.lost(Who::Watch, found_at + Duration::from_nanos(1), &"no answer in time");
        assert_eq!(health.stats().outages, 2, "this is another one");
        assert_eq!(health.troubles(), [Trouble::Unreachable]);
    }
}

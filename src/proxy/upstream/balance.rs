//! Which endpoint a request goes to.
//!
//! Owns what is known of each one's state: how much it has to do, whether it could be connected to of late, what its health
//! check says. One that is passed over is still tried when nothing else is left, and never is the last one passed over for
//! failing to be connected to.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::endpoint::Endpoint;
use crate::proxy::policy::{Ejection, HealthCheck};

/// How one endpoint stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    in_flight: AtomicUsize,
    /// Until when it is passed over, in milliseconds of the balance's own clock; 0 if it is not.
    ejected_until: AtomicU64,
    is_unhealthy: AtomicBool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Failures to connect in a row.
    failures: u32,
    /// Ejections in a row.
    ejections: u32,
    /// Answers to health checks in a row that speak against its present state.
    checks: u32,
}

/// Chooses among the endpoints of one upstream.
#[derive(Debug)]
pub(super) struct Balance {
    turn: AtomicUsize,
    started: Instant,
    ejection: Ejection,
    /// Held while it is decided whether an endpoint is the last one.
    ejecting: Mutex<()>,
}

/// A request at an endpoint. Counted only where there is a choice.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) endpoint: Arc<Endpoint>,
    is_counted: bool,
}

impl Balance {
    pub(super) fn new(ejection: Ejection) -> Self {
        Self { turn: AtomicUsize::new(0), started: Instant::now(), ejection, ejecting: Mutex::new(()) }
    }

    /// The endpoint that a request tries first: of two that it might be, the one that has less to do.
    pub(super) fn first(&self, endpoints: &[Arc<Endpoint>]) -> usize {
        let count = endpoints.len();
        if count < 2 {
            return 0;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let apart = 1 + scattered(turn) % (count - 1);
        let one = self.usable_from(turn % count, endpoints);
        let other = self.usable_from((turn + apart) % count, endpoints);
        let load = |index: usize| endpoints.get(index).map_or(usize::MAX, |own| own.standing.load());
        let chosen = if load(other) < load(one) { other } else { one };
        if let Some(endpoint) = endpoints.get(chosen) {
            self.claim_trial(&endpoint.standing);
        }
        chosen
    }

    /// The endpoints beside `first`, in the order in which they are tried: first those that are not passed over.
    pub(super) fn others(&self, first: usize, endpoints: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
        let others = endpoints.iter().cycle().skip(first + 1).take(endpoints.len().saturating_sub(1));
        let (mut usable, passed_over): (Vec<_>, Vec<_>) =
            others.cloned().partition(|endpoint| self.is_usable(&endpoint.standing));
        usable.extend(passed_over);
        usable
    }

    /// Hears that `endpoint` could not be connected to.
    pub(super) fn failed(&self, endpoint: &Endpoint, endpoints: &[Arc<Endpoint>]) {
        if endpoints.len() < 2 {
            return;
        }
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = &endpoint.standing;
        let mut counts = standing.counts();
        counts.failures = counts.failures.saturating_add(1);
        let is_another_usable = endpoints
            .iter()
            .any(|other| !std::ptr::eq(&raw const **other, endpoint) && self.is_usable(&other.standing));
        // One that was passed over and still fails has had its trial.
        let has_failed = counts.failures >= self.ejection.after_failures || counts.ejections > 0;
        if !has_failed || !is_another_usable {
            return;
        }
        let doubled = 1_u32.checked_shl(counts.ejections).unwrap_or(u32::MAX);
        let time = self.ejection.time.saturating_mul(doubled).min(self.ejection.max_time);
        counts.ejections = counts.ejections.saturating_add(1);
        counts.failures = 0;
        standing.ejected_until.store(self.millis().saturating_add(millis(time)).max(1), Ordering::Relaxed);
        warn!(endpoint = %endpoint.authority, ?time, "an endpoint cannot be connected to and is passed over");
    }

    /// Hears that `endpoint` answers.
    pub(super) fn worked(&self, endpoint: &Endpoint) {
        let standing = &endpoint.standing;
        if standing.ejected_until.load(Ordering::Relaxed) != 0 {
            standing.ejected_until.store(0, Ordering::Relaxed);
            info!(endpoint = %endpoint.authority, "an endpoint that was passed over answers again");
            let mut counts = standing.counts();
            (counts.failures, counts.ejections) = (0, 0);
        }
    }

    /// Hears that `endpoint` was connected to.
    pub(super) fn connected(&self, endpoint: &Endpoint) {
        endpoint.standing.counts().failures = 0;
    }

    /// Hears what a health check of `endpoint` has found.
    pub(super) fn checked(&self, endpoint: &Endpoint, is_good: bool, check: &HealthCheck) {
        let standing = &endpoint.standing;
        let is_healthy = !standing.is_unhealthy.load(Ordering::Relaxed);
        if is_good {
            self.worked(endpoint);
        }
        let mut counts = standing.counts();
        if is_good == is_healthy {
            counts.checks = 0;
            return;
        }
        counts.checks = counts.checks.saturating_add(1);
        let needed = if is_healthy { check.unhealthy_after } else { check.healthy_after };
        if counts.checks >= needed {
            counts.checks = 0;
            standing.is_unhealthy.store(is_healthy, Ordering::Relaxed);
            if is_healthy {
                warn!(endpoint = %endpoint.authority, "an endpoint is unhealthy and is passed over");
            } else {
                info!(endpoint = %endpoint.authority, "an endpoint is healthy again");
            }
        }
    }

    fn usable_from(&self, start: usize, endpoints: &[Arc<Endpoint>]) -> usize {
        let mut candidates = (start..endpoints.len()).chain(0..start);
        let is_usable =
            |index: &usize| endpoints.get(*index).is_some_and(|own| self.is_usable(&own.standing));
        candidates.find(is_usable).unwrap_or(start)
    }

    /// Whether requests go to it.
    pub(super) fn is_usable(&self, standing: &Standing) -> bool {
        let ejected_until = standing.ejected_until.load(Ordering::Relaxed);
        !standing.is_unhealthy.load(Ordering::Relaxed)
            && (ejected_until == 0 || ejected_until <= self.millis())
    }

    /// An endpoint whose time is over is tried by one request; the others pass it over until that one knows.
    fn claim_trial(&self, standing: &Standing) {
        let ejected_until = standing.ejected_until.load(Ordering::Relaxed);
        if ejected_until != 0 && ejected_until <= self.millis() {
            let until = self.millis().saturating_add(millis(self.ejection.time));
            standing.ejected_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    fn millis(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

impl Standing {
    fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    pub(super) fn begin(endpoint: Arc<Endpoint>, is_counted: bool) -> Self {
        if is_counted {
            endpoint.standing.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Self { endpoint, is_counted }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.tell_returned();
        if self.is_counted {
            self.endpoint.standing.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number that looks like chance, from one that counts up (the finaliser of SplitMix64).
const fn scattered(turn: usize) -> usize {
    let mut mixed = (turn as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) as usize
}

//! Claims that stand only once replicas have them.
//!
//! Owns the connections for them. `WAIT` speaks of what its own connection has written, and blocks it: so each is one claim's
//! alone for as long as that takes, and claim and `WAIT` travel together, so that no reconnection comes between them.
//! A connection that was left in the midst is given up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::FromRedisValue;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::health::Who;
use super::lane::{Lane, Shared};
use super::params::RedisParams;
use super::script::Call;
use super::{RedisStore, unavailable};
use crate::idempotency::RequestId;
use crate::store::StoreError;

/// Connections, each of which one claim has at a time.
pub(super) struct Replicated {
    places: Semaphore,
    free: Mutex<Vec<Lane>>,
    replicas: u32,
    wait_timeout: Duration,
}

/// A connection that is one claim's alone.
struct Taken<'a> {
    pool: &'a Replicated,
    lane: Option<Lane>,
    _place: SemaphorePermit<'a>,
}

impl Replicated {
    /// As the operator wants it, if he does.
    pub(super) fn open(shared: &Shared, tasks: &TaskTracker) -> Option<Self> {
        let RedisParams { connections, wait_connections, wait_replicas, wait_timeout, .. } = *shared.params;
        // A cluster's client has a deadline of its own for each answer.
        let params =
            RedisParams { timeout: shared.params.timeout + wait_timeout, ..(*shared.params).clone() };
        let shared = Shared { params: Arc::new(params), ..shared.clone() };
        let open = |number| Lane::open(&shared, Who::Connection(number), tasks);
        (wait_replicas > 0).then(|| Self {
            places: Semaphore::new(wait_connections),
            free: Mutex::new((connections + 1..=connections + wait_connections).map(open).collect()),
            replicas: wait_replicas,
            wait_timeout,
        })
    }

    /// Calls, and returns how many replicas have what the server had then. `timeout` is for all but their acknowledgement.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        call: &Call,
        key: &str,
        timeout: Duration,
    ) -> Result<(T, u32), StoreError> {
        let deadline = Instant::now() + timeout + self.wait_timeout;
        let taken = match timeout_at(deadline, self.take()).await {
            Ok(taken) => taken?,
            Err(_) => {
                let waited = (timeout + self.wait_timeout).as_millis();
                return Err(unavailable(format!("no free connection for the claim within {waited} ms")));
            }
        };
        let call = call.clone().awaiting(key, self.replicas, self.wait_timeout);
        taken.call(&call, deadline.saturating_duration_since(Instant::now())).await
    }

    async fn take(&self) -> Result<Taken<'_>, StoreError> {
        let gone = || unavailable("the store is gone");
        let place = self.places.acquire().await.map_err(|_| gone())?;
        let lane = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Taken { pool: self, lane: Some(lane.ok_or_else(gone)?), _place: place })
    }
}

/// What stands under an id: when that was, and if anything does, its first bytes and how many it has.
pub(super) type Standing = (u64, Option<Vec<u8>>, Option<usize>);

impl RedisStore {
    /// Sends a claim, and sees to it that enough replicas have it if it stands.
    pub(super) async fn claim(
        &self,
        id: &RequestId,
        call: &Call,
        takes_over: bool,
    ) -> Result<Standing, StoreError> {
        let Some(replicated) = &self.replicated else { return self.call(self.small(), call, 0).await };
        // Duplicates need no replicas, and do not wait for them.
        let standing = self.cut(id).await?;
        if standing.1.is_some() && !takes_over {
            return Ok(standing);
        }
        let key = self.keys.record(id);
        let (claimed, acknowledged): (Standing, u32) =
            replicated.call(call, &key, self.params.timeout).await?;
        let wanted = replicated.replicas;
        if claimed.1.is_some() || acknowledged >= wanted {
            return Ok(claimed);
        }
        self.shared.health.not_replicated();
        Err(StoreError::NotReplicated { acknowledged, wanted })
    }
}

impl Taken<'_> {
    async fn call<T: FromRedisValue>(&self, call: &Call, patience: Duration) -> Result<T, StoreError> {
        let Some(lane) = &self.lane else { return Err(unavailable("the store is gone")) };
        lane.call_alone(call, patience).await
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let lane = self.lane.take();
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).extend(lane);
    }
}

//! What is asked of a server before it is trusted with keys, and again at intervals for as long as it has them.
//!
//! Owns the epochs: random values that stand beside the records and never expire. One that is missing or another was lost
//! together with records. A server alone has one; a cluster has one for each bucket of records, since a bucket is what lies
//! on one server whole, wherever slots move, so that no server of it can lose its part unnoticed. What was lost is told once: whoever
//! notices takes the new epoch over, or sets it.
//!
//! Copies of answers in this process are no part of this: to replay from them after a loss is safer than to forget them, too.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::health::{Health, Who};
use super::info::Facts;
use super::lane::{Lane, Shared, jittered};
use super::layout::{Keys, bucket};
use super::params::{RedisParams, Topology};
use super::script::{Call, EPOCH, PRUNE, WAIT};
use super::{RedisStore, unavailable};
use crate::idempotency::{CallerHash, CallerShare, Claim, Outcome, Owner, RequestId};
use crate::store::{Store as _, StoreError};

/// How often a server that is out of reach is looked for, at the least.
const PATIENT: Duration = Duration::from_secs(1);

/// How long the key lives that a start tries everything on, should the start break off.
const REHEARSAL: Duration = Duration::from_secs(5);

/// The watch over the server.
pub(super) struct Watch {
    params: Arc<RedisParams>,
    health: Arc<Health>,
    lane: Lane,
    patience: Duration,
    epochs: Vec<Epoch>,
}

/// One epoch, and its value as of the last look.
struct Epoch {
    key: String,
    value: Option<Vec<u8>>,
}

impl Watch {
    pub(super) fn new(shared: &Shared, keys: &Keys, lane: Lane) -> Self {
        let (params, health) = (Arc::clone(&shared.params), Arc::clone(&shared.health));
        let keys = keys.epochs(matches!(params.topology, Topology::Cluster(_)));
        let epochs = keys.into_iter().map(|key| Epoch { key, value: None }).collect();
        // At first the connection has to be made.
        let patience = params.connect_timeout + params.timeout;
        Self { params, health, lane, patience, epochs }
    }

    /// Whether the servers are fit to keep entries.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        let facts = self.facts().await?;
        if let Some(unfit) = facts.unfit() {
            return Err(StoreError::Unfit(unfit));
        }
        if !facts.tells_policy() {
            warn!(
                "the store's server does not say its maxmemory-policy; see to it that it is noeviction, or it may drop live \
                 keys, and their duplicates would run again"
            );
        }
        let (replicas, wanted) = (facts.replicas(), u64::from(self.params.wait_replicas));
        if replicas < wanted {
            warn!(replicas, wanted, "the store's server has too few replicas: new keys get 503");
        }
        self.health.looked_at(&facts);
        self.look_at_epochs().await
    }

    /// Looks after the server until `ended`.
    pub(super) fn go_on(mut self, tasks: &TaskTracker, ended: CancellationToken) {
        drop(tasks.spawn(async move { ended.run_until_cancelled(self.look_forever()).await }));
    }

    async fn look_forever(&mut self) {
        self.patience = self.params.timeout;
        let mut interval = self.params.watch_interval;
        loop {
            sleep(jittered(interval)).await;
            let begun = Instant::now();
            match self.look().await {
                Ok(()) => {
                    self.health.found(Who::Watch);
                    interval = self.params.watch_interval;
                }
                Err(error) => {
                    debug!(%error, "the watch over the store failed");
                    self.health.lost(Who::Watch, begun, &error);
                    interval = self.params.watch_interval.min(PATIENT);
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let facts = self.facts().await?;
        self.health.looked_at(&facts);
        self.look_at_epochs().await
    }

    async fn facts(&self) -> Result<Facts, StoreError> {
        let texts: Vec<String> = self.ask(&Call::on_every_primary(&["INFO"])).await?;
        let mut facts = Facts::read(texts.iter().map(String::as_str));
        if !facts.tells_policy() {
            let asked = Call::on_every_primary(&["CONFIG", "GET", "maxmemory-policy"]);
            // Managed services forbid it.
            let told: Vec<(String, String)> = self.ask(&asked).await.unwrap_or_default();
            if let Some((_, policy)) = told.first() {
                facts.set_policy(policy);
            }
        }
        Ok(facts)
    }

    async fn look_at_epochs(&mut self) -> Result<(), StoreError> {
        let mut found = Vec::with_capacity(self.epochs.len());
        for epoch in &self.epochs {
            found.push(self.ask::<Option<Vec<u8>>>(&Call::native("GET", &epoch.key)).await?);
        }
        let mut lost = 0;
        for (epoch, value) in self.epochs.iter_mut().zip(found) {
            lost += usize::from(epoch.value.is_some() && epoch.value != value);
            epoch.value = value;
        }
        if lost > 0 {
            self.health.forgot(lost, self.epochs.len());
        }
        self.set_missing_epochs().await
    }

    async fn set_missing_epochs(&mut self) -> Result<(), StoreError> {
        for index in 0..self.epochs.len() {
            let Some(Epoch { key, value: None }) = self.epochs.get(index) else { continue };
            let random = RequestId::from_bytes(random()?);
            match self.ask(&EPOCH.on([key]).arg(random.to_hex())).await {
                // Someone else may have been faster.
                Ok(value) => {
                    if let Some(epoch) = self.epochs.get_mut(index) {
                        epoch.value = value;
                    }
                }
                Err(StoreError::OutOfMemory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn ask<T: redis::FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        self.lane.call(call, self.patience).await
    }
}

impl RedisStore {
    /// Takes a key of its own through its life, so that what the user may not do is found before anything is served.
    pub(super) async fn rehearse(&self) -> Result<(), StoreError> {
        for lane in self.small.iter().chain([&self.big]) {
            lane.connected(self.params.connect_timeout).await?;
        }
        let (id, caller) = (RequestId::from_bytes(random()?), CallerHash::from_bytes(random()?));
        let claim = Claim {
            owner: Owner::new(u128::from_be_bytes(random()?)),
            caller: None,
            fingerprint: None,
            lease: REHEARSAL,
            ttl: REHEARSAL,
            share: Some(CallerShare { caller, max_entries: 1 }),
            replaces: None,
        };
        let rehearsed = async {
            let inserted = self.insert(&id, &claim).await;
            if let Err(error @ StoreError::NotReplicated { .. }) = &inserted {
                warn!(%error, "the replicas do not answer in time: new keys get 503");
            } else {
                let _inserted = inserted?;
            }
            let key = self.keys.record(&id);
            self.call::<u64>(self.small(), &WAIT.on([&key]), 0).await?;
            let _renewed = self.renew(&id, claim.owner, claim.lease).await?;
            let bucket = bucket(&id);
            let prune = PRUNE.on([&self.keys.open(bucket)]).arg(self.keys.records(bucket)).arg(0);
            self.call::<Value>(&self.big, &prune, 0).await?;
            self.listed((bucket, None), 1, &mut None).await?;
            let ended = Outcome::NotRetained { status: 200 };
            let _updated = self.update(&id, claim.owner, &ended, None, claim.ttl).await?;
            self.lookup(&id).await?;
            let _removed = self.remove(&id, claim.owner).await?;
            // Scripts bear it if they may not.
            let publish = Call::native("PUBLISH", self.keys.channel()).arg("");
            self.call::<u64>(self.small(), &publish, 0).await?;
            Ok(())
        };
        match rehearsed.await {
            Err(StoreError::OutOfMemory) => {
                warn!(
                    "the store's server is out of memory: new keys get 503; give it more, or shorten the ttl"
                );
                Ok(())
            }
            other => other,
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| unavailable(error.to_string()))?;
    Ok(bytes)
}

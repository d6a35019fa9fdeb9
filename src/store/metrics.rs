//! What stores know of themselves, for the page of metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::memory::{MemoryStats, MemoryStore};
use super::redis::{RedisStats, RedisStore};
use super::{Store, Trouble};
use crate::metrics::{counter, gauge, gauges};

/// How a store is, be it of any kind.
#[derive(Debug)]
pub struct Health(pub Arc<dyn Store>);

impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let troubles = self.0.troubles();
        let is_up = !troubles.contains(&Trouble::Unreachable);
        gauge(&mut encoder, "oncegate_store_up", "1 while the store can be asked", i64::from(is_up))?;
        let trouble =
            |trouble: Trouble| ([("trouble", trouble.as_str())], i64::from(troubles.contains(&trouble)));
        gauges(
            &mut encoder,
            "oncegate_store_trouble",
            "1 while this is wrong with the store",
            Trouble::ALL.map(trouble),
        )
    }
}

impl Collector for MemoryStore {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let MemoryStats { entries, answers_bytes, answers_evicted } = self.stats();
        let encoder = &mut encoder;
        gauge(
            encoder,
            "oncegate_store_entries",
            "Entries, with those that have expired since the last prune",
            entries,
        )?;
        gauge(
            encoder,
            "oncegate_store_max_entries",
            "How many entries may live at once",
            self.params.max_entries,
        )?;
        gauge(encoder, "oncegate_store_answer_bytes", "What the kept answers weigh", answers_bytes)?;
        gauge(
            encoder,
            "oncegate_store_max_bytes",
            "How much the kept answers may weigh",
            self.params.max_bytes,
        )?;
        counter(
            encoder,
            "oncegate_answers_evicted",
            "Answers that had to make room before their entries expired; their duplicates get 410",
            answers_evicted,
        )
    }
}

impl Collector for RedisStore {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let RedisStats { outages, losses, policy_changes, unreplicated_claims } = self.stats();
        let encoder = &mut encoder;
        counter(encoder, "oncegate_store_outages", "How often the server was out of reach", outages)?;
        counter(
            encoder,
            "oncegate_store_losses",
            "How often the server was found to have lost entries",
            losses,
        )?;
        counter(
            encoder,
            "oncegate_store_policy_changes",
            "How often the server was found to drop live keys when it is full",
            policy_changes,
        )?;
        counter(
            encoder,
            "oncegate_unreplicated_claims",
            "Claims that were taken back since too few replicas had them",
            unreplicated_claims,
        )
    }
}

//! `[store]`, and what of it the guard needs.

use std::time::Duration;

use super::StoreSettings;
use super::defaults;
use super::reader::{Item, Section, Setting};
use super::report::Report;
use super::values::{DAY, MILLISECOND, SECOND, count, duration, size, text};
use super::wording;
use crate::guard;
use crate::store::memory::MemoryParams;

/// What `[store]` says.
pub(super) struct Store {
    pub(super) settings: StoreSettings,
    pub(super) guard: guard::Params,
    /// How many bytes of answers it keeps.
    pub(super) max_bytes: Setting<u64>,
}

/// Reads `[store]`; `max_waiters` comes from elsewhere.
pub(super) fn store(root: &mut Section<'_>, max_waiters: usize, report: &Report<'_>) -> Store {
    let mut section = root.section_or_empty("store");
    let kind = section.read("kind", (), kind);
    report.warning(
        kind.at().unwrap_or_else(|| section.place()),
        "the store is \"memory\": keys are forgotten at restart, and replicas share nothing; run one process, and expect \
         that a retry across its restart runs again",
    );
    if let Some(url) = section.get("url") {
        url.warn("this has no effect, the memory store is not shared; remove it");
    }
    let max_bytes = section.read("max_bytes", defaults::MAX_STORE_BYTES, size(1..=bytesize::PIB));
    let prune_interval = section
        .read("prune_interval", defaults::PRUNE_INTERVAL, duration(MILLISECOND..=Duration::from_hours(1)))
        .value;
    let lease = section.read("lease", defaults::LEASE, duration(SECOND..=Duration::from_hours(1)));
    let timeout = section.read("timeout", defaults::STORE_TIMEOUT, duration(MILLISECOND..=DAY));
    refuse_slow_store(&timeout, &lease, report);
    let most = 1..=1_000_000_000;
    let max_entries_per_caller =
        section.read("max_entries_per_caller", None, |item| count(most.clone())(item).map(Some)).value;
    let memory = MemoryParams {
        max_bytes: max_bytes.value,
        max_entries: section.read("max_entries", defaults::MAX_ENTRIES, count(most.clone())).value,
        prune_interval,
    };
    let guard = guard::Params {
        lease: lease.value,
        store_timeout: timeout.value,
        settle_retry: section
            .read("settle_retry", defaults::SETTLE_RETRY, duration(MILLISECOND..=defaults::SETTLE_RETRY))
            .value,
        max_pending_writes: section
            .read("max_pending_writes", defaults::MAX_PENDING_WRITES, count(1..=1_000_000))
            .value,
        prune_interval,
        max_entries_per_caller,
        max_waiters,
    };
    section.finish();
    Store { settings: StoreSettings::Memory(memory), guard, max_bytes }
}

fn kind(item: &Item<'_>) -> Option<()> {
    match text(item)?.as_str() {
        "memory" => Some(()),
        other @ ("disk" | "redis" | "postgres") => {
            item.refuse(format!("this build has no {other} store; write \"memory\""))
        }
        other => item.refuse(format!("\"{other}\" is no kind of store; write \"memory\"")),
    }
}

/// A claim is renewed every third of its lease: a slower answer than that costs the claim.
fn refuse_slow_store(timeout: &Setting<Duration>, lease: &Setting<Duration>, report: &Report<'_>) {
    if let Some(at) = timeout.at().or_else(|| lease.at())
        && !timeout.is_mistaken()
        && !lease.is_mistaken()
        && timeout.value > lease.value / 3
    {
        report.mistake(
            at,
            format!(
                "`timeout`: {} is more than a third of the lease ({}), after which a claim must be renewed; lower \
                 `timeout` or raise `lease`",
                wording::duration(timeout.value),
                wording::duration(lease.value)
            ),
        );
    }
}

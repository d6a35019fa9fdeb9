//! `[store]`, and what of it the guard needs.

use std::path::Path;
use std::time::Duration;

use super::StoreSettings;
use super::defaults;
use super::reader::{Item, Section, Setting};
use super::redis;
use super::report::Report;
use super::values::{DAY, MILLISECOND, SECOND, count, duration, flag, size, text};
use super::wording;
use crate::guard;
use crate::store::memory::MemoryParams;

/// A value of Redis has 512 MiB at most, and the rest of a record wants its room.
const MAX_REDIS_ANSWER_BYTES: u64 = 510 * bytesize::MIB;

/// What `[store]` says.
pub(super) struct Store {
    pub(super) settings: StoreSettings,
    pub(super) guard: guard::Params,
    /// Which answers fit into it.
    pub(super) room: AnswerRoom,
    /// Whether this process is ready only while the store is there.
    pub(super) ready_needs_store: bool,
}

/// How large an answer may be to be kept.
pub(super) enum AnswerRoom {
    /// As large as all that this process keeps.
    Here(Setting<u64>),
    /// As large as a value of a server.
    Server {
        /// Bytes of its body.
        max_bytes: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Redis,
}

/// Reads `[store]`; `max_waiters` comes from elsewhere.
pub(super) fn store(root: &mut Section<'_>, max_waiters: usize, folder: &Path, report: &Report<'_>) -> Store {
    let mut section = root.section_or_empty("store");
    let kind = section.read("kind", Kind::Memory, kind);
    let is_memory = kind.value == Kind::Memory && !kind.is_mistaken();
    if is_memory {
        report.warning(
            kind.at().unwrap_or_else(|| section.place()),
            "the store is \"memory\": keys are forgotten at restart, and replicas share nothing; run one process, and \
             expect that a retry across its restart runs again",
        );
    }
    if kind.value == Kind::Memory {
        for of_redis in ["url", "redis"].into_iter().filter_map(|key| section.get(key)) {
            if is_memory {
                of_redis.warn("this has no effect, the memory store is not shared; remove it");
            }
        }
    }
    let of_memory = section.mark();
    let max_bytes = section.read("max_bytes", defaults::MAX_STORE_BYTES, size(1..=bytesize::PIB));
    let most = 1..=1_000_000_000;
    let max_entries = section.read("max_entries", defaults::MAX_ENTRIES, count(most.clone()));
    if !is_memory {
        for (key, at) in section.written_since(of_memory) {
            report.warning(
                at,
                format!("`{key}`: this has no effect, the server's memory is the bound; remove it"),
            );
        }
    }
    let prune_interval = section
        .read("prune_interval", defaults::PRUNE_INTERVAL, duration(MILLISECOND..=Duration::from_hours(1)))
        .value;
    let lease = section.read("lease", defaults::LEASE, duration(SECOND..=Duration::from_hours(1)));
    let timeout = section.read("timeout", defaults::STORE_TIMEOUT, duration(MILLISECOND..=DAY));
    refuse_slow_store(&timeout, &lease, report);
    let max_entries_per_caller =
        section.read("max_entries_per_caller", None, |item| count(most.clone())(item).map(Some)).value;
    let memory = MemoryParams { max_bytes: max_bytes.value, max_entries: max_entries.value, prune_interval };
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
    let ready_needs_store = section.read("ready_needs_store", defaults::READY_NEEDS_STORE, flag);
    if let (true, Some(at)) = (is_memory, ready_needs_store.at()) {
        let reason = "this has no effect, the memory store is always there; remove it";
        report.warning(at, format!("`ready_needs_store`: {reason}"));
    }
    let redis = (kind.value == Kind::Redis)
        .then(|| redis::redis(&mut section, timeout.value, lease.value, folder, report))
        .flatten();
    section.finish();
    let settings = redis.map_or(StoreSettings::Memory(memory), |(servers, records)| {
        StoreSettings::Redis(Box::new(servers), records)
    });
    let room = match settings {
        StoreSettings::Memory(_) => AnswerRoom::Here(max_bytes),
        StoreSettings::Redis(..) => AnswerRoom::Server { max_bytes: MAX_REDIS_ANSWER_BYTES },
    };
    Store { settings, guard, room, ready_needs_store: ready_needs_store.value }
}

fn kind(item: &Item<'_>) -> Option<Kind> {
    match text(item)?.as_str() {
        "memory" => Some(Kind::Memory),
        "redis" => Some(Kind::Redis),
        other @ ("disk" | "postgres") => {
            item.refuse(format!("this build has no {other} store; write \"memory\" or \"redis\""))
        }
        other => item.refuse(format!("\"{other}\" is no kind of store; write \"memory\" or \"redis\"")),
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

//! One part of the entries, and who waits for them. Stands under one lock.
//!
//! Owns four side books of the table: the callers of the entries that name one, which is none unless the operator says
//! `on_other_caller = "refuse"`; the entries' places in their callers' shares, where those are bounded; a lower bound on
//! the next expiry, so that nobody scans where nothing can have expired; and the waiters, so that a settlement nobody waits
//! for costs one look at an empty map.

use std::collections::HashMap;

use tokio::sync::watch;

use crate::idempotency::{CallerHash, RequestId};

use super::answers::Serial;
use super::callers::Place;
use super::clock::Millis;
use super::record::Record;
use super::table::Table;

#[derive(Debug)]
pub(super) struct Shard {
    table: Table,
    callers: HashMap<RequestId, CallerHash>,
    places: HashMap<RequestId, Place>,
    /// Nothing expires before this. Renewals move expiries on without touching it.
    next_expiry: Millis,
    /// One channel per id that is waited for. Nothing is sent: dropping it wakes all.
    waiters: HashMap<RequestId, watch::Sender<()>>,
}

/// What was dropped from a shard.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) records: u64,
    /// The serial numbers of their answers.
    pub(super) answers: Vec<Serial>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            table: Table::default(),
            callers: HashMap::new(),
            places: HashMap::new(),
            next_expiry: Millis::MAX,
            waiters: HashMap::new(),
        }
    }

    /// The record under `id`, even if it has expired.
    pub(super) fn stored(&self, id: &RequestId) -> Option<&Record> {
        self.table.get(id)
    }

    /// The record under `id`, unless it has expired.
    pub(super) fn live(&self, id: &RequestId, now: Millis) -> Option<&Record> {
        self.table.get(id).filter(|record| now < record.expires_at())
    }

    /// Puts a record in the place of whatever stood there, which is returned.
    pub(super) fn put(
        &mut self,
        record: Record,
        caller: Option<CallerHash>,
        place: Option<Place>,
    ) -> Option<Record> {
        self.wake(&record.id);
        self.forget(&record.id);
        if let Some(caller) = caller {
            self.callers.insert(record.id, caller);
        }
        if let Some(place) = place {
            self.places.insert(record.id, place);
        }
        self.next_expiry = self.next_expiry.min(record.expires_at());
        self.table.put(record)
    }

    /// Changes the live record under `id`.
    pub(super) fn change<T>(
        &mut self,
        id: &RequestId,
        now: Millis,
        change: impl FnOnce(&mut Record) -> T,
    ) -> Option<T> {
        let record = self.table.get_mut(id).filter(|record| now < record.expires_at())?;
        let changed = change(record);
        self.next_expiry = self.next_expiry.min(record.expires_at());
        Some(changed)
    }

    pub(super) fn remove(&mut self, id: &RequestId) -> Option<Record> {
        self.wake(id);
        self.forget(id);
        self.table.remove(id)
    }

    /// Drops every record that has expired.
    pub(super) fn drop_expired(&mut self, now: Millis) -> Dropped {
        let mut dropped = Dropped::default();
        if now < self.next_expiry {
            return dropped;
        }
        self.table.take_if(
            |record| record.expires_at() <= now,
            |record| {
                forget(&mut self.callers, &record.id);
                forget(&mut self.places, &record.id);
                dropped.records += 1;
                dropped.answers.extend(record.answer());
            },
        );
        self.next_expiry = self.table.iter().map(Record::expires_at).min().unwrap_or(Millis::MAX);
        dropped
    }

    /// The caller, as claimed.
    pub(super) fn caller(&self, id: &RequestId) -> Option<CallerHash> {
        self.callers.get(id).copied()
    }

    /// The place that the entry under `id` has in its caller's share. It leaves the book.
    pub(super) fn take_place(&mut self, id: &RequestId) -> Option<Place> {
        self.places.remove(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.table.iter()
    }

    /// A channel that closes when `id` is settled, removed or claimed anew.
    pub(super) fn wait_for(&mut self, id: &RequestId) -> watch::Receiver<()> {
        self.waiters.entry(*id).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    pub(super) fn wake(&mut self, id: &RequestId) {
        forget(&mut self.waiters, id);
    }

    /// Closes the book on `id` if nobody waits for it any more.
    pub(super) fn stop_waiting(&mut self, id: &RequestId) {
        if self.waiters.get(id).is_some_and(|channel| channel.receiver_count() == 0) {
            self.waiters.remove(id);
        }
    }

    fn forget(&mut self, id: &RequestId) {
        forget(&mut self.callers, id);
        forget(&mut self.places, id);
    }

    /// How many ids are waited for.
    #[cfg(test)]
    pub(super) fn waited_for(&self) -> usize {
        self.waiters.len()
    }
}

/// Strikes `id` out of a book that is mostly empty: not even its hash is taken then.
fn forget<T>(book: &mut HashMap<RequestId, T>, id: &RequestId) {
    if !book.is_empty() {
        book.remove(id);
    }
}

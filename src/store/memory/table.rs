//! Records by id, without holes.
//!
//! Owns the positions: every record is found by exactly one. The records lie side by side, and a hash table of 4-byte
//! positions finds them. Growing so many small records in the hash table itself would leave up to half of their memory unused.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::idempotency::RequestId;

use super::chunks::Chunks;
use super::record::Record;

/// A table of positions that is filled to less than this part gives memory back. It doubles when it grows.
const SPARSE_PART: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Table {
    positions: HashTable<u32>,
    records: Chunks,
}

impl Table {
    pub(super) fn get(&self, id: &RequestId) -> Option<&Record> {
        self.records.get(self.position(id)?)
    }

    pub(super) fn get_mut(&mut self, id: &RequestId) -> Option<&mut Record> {
        let position = self.position(id)?;
        self.records.get_mut(position)
    }

    /// Puts a record in, and returns the one that stood there before.
    pub(super) fn put(&mut self, record: Record) -> Option<Record> {
        let Self { positions, records } = self;
        let is_it = |at: &u32| records.get(*at as usize).is_some_and(|standing| standing.id == record.id);
        let rehash = |at: &u32| records.get(*at as usize).map_or(0, |standing| hash(&standing.id));
        match positions.entry(hash(&record.id), is_it, rehash) {
            Entry::Occupied(at) => {
                records.get_mut(*at.get() as usize).map(|standing| std::mem::replace(standing, record))
            }
            Entry::Vacant(free) => {
                // 2^32 records of one shard would take 400 GB.
                free.insert(records.len() as u32);
                records.push(record);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, id: &RequestId) -> Option<Record> {
        let position = self.position(id)?;
        self.take(position)
    }

    /// Takes out every record for which `leaves` is true, and hands it to `taken`.
    pub(super) fn take_if(&mut self, leaves: impl Fn(&Record) -> bool, mut taken: impl FnMut(Record)) {
        // Backwards: the record that fills a gap was looked at before.
        for position in (0..self.records.len()).rev() {
            if self.records.get(position).is_some_and(&leaves) {
                self.take(position).map(&mut taken);
            }
        }
        if self.records.len() < self.positions.capacity() / SPARSE_PART {
            let records = &self.records;
            self.positions
                .shrink_to_fit(|at| records.get(*at as usize).map_or(0, |standing| hash(&standing.id)));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    fn position(&self, id: &RequestId) -> Option<usize> {
        let is_it = |at: &u32| self.records.get(*at as usize).is_some_and(|record| record.id == *id);
        self.positions.find(hash(id), is_it).map(|at| *at as usize)
    }

    /// Takes a record out; the last one fills the gap.
    fn take(&mut self, position: usize) -> Option<Record> {
        let Self { positions, records } = self;
        let id = records.get(position)?.id;
        let last = records.len() - 1;
        if let Ok(at) = positions.find_entry(hash(&id), |at| *at as usize == position) {
            at.remove();
        }
        if position != last
            && let Some(moved) = records.get(last)
            && let Some(at) = positions.find_mut(hash(&moved.id), |at| *at as usize == last)
        {
            *at = position as u32;
        }
        records.swap_remove(position)
    }
}

/// The id is a SHA-256 already, so its bytes serve as the hash. A client who wants ids to collide has to find keys by
/// trying, 2^n of them for n bits in common, and all he gains is a longer chain in one shard.
fn hash(id: &RequestId) -> u64 {
    let [bytes @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *id.as_bytes();
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few ids, which share their hash with a neighbour.
    fn id(number: u8) -> RequestId {
        let mut bytes = [0; 32];
        (bytes[0], bytes[20]) = (number / 2, number);
        RequestId::from_bytes(bytes)
    }

    fn record(number: u8, at: u64) -> Record {
        Record::expiring(&id(number), at)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u64),
        Remove(u8),
        TakeBefore(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<u8>(), 0u64..1000).prop_map(|(number, at)| Step::Put(number, at)),
            2 => any::<u8>().prop_map(Step::Remove),
            1 => (0u64..1000).prop_map(Step::TakeBefore),
        ]
    }

    proptest! {
        #[test]
        fn a_table_holds_what_a_map_holds(steps in prop::collection::vec(step(), 0..400)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            // More than two chunks, so that gaps are filled from one to another.
            for number in 0..=u8::MAX {
                let at = u64::from(number) * 4;
                table.put(record(number, at));
                map.insert(number, at);
            }
            for step in steps {
                match step {
                    Step::Put(number, at) => {
                        let before = table.put(record(number, at)).map(|record| record.expires_at());
                        prop_assert_eq!(before, map.insert(number, at));
                    }
                    Step::Remove(number) => {
                        let removed = table.remove(&id(number)).map(|record| record.expires_at());
                        prop_assert_eq!(removed, map.remove(&number));
                    }
                    Step::TakeBefore(limit) => {
                        let mut taken = 0;
                        table.take_if(|record| record.expires_at() < limit, |_| taken += 1);
                        let before = map.len();
                        map.retain(|_, at| *at >= limit);
                        prop_assert_eq!(taken, before - map.len());
                    }
                }
                prop_assert_eq!(table.iter().count(), map.len());
            }
            for number in 0..=u8::MAX {
                let found = table.get(&id(number));
                prop_assert_eq!(found.map(Record::expires_at), map.get(&number).copied());
                prop_assert!(found.is_none_or(|record| record.id == id(number)));
            }
        }
    }
}

//! Records side by side, in chunks that never move.
//!
//! Owns the layout of a list that grows and shrinks at its end alone. One allocation for all would be copied whenever it grows,
//! and a shard's requests would wait for that behind its lock, the longer the more records it has. (The table of positions
//! does grow so, but for a twentieth of the bytes.)
//!
//! Every chunk but the last is full, and the last is not empty: what is not needed is given back at once, but for the list of
//! chunks, three words for each.

use super::record::Record;

/// What a chunk takes: one of the sizes that allocators have, so that nothing of it goes to waste.
const CHUNK_BYTES: usize = 8 * 1024;
const CHUNK_RECORDS: usize = CHUNK_BYTES / size_of::<Record>();

#[derive(Debug, Default)]
pub(super) struct Chunks(Vec<Vec<Record>>);

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK_RECORDS + last.len())
    }

    pub(super) fn get(&self, position: usize) -> Option<&Record> {
        self.0.get(position / CHUNK_RECORDS)?.get(position % CHUNK_RECORDS)
    }

    pub(super) fn get_mut(&mut self, position: usize) -> Option<&mut Record> {
        self.0.get_mut(position / CHUNK_RECORDS)?.get_mut(position % CHUNK_RECORDS)
    }

    pub(super) fn push(&mut self, record: Record) {
        match self.0.last_mut().filter(|last| last.len() < CHUNK_RECORDS) {
            Some(last) => last.push(record),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK_RECORDS);
                chunk.push(record);
                self.0.push(chunk);
            }
        }
    }

    /// Takes a record out; the last one fills the gap.
    pub(super) fn swap_remove(&mut self, position: usize) -> Option<Record> {
        self.get(position)?;
        let last = self.pop()?;
        // No gap: it is the last one that is asked for.
        match self.get_mut(position) {
            Some(gap) => Some(std::mem::replace(gap, last)),
            None => Some(last),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().flatten()
    }

    fn pop(&mut self) -> Option<Record> {
        let last = self.0.last_mut()?;
        let record = last.pop();
        if last.is_empty() {
            self.0.pop();
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::RequestId;

    #[test]
    fn chunks_are_full_but_for_the_last_and_go_when_they_are_empty() {
        let mut chunks = Chunks::default();
        let is_tight = |chunks: &Chunks, count: usize| {
            assert_eq!(chunks.len(), count);
            assert_eq!(chunks.0.len(), count.div_ceil(CHUNK_RECORDS), "{count} records");
            assert!(chunks.0.iter().all(|chunk| chunk.capacity() == CHUNK_RECORDS), "{count} records");
        };
        for number in 0..3 * CHUNK_RECORDS {
            is_tight(&chunks, number);
            chunks.push(Record::expiring(&RequestId::from_bytes([0; 32]), 0));
        }
        for count in (0..3 * CHUNK_RECORDS).rev() {
            assert!(chunks.swap_remove(count + 1).is_none(), "no record has this position");
            assert!(chunks.swap_remove(count / 2).is_some());
            is_tight(&chunks, count);
        }
    }
}

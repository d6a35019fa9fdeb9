//! What is in flight or unknown, a page at a time.
//!
//! Owns how a page is gathered from the index, which lies in buckets. Changes nothing.

use std::time::Duration;

use redis::Value;
use tracing::warn;

use crate::idempotency::RequestId;
use crate::store::codec::CodecError;
use crate::store::{Cursor, Listed, Page, PageRequest, StoreError};

use super::layout::{BUCKETS, Head};
use super::script::LIST;
use super::{RedisStore, corrupt};

/// How many entries more than its share of a page a bucket is asked for at first.
const SPARE_ENTRIES: usize = 8;

/// A page of the list has at most so many entries, whatever was asked for.
const MAX_PAGE_ENTRIES: usize = 1_000;

impl RedisStore {
    /// [`Store::list`](crate::store::Store::list).
    pub(super) async fn page(&self, page: &PageRequest) -> Result<Page, StoreError> {
        let limit = page.limit_entries.min(MAX_PAGE_ENTRIES);
        let (mut all, mut asked_at_ms) = (Vec::new(), None);
        // Entries are spread evenly: of each bucket its share of the page is asked for, and more only of those that have it.
        let mut share = limit / usize::from(BUCKETS) + SPARE_ENTRIES;
        let mut asking: Vec<_> = (0..BUCKETS).map(|bucket| (bucket, page.after)).collect();
        while !asking.is_empty() {
            let mut with_more = Vec::new();
            for from in asking {
                let (listed, last) = self.listed(from, share, &mut asked_at_ms).await?;
                all.extend(listed);
                with_more.extend(last.map(|last| (from.0, last)));
            }
            all.sort_unstable_by_key(|(cursor, _)| *cursor);
            all.truncate(limit + 1);
            let end = all.get(limit).map(|(cursor, _)| *cursor);
            let within = with_more.into_iter().filter(|(_, last)| end.is_none_or(|end| *last < end));
            asking = within.map(|(bucket, last)| (bucket, Some(last))).collect();
            share = limit + 1;
        }
        let more = all.len() > limit;
        all.truncate(limit);
        let next = all.last().map(|(cursor, _)| *cursor).filter(|_| more);
        Ok(Page { entries: all.into_iter().map(|(_, listed)| listed).collect(), next })
    }

    /// One bucket's part of a page: its first `limit` entries after `after`, and the last of them if there may be more.
    /// `asked_at_ms` is when the first bucket was asked: all ages are those of one moment.
    pub(super) async fn listed(
        &self,
        (bucket, after): (u8, Option<Cursor>),
        limit: usize,
        asked_at_ms: &mut Option<u64>,
    ) -> Result<(Vec<(Cursor, Listed)>, Option<Cursor>), StoreError> {
        let (at, id) = after.map_or((0, String::new()), |after| (after.claimed_at_ms, after.id.to_hex()));
        let call =
            LIST.on([&self.keys.open(bucket)]).arg(self.keys.records(bucket)).arg(at).arg(id).arg(limit);
        let reply: Vec<Value> = self.call(&self.big, &call, 0).await?;
        let is_full = reply.len() > 2 * limit;
        let mut reply = reply.into_iter();
        let now: u64 = reply.next().map_or(Ok(0), redis::from_redis_value).map_err(corrupt)?;
        let (mut listed, mut last) = (Vec::new(), None);
        while let (Some(Value::BulkString(id)), Some(Value::BulkString(record))) =
            (reply.next(), reply.next())
        {
            let id =
                RequestId::from_hex(&id).ok_or_else(|| corrupt(CodecError::Damaged("its id is none")))?;
            let (head, _) = Head::split(&record).map_err(corrupt)?;
            let claimed_at_ms = head.claimed_at_ms;
            last = Some(Cursor { claimed_at_ms, id });
            let age = Duration::from_millis(asked_at_ms.get_or_insert(now).saturating_sub(claimed_at_ms));
            match self.entry(&id, now, &record) {
                Ok(entry) => listed.push((Cursor { claimed_at_ms, id }, Listed { id, age, entry })),
                Err(error) => warn!(?id, %error, "an entry is left out of the list"),
            }
        }
        Ok((listed, last.filter(|_| is_full)))
    }
}

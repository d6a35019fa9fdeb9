//! How many entries each caller has, where that is bounded.
//!
//! Owns the shares: for each caller the ids of his entries. A share lies in a slot of its own, so a place is taken before its
//! record is written and given back after the record is gone; what a process that died in between left behind is found out
//! at the bound, by asking for the records. So a share may name too many entries for a moment, and never too few.

use std::time::Duration;

use redis::Value;

use crate::idempotency::{CallerHash, Claim, RequestId};
use crate::store::StoreError;

use super::layout::{Keys, from_hex, hex, millis};
use super::script::{Call, RESERVE, SHARE};
use super::{RedisStore, corrupt};

/// What came of asking for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A new one.
    Taken,
    /// The id has one already.
    Had,
    /// There is none left.
    Full,
}

impl RedisStore {
    /// A place for the claim in its caller's share.
    pub(super) async fn take_place(
        &self,
        id: &RequestId,
        caller: &CallerHash,
        max_entries: u64,
        claim: &Claim,
    ) -> Result<Place, StoreError> {
        let key = self.keys.share(caller);
        let call =
            RESERVE.on([&key]).arg(hex(id)).arg(max_entries).arg(millis(claim.lease)).arg(millis(claim.ttl));
        loop {
            let reply: Vec<Value> = self.call(self.small(), &call, 0).await?;
            let mut reply = reply.into_iter();
            match reply.next() {
                Some(Value::Int(1)) => return Ok(Place::Taken),
                Some(Value::Int(2)) => return Ok(Place::Had),
                _ => {}
            }
            if !self.ask_for(&key, reply).await? {
                return Ok(Place::Full);
            }
        }
    }

    /// Asks for the records of these places, and gives back those of what is gone; `false` if nothing is.
    async fn ask_for(
        &self,
        share: &str,
        mut places: impl Iterator<Item = Value>,
    ) -> Result<bool, StoreError> {
        let mut call = SHARE.on([share]);
        let mut any_gone = false;
        let mut asked = false;
        while let (Some(Value::BulkString(hex)), Some(Value::BulkString(time))) =
            (places.next(), places.next())
        {
            let id = from_hex(&hex).ok_or_else(|| corrupt("a caller's share names no id"))?;
            let gone_in: i64 =
                self.call(self.small(), &Call::native("PTTL", &self.keys.record(&id)), 0).await?;
            any_gone |= gone_in < 0;
            asked = true;
            call = call.arg(hex).arg(time).arg(if gone_in < 0 { String::new() } else { gone_in.to_string() });
        }
        if asked {
            self.call::<i64>(self.small(), &call, 0).await?;
        }
        Ok(any_gone)
    }

    /// To be said once the entry under `id` was settled: it is gone after `ttl`.
    pub(super) async fn place_settled(
        &self,
        id: &RequestId,
        caller: &CallerHash,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let gone_in = format!("{}.5", millis(ttl));
        let call = SHARE.on([&self.keys.share(caller)]).arg(hex(id)).arg("").arg(gone_in);
        self.call::<i64>(self.small(), &call, 0).await.map(drop)
    }

    /// To be said once the entry under `id` was removed, or was found to be another caller's.
    pub(super) async fn give_place_back(
        &self,
        id: &RequestId,
        caller: &CallerHash,
    ) -> Result<(), StoreError> {
        let call = SHARE.on([&self.keys.share(caller)]).arg(hex(id)).arg("").arg("");
        self.call::<i64>(self.small(), &call, 0).await.map(drop)
    }
}

impl Keys {
    fn share(&self, caller: &CallerHash) -> String {
        let caller = hex(&RequestId::from_bytes(*caller.as_bytes()));
        format!("{}{{{caller}}}:share", self.prefix())
    }
}

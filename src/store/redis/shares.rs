//! How many entries each caller has, where that is bounded.
//!
//! Owns the shares: for each caller his claims, each by its entry's id and its owner. A share lies in a slot of its own, so a
//! place is taken before its record is written and given back after the record is gone; what a process that died in between
//! left behind is found out at the bound, by asking for the records. So a share may name too many claims for a moment, and
//! never too few: what an earlier owner gives back is not a later one's.

use std::time::Duration;

use redis::Value;

use crate::idempotency::{CallerHash, Claim, Owner, RequestId};
use crate::store::StoreError;

use super::layout::{Keys, millis};
use super::script::{Call, RESERVE, SHARE};
use super::{RedisStore, corrupt};

/// How many characters of a place are its entry's id.
const ID_CHARACTERS: usize = 64;

impl RedisStore {
    /// Takes a place for the claim in its caller's share, if it has none; `false` if there is none left.
    pub(super) async fn take_place(
        &self,
        id: &RequestId,
        caller: &CallerHash,
        max_entries: u64,
        claim: &Claim,
    ) -> Result<bool, StoreError> {
        let key = self.keys.share(caller);
        let call = RESERVE
            .on([&key])
            .arg(place(id, claim.owner))
            .arg(max_entries)
            .arg(millis(claim.lease))
            .arg(millis(claim.ttl))
            .arg(claim.replaces.map(|owner| place(id, owner)).unwrap_or_default());
        loop {
            let reply: Vec<Value> = self.call(self.small(), &call, 0).await?;
            let mut reply = reply.into_iter();
            if let Some(Value::Int(1)) = reply.next() {
                return Ok(true);
            }
            if !self.ask_for(&key, reply).await? {
                return Ok(false);
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
        while let (Some(Value::BulkString(place)), Some(Value::BulkString(time))) =
            (places.next(), places.next())
        {
            let id = place.get(..ID_CHARACTERS).and_then(RequestId::from_hex);
            let id = id.ok_or_else(|| corrupt("a caller's share names no id"))?;
            let gone_in: i64 =
                self.call(self.small(), &Call::native("PTTL", &self.keys.record(&id)), 0).await?;
            any_gone |= gone_in < 0;
            asked = true;
            call =
                call.arg(place).arg(time).arg(if gone_in < 0 { String::new() } else { gone_in.to_string() });
        }
        if asked {
            self.call::<i64>(self.small(), &call, 0).await?;
        }
        Ok(any_gone)
    }

    /// To be said once the claim was settled: its entry is gone after `ttl`.
    pub(super) async fn place_settled(
        &self,
        (id, owner): (&RequestId, Owner),
        caller: &CallerHash,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let gone_in = format!("{}.5", millis(ttl));
        let call = SHARE.on([&self.keys.share(caller)]).arg(place(id, owner)).arg("").arg(gone_in);
        self.call::<i64>(self.small(), &call, 0).await.map(drop)
    }

    /// To be said once the claim is gone, or was not made.
    pub(super) async fn give_place_back(
        &self,
        (id, owner): (&RequestId, Owner),
        caller: &CallerHash,
    ) -> Result<(), StoreError> {
        let call = SHARE.on([&self.keys.share(caller)]).arg(place(id, owner)).arg("").arg("");
        self.call::<i64>(self.small(), &call, 0).await.map(drop)
    }
}

fn place(id: &RequestId, owner: Owner) -> String {
    format!("{}{:032x}", id.to_hex(), owner.token())
}

impl Keys {
    fn share(&self, caller: &CallerHash) -> String {
        let caller = RequestId::from_bytes(*caller.as_bytes()).to_hex();
        format!("{}{{{caller}}}:share", self.prefix())
    }
}

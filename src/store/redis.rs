//! The Redis store: what several processes share, and what outlives them. Valkey is as good.
//!
//! Owns the entries in a server that others may share, under a prefix of their own. Every method that judges is one script, so
//! that the server's clock and nobody else's decides what has lapsed or expired; a script that is sent again finds the
//! owner's token and changes nothing more. Records expire by themselves, never while their lease runs. What is in flight
//! or unknown is listed in an index beside it, which may name too much.
//!
//! It promises what the server keeps: a server that forgets (a flush, a restart without persistence, a failover
//! before the last writes were copied) forgets keys.

mod connect;
mod events;
mod health;
mod info;
mod lane;
mod layout;
mod list;
mod load;
mod near;
pub mod params;
mod replicated;
mod script;
mod shares;
mod waiters;
mod watch;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use params::{Login, Node, Password, RedisParams, TlsParams, Topology};

use self::connect::Connection;
use self::events::Listener;
pub use self::health::RedisStats;
use self::health::Who;
use self::lane::{Lane, Shared};
use self::layout::{BUCKETS, COMPLETED, Head, Keys, SHARED, UNKNOWN, bucket, millis, system_time, token};
use self::near::Near;
use self::replicated::{Replicated, Standing};
use self::script::{Call, INSERT, LOOKUP, PRUNE, REMOVE, RENEW, UNKNOWN_FORMAT, UPDATE};
use self::waiters::Waiters;
use self::watch::Watch;
use super::codec::{Claimed, Codec, CodecError};
use super::{Insert, Page, PageRequest, Store, StoreError, Trouble, Update, Write};
use crate::idempotency::{
    CallerHash, CallerShare, Claim, Entry, Fingerprint, Outcome, Owner, RequestId, State,
};
use crate::store::transition::Transition;

/// A record with more bytes than this travels on a connection of its own, so that claims do not wait behind it.
const SMALL_BYTES: usize = 64 * 1024;

/// What a connection carries at the least: a big record gets its size's worth of time beside the timeout.
const BYTES_PER_SECOND: u64 = 10 * 1024 * 1024;

/// The store that replicas share.
pub struct RedisStore {
    params: Arc<RedisParams>,
    keys: Keys,
    codec: Codec,
    small: Vec<Lane>,
    big: Lane,
    next: AtomicUsize,
    /// Where claims wait for replicas; `None` where they do not.
    replicated: Option<Replicated>,
    shared: Shared,
    tasks: TaskTracker,
    watched: OnceLock<DropGuard>,
    near: Arc<Near>,
    waiters: Arc<Waiters>,
    _listening: DropGuard,
}

impl RedisStore {
    /// A store that connects in the background.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(params: RedisParams, codec: Codec) -> Self {
        let (tasks, params) = (TaskTracker::new(), Arc::new(params));
        let shared = Shared::new(Arc::clone(&params));
        let open = |number| Lane::open(&shared, Who::Connection(number), &tasks);
        let (small, big) = ((1..=params.connections).map(open).collect(), open(0));
        let keys = Keys::new(params.key_prefix.clone());
        let replicated = Replicated::open(&shared, &tasks);
        let (next, watched) = (AtomicUsize::new(0), OnceLock::new());
        let near = Arc::new(Near::new(params.cache_max_bytes, params.cache_ttl));
        let (waiters, ended) = (Arc::new(Waiters::new()), CancellationToken::new());
        let listener = Listener {
            params: Arc::clone(&params),
            channel: keys.channel().to_owned(),
            near: Arc::clone(&near),
            waiters: Arc::clone(&waiters),
        };
        drop(tasks.spawn(ended.clone().run_until_cancelled_owned(listener.listen_forever())));
        let _listening = ended.drop_guard();
        Self {
            params,
            keys,
            codec,
            small,
            big,
            next,
            replicated,
            shared,
            tasks,
            watched,
            near,
            waiters,
            _listening,
        }
    }

    /// What it has met since its start.
    #[must_use]
    pub fn stats(&self) -> RedisStats {
        self.shared.health.stats()
    }

    /// A connection for what is small: the first that is free, since calls that share one share its writes. Where none is,
    /// they take turns.
    fn small(&self) -> &Lane {
        self.small.iter().find(|lane| lane.is_free()).unwrap_or_else(|| {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            turn.checked_rem(self.small.len()).and_then(|turn| self.small.get(turn)).unwrap_or(&self.big)
        })
    }

    fn lane(&self, bytes: usize) -> &Lane {
        if bytes > SMALL_BYTES { &self.big } else { self.small() }
    }

    /// Calls, within the timeout and what `bytes` take.
    async fn call<T: FromRedisValue>(&self, lane: &Lane, call: &Call, bytes: usize) -> Result<T, StoreError> {
        lane.call(call, self.params.timeout + transfer_time(bytes)).await
    }

    fn entry(&self, id: &RequestId, now_ms: u64, record: &[u8]) -> Result<Entry, StoreError> {
        layout::entry(&self.codec, id, now_ms, record).map_err(corrupt)
    }

    fn counted_as(&self, id: &RequestId, claim: &[u8]) -> Result<Option<CallerHash>, StoreError> {
        self.codec.claimed(id, claim).map(|claimed| claimed.share).map_err(corrupt)
    }

    async fn read(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        let asking = self.near.asking(id);
        let Some((now, record)) = self.whole(id, self.cut(id).await?).await? else { return Ok(None) };
        let entry = self.entry(id, now, &record)?;
        self.near.keep(id, &entry, system_time(now), asking);
        Ok(Some(entry))
    }

    /// What stands under `id`; why nothing can be added if nothing does.
    async fn standing_or(&self, full: StoreError, id: &RequestId) -> Result<Insert, StoreError> {
        self.read(id).await?.map(Insert::Exists).ok_or(full)
    }

    async fn try_insert(&self, id: &RequestId, call: &Call, takes_over: bool) -> Result<Insert, StoreError> {
        loop {
            let asking = self.near.asking(id);
            let reply = self.claim(id, call, takes_over).await?;
            if reply.1.is_none() {
                return Ok(Insert::Inserted);
            }
            // What has expired or was released in between left the key free.
            if let Some((now, record)) = self.whole(id, reply).await? {
                let entry = self.entry(id, now, &record)?;
                self.near.keep(id, &entry, system_time(now), asking);
                return Ok(Insert::Exists(entry));
            }
        }
    }

    /// What stands under `id`, cut if it is big.
    async fn cut(&self, id: &RequestId) -> Result<Standing, StoreError> {
        let call = LOOKUP.on([&self.keys.record(id)]).arg(SMALL_BYTES);
        self.call(self.small(), &call, 0).await
    }

    /// The whole of what was cut, by the connection for what is big, and when that was.
    async fn whole(&self, id: &RequestId, standing: Standing) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let (now, Some(record), Some(bytes)) = standing else { return Ok(None) };
        if record.len() == bytes {
            return Ok(Some((now, record)));
        }
        let call = LOOKUP.on([&self.keys.record(id)]).arg(i64::MAX);
        let (now, record, _): Standing = self.call(&self.big, &call, bytes).await?;
        Ok(record.map(|record| (now, record)))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn setup(&self) -> Result<(), StoreError> {
        // By a connection of its own: it knows why there is none.
        let mut connection = Connection::open(&self.params).await.map_err(judged)?;
        Call::on_every_primary(&["PING"]).run(&mut connection).await.map_err(judged)?;
        let lane = Lane::open(&self.shared, Who::Watch, &self.tasks);
        let mut watch = Watch::new(&self.shared, &self.keys, lane);
        watch.begin().await?;
        self.rehearse().await?;
        let ended = CancellationToken::new();
        watch.go_on(&self.tasks, ended.clone());
        self.watched.set(ended.drop_guard()).map_err(|_| unavailable("it was set up already"))
    }

    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.near.get(id) {
            return Ok(Some(entry));
        }
        self.read(id).await
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError> {
        if let Some(entry) = self.near.get(id) {
            return Ok(Insert::Exists(entry));
        }
        let flags = if claim.share.is_some() { SHARED } else { 0 };
        let call = INSERT
            .on([&self.keys.record(id), &self.keys.open(bucket(id))])
            .arg(&token(claim.owner))
            .arg(millis(claim.lease))
            .arg(millis(claim.ttl))
            .arg(self.codec.claim(id, claim).map_err(unavailable)?)
            .arg(claim.replaces.map_or(Vec::new(), |owner| token(owner).to_vec()))
            .arg(id.to_hex())
            .arg(SMALL_BYTES)
            .arg(flags);
        let Some(CallerShare { caller, max_entries }) = claim.share else {
            return self.try_insert(id, &call, claim.replaces.is_some()).await;
        };
        match self.take_place(id, &caller, max_entries, claim).await {
            Ok(true) => {}
            // What the caller has already, or someone else has, is known to him all the same.
            Ok(false) => return self.standing_or(StoreError::CallerFull { max_entries }, id).await,
            Err(full @ StoreError::OutOfMemory) => return self.standing_or(full, id).await,
            Err(error) => return Err(error),
        }
        let insert = self.try_insert(id, &call, claim.replaces.is_some()).await?;
        let unneeded = match &insert {
            Insert::Inserted => claim.replaces,
            Insert::Exists(entry) => (entry.owner != claim.owner).then_some(claim.owner),
        };
        if let Some(owner) = unneeded {
            self.give_place_back((id, owner), &caller).await?;
        }
        Ok(insert)
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError> {
        let call = RENEW.on([&self.keys.record(id)]).arg(&token(owner)).arg(millis(lease));
        self.call(self.small(), &call, 0).await.map(write)
    }

    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError> {
        let state = match outcome {
            Outcome::Completed(_) | Outcome::NotRetained { .. } => COMPLETED,
            Outcome::Unknown(_) => UNKNOWN,
        };
        let record = self.codec.outcome(id, outcome, fingerprint).map_err(unavailable)?;
        let (bytes, asking) = (record.len(), self.near.asking(id));
        let call = UPDATE
            .on([&self.keys.record(id), &self.keys.open(bucket(id))])
            .arg(&token(owner))
            .arg(state)
            .arg(millis(ttl))
            .arg(record)
            .arg(id.to_hex())
            .arg(self.keys.channel());
        let (now, expires_at, standing): (u64, Option<u64>, Option<Vec<u8>>) =
            self.call(self.lane(bytes), &call, bytes).await?;
        let expires_at = match (expires_at, standing) {
            (None, _) => return Ok(Update::Lost),
            (Some(made), Some(claim)) if made > 0 => {
                let claimed = self.codec.claimed(id, &claim).map_err(corrupt)?;
                if let Some(entry) = answered(owner, &claimed, outcome, system_time(made)) {
                    self.near.keep(id, &entry, system_time(now), asking);
                }
                self.waiters.wake(id);
                if let Some(caller) = claimed.share {
                    self.place_settled((id, owner), &caller, ttl).await?;
                }
                made
            }
            (Some(_), None) => return Ok(Update::Lost),
            (Some(_), Some(standing)) => {
                let (head, _) = Head::split(&standing).map_err(corrupt)?;
                match Transition::judge(&self.entry(id, now, &standing)?.state, outcome) {
                    Transition::Stands => head.expires_at_ms(),
                    Transition::Apply | Transition::Refused => return Ok(Update::Lost),
                }
            }
        };
        Ok(Update::Applied { expires_at: system_time(expires_at) })
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError> {
        let call = REMOVE
            .on([&self.keys.record(id), &self.keys.open(bucket(id))])
            .arg(&token(owner))
            .arg(id.to_hex())
            .arg(self.keys.channel());
        let reply = self.call(self.small(), &call, 0).await;
        // Even if no answer came: it may be gone.
        self.near.released(id);
        self.waiters.wake(id);
        let (removed, claim): (bool, Option<Vec<u8>>) = reply?;
        if let Some(caller) = claim.map(|claim| self.counted_as(id, &claim)).transpose()?.flatten() {
            self.give_place_back((id, owner), &caller).await?;
        }
        Ok(write(removed))
    }

    async fn prune(&self) -> Result<u64, StoreError> {
        self.near.tidy();
        let mut pruned = 0;
        for bucket in 0..BUCKETS {
            let (index, records) = (self.keys.open(bucket), self.keys.records(bucket));
            let mut rank = Some(0);
            while let Some(from) = rank {
                let call = PRUNE.on([&index]).arg(&records).arg(from);
                let (gone, next): (u64, Option<u64>) = self.call(&self.big, &call, 0).await?;
                pruned += gone;
                rank = next;
            }
        }
        Ok(pruned)
    }

    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError> {
        let waiter = self.waiters.enter(*id);
        let waiting = async {
            tokio::select! {
                biased;
                () = waiter.woken() => Ok(()),
                settled = self.ask_for_all(id, &waiter) => {
                    waiter.wake_all();
                    settled
                }
            }
        };
        timeout(patience, waiting).await.unwrap_or(Ok(()))
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError> {
        self.page(page).await
    }

    fn troubles(&self) -> Vec<Trouble> {
        self.shared.health.troubles()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("params", &self.params).finish_non_exhaustive()
    }
}

/// What an answer of this size gets beside the timeout.
#[must_use]
pub const fn transfer_time(bytes: usize) -> Duration {
    Duration::from_millis((bytes as u64).saturating_mul(1_000) / BYTES_PER_SECOND)
}

/// The entry as readers will see it, if it was settled with an answer. A fingerprint that the claim left open may have come with
/// an earlier outcome: that, only the server knows.
fn answered(owner: Owner, claimed: &Claimed, outcome: &Outcome, expires_at: SystemTime) -> Option<Entry> {
    let Outcome::Completed(answer) = outcome else { return None };
    let fingerprint = Some(claimed.fingerprint?);
    let state = State::Completed { status: answer.status(), answer: Some(answer.clone()) };
    Some(Entry { owner, caller: claimed.caller, fingerprint, state, expires_at: Some(expires_at) })
}

const fn write(made: bool) -> Write {
    if made { Write::Applied } else { Write::Lost }
}

fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(cause.into())
}

fn corrupt(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Corrupt(cause.into())
}

/// What a server's refusal means.
fn judged(error: RedisError) -> StoreError {
    let detail = error.detail().unwrap_or_default();
    if let Some(mend) = refusal(&error, detail) {
        return StoreError::Unfit(format!("{mend} ({error})"));
    }
    if error.code() == Some("OOM") || detail.contains("OOM command not allowed") {
        return StoreError::OutOfMemory;
    }
    match detail.split_once(UNKNOWN_FORMAT) {
        Some((_, rest)) => {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            corrupt(CodecError::UnknownFormat(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)))
        }
        None => unavailable(error),
    }
}

/// How to mend what the server does not let this user do.
fn refusal(error: &RedisError, detail: &str) -> Option<&'static str> {
    let code = error.code();
    if error.kind() == ErrorKind::AuthenticationFailed || code == Some("WRONGPASS") {
        return Some("it refuses the user or the password; look at `username` and the password");
    }
    if code == Some("NOAUTH") {
        return Some("it asks for a password; set `password_file` or `password_env`, and `username`");
    }
    // Inside scripts: of Redis 7, and of what came before.
    let in_script = ["ACL failure in script", "The user executing the script"];
    let is_forbidden = error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || in_script.iter().any(|said| detail.contains(said));
    is_forbidden
        .then_some("it forbids the user something that is needed; give it what docs/configuration.md lists")
}

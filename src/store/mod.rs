//! Where entries live: the trait that every store implements.
//!
//! Owns the contract between the guard and whatever keeps the entries. A store compares tokens, never fingerprints, and
//! decides nothing about HTTP. It may use `idempotency` and nothing above it.

pub mod codec;
#[cfg(feature = "store-contract")]
pub mod contract;
mod id;
pub mod memory;
pub mod metrics;
pub mod redis;
mod transition;

use std::error::Error;
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use thiserror::Error;

use crate::idempotency::{Claim, Entry, Fingerprint, Outcome, Owner, RequestId};

/// Where entries live. Implement it to bring your own store; run `store::contract` against it.
///
/// Every method is one atomic step. The store owns time: leases and ttls come in as durations and are judged by one
/// clock that all replicas share (the server's own, for a shared store), so clock skew between replicas is harmless.
/// Losing a race is a result and not an error. There are no default methods: a wrapper that forgets one does not compile.
///
/// An in-flight entry whose lease has run out reads as [`State::Unknown`] with [`UnknownCause::OwnerLost`], and expires
/// one `ttl` after the lease's end. An in-flight entry whose lease runs never expires.
///
/// [`State::Unknown`]: crate::idempotency::State::Unknown
/// [`UnknownCause::OwnerLost`]: crate::idempotency::UnknownCause::OwnerLost
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Prepares the store and checks that it can be used. Called once, before any listener is bound.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be used: the start stops with this cause.
    async fn setup(&self) -> Result<(), StoreError>;

    /// What stands under `id`; `None` if nothing does, or what stood there has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be asked.
    async fn lookup(&self, id: &RequestId) -> Result<Option<Entry>, StoreError>;

    /// Inserts an in-flight entry, unless a live one stands there. A claim whose own token stands there, still in flight,
    /// is [`Insert::Inserted`] again and begins its lease anew (a re-sent claim). One whose `replaces` names an `Unknown`
    /// entry that stands there takes its place. A claim with a `share` is counted as its caller's for as long as its entry
    /// lives, and one that takes no other's place is refused where the caller has as many as he may, exactly, races
    /// included. At either bound a store first drops what has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] at the bound, [`StoreError::CallerFull`] at the caller's, [`StoreError::Unavailable`] if the
    /// store cannot be asked: the claim may then have landed all the same.
    async fn insert(&self, id: &RequestId, claim: &Claim) -> Result<Insert, StoreError>;

    /// Begins the lease anew. [`Write::Lost`] if another token or none stands there, the entry is no longer in flight, or
    /// its lease has run out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be asked.
    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Result<Write, StoreError>;

    /// Records how the request ended, and begins the ttl. The caller stays, and so does the fingerprint: `fingerprint` is
    /// set only where the claim had none, together with the outcome.
    ///
    /// By the token that stands there: an in-flight entry becomes anything, an `Unknown` one (a lapsed lease included)
    /// becomes completed. Whatever stands there already stays: the same outcome again is applied, any other is lost.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be asked: the record may then have landed all the same.
    async fn update(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Result<Update, StoreError>;

    /// Removes the entry, in whatever state it is, if `owner` stands there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be asked.
    async fn remove(&self, id: &RequestId, owner: Owner) -> Result<Write, StoreError>;

    /// Drops what has expired, and returns how many entries that were. Safe to run on every replica at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be asked.
    async fn prune(&self) -> Result<u64, StoreError>;

    /// Returns once the entry is no longer in flight (settled, removed, or its lease over), or `patience` is over. A
    /// caller judges anew what stands there: returning early is allowed, returning late is not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be asked.
    async fn settled(&self, id: &RequestId, patience: Duration) -> Result<(), StoreError>;

    /// In-flight and unknown entries, oldest claim first, a page at a time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be asked.
    async fn list(&self, page: &PageRequest) -> Result<Page, StoreError>;

    /// What is wrong with the store, as far as it has noticed by itself. Asks nobody, waits for nothing, and is right
    /// without traffic: a store on a server looks after it at intervals of its own. Empty if all is well.
    fn troubles(&self) -> Vec<Trouble>;
}

/// What can be wrong with a store. Requests that are not guarded go on through all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its server cannot be asked: new keys and duplicates get 503.
    Unreachable,
    /// Its server may drop live entries to make room: their duplicates would run again.
    Evicts,
    /// Its server has lost entries a while ago: duplicates of theirs may run again.
    Forgot,
    /// Its server keeps nothing elsewhere: its end would lose every entry.
    NotDurable,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unreachable, Self::Evicts, Self::Forgot, Self::NotDurable];

    /// The word for it in logs, metrics and `/readyz`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Evicts => "evicts",
            Self::Forgot => "forgot",
            Self::NotDurable => "not_durable",
        }
    }
}

/// What came of an insert.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Insert {
    /// The claim stands: its owner may run the request.
    Inserted,
    /// Something else stands there.
    Exists(Entry),
}

/// What came of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Write {
    /// The owner's token stood there, and the write was made.
    Applied,
    /// It did not, and nothing was changed.
    Lost,
}

/// What came of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Update {
    /// The outcome stands there.
    Applied {
        /// When the entry will be gone, as every later reader will see it.
        expires_at: SystemTime,
    },
    /// Another token or none stands there, or another outcome. Nothing was changed.
    Lost,
}

/// Which entries to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Begin after this entry: the `next` of the page before.
    pub after: Option<Cursor>,
    /// At most this many entries.
    pub limit_entries: usize,
}

/// A place in the list of entries: a claim's time in the store's own count, then its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the entry was claimed, in milliseconds of the store's clock.
    pub claimed_at_ms: u64,
    /// The entry's id.
    pub id: RequestId,
}

/// Some of the entries that are in flight or unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries, oldest claim first.
    pub entries: Vec<Listed>,
    /// Where the next page begins; `None` if this was the last one.
    pub next: Option<Cursor>,
}

/// An entry as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry's id.
    pub id: RequestId,
    /// How long ago it was claimed.
    pub age: Duration,
    /// The entry itself.
    pub entry: Entry,
}

/// Why a store could not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The caller's bound is reached and none of his entries has expired.
    #[error("the caller has {max_entries} live entries, as many as it may")]
    CallerFull {
        /// The bound.
        max_entries: u64,
    },
    /// What stands there cannot be read by this build.
    #[error("the store holds an entry that this build cannot read: {0}")]
    Corrupt(#[source] Box<dyn Error + Send + Sync>),
    /// The bound is reached and nothing has expired.
    #[error("the store is full: it holds {max_entries} live entries, as many as it may")]
    Full {
        /// The bound.
        max_entries: u64,
    },
    /// Too few replicas have the claim in time. It stands all the same, until it is removed.
    #[error("only {acknowledged} of {wanted} replicas have the claim in time")]
    NotReplicated {
        /// How many have it.
        acknowledged: u32,
        /// How many should.
        wanted: u32,
    },
    /// The server that keeps the entries has no memory left for another.
    #[error("the store is full: its server is out of memory; give it more, or shorten the ttl")]
    OutOfMemory,
    /// The server that keeps the entries is not one to keep them, or does not let this user in.
    #[error("the store's server cannot be used: {0}")]
    Unfit(String),
    /// The store did not answer, or not in time.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

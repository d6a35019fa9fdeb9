//! What every store has to keep, as a suite that a store's author runs.
//!
//! Owns the checks behind the words of [`Store`]. Each case panics with a sentence that says what the store did wrong. The
//! cases sleep with [`tokio::time`], with leases and ttls of some hundred milliseconds, so they run against a real server
//! and, under paused time, against a store in memory. They use ids and tokens of their own, so other entries in the
//! store do not disturb them. What has to stand there still is only looked at while its time surely runs, so that a machine
//! under load, which sleeps too long, finds no faults that are its own. Run them on a runtime with several threads once: on
//! a single one few races are races.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use oncegate::store::{Store, contract, memory::{MemoryParams, MemoryStore}};
//! # fn my_store() -> Arc<dyn Store> { unimplemented!() }
//! # async fn example() {
//! contract::conformance(async || my_store()).await;
//! # }
//! ```

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a suite for tests: a violation of the contract is reported by a panic"
)]

mod bound;
mod expiry;
mod insert;
mod leases;
mod list;
mod retained;
mod settled;
mod shares;
mod transitions;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::idempotency::{
    Answer, CallerHash, Claim, Entry, Fingerprint, Outcome, Owner, RequestId, State, UnknownCause,
};

use super::{Insert, Page, PageRequest, Store, Trouble, Update, Write};

/// Longer than any case takes.
const LONG: Duration = Duration::from_secs(3600);

/// The unit of every lease, ttl and sleep. A server may be late by less than this.
const TICK: Duration = Duration::from_millis(100);

/// Checks everything that [`Store`] promises but its bound. `make` returns a store that was set up, with room for some
/// hundred entries and some MiB of answers; it may return the same one each time.
///
/// # Panics
///
/// At the first violation, with a message that names it.
pub async fn conformance(make: impl AsyncFn() -> Arc<dyn Store>) {
    let subject = async || Subject(make().await);
    insert::one_of_many_racing_claims_wins(&subject().await).await;
    insert::a_claim_resent_is_inserted_again(&subject().await).await;
    insert::one_of_many_racing_replacements_wins(&subject().await).await;
    insert::pruning_takes_no_claim_that_was_just_made(&subject().await).await;
    transitions::every_update_is_judged_by_token_and_state(&subject().await).await;
    transitions::every_renewal_is_judged_by_token_and_state(&subject().await).await;
    transitions::every_removal_is_judged_by_token(&subject().await).await;
    transitions::every_claim_is_judged_by_token_and_state(&subject().await).await;
    transitions::an_owner_whose_place_was_taken_changes_nothing(&subject().await).await;
    transitions::one_of_many_racing_outcomes_stands(&subject().await).await;
    leases::a_lapsed_lease_reads_as_owner_lost(&subject().await).await;
    leases::a_renewed_lease_runs_on(&subject().await).await;
    leases::a_lapsed_lease_is_not_renewed(&subject().await).await;
    leases::a_late_completion_heals(&subject().await).await;
    leases::a_resent_claim_begins_its_lease_anew(&subject().await).await;
    expiry::an_entry_in_flight_outlives_its_ttl(&subject().await).await;
    expiry::the_ttl_begins_with_the_settlement(&subject().await).await;
    expiry::a_dead_owners_entry_expires_one_ttl_after_its_lease(&subject().await).await;
    expiry::what_has_expired_is_pruned_and_can_be_claimed(&subject().await).await;
    expiry::every_reader_sees_the_same_expiry(&subject().await).await;
    retained::answers_come_back_byte_for_byte(&subject().await).await;
    retained::fingerprint_and_caller_outlive_every_change(&subject().await).await;
    retained::a_fingerprint_that_was_left_open_is_set_by_the_settlement(&subject().await).await;
    settled::waiters_return_when_the_entry_is_settled(&subject().await).await;
    settled::waiters_return_when_the_entry_is_removed(&subject().await).await;
    settled::waiters_return_when_the_lease_ends(&subject().await).await;
    settled::waiters_return_when_a_renewed_lease_ends(&subject().await).await;
    settled::waiters_return_when_their_patience_ends(&subject().await).await;
    settled::nobody_waits_for_what_is_not_in_flight(&subject().await).await;
    shares::a_caller_with_a_full_share_gets_no_new_keys_and_keeps_his_own(&subject().await).await;
    shares::what_has_expired_leaves_its_callers_share(&subject().await).await;
    shares::a_removal_takes_no_place_from_the_next_claim(&subject().await).await;
    shares::no_race_exceeds_a_callers_share(&subject().await).await;
    nobody_is_told_that_a_store_which_answers_is_unreachable(&subject().await).await;
    list::entries_are_listed_oldest_first_and_completed_ones_not(&subject().await).await;
    list::pages_hold_entries_whose_ids_are_alike(&subject().await).await;
    list::pages_of_any_size_hold_every_entry_once(&subject().await).await;
}

/// Checks a store that has a bound. `make` returns an empty one that holds at most `max_entries`, each time another.
///
/// # Panics
///
/// At the first violation, with a message that names it.
pub async fn conformance_at_the_bound(make: impl AsyncFn() -> Arc<dyn Store>, max_entries: usize) {
    let subject = async || Subject(make().await);
    bound::a_full_store_refuses_new_keys_only(&subject().await, max_entries).await;
    bound::what_is_removed_makes_room(&subject().await, max_entries).await;
    bound::what_has_expired_makes_room(&subject().await, max_entries).await;
    bound::no_race_exceeds_the_bound(&subject().await, max_entries).await;
}

async fn nobody_is_told_that_a_store_which_answers_is_unreachable(subject: &Subject) {
    assert_eq!(subject.lookup(&new_id()).await, None, "an id that nobody claimed");
    let troubles = subject.0.troubles();
    assert!(!troubles.contains(&Trouble::Unreachable), "it answers, and says that it is {troubles:?}");
}

/// The store at hand, without the errors it may not have here.
#[derive(Clone)]
struct Subject(Arc<dyn Store>);

impl Subject {
    async fn lookup(&self, id: &RequestId) -> Option<Entry> {
        self.0.lookup(id).await.expect("lookup failed")
    }

    async fn state(&self, id: &RequestId) -> Option<State> {
        self.lookup(id).await.map(|entry| entry.state)
    }

    async fn insert(&self, id: &RequestId, claim: &Claim) -> Insert {
        self.0.insert(id, claim).await.expect("insert failed")
    }

    async fn renew(&self, id: &RequestId, owner: Owner, lease: Duration) -> Write {
        self.0.renew(id, owner, lease).await.expect("renew failed")
    }

    /// With a fingerprint of its own each time: it must leave the claim's alone.
    async fn update(&self, id: &RequestId, owner: Owner, outcome: &Outcome, ttl: Duration) -> Update {
        self.update_with(id, owner, outcome, Some(new_fingerprint()), ttl).await
    }

    async fn update_with(
        &self,
        id: &RequestId,
        owner: Owner,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
        ttl: Duration,
    ) -> Update {
        self.0.update(id, owner, outcome, fingerprint, ttl).await.expect("update failed")
    }

    async fn remove(&self, id: &RequestId, owner: Owner) -> Write {
        self.0.remove(id, owner).await.expect("remove failed")
    }

    async fn prune(&self) -> u64 {
        self.0.prune().await.expect("prune failed")
    }

    async fn settled(&self, id: &RequestId, patience: Duration) {
        self.0.settled(id, patience).await.expect("settled failed");
    }

    async fn list(&self, page: &PageRequest) -> Page {
        self.0.list(page).await.expect("list failed")
    }

    /// A new id with this claim under it.
    async fn claimed(&self, claim: &Claim) -> RequestId {
        let id = new_id();
        assert_eq!(self.insert(&id, claim).await, Insert::Inserted, "a claim of a new id was not inserted");
        id
    }

    /// A new id that was claimed and settled. How it reads is looked at if its ttl surely runs.
    async fn settled_as(&self, claim: &Claim, outcome: &Outcome, ttl: Duration) -> RequestId {
        let id = self.claimed(claim).await;
        let since = Instant::now();
        let expires_at =
            applied(self.update(&id, claim.owner, outcome, ttl).await, "its owner's first update");
        let entry = self.lookup(&id).await;
        if is_over(since, ttl) {
            return id;
        }
        let entry = entry.expect("an updated entry is gone");
        assert_eq!(entry.state, state_of(outcome), "an updated entry reads otherwise");
        assert_eq!(entry.expires_at, Some(expires_at), "update and lookup name two times of expiry");
        id
    }
}

/// The time that an applied update returns.
fn applied(update: Update, what: &str) -> SystemTime {
    match update {
        Update::Applied { expires_at } => expires_at,
        Update::Lost => panic!("{what} was lost"),
    }
}

/// How an outcome reads.
fn state_of(outcome: &Outcome) -> State {
    match outcome {
        Outcome::Completed(answer) => {
            State::Completed { status: answer.status(), answer: Some(answer.clone()) }
        }
        Outcome::NotRetained { status } => State::Completed { status: *status, answer: None },
        Outcome::Unknown(cause) => State::Unknown(*cause),
    }
}

const OWNER_LOST: State = State::Unknown(UnknownCause::OwnerLost);

fn new_id() -> RequestId {
    RequestId::from_bytes(random())
}

fn new_owner() -> Owner {
    Owner::new(u128::from_le_bytes(random()))
}

/// A claim of a new owner, with a payload and a caller of its own, that lasts as long as any case.
fn new_claim() -> Claim {
    Claim {
        owner: new_owner(),
        caller: Some(CallerHash::from_bytes(random())),
        fingerprint: Some(new_fingerprint()),
        lease: LONG,
        ttl: LONG,
        share: None,
        replaces: None,
    }
}

fn new_fingerprint() -> Fingerprint {
    let rule = NonZeroU32::new(u32::from_le_bytes(random())).unwrap_or(NonZeroU32::MIN);
    Fingerprint::from_parts(rule, random())
}

fn new_claim_for(lease: Duration, ttl: Duration) -> Claim {
    Claim { lease, ttl, ..new_claim() }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has no random numbers");
    bytes
}

fn completed(status: u16, body: &[u8]) -> Outcome {
    let fields = [("content-type", b"text/plain".as_slice())];
    Outcome::Completed(
        Answer::new(status, fields.into_iter(), body, [].into_iter()).expect("the answer cannot be built"),
    )
}

/// Whether a lease or a ttl that began after `since` may be over by now. Asked after the store was.
fn is_over(since: Instant, lasts: Duration) -> bool {
    since.elapsed() >= lasts
}

async fn sleep(ticks: u32) {
    tokio::time::sleep(TICK * ticks).await;
}

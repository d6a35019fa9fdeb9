//! What an operator sees. Other entries than the case's own may stand there.

use std::collections::HashMap;

use crate::idempotency::{Claim, Outcome, RequestId, UnknownCause};
use crate::store::{Insert, Listed, PageRequest};

use super::{LONG, Subject, TICK, applied, completed, new_claim, new_claim_for, sleep};

/// Every entry that is listed, by pages of this size.
async fn listed(subject: &Subject, limit_entries: usize) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut after = None;
    loop {
        let page = subject.list(&PageRequest { after, limit_entries }).await;
        let entries = page.entries.len();
        assert!(entries <= limit_entries, "a page of {limit_entries} holds {entries} entries");
        listed.extend(page.entries);
        match page.next {
            Some(next) => assert!(after < Some(next), "the page after {after:?} leads back to {next:?}"),
            None => return listed,
        }
        after = page.next;
    }
}

/// Claims in this order, some ms apart, all of which are to be listed.
async fn claims(subject: &Subject) -> Vec<(RequestId, Claim)> {
    let mut claims = Vec::new();
    for number in 0..7 {
        let claim = if number == 2 { new_claim_for(TICK / 4, LONG) } else { new_claim() };
        claims.push((subject.claimed(&claim).await, claim));
        tokio::time::sleep(TICK / 5).await;
    }
    // Settled as unknown later, some of them: the claim's age counts.
    for (id, claim) in claims.iter().skip(1).step_by(3) {
        let unknown = Outcome::Unknown(UnknownCause::ConnectionLost);
        applied(subject.update(id, claim.owner, &unknown, LONG).await, "its owner's first update");
    }
    claims
}

pub(super) async fn entries_are_listed_oldest_first_and_completed_ones_not(subject: &Subject) {
    let completed_id = subject.settled_as(&new_claim(), &completed(201, b"made"), LONG).await;
    let claims = claims(subject).await;
    let expired = subject.claimed(&new_claim_for(TICK / 4, TICK / 4)).await;
    sleep(1).await;
    let listed = listed(subject, usize::MAX).await;
    let order: HashMap<RequestId, usize> = listed.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
    assert!(!order.contains_key(&completed_id), "a completed entry is listed");
    assert!(!order.contains_key(&expired), "an expired entry is listed");
    let mut last = None;
    for (id, claim) in &claims {
        let at = order.get(id).copied();
        let one =
            at.and_then(|at| listed.get(at)).expect("an entry that is in flight or unknown is not listed");
        assert!(at > last, "a claim is listed before an older one");
        assert_eq!(one.entry.owner, claim.owner, "an entry is listed under another id");
        let found = subject.lookup(id).await;
        assert_eq!(found.as_ref(), Some(&one.entry), "list and lookup do not agree");
        assert!(
            one.age >= TICK / 2 && one.age < LONG,
            "a claim some {TICK:?} old is listed as {:?} old",
            one.age
        );
        last = at;
    }
}

pub(super) async fn pages_hold_entries_whose_ids_are_alike(subject: &Subject) {
    let claim = new_claim();
    let first = subject.claimed(&claim).await;
    let mut ids = vec![first];
    for number in 1..40 {
        // A store may spread entries by their ids: these lie as close together as they can.
        let mut bytes = *first.as_bytes();
        for byte in bytes.iter_mut().take(1) {
            *byte = byte.wrapping_add(number);
        }
        let id = RequestId::from_bytes(bytes);
        assert_eq!(subject.insert(&id, &new_claim()).await, Insert::Inserted, "a new id's claim");
        ids.push(id);
    }
    for limit_entries in [5, 20, 100] {
        let listed = listed(subject, limit_entries).await;
        for id in &ids {
            let times = listed.iter().filter(|one| one.id == *id).count();
            assert_eq!(times, 1, "one of alike entries is listed {times} times in pages of {limit_entries}");
        }
    }
}

pub(super) async fn pages_of_any_size_hold_every_entry_once(subject: &Subject) {
    let claims = claims(subject).await;
    sleep(1).await;
    for limit_entries in [1, 2, 3, 7, 8, 100] {
        let listed = listed(subject, limit_entries).await;
        for (id, _) in &claims {
            let times = listed.iter().filter(|one| one.id == *id).count();
            assert_eq!(times, 1, "an entry is listed {times} times in pages of {limit_entries}");
        }
    }
}

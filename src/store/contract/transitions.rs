//! Every state, every operation, by the token that stands there and by another.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::idempotency::{Claim, Entry, Outcome, RequestId, State, UnknownCause};
use crate::store::{Insert, Update, Write};

use super::{LONG, Subject, TICK, applied, completed, new_claim, new_claim_for, new_id, new_owner, state_of};

/// What may stand under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    InFlight,
    Lapsed,
    Unknown,
    Completed,
    NotRetained,
}

use Standing::{Absent, Completed, InFlight, Lapsed, NotRetained, Unknown};

const STANDINGS: [Standing; 6] = [Absent, InFlight, Lapsed, Unknown, Completed, NotRetained];

/// What an update by the token that stands there comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is made.
    Made,
    /// It is what stands there: applied, and nothing changes.
    Same,
    /// It is lost, and nothing changes.
    Lost,
    /// The answer that stood there is gone, so the store may take it for the same or not. Nothing changes.
    Open,
}

/// An id in the state that is wanted, and the claim by which it came there.
async fn stand(subject: &Subject, standing: Standing) -> (RequestId, Claim) {
    let claim = new_claim();
    let id = match standing {
        Absent => new_id(),
        InFlight => subject.claimed(&claim).await,
        Lapsed => {
            let claim = new_claim_for(TICK / 4, LONG);
            let id = subject.claimed(&claim).await;
            tokio::time::sleep(TICK / 2).await;
            return (id, claim);
        }
        Unknown => subject.settled_as(&claim, &Outcome::Unknown(UnknownCause::ConnectionLost), LONG).await,
        Completed => subject.settled_as(&claim, &completed(201, b"made"), LONG).await,
        NotRetained => subject.settled_as(&claim, &Outcome::NotRetained { status: 201 }, LONG).await,
    };
    (id, claim)
}

fn outcomes() -> [Outcome; 8] {
    [
        completed(201, b"made"),
        completed(201, b"MADE"),
        completed(402, b"made"),
        Outcome::NotRetained { status: 201 },
        Outcome::NotRetained { status: 402 },
        Outcome::Unknown(UnknownCause::ConnectionLost),
        Outcome::Unknown(UnknownCause::AttemptTimeout),
        Outcome::Unknown(UnknownCause::OwnerLost),
    ]
}

/// What each of [`outcomes`] comes to.
const fn updates(standing: Standing) -> [Then; 8] {
    use Then::{Lost, Made, Open, Same};
    match standing {
        Absent => [Lost; 8],
        InFlight => [Made; 8],
        Lapsed => [Made, Made, Made, Made, Made, Lost, Lost, Same],
        Unknown => [Made, Made, Made, Made, Made, Same, Lost, Lost],
        Completed => [Same, Lost, Lost, Lost, Lost, Lost, Lost, Lost],
        NotRetained => [Open, Open, Lost, Same, Lost, Lost, Lost, Lost],
    }
}

pub(super) async fn every_update_is_judged_by_token_and_state(subject: &Subject) {
    for standing in STANDINGS {
        for (outcome, then) in outcomes().into_iter().zip(updates(standing)) {
            let what = format!("{outcome:?} over {standing:?}");
            let (id, claim) = stand(subject, standing).await;
            let before = subject.lookup(&id).await;
            let stranger = subject.update(&id, new_owner(), &outcome, LONG).await;
            assert_eq!(stranger, Update::Lost, "{what}: another owner's update was applied");
            assert_eq!(subject.lookup(&id).await, before, "{what}: another owner's lost update left a mark");

            let update = subject.update(&id, claim.owner, &outcome, LONG * 2).await;
            let after = subject.lookup(&id).await;
            match then {
                Then::Made => {
                    let expires_at = Some(applied(update, &what));
                    let expected = Entry {
                        owner: claim.owner,
                        caller: claim.caller,
                        fingerprint: claim.fingerprint,
                        state: state_of(&outcome),
                        expires_at,
                    };
                    assert_eq!(after, Some(expected), "{what}: applied, but something else stands there");
                }
                Then::Same => {
                    let expires_at = applied(update, &what);
                    assert_eq!(after, before, "{what}: what stands there already was changed");
                    let standing = after.and_then(|entry| entry.expires_at);
                    assert_eq!(
                        standing,
                        Some(expires_at),
                        "{what}: not the time of expiry that stands there"
                    );
                }
                Then::Lost => {
                    assert_eq!(update, Update::Lost, "{what} was applied");
                    assert_eq!(after, before, "{what}: lost, but something changed");
                }
                Then::Open => assert_eq!(after, before, "{what}: something changed"),
            }
        }
    }
}

pub(super) async fn every_renewal_is_judged_by_token_and_state(subject: &Subject) {
    for standing in STANDINGS {
        let (id, claim) = stand(subject, standing).await;
        let before = subject.lookup(&id).await;
        let stranger = subject.renew(&id, new_owner(), LONG).await;
        assert_eq!(stranger, Write::Lost, "another owner renewed what is {standing:?}");
        let own = subject.renew(&id, claim.owner, LONG).await;
        let expected = if standing == InFlight { Write::Applied } else { Write::Lost };
        assert_eq!(own, expected, "its owner's renewal of what is {standing:?}");
        assert_eq!(subject.lookup(&id).await, before, "a renewal changed what is {standing:?}");
    }
}

pub(super) async fn every_removal_is_judged_by_token(subject: &Subject) {
    for standing in STANDINGS {
        let (id, claim) = stand(subject, standing).await;
        let before = subject.lookup(&id).await;
        let stranger = subject.remove(&id, new_owner()).await;
        assert_eq!(stranger, Write::Lost, "another owner removed what is {standing:?}");
        assert_eq!(
            subject.lookup(&id).await,
            before,
            "another owner's lost removal changed what is {standing:?}"
        );
        let own = subject.remove(&id, claim.owner).await;
        let expected = if standing == Absent { Write::Lost } else { Write::Applied };
        assert_eq!(own, expected, "its owner's removal of what is {standing:?}");
        assert_eq!(
            subject.lookup(&id).await,
            None,
            "something stands there after the removal of {standing:?}"
        );
        let again = subject.remove(&id, claim.owner).await;
        assert_eq!(again, Write::Lost, "what was {standing:?} could be removed twice");
        let next = new_claim();
        assert_eq!(
            subject.insert(&id, &next).await,
            Insert::Inserted,
            "what was {standing:?} was removed, and its key is not free"
        );
        let late = subject.update(&id, claim.owner, &completed(201, b"late"), LONG).await;
        assert_eq!(late, Update::Lost, "an owner whose entry was removed updated the next one's");
    }
}

pub(super) async fn every_claim_is_judged_by_token_and_state(subject: &Subject) {
    for standing in STANDINGS {
        // The first owner's claim again; another's; another's that would replace the first; another's that would
        // replace a third one.
        for (resent, replaces_first) in [(true, false), (false, false), (false, true)] {
            for replaces_third in [false, true] {
                if replaces_third && replaces_first {
                    continue;
                }
                let (id, first) = stand(subject, standing).await;
                let replaces =
                    if replaces_first { Some(first.owner) } else { replaces_third.then(new_owner) };
                let second =
                    Claim { owner: if resent { first.owner } else { new_owner() }, replaces, ..new_claim() };
                let what = format!("a claim over {standing:?} (resent: {resent}, replaces: {replaces:?})");
                let before = subject.lookup(&id).await;
                let insert = subject.insert(&id, &second).await;
                let after = subject.lookup(&id).await;
                let takes_over =
                    standing == Absent || (replaces_first && matches!(standing, Lapsed | Unknown));
                if takes_over {
                    let expected = Entry {
                        owner: second.owner,
                        caller: second.caller,
                        fingerprint: second.fingerprint,
                        state: State::InFlight,
                        expires_at: None,
                    };
                    assert_eq!(insert, Insert::Inserted, "{what} was not inserted");
                    assert_eq!(after, Some(expected), "{what} was inserted, and something else stands there");
                } else if resent && standing == InFlight {
                    assert_eq!(insert, Insert::Inserted, "{what} was refused");
                    assert_eq!(after, before, "{what} changed the entry");
                } else {
                    assert_eq!(Some(insert), before.clone().map(Insert::Exists), "{what} got something else");
                    assert_eq!(after, before, "{what} lost, but changed something");
                }
            }
        }
    }
}

pub(super) async fn an_owner_whose_place_was_taken_changes_nothing(subject: &Subject) {
    for standing in [Lapsed, Unknown] {
        let (id, first) = stand(subject, standing).await;
        let second = Claim { replaces: Some(first.owner), ..new_claim() };
        assert_eq!(subject.insert(&id, &second).await, Insert::Inserted, "a claim over {standing:?}");
        for settles in [false, true] {
            if settles {
                let outcome = Outcome::NotRetained { status: 201 };
                applied(subject.update(&id, second.owner, &outcome, LONG).await, "the new owner's update");
            }
            let before = subject.lookup(&id).await;
            let what = format!("the owner of what was {standing:?}, whose place was taken,");
            for outcome in outcomes() {
                let update = subject.update(&id, first.owner, &outcome, LONG).await;
                assert_eq!(update, Update::Lost, "{what} recorded {outcome:?}");
            }
            assert_eq!(subject.remove(&id, first.owner).await, Write::Lost, "{what} freed the key");
            assert_eq!(subject.renew(&id, first.owner, LONG).await, Write::Lost, "{what} renewed a lease");
            assert_eq!(subject.lookup(&id).await, before, "{what} left a mark");
        }
    }
}

pub(super) async fn one_of_many_racing_outcomes_stands(subject: &Subject) {
    for _ in 0..20 {
        let claim = new_claim();
        let id = subject.claimed(&claim).await;
        let start = Arc::new(Barrier::new(16));
        let mut rivals = JoinSet::new();
        for number in 0u8..16 {
            let (subject, start) = (subject.clone(), Arc::clone(&start));
            rivals.spawn(async move {
                let outcome = completed(200, &[number]);
                start.wait().await;
                (subject.update(&id, claim.owner, &outcome, LONG).await, outcome)
            });
        }
        let results = rivals.join_all().await;
        let made: Vec<&Outcome> = results
            .iter()
            .filter(|(update, _)| *update != Update::Lost)
            .map(|(_, outcome)| outcome)
            .collect();
        let [winner] = made.as_slice() else {
            panic!("{} of 16 different outcomes were applied, and it has to be one", made.len());
        };
        assert_eq!(
            subject.state(&id).await,
            Some(state_of(winner)),
            "another outcome stands than was applied"
        );
    }
}

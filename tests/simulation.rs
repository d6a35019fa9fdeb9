//! The guard under simulated time: clients that try again, owners that pause, die and panic, an upstream that loses its
//! answers, a store that fails in every way the contract allows. A seed decides everything and reproduces its run.
//!
//! `ONCEGATE_SEEDS=0..5000` runs other seeds, `ONCEGATE_SEED=17` runs one and prints its history.

// For the lints, which allow in tests what they deny elsewhere.
#[cfg(test)]
mod simulation {
    pub(crate) mod bugs;
    pub(crate) mod driver;
    pub(crate) mod faulty;
    pub(crate) mod ledger;
    pub(crate) mod plan;
    pub(crate) mod rng;
    pub(crate) mod seeds;
    pub(crate) mod world;
}

use oncegate::idempotency::OnUnknown;
use simulation::bugs::Bug;
use simulation::seeds::{SEEDS, assert_lawful, assert_noticed, seeds};
use simulation::world::run;

#[test]
fn no_key_runs_twice_whatever_fails() {
    // What must have happened somewhere, or the simulation tests less than it says.
    let mut missing = vec![
        "is given InFlight",
        "is given Mismatch(Payload)",
        "is given Mismatch(Rule)",
        "is given NotRetained",
        "is given OtherCaller",
        "is given Replay",
        "is given Unknown(Abandoned)",
        "is given Unknown(AttemptTimeout)",
        "is given Unknown(OwnerLost)",
        "is given Unknown(UploadBroken)",
        "reads its body to compare it",
        "waited for Replay",
        "waited in vain: NotSent",
        "waited in vain: Status",
        "is refused: the store is full",
        "insert of key 0: LandsLate",
        "update of key 0: AnswersLate",
        "settles NotSent(LeaseLapsed)",
        "responds, not recorded",
        "hangs up",
        "the ttl is over",
    ];
    for seed in seeds() {
        let report = run(seed, OnUnknown::Reject, None);
        assert_lawful(seed, &report);
        missing.retain(|event| !report.history.iter().any(|line| line.contains(event)));
    }
    if seeds().count() >= SEEDS.count() {
        assert!(missing.is_empty(), "no seed has seen {missing:?}");
    }
}

#[test]
fn only_what_is_unknown_runs_again_where_the_operator_wants_that() {
    for seed in seeds() {
        assert_lawful(seed, &run(seed, OnUnknown::Retry, None));
    }
}

#[test]
fn a_seed_reproduces_its_run() {
    for seed in seeds().take(50) {
        let (one, other) = (run(seed, OnUnknown::Reject, None), run(seed, OnUnknown::Reject, None));
        assert_eq!(one.history, other.history, "seed {seed}");
    }
}

#[test]
fn releasing_on_any_error_is_noticed() {
    assert_noticed(Bug::ReleasesOnError, "THE PROMISE");
}

#[test]
fn sending_after_the_lease_is_noticed() {
    assert_noticed(Bug::SendsAfterLapse, "I2");
}

#[test]
fn ignoring_the_fingerprint_is_noticed() {
    assert_noticed(Bug::IgnoresFingerprint, "a replay of another's answer");
}

#[test]
fn settling_half_an_upload_is_noticed() {
    assert_noticed(Bug::SettlesHalfAnUpload, "half an upload");
}

#[test]
fn a_store_that_ignores_the_owner_is_noticed() {
    assert_noticed(Bug::IgnoresOwner, "THE PROMISE");
}

#[test]
fn a_store_that_takes_a_lapsed_lease_for_permission_is_noticed() {
    assert_noticed(Bug::LapseIsPermission, "THE PROMISE");
}

#[test]
fn a_store_that_evicts_live_entries_is_noticed() {
    assert_noticed(Bug::Evicts, "THE PROMISE");
}

//! The guard under simulated time: clients that try again, owners that pause, die and panic, an upstream that loses its
//! answers, a store that fails in every way the contract allows. A seed decides everything and reproduces its run.
//!
//! `ONCEGATE_SEEDS=0..5000` runs other seeds, `ONCEGATE_SEED=17` runs one and prints its history.

mod simulation {
    pub(crate) mod bugs;
    pub(crate) mod driver;
    pub(crate) mod faulty;
    pub(crate) mod ledger;
    pub(crate) mod plan;
    pub(crate) mod rng;
    pub(crate) mod world;
}

use std::ops::Range;

use oncegate::idempotency::OnUnknown;
use simulation::bugs::Bug;
use simulation::world::{Report, run};

const SEEDS: Range<u64> = 0..300;

fn seeds() -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("ONCEGATE_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("ONCEGATE_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("seeds are given as from..to");
            number(from)..number(to)
        }
        Err(_) => SEEDS,
    }
}

fn assert_lawful(seed: u64, report: &Report) {
    if std::env::var("ONCEGATE_SEED").is_ok() {
        println!("{}", report.history.join("\n"));
    }
    assert!(
        report.violations.is_empty(),
        "seed {seed} (ONCEGATE_SEED={seed} runs it alone):\n{}\n\n{}",
        report.history.join("\n"),
        report.violations.join("\n")
    );
}

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

/// How many of the first seeds find `bug`, by a violation that says `symptom`.
fn assert_noticed(bug: Bug, symptom: &str) {
    let finds = |seed: &u64| {
        let report = run(*seed, OnUnknown::Reject, Some(bug));
        report.violations.iter().any(|violation| violation.contains(symptom))
    };
    let found: Vec<_> = SEEDS.filter(finds).collect();
    println!("{bug:?}: {} of {} seeds say {symptom:?}", found.len(), SEEDS.count());
    assert!(!found.is_empty(), "no seed notices {bug:?}");
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

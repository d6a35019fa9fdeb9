//! The guard under simulated time: clients that try again, owners that pause, die and panic, an upstream that loses its
//! answers, a store that fails in every way the contract allows. A seed decides everything and reproduces its run.
//!
//! `ONCEGATE_SEEDS=0..5000` runs other seeds, `ONCEGATE_SEED=17` runs one and prints its history.

mod simulation {
    pub(crate) mod bugs;
    pub(crate) mod driver;
    pub(crate) mod faulty;
    pub(crate) mod ledger;
    pub(crate) mod model;
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
fn no_seed_finds_a_key_that_ran_twice() {
    let mut executions = 0;
    for seed in seeds() {
        let report = run(seed, OnUnknown::Reject, None);
        assert_lawful(seed, &report);
        executions += report.executions;
    }
    assert!(executions > 0, "nothing was ever sent: the simulation tests nothing");
}

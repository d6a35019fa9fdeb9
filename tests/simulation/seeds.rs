//! Which seeds are run, and how a finding is told.

use std::ops::Range;

use oncegate::idempotency::OnUnknown;

use super::bugs::Bug;
use super::world::{Report, run};

pub(crate) const SEEDS: Range<u64> = 0..300;

/// The seeds of this test run.
pub(crate) fn seeds() -> Range<u64> {
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

/// Fails with the seed and its history if `report` has found anything.
pub(crate) fn assert_lawful(seed: u64, report: &Report) {
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

/// Fails unless some seed finds `bug` by a violation that says `symptom`, and tells how many do.
pub(crate) fn assert_noticed(bug: Bug, symptom: &str) {
    let finds = |seed: &u64| {
        let report = run(*seed, OnUnknown::Reject, Some(bug));
        report.violations.iter().any(|violation| violation.contains(symptom))
    };
    let found: Vec<_> = SEEDS.filter(finds).collect();
    println!("{bug:?}: {} of {} seeds say {symptom:?}", found.len(), SEEDS.count());
    assert!(!found.is_empty(), "no seed notices {bug:?}");
}

//! Every rule of the checker bites.

use std::time::Duration;

use tokio::time::Instant;

use super::super::history::{Heard, History, Try};
use super::super::load::Calm;
use super::super::upstream::{Attempt, Ending, Plan, Told};
use super::breaches;

/// What happened under one key, and a part of what is to be said of it; nothing if all is well.
struct Case {
    attempts: Vec<(u64, u64, Told)>,
    tries: Vec<(usize, u64, u64, Heard)>,
    breach: &'static str,
}

const FIRST: Heard = Heard::Answer { attempt: 0, is_replay: false };
const REPLAY: Heard = Heard::Answer { attempt: 0, is_replay: true };

fn problem(word: &str) -> Heard {
    Heard::Problem(word.to_owned())
}

/// The only attempt, of try 0, and these tries, each a payload, when it began and ended in ms, and what was heard.
fn answered(breach: &'static str, tries: Vec<(usize, u64, u64, Heard)>) -> Case {
    Case { attempts: vec![(0, 10, Told::Answer)], tries, breach }
}

#[test]
fn every_breach_is_found_and_nothing_else() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let told_at = |ms| Told::Refusal(at(ms));
    let twice = |told, breach| Case {
        attempts: vec![(0, 10, told), (1, 50, Told::Answer)],
        tries: Vec::new(),
        breach,
    };
    let cases = [
        twice(Told::Nothing, "ATTEMPT 1 RAN AFTER ATTEMPT 0"),
        twice(Told::Answer, "ATTEMPT 1 RAN AFTER ATTEMPT 0"),
        twice(told_at(60), "ATTEMPT 1 RAN AFTER ATTEMPT 0"),
        twice(told_at(40), ""),
        Case {
            attempts: vec![(0, 10, told_at(40)), (0, 50, Told::Answer)],
            tries: Vec::new(),
            breach: "one try was sent twice",
        },
        Case {
            attempts: vec![(0, 10, told_at(40))],
            tries: vec![
                (0, 0, 50, Heard::Refusal { attempt: 0 }),
                (0, 20, 60, Heard::Refusal { attempt: 0 }),
            ],
            breach: "try 1 got another one's refusal",
        },
        answered("", vec![(0, 0, 20, FIRST), (0, 5, 10, problem("request-in-flight")), (0, 30, 40, REPLAY)]),
        answered("", vec![(0, 0, 20, problem("outcome-unknown")), (0, 30, 40, REPLAY)]),
        answered("", vec![(0, 0, 20, Heard::Nothing), (1, 5, 30, problem("key-reused"))]),
        answered("", vec![(0, 0, 20, FIRST), (0, 20, 30, REPLAY), (0, 30, 40, problem("store-unavailable"))]),
        answered("nobody sent another payload", vec![(0, 0, 20, FIRST), (0, 30, 40, problem("key-reused"))]),
        answered("mixed up", vec![(0, 0, 20, REPLAY)]),
        answered("mixed up", vec![(0, 0, 20, FIRST), (0, 30, 40, FIRST)]),
        answered("its payload never had", vec![(0, 0, 20, FIRST), (1, 30, 40, REPLAY)]),
        answered(
            "its payload never had",
            vec![(0, 0, 20, FIRST), (0, 30, 40, Heard::Answer { attempt: 7, is_replay: true })],
        ),
        answered("got request-in-flight, and was sent", vec![(0, 0, 20, problem("request-in-flight"))]),
        answered("got store-unavailable, and was sent", vec![(0, 0, 20, problem("store-unavailable"))]),
        answered("got bad-request", vec![(0, 0, 20, FIRST), (0, 0, 5, problem("bad-request"))]),
        answered("got what", vec![(0, 0, 20, FIRST), (0, 0, 5, Heard::Nonsense("what".to_owned()))]),
        answered(
            "did not get what was replayed",
            vec![(0, 0, 20, FIRST), (0, 20, 30, REPLAY), (0, 30, 40, problem("outcome-unknown"))],
        ),
        answered(
            "did not get what was replayed",
            vec![(0, 0, 20, FIRST), (0, 20, 30, REPLAY), (1, 30, 40, problem("request-in-flight"))],
        ),
        answered("", vec![(0, 0, 20, FIRST), (0, 2_000, 2_010, problem("request-in-flight"))]),
        answered("still in flight", vec![(0, 0, 20, FIRST), (0, 2_100, 2_110, problem("request-in-flight"))]),
    ];
    let calm = Calm { since: at(1_000), grace: Duration::from_millis(1_050) };
    for (number, Case { attempts, tries, breach }) in cases.into_iter().enumerate() {
        let attempts: Vec<Attempt> = attempts
            .into_iter()
            .map(|(of_try, begun, told)| Attempt {
                operation: 1,
                of_try,
                plan: Some(plan(0)),
                begun: at(begun),
                told,
            })
            .collect();
        let tries: Vec<Try> = (0..)
            .zip(tries)
            .map(|(number, (variant, begun, ended, heard))| {
                let (plan, begun, ended) = (plan(variant), at(begun), at(ended));
                Try { number, plan, replica: 0, begun, ended, heard }
            })
            .collect();
        let found = breaches(&History::new(), &attempts, &tries, calm);
        let is_told = found.iter().any(|found| found.contains(breach));
        assert_eq!(found.is_empty(), breach.is_empty(), "case {number}, {breach:?}: {found:?}");
        assert!(is_told || breach.is_empty(), "case {number}, {breach:?}: {found:?}");
    }
}

fn plan(variant: usize) -> Plan {
    let (takes, ending) = (Duration::ZERO, Ending::Answer);
    Plan { operation: 1, variant, refusals: 0, takes, ending, status: 201, pad_bytes: 0 }
}

//! The judge of a run: what reached the upstream and what clients heard, against the promise.
//!
//! Knows the promise in its own words; shares nothing with the code under test.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::history::{Heard, History, Try};
use super::load::Calm;
use super::upstream::{Attempt, Told};

/// What the proxy may say of itself. All but the first of them say that this request was not sent.
const MAY_HAVE_RUN: &str = "outcome-unknown";
const NOT_SENT: [&str; 6] = [
    "request-in-flight",
    "key-reused",
    "store-unavailable",
    "shutting-down",
    "upstream-unreachable",
    "attempt-released",
];

/// What says nothing of the key.
const EXCUSES: [&str; 2] = ["store-unavailable", "shutting-down"];

/// All that happened under one key.
#[derive(Debug, Default)]
struct Case<'a> {
    attempts: Vec<(usize, &'a Attempt)>,
    tries: Vec<&'a Try>,
}

/// The keys with which the promise was broken: how, and what happened under them. No key may be in flight for longer than
/// `calm` allows.
pub fn breaches(history: &History, attempts: &[Attempt], tries: &[Try], calm: Calm) -> Vec<String> {
    let mut cases: BTreeMap<u64, Case<'_>> = BTreeMap::new();
    for (number, attempt) in attempts.iter().enumerate() {
        cases.entry(attempt.operation).or_default().attempts.push((number, attempt));
    }
    for tried in tries {
        cases.entry(tried.plan.operation).or_default().tries.push(tried);
    }
    let judged =
        cases.values().map(|case| (case, case.breaches(calm))).filter(|(_, found)| !found.is_empty());
    judged.map(|(case, found)| format!("{}\n{}", found.join("\n"), case.story(history))).collect()
}

impl Case<'_> {
    fn breaches(&self, calm: Calm) -> Vec<String> {
        let mut found = self.breaches_of_attempts();
        for tried in &self.tries {
            let number = tried.number;
            let sent: Vec<usize> = self.attempts_of(number).map(|(attempt, _)| attempt).collect();
            match &tried.heard {
                Heard::Answer { attempt, is_replay } => {
                    if !self.is_answer(*attempt, tried) {
                        found.push(format!("try {number} got an answer that its payload never had"));
                    }
                    if *is_replay == sent.contains(attempt) {
                        found.push(format!("try {number}: a replay and a first answer are mixed up"));
                    }
                    if *is_replay && !sent.is_empty() {
                        found.push(format!("try {number} got a replay, and was sent all the same"));
                    }
                }
                Heard::Refusal { attempt } => {
                    if !sent.contains(attempt) {
                        found.push(format!("try {number} got another one's refusal"));
                    }
                }
                Heard::Problem(word) if NOT_SENT.contains(&word.as_str()) => {
                    if !sent.is_empty() {
                        found.push(format!("try {number} got {word}, and was sent all the same"));
                    }
                    if word == "request-in-flight"
                        && tried.begun >= calm.settled_by(self.begun().unwrap_or(calm.since))
                    {
                        found.push(format!("try {number}: the key is still in flight"));
                    }
                    if word == "key-reused" && !self.has_rival(tried) {
                        found.push(format!("try {number} got key-reused, and nobody sent another payload"));
                    }
                }
                Heard::Problem(word) if word == MAY_HAVE_RUN => {}
                Heard::Problem(word) => found.push(format!("try {number} got {word}")),
                Heard::Nonsense(response) => found.push(format!("try {number} got {response}")),
                Heard::Nothing => {}
            }
            if let Some(earlier) = self.replay_before(tried)
                && !self.agrees(tried, earlier)
            {
                found.push(format!("try {number} did not get what was replayed to try {}", earlier.number));
            }
        }
        found
    }

    /// The promise itself: after an attempt that may have done something there is no other.
    fn breaches_of_attempts(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pair in self.attempts.windows(2) {
            let ((first, before), (second, after)) = (pair[0], pair[1]);
            match before.told {
                Told::Refusal(at) if at <= after.begun => {}
                Told::Refusal(_) | Told::Nothing | Told::Answer => {
                    found.push(format!("ATTEMPT {second} RAN AFTER ATTEMPT {first}"));
                }
            }
        }
        let mut senders: Vec<u64> = self.attempts.iter().map(|(_, attempt)| attempt.of_try).collect();
        senders.sort_unstable();
        if senders.windows(2).any(|pair| pair[0] == pair[1]) {
            found.push("one try was sent twice".to_owned());
        }
        found
    }

    /// When the last attempt began.
    fn begun(&self) -> Option<Instant> {
        self.attempts.last().map(|(_, attempt)| attempt.begun)
    }

    fn attempts_of(&self, number: u64) -> impl Iterator<Item = (usize, &Attempt)> {
        self.attempts.iter().copied().filter(move |(_, attempt)| attempt.of_try == number)
    }

    /// The attempt has answered, and to the same payload.
    fn is_answer(&self, attempt: usize, tried: &Try) -> bool {
        self.attempts.iter().any(|(number, made)| {
            *number == attempt && made.told == Told::Answer && made.plan == Some(tried.plan)
        })
    }

    fn has_rival(&self, tried: &Try) -> bool {
        self.tries.iter().any(|other| other.plan != tried.plan && other.begun <= tried.ended)
    }

    /// A replay that someone had got when this began: the key was completed then, for good.
    fn replay_before(&self, tried: &Try) -> Option<&Try> {
        let is_replay = |heard: &Heard| matches!(heard, Heard::Answer { is_replay: true, .. });
        self.tries.iter().copied().find(|other| other.ended <= tried.begun && is_replay(&other.heard))
    }

    fn agrees(&self, tried: &Try, earlier: &Try) -> bool {
        let says_nothing_of_the_key = match &tried.heard {
            Heard::Nothing => true,
            Heard::Problem(word) => EXCUSES.contains(&word.as_str()),
            Heard::Answer { .. } | Heard::Refusal { .. } | Heard::Nonsense(_) => false,
        };
        says_nothing_of_the_key
            || if tried.plan == earlier.plan {
                tried.heard == earlier.heard
            } else {
                tried.heard.is_problem("key-reused")
            }
    }

    fn story(&self, history: &History) -> String {
        let mut lines = Vec::new();
        for (number, attempt) in &self.attempts {
            let Attempt { of_try, plan, told, begun, .. } = attempt;
            let text =
                format!("  {} attempt {number} of try {of_try}: {plan:?}, told {told:?}", history.at(*begun));
            lines.push((*begun, text));
        }
        for Try { number, plan, replica, begun, ended, heard } in self.tries.iter().copied() {
            let (from, to) = (history.at(*begun), history.at(*ended));
            let text = format!(
                "  {from} try {number} of payload {} at replica {replica}, until {to}: {heard:?}",
                plan.variant
            );
            lines.push((*begun, text));
        }
        lines.sort();
        let first = lines.first().map(|(at, _)| *at);
        let last = lines.last().map(|(at, _)| *at);
        let mut story: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        if let Some((first, last)) = first.zip(last) {
            let faults = history.faults_around(first, last);
            story.extend(faults.into_iter().map(|fault| format!("  fault {fault}")));
        }
        story.join("\n")
    }
}

#[cfg(test)]
mod tests;

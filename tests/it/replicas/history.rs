//! What clients did and heard.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::upstream::{Plan, refusal};
use crate::harness::Response;

/// One request of one client.
#[derive(Clone, Debug)]
pub struct Try {
    pub number: u64,
    pub plan: Plan,
    pub replica: usize,
    pub begun: Instant,
    pub ended: Instant,
    pub heard: Heard,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The upstream's answer, by the number of its attempt.
    Answer { attempt: usize, is_replay: bool },
    /// The upstream's word that it did nothing.
    Refusal { attempt: usize },
    /// A refusal of the proxy's own, by its last word.
    Problem(String),
    /// Something that nobody should have said.
    Nonsense(String),
    /// The connection failed, or nothing came in time.
    Nothing,
}

/// Everything that clients did, and the faults beside it.
#[derive(Debug)]
pub struct History {
    start: Instant,
    tries: Mutex<Vec<Try>>,
    faults: Mutex<Vec<(Instant, &'static str, String)>>,
}

/// How often what was heard.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<String, usize>);

impl History {
    pub fn new() -> Self {
        Self { start: Instant::now(), tries: Mutex::default(), faults: Mutex::default() }
    }

    pub fn add(&self, tried: Try) {
        self.tries.lock().unwrap().push(tried);
    }

    pub fn tries(&self) -> MutexGuard<'_, Vec<Try>> {
        self.tries.lock().unwrap()
    }

    /// A fault of this kind begins.
    pub fn fault(&self, kind: &'static str, detail: impl fmt::Display) {
        self.faults.lock().unwrap().push((Instant::now(), kind, detail.to_string()));
    }

    /// The faults, by kind.
    pub fn faults(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, kind, _) in self.faults.lock().unwrap().iter() {
            *counts.entry(*kind).or_default() += 1;
        }
        counts
    }

    pub fn at(&self, moment: Instant) -> String {
        format!("{:>8.3}s", moment.saturating_duration_since(self.start).as_secs_f64())
    }

    /// The faults around what happened in between.
    pub fn faults_around(&self, from: Instant, to: Instant) -> Vec<String> {
        const AROUND: Duration = Duration::from_secs(3);
        let faults = self.faults.lock().unwrap();
        let near = faults.iter().filter(|(at, ..)| *at + AROUND >= from && *at <= to + AROUND);
        near.map(|(at, kind, detail)| format!("{} {kind}: {detail}", self.at(*at))).collect()
    }
}

impl Heard {
    /// Reads a response to a request with this plan.
    pub fn of(response: &Response, plan: &Plan) -> Self {
        if let Some(word) = response.problem() {
            return Self::Problem(word);
        }
        let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let number = |name: &str| said[name].as_u64().and_then(|number| usize::try_from(number).ok());
        let text = response.text();
        if let Some(attempt) = number("attempt")
            && response.status == plan.status
            && text == plan.answer(attempt)
        {
            return Self::Answer { attempt, is_replay: response.is_replay() };
        }
        match number("refused") {
            Some(attempt) if response.status == 429 && text == refusal(attempt) && !response.is_replay() => {
                Self::Refusal { attempt }
            }
            _ => Self::Nonsense(format!("{response:?}")),
        }
    }

    pub fn is_problem(&self, word: &str) -> bool {
        matches!(self, Self::Problem(said) if said == word)
    }

    /// How it is counted.
    fn word(&self) -> String {
        match self {
            Self::Answer { is_replay: false, .. } => "executed".to_owned(),
            Self::Answer { is_replay: true, .. } => "replayed".to_owned(),
            Self::Refusal { .. } => "released by 429".to_owned(),
            Self::Problem(word) => word.clone(),
            Self::Nonsense(_) => "nonsense".to_owned(),
            Self::Nothing => "no answer".to_owned(),
        }
    }
}

impl Figures {
    pub fn of(tries: &[Try]) -> Self {
        let mut figures = Self::default();
        for tried in tries {
            *figures.0.entry(tried.heard.word()).or_default() += 1;
        }
        figures
    }

    pub fn count(&self, word: &str) -> usize {
        self.0.get(word).copied().unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(word, count)| format!("{count} {word}")).collect();
        f.write_str(&parts.join(", "))
    }
}

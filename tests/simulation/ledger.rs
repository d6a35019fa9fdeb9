//! What happened in a run, and whether it was allowed.
//!
//! Knows the promise and the invariants in its own words: it shares no judgement with the code under test.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use oncegate::idempotency::{Answer, Entry, Owner, Presented, RequestId, State, UnknownCause, Verdict};
use tokio::time::Instant;

/// A store may count in milliseconds.
const SLACK: Duration = Duration::from_millis(2);

/// One try of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Try {
    pub(crate) client: usize,
    pub(crate) number: usize,
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}.{}", self.client, self.number)
    }
}

/// A request that the upstream got.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) presented: Presented,
    pub(crate) owner: Option<Owner>,
    pub(crate) at: Instant,
    /// The upstream said that it did nothing (`release_status`).
    pub(crate) void: bool,
    pub(crate) answer: Option<Answer>,
    pub(crate) status: Option<u16>,
    pub(crate) expires_at: Option<SystemTime>,
    /// Its body came to its end.
    pub(crate) is_whole: bool,
    /// Its owner settled it as answered.
    pub(crate) settled_as_answered: bool,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    start: Instant,
    ttl: Duration,
    /// `on_unknown = "retry"`: what is unknown may be run again.
    pub(crate) reruns_unknown: bool,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) lines: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) dispatches: Vec<Dispatch>,
    owners: Vec<Owner>,
    standing: BTreeMap<RequestId, Standing>,
    told: BTreeMap<Try, Entry>,
}

/// What was last seen under an id.
#[derive(Debug)]
struct Standing {
    entry: Entry,
    lease_until: Instant,
    dies_at: Option<Instant>,
}

impl Ledger {
    pub(crate) fn new(ttl: Duration, reruns_unknown: bool) -> Self {
        Self { start: Instant::now(), ttl, reruns_unknown, pages: Mutex::default() }
    }

    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap()
    }

    pub(crate) fn note(&self, who: &dyn fmt::Display, what: &dyn fmt::Display) {
        let at = self.start.elapsed().as_secs_f64();
        self.pages().lines.push(format!("{at:>9.3}s {who}: {what}"));
    }

    pub(crate) fn violation(&self, what: String) {
        self.note(&"VIOLATION", &what);
        self.pages().violations.push(what);
    }

    /// A name for `owner` that is the same in every run of the seed.
    pub(crate) fn name(&self, owner: Owner) -> String {
        let owners = &mut self.pages().owners;
        let index = owners.iter().position(|known| *known == owner).unwrap_or_else(|| {
            owners.push(owner);
            owners.len() - 1
        });
        format!("owner {index}")
    }

    pub(crate) fn show(&self, entry: Option<&Entry>) -> String {
        entry.map_or_else(
            || "absent".to_owned(),
            |entry| format!("{:?} of {}", entry.state, self.name(entry.owner)),
        )
    }

    /// `owner`'s lease was begun or renewed in the store just now.
    pub(crate) fn leased(&self, id: &RequestId, lease: Duration) {
        if let Some(standing) = self.pages().standing.get_mut(id) {
            standing.lease_until = Instant::now() + lease;
        }
    }

    /// What the store holds under `id` right now: is it a lawful successor of what stood there?
    pub(crate) fn observe(&self, id: &RequestId, now_stands: Option<Entry>) {
        let now = Instant::now();
        let was = self.pages().standing.remove(id);
        if was.as_ref().map(|was| &was.entry) != now_stands.as_ref() {
            let line = format!("{} is now {}", short(id), self.show(now_stands.as_ref()));
            self.note(&"store", &line);
        }
        for what in self.unlawful(id, was.as_ref(), now_stands.as_ref()) {
            let was = self.show(was.as_ref().map(|was| &was.entry));
            let line = format!("{what}: {} was {was}, is {}", short(id), self.show(now_stands.as_ref()));
            self.violation(line);
        }
        let Some(entry) = now_stands else { return };
        let kept = was.filter(|was| was.entry.owner == entry.owner);
        let lease_until = kept.as_ref().map_or(now, |kept| kept.lease_until);
        let dies_at = match (&entry.state, kept) {
            (State::InFlight, _) => None,
            (state, Some(kept)) if same_state(state, &kept.entry.state) => kept.dies_at,
            (State::Unknown(UnknownCause::OwnerLost), _) => Some(lease_until + self.ttl),
            (State::Unknown(_) | State::Completed { .. }, _) => Some(now + self.ttl),
        };
        self.pages().standing.insert(*id, Standing { entry, lease_until, dies_at });
    }

    fn unlawful(&self, id: &RequestId, was: Option<&Standing>, is: Option<&Entry>) -> Vec<&'static str> {
        let now = Instant::now();
        let pages = self.pages();
        let of = |owner: Owner| pages.dispatches.iter().filter(move |sent| sent.owner == Some(owner));
        let mut found = Vec::new();
        let replaced = was.is_some_and(|was| is.is_none_or(|is| is.owner != was.entry.owner));
        if let Some(was) = was.filter(|_| replaced) {
            // A lapsed lease may not have been looked at since.
            let expired = was.dies_at.unwrap_or(was.lease_until + self.ttl) <= now + SLACK;
            let taken_over =
                self.reruns_unknown && is.is_some() && matches!(was.entry.state, State::Unknown(_));
            if !expired && !taken_over {
                if matches!(was.entry.state, State::Completed { .. }) {
                    found.push("I3, I7: a completed entry went away before its ttl");
                } else if of(was.entry.owner).any(|sent| !sent.void) {
                    found.push("an entry went away though its request was sent");
                } else if is.is_some() {
                    found.push("I1, I6: a live entry has changed its owner");
                }
            }
        }
        if is.is_none() {
            let alive = |sent: &Dispatch| !sent.void && now + SLACK < sent.at + self.ttl;
            if pages.dispatches.iter().any(|sent| sent.presented.id == *id && alive(sent)) {
                found.push("I5: absent after a send");
            }
        }
        let Some(is) = is else { return found };
        match was.filter(|_| !replaced) {
            None if is.state != State::InFlight => {
                found.push("an entry began in another state than in flight");
            }
            None => {}
            Some(was) => {
                let settles = !same_state(&was.entry.state, &is.state);
                let fingerprint_stands = match was.entry.fingerprint {
                    Some(_) => was.entry.fingerprint == is.fingerprint,
                    None => is.fingerprint.is_none() || settles,
                };
                if !fingerprint_stands || was.entry.caller != is.caller {
                    found.push("I4: fingerprint or caller of an entry changed");
                }
                let lawful = match (&was.entry.state, &is.state) {
                    (State::InFlight, _) | (State::Unknown(_), State::Completed { .. }) => true,
                    (was, is) => same_state(was, is),
                };
                if !lawful {
                    found.push("I3: a settled entry changed");
                }
            }
        }
        if let State::Completed { status, answer } = &is.state {
            if !of(is.owner).any(|sent| sent.is_whole && sent.presented.fingerprint == is.fingerprint) {
                found.push("half an upload, or another one, is recorded as answered");
            }
            let told = |sent: &Dispatch| {
                sent.status == Some(*status) && (answer.is_none() || sent.answer == *answer) && !sent.void
            };
            if !of(is.owner).any(told) {
                found.push("the record is not what the upstream answered to its owner");
            }
        }
        found
    }

    /// The upstream gets a request, while `standing` stands. Returns its number.
    pub(crate) fn dispatched(
        &self,
        by: Try,
        presented: &Presented,
        asked: &Presented,
        standing: Option<Entry>,
    ) -> usize {
        let now = Instant::now();
        let id = &presented.id;
        self.note(&by, &format!("sends {}, {} stands", short(id), self.show(standing.as_ref())));
        let own = standing.filter(|entry| {
            entry.fingerprint == asked.fingerprint
                && entry.caller == asked.caller
                && entry.state == State::InFlight
        });
        if own.is_none() {
            self.violation(format!("I2: {by} sends {} without a claim in flight", short(id)));
        }
        let owner = own.map(|entry| entry.owner);
        let mut pages = self.pages();
        let alive =
            |sent: &&Dispatch| sent.presented.id == *id && !sent.void && now + SLACK < sent.at + self.ttl;
        let twice = pages.dispatches.iter().any(|sent| alive(&sent)) && !self.reruns_unknown;
        let shared = owner.is_some() && pages.dispatches.iter().any(|sent| sent.owner == owner);
        let (answer, status, expires_at) = (None, None, None);
        pages.dispatches.push(Dispatch {
            presented: *presented,
            owner,
            at: now,
            void: false,
            answer,
            status,
            expires_at,
            is_whole: asked.fingerprint.is_some(),
            settled_as_answered: false,
        });
        let number = pages.dispatches.len() - 1;
        drop(pages);
        if twice {
            self.violation(format!("THE PROMISE: {by} runs {} a second time", short(id)));
        }
        if shared {
            self.violation(format!("I1: {by} runs {} under a token that has run already", short(id)));
        }
        number
    }

    /// The store's answer to a claim of `by` was that `entry` stands.
    pub(crate) fn told(&self, by: Try, entry: &Entry) {
        self.pages().told.insert(by, entry.clone());
    }

    /// A client is given `verdict`: is it what the entry says that the store showed?
    pub(crate) fn given(&self, by: Try, presented: &Presented, verdict: &Verdict, waited: bool) {
        let how = if waited { "waited for" } else { "is given" };
        // The wall clock's time differs from run to run.
        let shown = match verdict {
            Verdict::Replay { answer, .. } => Verdict::Replay { answer: answer.clone(), expires_at: None },
            Verdict::InFlight
            | Verdict::Mismatch(_)
            | Verdict::NotRetained { .. }
            | Verdict::OtherCaller
            | Verdict::RunAgain
            | Verdict::Compare(_)
            | Verdict::Unknown(_) => verdict.clone(),
        };
        self.note(&by, &format!("{how} {shown:?}"));
        let pages = self.pages();
        let mut found = Vec::new();
        match pages.told.get(&by) {
            None => found.push("a verdict without an entry"),
            Some(entry) if !follows(entry, presented, verdict) => {
                found.push("I4: not the verdict on what stands");
            }
            Some(_) => {}
        }
        if let Verdict::Replay { answer, expires_at } = verdict {
            match pages.dispatches.iter().find(|sent| sent.answer.as_ref() == Some(answer)) {
                Some(sent) if sent.presented != *presented => found.push("a replay of another's answer"),
                Some(sent) if sent.expires_at.is_some() && sent.expires_at != *expires_at => {
                    found.push("a replay that expires at another time than the first answer");
                }
                Some(_) => {}
                None => found.push("a replay of what the upstream never answered"),
            }
        }
        drop(pages);
        for what in found {
            self.violation(format!("{what}: {by} is given {shown:?}"));
        }
    }
}

/// The first bytes of an id, as the plan numbers keys.
pub(crate) fn short(id: &RequestId) -> String {
    format!("key {}", id.as_bytes()[0])
}

fn same_state(was: &State, is: &State) -> bool {
    match (was, is) {
        // Answers may make room; the status stays.
        (State::Completed { status: was, .. }, State::Completed { status: is, answer: None }) => was == is,
        (was, is) => was == is,
    }
}

fn follows(entry: &Entry, presented: &Presented, verdict: &Verdict) -> bool {
    if entry.caller != presented.caller {
        return *verdict == Verdict::OtherCaller;
    }
    match entry.fingerprint {
        // What was not read is like nothing.
        None if matches!(
            verdict,
            Verdict::Replay { .. } | Verdict::NotRetained { .. } | Verdict::Mismatch(_)
        ) =>
        {
            return false;
        }
        Some(_) if entry.fingerprint != presented.fingerprint => {
            return matches!(verdict, Verdict::Mismatch(_));
        }
        None | Some(_) => {}
    }
    match (&entry.state, verdict) {
        (State::InFlight, Verdict::InFlight) => true,
        // A take-over that others won too often ends as in flight.
        (State::Unknown(_), Verdict::InFlight) => true,
        (State::Unknown(cause), Verdict::Unknown(given)) => cause == given,
        (State::Completed { answer: Some(answer), .. }, Verdict::Replay { answer: given, .. }) => {
            answer == given
        }
        (State::Completed { status, answer: None }, Verdict::NotRetained { status: given }) => {
            status == given
        }
        _ => false,
    }
}

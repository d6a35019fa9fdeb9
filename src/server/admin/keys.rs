//! What the store holds, and what an operator changes in it.
//!
//! A key itself is nowhere in the store, and never in an answer or a log line: its id is. Nothing here decides what may be
//! changed: the guard does.

mod lookup;

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use http::Response;
use http::request::Parts;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::audit::{Action, Change};
use super::problem::AdminProblem;
use super::{Admin, audit, reply, request};
use crate::idempotency::{Entry, Fingerprint, RequestId, State};
use crate::proxy::body::ReplyBody;
use crate::store::{Cursor, Listed, PageRequest};

/// How long reading the store may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

const DEFAULT_PAGE_ENTRIES: usize = 100;
const MAX_PAGE_ENTRIES: usize = 1_000;

/// How many of the store's pages are looked through for one page of the keys in one state.
const MAX_PAGES: usize = 20;

/// How long a key that is settled by hand is remembered where no route is guarded any more.
const TTL_WITHOUT_ROUTES: Duration = Duration::from_hours(24);

/// A key as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Shown {
    id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_retained: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
}

#[derive(Serialize)]
struct ShownPage {
    keys: Vec<Shown>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Changed {
    id: String,
    before: &'static str,
    after: &'static str,
}

/// Which keys are asked for.
struct Wanted {
    state: Option<&'static str>,
    page: PageRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseRequest {
    reason: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    route: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettleRequest {
    reason: String,
    status: u16,
    #[serde(default)]
    route: Option<String>,
}

impl Admin {
    /// The keys that are in flight or unknown, oldest first.
    pub(super) async fn list(&self, query: Option<&str>) -> Result<Response<ReplyBody>, AdminProblem> {
        let Wanted { state, mut page } = wanted(query.unwrap_or_default())?;
        let mut keys = Vec::new();
        for _ in 0..MAX_PAGES {
            let room = page.limit_entries - keys.len();
            let request = PageRequest { after: page.after, limit_entries: room };
            let found = self.read(self.state.guard.list(&request)).await?;
            let listed = found.entries.iter().map(Shown::listed);
            keys.extend(listed.filter(|shown| state.is_none_or(|state| state == shown.state)));
            page.after = found.next;
            if found.next.is_none() || keys.len() == page.limit_entries {
                break;
            }
        }
        Ok(reply::json(&ShownPage { keys, next: page.after.map(cursor_text) }))
    }

    /// One key by its id.
    pub(super) async fn show(&self, id: &RequestId) -> Result<Response<ReplyBody>, AdminProblem> {
        let shown = self.shown(id).await?;
        Ok(reply::json(&shown.ok_or(AdminProblem::NoKey)?))
    }

    /// One key by the request that carried it.
    pub(super) async fn lookup(
        &self,
        head: &Parts,
        body: Incoming,
    ) -> Result<Response<ReplyBody>, AdminProblem> {
        let wanted: lookup::LookupRequest = request::json(head, body).await?;
        let found = wanted.identify(&self.state.server.proxy())?;
        let shown = self.shown(&found.id).await?.unwrap_or_else(|| Shown::absent(&found.id));
        Ok(reply::json(&Shown { route: Some(found.route.to_string()), ..shown }))
    }

    pub(super) async fn release(
        &self,
        id: RequestId,
        ReleaseRequest { reason, force, route }: ReleaseRequest,
        by: audit::By,
    ) -> Result<Response<ReplyBody>, AdminProblem> {
        let ttl = self.ttl();
        let change = self.change(Action::Release, id, reason, route, by)?;
        self.make(change, "absent", move |guard| async move { guard.release(&id, force, ttl).await }).await
    }

    pub(super) async fn settle(
        &self,
        id: RequestId,
        SettleRequest { reason, status, route }: SettleRequest,
        by: audit::By,
    ) -> Result<Response<ReplyBody>, AdminProblem> {
        if !(200..=599).contains(&status) {
            let text = "`status` is the one that the upstream has answered with: 200 to 599";
            return Err(AdminProblem::Invalid(text.to_owned()));
        }
        let ttl = self.ttl();
        let change = self.change(Action::Settle, id, reason, route, by)?;
        self.make(
            change,
            "completed",
            move |guard| async move { guard.settle_unknown(&id, status, ttl).await },
        )
        .await
    }

    fn change(
        &self,
        action: Action,
        id: RequestId,
        reason: String,
        route: Option<String>,
        by: audit::By,
    ) -> Result<Change, AdminProblem> {
        if let Some(name) = route.as_ref().filter(|name| !self.state.server.proxy().has_route(name)) {
            return Err(AdminProblem::Invalid(format!("no route is called {name}")));
        }
        Change::new(action, id, reason, route, by)
    }

    /// Makes a change and tells the log, whoever still waits for it.
    async fn make<F>(
        &self,
        change: Change,
        after: &'static str,
        make: impl FnOnce(crate::guard::Guard) -> F + Send + 'static,
    ) -> Result<Response<ReplyBody>, AdminProblem>
    where
        F: Future<Output = Result<Entry, crate::guard::ChangeError>> + Send,
    {
        let guard = self.state.guard.clone();
        let id = change.id;
        let made = self.state.work.spawn(async move {
            let made = make(guard).await.map(|before| state_name(&before.state));
            change.tell(made.as_ref().map(|before| (*before, after)));
            made
        });
        // It fails only if the work has panicked, or the runtime is ending.
        let before = made.await.map_err(|_| AdminProblem::TooSlow)??;
        Ok(reply::json(&Changed { id: id.to_hex(), before, after }))
    }

    /// How long a key that is settled by hand is remembered: as long as any would be.
    fn ttl(&self) -> Duration {
        self.state.server.proxy().longest_ttl().unwrap_or(TTL_WITHOUT_ROUTES)
    }

    async fn shown(&self, id: &RequestId) -> Result<Option<Shown>, AdminProblem> {
        let entry = self.read(self.state.guard.lookup(id)).await?;
        let Some(entry) = entry else { return Ok(None) };
        let age = match entry.state {
            State::InFlight | State::Unknown(_) => self.age(id).await?,
            State::Completed { .. } => None,
        };
        Ok(Some(Shown { age_seconds: age.map(seconds), ..Shown::of(id, &entry) }))
    }

    /// How long ago the key was claimed, if it is among the oldest that are open: only lists tell.
    async fn age(&self, id: &RequestId) -> Result<Option<Duration>, AdminProblem> {
        let mut page = PageRequest { after: None, limit_entries: MAX_PAGE_ENTRIES };
        for _ in 0..MAX_PAGES {
            let found = self.read(self.state.guard.list(&page)).await?;
            if let Some(listed) = found.entries.iter().find(|listed| listed.id == *id) {
                return Ok(Some(listed.age));
            }
            if found.next.is_none() {
                break;
            }
            page.after = found.next;
        }
        Ok(None)
    }

    pub(super) async fn read<T>(
        &self,
        reading: impl Future<Output = Result<T, crate::store::StoreError>>,
    ) -> Result<T, AdminProblem> {
        let read = tokio::time::timeout(STORE_TIMEOUT, reading).await;
        read.map_err(|_| AdminProblem::TooSlow)?.map_err(AdminProblem::Store)
    }
}

impl Shown {
    pub(super) fn listed(listed: &Listed) -> Self {
        Self { age_seconds: Some(seconds(listed.age)), ..Self::of(&listed.id, &listed.entry) }
    }

    fn of(id: &RequestId, entry: &Entry) -> Self {
        let (cause, status, retained) = match &entry.state {
            State::InFlight => (None, None, None),
            State::Unknown(cause) => (Some(cause.as_str()), None, None),
            State::Completed { status, answer } => (None, Some(*status), Some(answer.is_some())),
        };
        Self {
            state: state_name(&entry.state),
            cause,
            original_status: status,
            answer_retained: retained,
            fingerprint: entry.fingerprint.map(fingerprint_text),
            expires_at: entry.expires_at.map(time_text),
            ..Self::absent(id)
        }
    }

    fn absent(id: &RequestId) -> Self {
        Self {
            id: id.to_hex(),
            state: "absent",
            cause: None,
            age_seconds: None,
            original_status: None,
            answer_retained: None,
            fingerprint: None,
            expires_at: None,
            route: None,
        }
    }
}

fn wanted(query: &str) -> Result<Wanted, AdminProblem> {
    let invalid = |text: &str| AdminProblem::Invalid(text.to_owned());
    let mut wanted =
        Wanted { state: None, page: PageRequest { after: None, limit_entries: DEFAULT_PAGE_ENTRIES } };
    for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(split_pair) {
        match name {
            "state" => {
                let known = ["in_flight", "unknown"].into_iter().find(|state| *state == value);
                wanted.state = Some(known.ok_or_else(|| invalid("`state` is in_flight or unknown"))?);
            }
            "after" => {
                let mend = "`after` is the `next` of the page before";
                wanted.page.after = Some(cursor(value).ok_or_else(|| invalid(mend))?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE_ENTRIES).contains(limit));
                let mend = || AdminProblem::Invalid(format!("`limit` is 1 to {MAX_PAGE_ENTRIES}"));
                wanted.page.limit_entries = limit.ok_or_else(mend)?;
            }
            _ => return Err(invalid("the parameters are `state`, `after` and `limit`")),
        }
    }
    Ok(wanted)
}

fn split_pair(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

fn cursor_text(cursor: Cursor) -> String {
    format!("{}-{}", cursor.claimed_at_ms, cursor.id.to_hex())
}

fn cursor(text: &str) -> Option<Cursor> {
    let (claimed_at_ms, id) = text.split_once('-')?;
    Some(Cursor { claimed_at_ms: claimed_at_ms.parse().ok()?, id: RequestId::from_hex(id)? })
}

pub(super) const fn state_name(state: &State) -> &'static str {
    match state {
        State::InFlight => "in_flight",
        State::Unknown(_) => "unknown",
        State::Completed { .. } => "completed",
    }
}

/// The rule and the digest: equal texts are equal payloads.
fn fingerprint_text(fingerprint: Fingerprint) -> String {
    let (rule, digest) = fingerprint.to_parts();
    format!("{rule:x}:{}", HEXLOWER.encode(&digest))
}

fn time_text(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

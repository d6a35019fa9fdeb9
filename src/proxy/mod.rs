//! The HTTP edge: the way of one request, from its head to its answer.
//!
//! One direction: check → route → identify → read → (detached) admit → send → settle → respond. The functions that hold
//! these steps hold the branching; what they call holds none of it. Touches no store: admission is the guard's.

pub mod access;
mod account;
mod asking;
pub mod body;
mod build;
mod client;
pub mod client_body;
pub mod correlation;
pub mod cors;
mod detach;
mod exchange;
pub mod finish;
pub mod forwarded;
pub mod grpc;
pub mod hashed_upload;
pub mod headers;
mod held;
pub mod hush;
mod identify;
pub mod metrics;
mod observe;
pub mod outcome;
pub mod pace;
pub mod pass;
pub mod path;
pub mod policy;
pub mod problem;
mod quota;
pub mod recorder;
pub mod relay;
pub mod reply;
pub mod request;
mod rewrite;
pub mod route;
pub mod slot;
pub mod socket;
mod stream;
mod tally;
pub mod trace;
pub mod tunnel;
pub mod upload;
pub mod upstream;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::request::Parts;
use http::{Method, Response};
use tracing::error;

use self::access::AccessLine;
use self::account::Account;
use self::asking::settle;
use self::body::{ReplyBody, RequestBody};
use self::client_body::ClientBody;
use self::correlation::RequestIds;
use self::detach::Detachable;
use self::finish::Finish;
use self::forwarded::Trust;
use self::metrics::{Metrics, RouteMetrics, method_name};
use self::outcome::RequestOutcome;
use self::policy::{GuardPolicy, MinRate, OnStoreError, Route};
use self::problem::{BadRequest, Problem};
use self::reply::{Replies, Reply};
use self::request::{Buffered, InParts, Keyed, Names, Protocol, ReadError, Whole};
use self::route::Routes;
use self::slot::Slot;
use self::stream::Unread;
use self::trace::Tracer;
use self::upstream::Upstream;
use crate::guard::{Admission, Guard, Permit};
use crate::idempotency::{Presented, UnknownCause, Verdict};
use crate::store::StoreError;

pub use self::build::SetupError;
pub use self::client::{Client, Tls};
pub use self::detach::Background;
pub use self::identify::{Identified, IdentifyError};
pub use self::quota::{Quota, Share};

/// Serves requests.
#[derive(Debug)]
pub struct Proxy {
    routes: Routes,
    sites: Vec<Arc<Site>>,
    upstreams: Vec<Arc<Upstream>>,
    names: Names,
    /// Whether some route observes.
    observes: bool,
    /// How often a route had begun to enforce when these settings came.
    era: u64,
    /// How often that is by now.
    eras: Arc<AtomicU64>,
    replies: Replies,
    guard: Guard,
    background: Background,
    guarded_places: Quota,
    buffered_bytes: Quota,
    min_body_rate: Option<MinRate>,
    draining: Arc<AtomicBool>,
    access_log: bool,
    trust: Trust,
    request_ids: Option<RequestIds>,
    metrics: Metrics,
    tracer: Option<Tracer>,
    /// Counts what no route serves.
    unrouted: Arc<RouteMetrics>,
}

/// A route and where it leads.
#[derive(Debug)]
struct Site {
    name: Arc<str>,
    route: Route,
    upstream: Arc<Upstream>,
    metrics: Arc<RouteMetrics>,
}

/// A guarded request. One that was read whole does not depend on its client any more.
#[derive(Debug)]
struct Work<R> {
    site: Arc<Site>,
    request: Box<R>,
    client: Arc<Client>,
    /// Held until the attempt is settled.
    places: (Share, Option<Share>),
}

impl Proxy {
    /// From now on new requests are refused; those that were begun are finished.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Where work goes on that nobody waits for any more.
    #[must_use]
    pub const fn background(&self) -> &Background {
        &self.background
    }

    /// How many guarded requests are at work.
    #[must_use]
    pub fn guarded_in_flight(&self) -> u64 {
        self.guarded_places.taken()
    }

    /// Closes upstream connections that were idle for too long.
    pub fn sweep(&self) {
        self.upstreams.iter().for_each(|upstream| upstream.sweep());
    }

    /// The work of watching the health of those upstreams that nobody watches yet. It ends some time after the upstream.
    pub fn health_checks(&self) -> impl Iterator<Item = impl Future<Output = ()> + Send + use<>> {
        self.upstreams.iter().flat_map(Upstream::health_checks)
    }

    /// Accounts for a request that `client` sent, and whose head could not be read.
    pub fn unreadable_head(&self, client: IpAddr) {
        self.unrouted.unreadable();
        if self.access_log {
            access::unreadable(client);
        }
    }

    /// Answers `request`, which came from `client` by `protocol`.
    pub async fn handle(
        self: Arc<Self>,
        mut request: InParts,
        client: Arc<Client>,
        protocol: Protocol,
    ) -> Response<ReplyBody> {
        let head = &mut request.head;
        let address = self.trust.client(client.peer.address(), &head.headers);
        let line = self.access_log.then(|| Box::new(AccessLine::begin(address, head)));
        let method = method_name(&head.method);
        let trace = self.tracer.as_ref().and_then(|tracer| tracer.begin(method, head));
        let mut account = Account::open(method, line, trace);
        let request_id = self.request_ids.as_ref().map(|ids| {
            let id = ids.give(&mut head.headers, self.trust.covers(client.peer.address()));
            account.request_id(&id);
            id
        });
        let mut finish = Finish::new(&head.headers, request_id);
        let served = self.serve(request, &client, protocol, &mut account, &mut finish).await;
        let mut response = served.unwrap_or_else(|problem| {
            let Reply { response, outcome } = self.replies.problem(&problem);
            account.unrouted(&self.unrouted);
            account.end(response.status(), outcome);
            account.answers(&response);
            *response
        });
        finish.apply(&mut response);
        response
    }

    async fn serve<'a>(
        self: &'a Arc<Self>,
        request: InParts,
        client: &Arc<Client>,
        protocol: Protocol,
        account: &mut Account,
        finish: &mut Finish<'a>,
    ) -> Result<Response<ReplyBody>, Problem> {
        let InParts { head: mut parts, body } = request;
        let host = self.names.check(&mut parts, protocol, client.default_port())?;
        account.authority(&host);
        let found = self.routes.find(&host, parts.uri.path()).ok_or(Problem::NoRoute)?;
        let site = self.sites.get(found).ok_or(Problem::NoRoute)?;
        account.route(&site.name, &site.metrics);
        finish.on(&site.route, &parts);
        if self.draining.load(Ordering::Relaxed) {
            return Err(Problem::ShuttingDown);
        }
        if let Some(cors) = site.route.cors.as_ref().filter(|_| cors::is_preflight(&parts)) {
            let response = reply::preflight(cors::preflight(cors, &parts.headers));
            account.end(response.status(), RequestOutcome::Preflight);
            return Ok(response);
        }
        let guarding = self.guarding(site, found, &host, &parts)?;
        if self.observes {
            self.observe_head(site, found, &host, &parts, account);
        }
        let Some((policy, method)) = guarding else {
            return Box::pin(self.pass(site, parts, body, client, account)).await;
        };
        let identified = self.key_and_caller(policy, &parts, client, account);
        let claimed = observe::or_count(identified, policy, account)?;
        let Some((key, caller)) = claimed.filter(|_| !observe::switches(site, policy, &parts)) else {
            return Box::pin(self.pass(site, parts, body, client, account)).await;
        };
        let patience = if policy.observes { self.patience(site, &parts) } else { policy.patience };
        let mut body = ClientBody::new(body, parts.version, patience).counted(account.tally());
        let keyed = Keyed { parts, method, host, key, caller };
        let (hasher, mut held) = (keyed.stream(policy), Buffered::default());
        let read = match &hasher {
            Some(_) => request::fits(&body, policy),
            None => self.read(&mut body, &mut held, policy).await,
        };
        // Taken now: a body that dribbles in keeps nobody else out.
        let places = match read.and_then(|()| self.places(client).map_err(ReadError::Unfit)) {
            Ok(places) => places,
            Err(ReadError::Unfit(problem)) if self.still_observes(policy) => {
                account.observed(problem.outcome());
                held.put_back(&mut body);
                return Box::pin(self.pass_on(site, keyed.parts, body, client, account)).await;
            }
            Err(error) => return Err(error.into()),
        };
        let (site, client) = (site.clone(), client.clone());
        let work = if let Some(hasher) = hasher {
            let (slot, reply) = Slot::new(account.take());
            let work = Work { site, request: Box::new(Unread { keyed, body, hasher }), client, places };
            Detachable::new(self.clone().streamed(work, slot), reply, &self.background)
        } else {
            let (slot, reply) = Slot::new(account.take());
            let work = Work { site, request: Box::new(Whole { keyed, body: held }), client, places };
            Detachable::new(self.clone().guarded(work, slot), reply, &self.background)
        };
        let replied = work.await.map(|response| *response);
        replied.map_err(|_| Problem::OutcomeUnknown { cause: UnknownCause::Abandoned })
    }

    /// What guarded work on a request of `client` takes up.
    fn places(&self, client: &Client) -> Result<(Share, Option<Share>), Problem> {
        let place = self.guarded_places.take(1).ok_or(Problem::Overloaded)?;
        Ok((place, client.take_attempt().ok_or(Problem::Overloaded)?))
    }

    /// Does not depend on the client: whatever happens to it, the work is done, recorded and settled (I8).
    async fn guarded(self: Arc<Self>, work: Work<Whole>, mut slot: Slot) {
        let Some(policy) = &work.site.route.guard else { return };
        let admitted = match work.request.present(policy).await {
            Ok(presented) => {
                let admission = self.admit(&presented, policy, slot.account()).await;
                work.site.metrics.admitted(&admission);
                self.admitted(admission, &presented, policy)
            }
            Err(problem) => Err(self.replies.problem(&problem)),
        };
        let permit = match admitted {
            Ok(permit) => permit,
            Err(refusal) if self.still_observes(policy) => {
                slot.account().observed(refusal.outcome);
                None
            }
            Err(refusal) => return slot.reply(refusal),
        };
        // Boxed, so that refusals and replays need not carry it along.
        Box::pin(self.run(work, permit, slot)).await;
    }

    /// Sends what was admitted, and settles it.
    async fn run(self: &Arc<Self>, work: Work<Whole>, permit: Option<Permit>, mut slot: Slot) {
        let Work { site, request: whole, client, places } = work;
        let Some(policy) = &site.route.guard else { return };
        let Whole { keyed, body } = *whole;
        let (body, share) = body.into_body();
        let body = RequestBody::Whole(body);
        let request = self.outbound(keyed.parts, body, &site.route, &client, slot.account());
        let exchange = self.exchange(&site, policy, request, permit.as_ref(), &client, &mut slot);
        let (attempt, recording) = exchange.await;
        let settled = settle(permit, &attempt, slot.account()).await;
        drop((places, share));
        self.respond(attempt, recording, settled, slot, policy).await;
    }

    /// The permit to run; none if the operator wants it run though the store cannot be asked; or else what the request
    /// gets instead.
    fn admitted(
        &self,
        admission: Result<Admission, StoreError>,
        presented: &Presented,
        policy: &GuardPolicy,
    ) -> Result<Option<Permit>, Reply> {
        let refuse = |problem| Err(self.replies.problem(&problem));
        match admission {
            Ok(Admission::Granted(permit)) => Ok(Some(permit)),
            Ok(Admission::Standing { verdict, waited }) => Err(self.verdict(verdict, waited, policy)),
            Ok(Admission::Released(reason)) => refuse(Problem::Released { reason }),
            Err(StoreError::Full { .. } | StoreError::OutOfMemory) => refuse(Problem::StoreFull),
            Err(StoreError::CallerFull { max_entries }) => refuse(Problem::TooManyKeys { max_entries }),
            // Something stands there: it may have run.
            Err(error @ StoreError::Corrupt(_)) => {
                error!(%error, id = ?presented.id, "an entry cannot be read");
                refuse(Problem::StoreUnavailable)
            }
            Err(error) => {
                error!(%error, id = ?presented.id, "the store cannot be asked");
                match policy.on_store_error {
                    OnStoreError::Pass => Ok(None),
                    OnStoreError::Reject => refuse(Problem::StoreUnavailable),
                }
            }
        }
    }

    /// The policy and the method by which the request is guarded, if it is. Shuts the side doors: what is guarded comes in
    /// canonical form, and what is not does not read as something guarded.
    fn guarding<'a>(
        &self,
        site: &'a Site,
        found: usize,
        host: &str,
        parts: &Parts,
    ) -> Result<Option<(&'a GuardPolicy, Method)>, Problem> {
        let path = parts.uri.path();
        let policy = site.route.guard.as_ref();
        let others = request::other_methods(parts);
        let guarded = policy.and_then(|policy| Some((policy, request::guarded_by(parts, &others, policy)?)));
        match &guarded {
            // What is only observed must not be what another route guards, either.
            Some((GuardPolicy { observes: true, .. }, _)) | None => {
                let methods: Vec<&str> = request::methods(parts, &others).collect();
                if self.routes.enforced_side_door(host, path, found, &methods) {
                    return Err(BadRequest::SideDoor.into());
                }
            }
            Some((policy, _)) if !policy.allow_ambiguous_path => {
                path::is_canonical(path).map_err(BadRequest::AmbiguousPath)?;
            }
            Some(_) => {}
        }
        Ok(guarded)
    }

    fn verdict(&self, verdict: Verdict, waited: bool, policy: &GuardPolicy) -> Reply {
        let problem = match verdict {
            Verdict::Replay { answer, expires_at } => {
                return self.replies.replay(answer, expires_at, waited, policy);
            }
            Verdict::InFlight | Verdict::RunAgain | Verdict::Compare(_) => {
                Problem::InFlight { retry_after: policy.retry_after }
            }
            Verdict::Mismatch(cause) => Problem::KeyReused { cause },
            Verdict::NotRetained { status } => Problem::NotRetained { original_status: status },
            Verdict::OtherCaller => Problem::OtherCaller,
            Verdict::Unknown(cause) => Problem::OutcomeUnknown { cause },
        };
        self.replies.problem(&problem)
    }
}

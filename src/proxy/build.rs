//! How a proxy comes to be: from settings, or from other settings and the proxy that went by the old ones.
//!
//! Owns what outlives the settings. Serves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thiserror::Error;

use super::correlation::RequestIds;
use super::detach::Background;
use super::forwarded::Trust;
use super::metrics::Metrics;
use super::policy::{self, Params, Route};
use super::quota::Quota;
use super::reply::Replies;
use super::request::Names;
use super::route::{RouteError, Routes};
use super::trace::Tracer;
use super::upstream::{Upstream, UpstreamError};
use super::{Proxy, Site, observe};
use crate::guard::Guard;

/// Why requests cannot be served as the settings want it.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Two routes tie.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// An upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// What outlives the settings.
struct Lasting {
    guard: Guard,
    background: Background,
    guarded_places: Quota,
    buffered_bytes: Quota,
    draining: Arc<AtomicBool>,
    eras: Arc<AtomicU64>,
    metrics: Metrics,
    tracer: Option<Tracer>,
}

impl Proxy {
    /// A proxy that asks `guard` for admission, runs on in `background`, counts in `metrics`, and has `tracer` make spans of
    /// requests.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub fn new(
        params: &Params,
        access_log: bool,
        guard: Guard,
        background: Background,
        metrics: Metrics,
        tracer: Option<Tracer>,
    ) -> Result<Self, SetupError> {
        let lasting = Lasting {
            guard,
            background,
            guarded_places: Quota::new(params.max_guarded_in_flight as u64),
            buffered_bytes: Quota::new(params.max_buffered_bytes),
            draining: Arc::default(),
            eras: Arc::default(),
            metrics,
            tracer,
        };
        Self::with(params, access_log, (lasting, 0), &[])
    }

    /// A proxy of other settings that carries on for this one: what is at work counts on, and an upstream that stays as it is
    /// keeps its connections and its health.
    ///
    /// # Errors
    ///
    /// [`SetupError`]: nothing has changed then.
    pub fn renewed(&self, params: &Params, access_log: bool) -> Result<Self, SetupError> {
        let lasting = Lasting {
            guard: self.guard.clone(),
            background: self.background.clone(),
            guarded_places: self.guarded_places.clone(),
            buffered_bytes: self.buffered_bytes.clone(),
            draining: self.draining.clone(),
            eras: self.eras.clone(),
            metrics: self.metrics.clone(),
            tracer: self.tracer.clone(),
        };
        let enforced = |route: &Route| {
            let is_it =
                |now: &Route| now.path == route.path && now.hosts == route.hosts && observe::is_enforced(now);
            self.sites.iter().any(|site| is_it(&site.route))
        };
        let begins_to_enforce =
            params.routes.iter().any(|route| observe::is_enforced(route) && !enforced(route));
        let era = self.eras.load(Ordering::Acquire) + u64::from(begins_to_enforce);
        let renewed = Self::with(params, access_log, (lasting, era), &self.upstreams)?;
        // Before a request can come that is enforced.
        self.eras.store(era, Ordering::Release);
        renewed.guarded_places.set_max(params.max_guarded_in_flight as u64);
        renewed.buffered_bytes.set_max(params.max_buffered_bytes);
        Ok(renewed)
    }

    fn with(
        params: &Params,
        access_log: bool,
        (lasting, era): (Lasting, u64),
        earlier: &[Arc<Upstream>],
    ) -> Result<Self, SetupError> {
        let Lasting { guard, background, guarded_places, buffered_bytes, draining, eras, metrics, tracer } =
            lasting;
        let upstream = |params: &policy::Upstream| match earlier
            .iter()
            .find(|earlier| earlier.params() == params && !earlier.is_outdated())
        {
            Some(earlier) => Ok(earlier.clone()),
            None => Upstream::new(params.clone()).map(Arc::new),
        };
        let upstreams: Vec<Arc<Upstream>> =
            params.upstreams.iter().map(upstream).collect::<Result<_, _>>()?;
        let observes =
            params.routes.iter().filter_map(|route| route.guard.as_ref()).any(|policy| policy.observes);
        let site = |route: &Route| {
            let upstream = upstreams.get(route.upstream)?.clone();
            let name = Arc::from(route.name.as_str());
            let metrics = metrics.route(&name, &upstream.params().name, observes);
            Some(Arc::new(Site { name, route: route.clone(), upstream, metrics }))
        };
        Ok(Self {
            routes: Routes::new(&params.routes)?,
            sites: params.routes.iter().filter_map(site).collect(),
            upstreams,
            names: Names::new(params),
            observes,
            era,
            eras,
            replies: Replies::new(
                &params.problem_base,
                params.documentation_url.as_deref(),
                buffered_bytes.clone(),
            ),
            guard,
            background,
            guarded_places,
            buffered_bytes,
            min_body_rate: params.min_body_rate,
            draining,
            access_log,
            trust: Trust::new(params.trusted_proxies.clone()),
            request_ids: params.request_id.then(RequestIds::new),
            unrouted: metrics.route(&"".into(), "", false),
            metrics,
            tracer,
        })
    }

    /// The names of the upstreams whose certificates were renewed since they were read.
    pub fn outdated_upstreams(&self) -> impl Iterator<Item = &str> {
        let outdated = self.upstreams.iter().filter(|upstream| upstream.is_outdated());
        outdated.map(|upstream| upstream.params().name.as_str())
    }
}

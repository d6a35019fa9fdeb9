//! The composition root: settings become running parts. The only file that names every layer, with those below it.

mod metrics;
mod reload;
mod running;
mod traces;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::metrics::Counted;
use self::reload::Reloader;
pub use self::running::Drained;
use self::running::Running;
use self::traces::Traces;
use crate::config::{self, Contents, Settings, StoreSettings};
use crate::guard::{self, Guard};
use crate::proxy::{self, Background, Proxy, SetupError};
use crate::server::admin::{Admin, AdminError, AdminState, Effective, LogLevel, Readiness};
use crate::server::{self, BindError, Reload, Server, TlsError, TlsServer};
use crate::store::codec::{Codec, KeyError};
use crate::store::memory::MemoryStore;
use crate::store::redis::{self, RedisStore};
use crate::store::{Store, StoreError};
use crate::telemetry;

/// How long setting up the store may take.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Oncegate with its listeners open, not serving yet.
#[derive(Debug)]
pub struct App {
    guard: Guard,
    readiness: Arc<Readiness>,
    server: Arc<Server>,
    reload: Reload,
    reloader: Reloader,
    tls: Option<Arc<TlsServer>>,
    /// Guarded requests whose clients are gone, and records that the store has not taken yet.
    work: TaskTracker,
    listeners: Vec<TcpListener>,
    admin: Option<(TcpListener, Arc<Admin>)>,
    traces: Option<Traces>,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
}

/// Why Oncegate does not start.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address of a listener could not be read.
    #[error("a listener has no address: {0}")]
    Address(#[from] std::io::Error),
    /// Two routes tie, or an upstream cannot be used.
    #[error(transparent)]
    Proxy(#[from] SetupError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The admin listener's token or certificates cannot be used.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The keys that seal records cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store cannot be used.
    #[error("the store cannot be set up: {0}")]
    Store(#[from] StoreError),
}

impl App {
    /// Sets up the store of `settings` and opens the listeners. Nothing is served before [`App::run`].
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub async fn build(settings: Settings) -> Result<Self, BuildError> {
        match &settings.store {
            StoreSettings::Memory(params) => {
                let store = Arc::new(MemoryStore::new(params.clone()));
                Self::build_over(settings, store.clone(), Some(Box::new(store))).await
            }
            StoreSettings::Redis(params, records) => {
                let store = Arc::new(RedisStore::new((**params).clone(), Codec::new(records)?));
                Self::build_over(settings, store.clone(), Some(Box::new(store))).await
            }
        }
    }

    /// As [`App::build`], with a store of one's own.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub async fn build_with_store(settings: Settings, store: Arc<dyn Store>) -> Result<Self, BuildError> {
        Self::build_over(settings, store, None).await
    }

    /// `store_itself` is what a store of its kind has to say on the page of metrics.
    async fn build_over(
        settings: Settings,
        store: Arc<dyn Store>,
        store_itself: Option<Box<dyn Collector>>,
    ) -> Result<Self, BuildError> {
        let too_slow = |_| Err(StoreError::Unavailable("no answer to the setup".into()));
        timeout(SETUP_TIMEOUT, store.setup()).await.unwrap_or_else(too_slow)?;
        let background = Background::default();
        let work = background.tracker().clone();
        let readiness = Arc::new(Readiness::new(Arc::clone(&store), settings.server.ready_needs_store));
        let params = guard::Params { store_timeout: store_timeout(&settings), ..settings.guard.clone() };
        let guard = Guard::new(Arc::clone(&store), params, work.clone());
        let (metrics, reload_metrics) = (proxy::metrics::Metrics::default(), reload::Metrics::default());
        let (access_log, counting) = (settings.log.access, metrics.clone());
        let traces = settings.traces.clone().map(Traces::new);
        let tracer = traces.as_ref().map(Traces::tracer);
        let proxy =
            Proxy::new(&settings.proxy, access_log, guard.clone(), background, counting, tracer.clone())?;
        let http2 = settings.server.http2.is_some();
        let tls = settings.server.tls.clone().map(|params| TlsServer::new(params, http2)).transpose()?;
        let mut listeners = Vec::new();
        for listener in &settings.server.listeners {
            listeners.push(server::bind(listener.address).await?);
        }
        let tls = tls.map(Arc::new);
        let server = Arc::new(Server::new(settings.server.clone(), Arc::new(proxy), tls.clone()));
        let (reload, requests) = Reload::channel();
        let effective = Effective::new(config::describe(&settings));
        let admin = match &settings.server.admin {
            Some(params) => {
                let own_tls = params.tls.clone().map(|tls| TlsServer::new(tls, false)).transpose()?;
                let own_tls = own_tls.map(Arc::new);
                let counted = Counted {
                    proxy: &metrics,
                    reload: &reload_metrics,
                    server: &server,
                    guard: &guard,
                    store: Arc::clone(&store),
                    store_itself,
                    readiness: readiness.clone(),
                    tls: tls.iter().chain(&own_tls).cloned().collect(),
                    tracer,
                };
                let state = AdminState {
                    server: server.clone(),
                    guard: guard.clone(),
                    store,
                    readiness: readiness.clone(),
                    effective: effective.clone(),
                    metrics: counted.page(),
                    reload: reload.clone(),
                    log_level: LogLevel { filter: telemetry::filter, set: telemetry::set_filter },
                    work: work.clone(),
                };
                Some((server::bind(params.listen).await?, Arc::new(Admin::new(params, own_tls, state)?)))
            }
            None => None,
        };
        let reloader =
            Reloader::new(settings, (server.clone(), guard.clone()), requests, effective, reload_metrics);
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let admin_address = admin.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
        Ok(Self {
            guard,
            readiness,
            server,
            reload,
            reloader,
            tls,
            work,
            listeners,
            admin,
            traces,
            addresses,
            admin_address,
        })
    }

    /// Takes new settings from the file at `path`, of which `contents` are in force.
    pub fn follow(&mut self, path: PathBuf, contents: Contents) {
        self.reloader.follow(path, contents);
    }

    /// By which the settings are read again.
    #[must_use]
    pub const fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin endpoints are served.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Serves until `shutdown`. Then it is no longer ready, and after `drain_delay` it drains: no new connections, what was
    /// begun is finished. When the grace is over, what is unfinished is given up, and its outcome recorded as unknown. Ends
    /// after that, or when all is done, or at `abort`; what is unfinished then goes on for as long as the runtime does.
    pub async fn run(self, shutdown: impl Future<Output = ()>, abort: impl Future<Output = ()>) -> Drained {
        Running::begin(self).until(shutdown, abort).await
    }
}

/// How long the guard waits for one operation of the store.
fn store_timeout(settings: &Settings) -> Duration {
    let StoreSettings::Redis(params, _) = &settings.store else { return settings.guard.store_timeout };
    // The store has deadlines of its own, longer for big answers: the guard's is for a store that has none.
    let policies = settings.proxy.routes.iter().filter_map(|route| route.guard.as_ref());
    let largest = policies.map(|policy| policy.max_response_body_bytes).max().unwrap_or(0);
    let replicas = if params.wait_replicas > 0 { params.wait_timeout } else { Duration::ZERO };
    settings.guard.store_timeout + redis::transfer_time(largest) + replicas
}

//! The composition root: settings become running parts. The only file that names every layer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{Settings, StoreSettings};
use crate::guard::Guard;
use crate::proxy::Proxy;
use crate::proxy::route::RouteError;
use crate::server::{self, BindError};
use crate::store::memory::MemoryStore;
use crate::store::{Store, StoreError};

/// How often upstream connections that were idle for too long are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long setting up the store may take.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Oncegate with its listeners open, not serving yet.
#[derive(Debug)]
pub struct App {
    guard: Guard,
    proxy: Arc<Proxy>,
    server: Arc<server::Params>,
    tracker: TaskTracker,
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
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
    /// Two routes tie.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The store cannot be used.
    #[error("the store cannot be set up: {0}")]
    Store(#[from] StoreError),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All work that was begun is finished and recorded.
    Complete,
    /// The grace was over, or the abort came, with this many connections and attempts unfinished.
    Unfinished(usize),
}

impl App {
    /// Sets up the store of `settings` and opens the listeners. Nothing is served before [`App::run`].
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub async fn build(settings: Settings) -> Result<Self, BuildError> {
        let store: Arc<dyn Store> = match &settings.store {
            StoreSettings::Memory(params) => Arc::new(MemoryStore::new(params.clone())),
        };
        Self::build_with_store(settings, store).await
    }

    /// As [`App::build`], with a store of one's own.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub async fn build_with_store(settings: Settings, store: Arc<dyn Store>) -> Result<Self, BuildError> {
        let too_slow = |_| Err(StoreError::Unavailable("no answer to the setup".into()));
        timeout(SETUP_TIMEOUT, store.setup()).await.unwrap_or_else(too_slow)?;
        let tracker = TaskTracker::new();
        let guard = Guard::new(store, settings.guard, tracker.clone());
        let proxy = Proxy::new(&settings.proxy, settings.log.access, guard.clone(), tracker.clone())?;
        let mut listeners = Vec::new();
        for address in &settings.server.listen {
            listeners.push(server::bind(*address).await?);
        }
        let admin = match settings.server.admin_listen {
            Some(address) => Some(server::bind(address).await?),
            None => None,
        };
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let (proxy, server) = (Arc::new(proxy), Arc::new(settings.server));
        Ok(Self { guard, proxy, server, tracker, listeners, admin, addresses, admin_address })
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

    /// Serves until `shutdown`, then drains: no new connections, what was begun is finished. Ends when all is done, when
    /// the grace is over, or at `abort`.
    pub async fn run(self, shutdown: impl Future<Output = ()>, abort: impl Future<Output = ()>) -> Drained {
        let Self { guard, proxy, server, tracker, listeners, admin, .. } = self;
        let (stop, ready) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        let places = Arc::new(Semaphore::new(server.max_connections.min(Semaphore::MAX_PERMITS)));
        let accepting = TaskTracker::new();
        for listener in listeners {
            let (proxy, server, places) = (proxy.clone(), server.clone(), places.clone());
            drop(accepting.spawn(server::serve(
                listener,
                proxy,
                server,
                places,
                tracker.clone(),
                stop.clone(),
            )));
        }
        let background = CancellationToken::new();
        let _ended_with_run = background.clone().drop_guard();
        let housekeeping = TaskTracker::new();
        let sweeping = proxy.clone();
        let mut chores: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> = vec![
            Box::pin(async move { guard.prune_forever().await }),
            Box::pin(async move {
                loop {
                    sleep(SWEEP_INTERVAL).await;
                    sweeping.sweep();
                }
            }),
        ];
        if let Some(admin) = admin {
            chores.push(Box::pin(server::admin::serve(admin, ready.clone())));
        }
        for chore in chores {
            let background = background.clone();
            drop(housekeeping.spawn(async move { background.run_until_cancelled(chore).await }));
        }

        let mut abort = std::pin::pin!(abort);
        tokio::select! {
            () = shutdown => {}
            () = &mut abort => return Drained::Unfinished(tracker.len()),
        }
        info!(unfinished = tracker.len(), "draining");
        ready.store(false, Ordering::Relaxed);
        proxy.drain();
        stop.cancel();
        accepting.close();
        tracker.close();
        let finished = async {
            accepting.wait().await;
            tracker.wait().await;
        };
        tokio::select! {
            biased;
            () = finished => {
                info!("drained");
                Drained::Complete
            }
            () = sleep(server.shutdown_grace) => {
                warn!(unfinished = tracker.len(), "the grace is over; what is unfinished will read as unknown");
                Drained::Unfinished(tracker.len())
            }
            () = abort => Drained::Unfinished(tracker.len()),
        }
    }
}

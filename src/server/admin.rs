//! The admin listener: what an operator and a scheduler ask this process, and what an operator may change in it.
//!
//! Never on the address that clients use. Liveness depends on nothing but the process itself: a store that is down must not
//! have every replica restarted, and connections that ask for nothing must not keep its probes out (`crowd.rs`). Who may
//! ask for what is decided in `access.rs`, before anything is read or done; what there is to ask for stands in `table.rs`;
//! every status in `reply.rs`. Requests and bodies are bounded in size, number and time.

mod access;
mod audit;
mod crowd;
mod keys;
mod page;
mod problem;
mod readiness;
mod reply;
mod request;
mod status;
mod table;
mod token;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

pub use audit::TARGET as AUDIT_TARGET;
pub use readiness::Readiness;
pub use token::TokenError;

use self::access::{Access, Peer};
use self::audit::By;
use self::crowd::{Crowd, Seat};
use self::problem::AdminProblem;
use self::status::Snapshots;
use self::table::Endpoint;
use super::stream::Stream;
use super::{AdminParams, Reload, Reloaded, Server, TlsError, TlsServer, accept};
use crate::guard::Guard;
use crate::metrics::Page;
use crate::proxy::body::ReplyBody;
use crate::proxy::socket::Socket;
use crate::store::Store;

const MAX_CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take, from its head to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the admin listener shows and changes.
#[derive(Debug)]
pub struct Admin {
    access: Access,
    tls: Option<Arc<TlsServer>>,
    state: AdminState,
    snapshots: Snapshots,
}

/// The running parts that it speaks of.
#[derive(Debug)]
pub struct AdminState {
    /// Where requests go.
    pub server: Arc<Server>,
    /// What keys are changed by.
    pub guard: Guard,
    /// Where entries live.
    pub store: Arc<dyn Store>,
    /// Whether requests are welcome.
    pub readiness: Arc<Readiness>,
    /// The settings in effect.
    pub effective: Effective,
    /// What is counted.
    pub metrics: Page,
    /// By which the settings are read again.
    pub reload: Reload,
    /// Which log lines are written.
    pub log_level: LogLevel,
    /// What shutdown waits for: a change that was begun is made, and told to the log, even if whoever asked for it is gone.
    pub work: TaskTracker,
}

/// Which log lines are written: the log belongs to no listener.
#[derive(Clone, Copy, Debug)]
pub struct LogLevel {
    /// The filter at present.
    pub filter: fn() -> String,
    /// Takes another one from now on; or says why not, and nothing has changed.
    pub set: fn(&str) -> Result<(), String>,
}

/// The settings in effect, in words, for `/config`. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Effective(Arc<ArcSwap<String>>);

impl Effective {
    /// Must not hold a secret.
    #[must_use]
    pub fn new(settings: String) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// To be told when other settings are in effect.
    pub fn set(&self, settings: String) {
        self.0.store(Arc::new(settings));
    }
}

/// What came of reading the settings again.
#[derive(Debug, Serialize)]
struct Settings {
    result: &'static str,
    /// The paths of those that are new.
    changes: Vec<String>,
}

/// Why there can be no admin listener.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Admin {
    /// Lets in by `params`, over `tls` if there is one, and speaks of `state`.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub fn new(
        params: &AdminParams,
        tls: Option<Arc<TlsServer>>,
        state: AdminState,
    ) -> Result<Self, AdminError> {
        Ok(Self { access: Access::new(params)?, tls, state, snapshots: Snapshots::new() })
    }

    /// The listener's TLS, whose files are to be looked at again and again.
    #[must_use]
    pub const fn tls(&self) -> Option<&Arc<TlsServer>> {
        self.tls.as_ref()
    }

    /// Serves for as long as it is polled.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        // The one that is too many is there for the moment that it takes to send another away.
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS + 1));
        let crowd = Arc::new(Crowd::new(MAX_CONNECTIONS));
        // Not waited for: what asks has nothing to finish.
        let connections = TaskTracker::new();
        loop {
            let Some((stream, peer, place)) = accept(&listener, &places).await else { continue };
            let (own, seat) = (Arc::clone(&self), Crowd::enter(&crowd));
            drop(connections.spawn(async move {
                tokio::select! {
                    // What has been asked is answered first.
                    biased;
                    () = own.connection(stream, peer, &seat) => {}
                    () = seat.sent_away() => debug!(peer = %peer.ip(), "an admin connection made room"),
                }
                drop(place);
            }));
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr, seat: &Seat) {
        let (socket, _) = Socket::new(stream, WRITE_TIMEOUT);
        let (stream, certificate) = match &self.tls {
            None => (Stream::Plain(socket), None),
            Some(tls) => match tls.accept(socket).await {
                Ok(secured) => (Stream::Tls(Box::new(secured.stream)), secured.tls.certificate),
                Err(error) => return debug!(%error, peer = %peer.ip(), "an admin connection was not secured"),
            },
        };
        let from: (IpAddr, _) = (peer.ip().to_canonical(), certificate);
        let service = service_fn(|request: Request<Incoming>| async move {
            let (address, certificate) = from;
            let _asking = seat.asks();
            Ok::<_, Infallible>(self.handle(request, &Peer { address, certificate }).await)
        });
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        // Who breaks off asks again.
        http1.serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
    }

    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<ReplyBody> {
        let answer = timeout(REQUEST_TIMEOUT, self.answer(request, peer)).await;
        answer.unwrap_or(Err(AdminProblem::TooSlow)).unwrap_or_else(|problem| reply::problem(&problem))
    }

    async fn reload(&self) -> Result<Response<ReplyBody>, AdminProblem> {
        match self.state.reload.ask().await {
            Reloaded::Unchanged => Ok(reply::json(&Settings { result: "unchanged", changes: Vec::new() })),
            Reloaded::Changed(changes) => Ok(reply::json(&Settings { result: "changed", changes })),
            Reloaded::Invalid(mistakes) => Err(AdminProblem::Settings(mistakes)),
            Reloaded::NeedsRestart(reasons) => Err(AdminProblem::NeedsRestart(reasons)),
            Reloaded::Impossible => Err(AdminProblem::NoSettings),
        }
    }

    fn log_level(&self) -> String {
        (self.state.log_level.filter)() + "\n"
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Result<Response<ReplyBody>, AdminProblem> {
        let (head, body) = request.into_parts();
        let found = table::find(&head.method, head.uri.path())?;
        let by = By::new(&self.access.allow(found.needs, &head, peer).await?, peer);
        Ok(match found.endpoint {
            Endpoint::Key => self.show(&found.id).await?,
            Endpoint::Keys => self.list(head.uri.query()).await?,
            Endpoint::Lookup => self.lookup(&head, body).await?,
            Endpoint::Release => self.release(found.id, request::json(&head, body).await?, by).await?,
            Endpoint::Settle => self.settle(found.id, request::json(&head, body).await?, by).await?,
            Endpoint::Page => reply::html(page::HTML, page::headers()),
            Endpoint::Status => self.status().await,
            Endpoint::Livez => reply::health(true, "alive\n".to_owned()),
            Endpoint::Readyz => {
                let (is_ready, text) = self.state.readiness.word();
                reply::health(is_ready, text)
            }
            Endpoint::Metrics => {
                let (media_type, text) = self.state.metrics.write(&request::accepted(&head.headers));
                reply::page(media_type, text)
            }
            Endpoint::Config => reply::text(self.state.effective.0.load().to_string()),
            Endpoint::LogLevel => reply::text(self.log_level()),
            Endpoint::SetLogLevel => {
                let filter = request::text(body).await?;
                // Before it is taken: with the new one this line may not be written.
                audit::log_level(&by, &filter);
                (self.state.log_level.set)(&filter).map_err(AdminProblem::Invalid)?;
                reply::text(self.log_level())
            }
            Endpoint::Reload => {
                audit::reload(&by);
                self.reload().await?
            }
        })
    }
}

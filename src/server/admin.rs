//! The admin listener: whether the process lives, and whether it takes requests.
//!
//! Never on the address that clients use. Liveness depends on nothing but the process itself: a store that is down must not
//! have every replica restarted. Readiness names what is wrong with the store, and depends on it only where the operator
//! says so: what is not guarded goes on without a store.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::accept;
use crate::proxy::body::ReplyBody;
use crate::proxy::reply;
use crate::store::{Store, Trouble};

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What readiness is judged by.
#[derive(Debug)]
pub struct Readiness {
    is_draining: AtomicBool,
    store: Arc<dyn Store>,
    needs_store: bool,
}

impl Readiness {
    /// Ready, until it drains. With `needs_store`, not while `store` is unreachable.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, needs_store: bool) -> Self {
        Self { is_draining: AtomicBool::new(false), store, needs_store }
    }

    /// To be told when no new work is taken.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether requests are welcome, and a text that says so: a word, then a line for each trouble of the store.
    fn word(&self) -> (bool, String) {
        let troubles = self.store.troubles();
        let (is_ready, word) = if self.is_draining.load(Ordering::Relaxed) {
            (false, "draining")
        } else if self.needs_store && troubles.contains(&Trouble::Unreachable) {
            (false, "not ready")
        } else {
            (true, "ready")
        };
        let mut text = format!("{word}\n");
        for trouble in troubles {
            // A String takes everything.
            writeln!(text, "store: {}", trouble.as_str()).unwrap_or(());
        }
        (is_ready, text)
    }
}

/// Serves `/livez` and `/readyz` for as long as it is polled.
pub async fn serve(listener: TcpListener, readiness: Arc<Readiness>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Not waited for: a probe has nothing to finish.
    let connections = TaskTracker::new();
    loop {
        let Some((stream, _, place)) = accept(&listener, &places).await else { continue };
        let readiness = Arc::clone(&readiness);
        drop(connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &readiness);
                async { Ok::<_, Infallible>(answer) }
            });
            let mut http1 = http1::Builder::new();
            http1.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A probe that breaks off is asked again.
            http1.serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
            drop(place);
        }));
    }
}

fn answer(path: &str, readiness: &Readiness) -> Response<ReplyBody> {
    match path {
        "/livez" => reply::health(true, "alive\n"),
        "/readyz" => {
            let (is_ready, text) = readiness.word();
            reply::health(is_ready, text)
        }
        _ => reply::nothing_here(),
    }
}

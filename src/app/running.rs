//! A process that serves, and how it ends.
//!
//! Owns the order of the end: not ready, then no new connections, then what was begun is finished, and given up when the
//! grace is over. What is guarded and unfinished then is recorded as unknown. At last what is left of the traces is sent.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::App;
use super::traces::Exporting;
use crate::server::Server;
use crate::server::admin::Readiness;

/// How often upstream connections that were idle for too long are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long the store may take to record what is given up when the grace is over.
const MARKING_TIMEOUT: Duration = Duration::from_secs(3);

/// Oncegate, serving.
pub(super) struct Running {
    server: Arc<Server>,
    readiness: Arc<Readiness>,
    /// Ends the accepting of connections, and asks those that are open to end.
    stop: CancellationToken,
    accepting: TaskTracker,
    work: TaskTracker,
    exporting: Option<Exporting>,
    /// How much was unfinished when the grace was over. Here, since an abort drops who finds it out.
    given_up: usize,
    /// What runs in the background ends with this.
    _ended: DropGuard,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All work that was begun is finished and recorded.
    Complete,
    /// The grace was over with this many guarded requests unfinished, and their outcomes are recorded as unknown.
    Marked(usize),
    /// The abort came, or the store did not take it, with this many guarded requests and records unfinished.
    Unfinished(usize),
}

impl Running {
    /// Serves, and does all that goes on beside.
    pub(super) fn begin(app: App) -> Self {
        let App { guard, readiness, server, reloader, tls, work, listeners, admin, traces, .. } = app;
        let (stop, accepting) = (CancellationToken::new(), TaskTracker::new());
        for (listener, how) in listeners.into_iter().zip(server.params().listeners.clone()) {
            drop(accepting.spawn(server.clone().serve(listener, how, stop.clone())));
        }
        let ended = CancellationToken::new();
        spawn_until(&ended, async move { guard.prune_forever().await });
        spawn_until(&ended, sweep_forever(server.clone()));
        server.proxy().health_checks().for_each(|check| spawn_until(&ended, check));
        spawn_until(&ended, reloader.reload_forever(ended.clone()));
        let own_tls = admin.as_ref().and_then(|(_, admin)| admin.tls().cloned());
        for tls in tls.into_iter().chain(own_tls) {
            spawn_until(&ended, tls.reload_forever());
        }
        if let Some((listener, admin)) = admin {
            spawn_until(&ended, admin.serve(listener));
        }
        let exporting = traces.map(|traces| traces.export(&ended));
        Self { server, readiness, stop, accepting, work, exporting, given_up: 0, _ended: ended.drop_guard() }
    }

    /// [`App::run`].
    pub(super) async fn until(
        mut self,
        shutdown: impl Future<Output = ()>,
        abort: impl Future<Output = ()>,
    ) -> Drained {
        let ending = async {
            shutdown.await;
            self.leave().await;
            self.drain().await;
            if let Some(exporting) = self.exporting.take() {
                exporting.finish().await;
            }
        };
        tokio::select! {
            () = ending => {}
            () = abort => {}
        }
        match (self.unfinished(), self.given_up) {
            // Streams that are not guarded may be cut: nothing was promised of them.
            (0, 0) => Drained::Complete,
            (0, given_up) => {
                warn!(unfinished = given_up, "what was given up is recorded as unknown");
                Drained::Marked(given_up)
            }
            (unfinished, _) => Drained::Unfinished(unfinished),
        }
    }

    /// Guarded requests that are at work, and records that the store has not taken.
    fn unfinished(&self) -> usize {
        self.work.len() + usize::try_from(self.server.proxy().guarded_in_flight()).unwrap_or(usize::MAX)
    }

    /// Is not ready any more, and serves on for `drain_delay`.
    async fn leave(&self) {
        self.readiness.drain();
        let drain_delay = self.server.params().drain_delay;
        if !drain_delay.is_zero() {
            info!(?drain_delay, "not ready any more; requests are still welcome");
            self.server.leave();
            sleep(drain_delay).await;
        }
    }

    /// Finishes what was begun, and gives up what the grace does not suffice for.
    async fn drain(&mut self) {
        let connections = self.server.connections().clone();
        info!(connections = connections.len(), unfinished = self.unfinished(), "draining");
        self.server.proxy().drain();
        self.stop.cancel();
        let all = [self.accepting.clone(), connections.clone(), self.work.clone()];
        let mut finished = pin!(async move {
            for tracker in all {
                tracker.close();
                tracker.wait().await;
            }
        });
        if timeout(self.server.params().shutdown_grace, &mut finished).await.is_ok() {
            info!("drained");
            return;
        }
        self.given_up = self.unfinished();
        warn!(
            connections = connections.len(),
            unfinished = self.given_up,
            "the grace is over: what is unfinished is given up"
        );
        self.server.proxy().background().give_up();
        // How much is left then is told at the end.
        timeout(MARKING_TIMEOUT, finished).await.unwrap_or(());
    }
}

/// Closes upstream connections that were idle for too long, again and again.
async fn sweep_forever(server: Arc<Server>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        server.proxy().sweep();
    }
}

/// Runs `chore` in the background until `ended`. Nothing waits for it.
pub(super) fn spawn_until(ended: &CancellationToken, chore: impl Future<Output = ()> + Send + 'static) {
    let ended = ended.clone();
    drop(TaskTracker::new().spawn(async move { ended.run_until_cancelled(chore).await }));
}

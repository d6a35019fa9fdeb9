//! Spans on their way to a collector, from the start of the process to its end.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::TraceSettings;
use crate::proxy::trace::{Span, Tracer};
use crate::telemetry::otlp::Exporter;

/// How long the end of the process waits for what is left to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Spans that nobody sends yet.
#[derive(Debug)]
pub(super) struct Traces {
    settings: TraceSettings,
    tracer: Tracer,
    spans: mpsc::Receiver<Span>,
}

/// Spans that are being sent.
pub(super) struct Exporting {
    stop: CancellationToken,
    task: TaskTracker,
}

impl Traces {
    pub(super) fn new(settings: TraceSettings) -> Self {
        let (tracer, spans) = Tracer::new(settings.sample_ratio);
        Self { settings, tracer, spans }
    }

    pub(super) fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Sends spans until `ended`, which cuts off what is left.
    pub(super) fn export(self, ended: &CancellationToken) -> Exporting {
        let (stop, task, ended) = (CancellationToken::new(), TaskTracker::new(), ended.clone());
        let exporter = Exporter::new(self.settings, self.tracer, self.spans, stop.clone());
        drop(task.spawn(async move { ended.run_until_cancelled(exporter.run()).await }));
        task.close();
        Exporting { stop, task }
    }
}

impl Exporting {
    /// Sends what is left, if that is quick.
    pub(super) async fn finish(self) {
        self.stop.cancel();
        if timeout(FLUSH_TIMEOUT, self.task.wait()).await.is_err() {
            warn!("the last spans are not sent: their collector does not take them");
        }
    }
}

//! Spans on their way to a collector: OTLP 1.x over HTTP/1.1, in protobuf.
//!
//! Owns batches and what becomes of them. Each is sent once, on a connection of its own, within `timeout`; one that is not
//! taken is counted as dropped. So a collector that is gone or slow costs spans, and nothing else.

mod messages;

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::messages::ExportTraceServiceResponse;
use crate::config::TraceSettings;
use crate::proxy::policy::Address;
use crate::proxy::trace::{Span, Tracer};

/// How many spans are sent at once.
const MAX_BATCH_SPANS: usize = 512;

/// How long a span waits for others.
const MAX_BATCH_WAIT: Duration = Duration::from_secs(1);

/// How much of a collector's answer is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends spans.
#[derive(Debug)]
pub struct Exporter {
    settings: TraceSettings,
    tracer: Tracer,
    spans: mpsc::Receiver<Span>,
    stop: CancellationToken,
}

/// Why a batch was not taken.
#[derive(Debug, Error)]
enum ExportError {
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    #[error("no answer: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("no answer that can be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer was {0}")]
    Refused(http::StatusCode),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0} spans were rejected")]
    Rejected(usize),
}

impl Exporter {
    /// Of the spans that wait in `spans`; what is lost is counted by `tracer`.
    #[must_use]
    pub const fn new(
        settings: TraceSettings,
        tracer: Tracer,
        spans: mpsc::Receiver<Span>,
        stop: CancellationToken,
    ) -> Self {
        Self { settings, tracer, spans, stop }
    }

    /// Sends batch after batch. From `stop` on no more spans are taken, and it ends when those that wait are sent.
    pub async fn run(mut self) {
        let mut is_well = true;
        loop {
            let batch = self.next_batch().await;
            if batch.is_empty() {
                return;
            }
            let count = batch.len();
            match self.export(batch).await {
                Ok(()) if is_well => {}
                Ok(()) => {
                    is_well = true;
                    info!(dropped = self.tracer.dropped(), "spans are taken again");
                }
                Err(error) => {
                    self.tracer.lose(if let ExportError::Rejected(spans) = error { spans } else { count });
                    if is_well {
                        is_well = false;
                        let collector = &self.settings.endpoint.authority;
                        warn!(%collector, %error, "spans are dropped; this is said once until they are taken again");
                    }
                }
            }
        }
    }

    /// The spans that are sent next: as many as fit, or as come in time. None at the end.
    async fn next_batch(&mut self) -> Vec<Span> {
        let Self { spans, stop, .. } = self;
        let mut batch = Vec::new();
        let mut stopped = pin!(stop.cancelled());
        let mut until: Option<Instant> = None;
        while batch.len() < MAX_BATCH_SPANS {
            let is_late = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let room = MAX_BATCH_SPANS - batch.len();
            tokio::select! {
                biased;
                () = &mut stopped, if !spans.is_closed() => spans.close(),
                () = is_late => break,
                count = spans.recv_many(&mut batch, room) => if count == 0 {
                    break;
                },
            }
            until = until.or_else(|| (!batch.is_empty()).then(|| Instant::now() + MAX_BATCH_WAIT));
        }
        batch
    }

    async fn export(&self, batch: Vec<Span>) -> Result<(), ExportError> {
        let patience = self.settings.timeout;
        let body = messages::batch(batch, &self.settings.service_name);
        let answer =
            timeout(patience, self.post(body)).await.unwrap_or(Err(ExportError::TimedOut(patience)))?;
        let rejected = ExportTraceServiceResponse::decode(answer)
            .ok()
            .and_then(|answer| usize::try_from(answer.partial_success?.rejected_spans).ok());
        match rejected {
            Some(spans) if spans > 0 => Err(ExportError::Rejected(spans)),
            _ => Ok(()),
        }
    }

    /// The body of the answer to one request.
    async fn post(&self, body: Vec<u8>) -> Result<Bytes, ExportError> {
        let endpoint = &self.settings.endpoint;
        let stream = match &endpoint.address {
            Address::Ip(address) => TcpStream::connect(address).await?,
            Address::Name(name, port) => TcpStream::connect((name.as_str(), *port)).await?,
            Address::Unix(_) => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/traces", endpoint.base_path))
            .header(HOST, &endpoint.authority)
            .header(USER_AGENT, concat!("oncegate/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .body(Full::<Bytes>::from(body))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async move {
            let response = sender.send_request(request).await?;
            if !response.status().is_success() {
                return Err(ExportError::Refused(response.status()));
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok(body.map_err(ExportError::Body)?.to_bytes())
        };
        let mut exchange = pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            // It ends before the answer is read, which is then in memory, or will not come.
            _ended = connection => exchange.await,
        }
    }
}

//! One request to an admin listener, on a connection of its own.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{ServerName, pem};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::target::{Target, Tls};
use crate::server::admin::TokenError;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Asks one admin listener.
#[derive(Debug)]
pub(super) struct Client {
    target: Target,
    timeout: Duration,
}

/// What it said.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    body: Bytes,
}

/// Why it cannot be asked. What is wrong, then, after a semicolon, how to mend it.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The URL is none.
    #[error("{0:?} is no URL of an admin listener; write one, as in http://127.0.0.1:9090")]
    Url(String),
    /// The file of authorities cannot be read.
    #[error("{} cannot be read ({cause}); name a readable PEM file", .path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A certificate or a key cannot be read.
    #[error("{} cannot be read as PEM ({cause}); name a readable file", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// Nobody can be believed.
    #[error("there is no certificate of an authority to go by; name a file with --ca")]
    NoAuthorities,
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// TLS cannot be spoken.
    #[error("TLS cannot be set up ({0}); look at --ca")]
    Tls(#[from] rustls::Error),
    /// It cannot be reached.
    #[error("{authority} cannot be asked ({cause}); is it where Oncegate's admin listener is?")]
    Unreachable {
        /// Where it should be.
        authority: String,
        /// What is wrong.
        cause: String,
    },
}

impl Answer {
    pub(super) const fn status(&self) -> u16 {
        self.status
    }

    pub(super) const fn is_success(&self) -> bool {
        self.status / 100 == 2
    }

    pub(super) const fn body(&self) -> &Bytes {
        &self.body
    }
}

impl Client {
    pub(super) const fn new(target: Target, timeout: Duration) -> Self {
        Self { target, timeout }
    }

    /// Asks, and reads the whole answer. A body is JSON.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, ClientError> {
        let asked = timeout(self.timeout, self.exchange(method, path, body)).await;
        asked.unwrap_or_else(|_| Err(self.unreachable("it does not answer")))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, ClientError> {
        let authority = &self.target.authority;
        let request = self.request(method, path, body)?;
        let stream = TcpStream::connect(authority).await.map_err(|error| self.unreachable(error))?;
        let Some(tls) = self.target.tls_config()? else {
            return self.converse(TokioIo::new(stream), request).await;
        };
        let stream = TlsConnector::from(Arc::new(tls)).connect(self.name()?, stream).await;
        self.converse(TokioIo::new(stream.map_err(|error| self.unreachable(error))?), request).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| ClientError::Url(path.to_owned()))?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| self.unreachable(error));
        request.headers_mut().insert(HOST, value(&self.target.authority)?);
        if let Some(token) = self.target.token() {
            request.headers_mut().insert(AUTHORIZATION, value(&format!("Bearer {token}"))?);
        }
        if let Some(body) = body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = body.into();
        }
        Ok(request)
    }

    async fn converse(
        &self,
        stream: impl Read + Write + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, ClientError> {
        let (mut sender, connection) =
            http1::handshake(stream).await.map_err(|error| self.unreachable(error))?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(|error| self.unreachable(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| self.unreachable(error))?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), body })
        };
        let mut answering = pin!(answering);
        tokio::select! {
            answer = &mut answering => answer,
            // What it has read before it ended is still to be taken.
            _ = connection => answering.await,
        }
    }

    fn name(&self) -> Result<ServerName<'static>, ClientError> {
        let host = self.target.authority.rsplit_once(':').map_or("", |(host, _)| host);
        let host = if matches!(self.target.tls, Some(Tls::Pinned(_))) {
            "oncegate.invalid"
        } else {
            host.trim_matches(['[', ']'])
        };
        ServerName::try_from(host.to_owned()).map_err(|error| self.unreachable(error))
    }

    fn unreachable(&self, cause: impl ToString) -> ClientError {
        let doubt = self.target.doubt.map(|doubt| format!("; {doubt}")).unwrap_or_default();
        let cause = cause.to_string() + &doubt;
        ClientError::Unreachable { authority: self.target.authority.clone(), cause }
    }
}

//! TLS towards clients.
//!
//! Owns the certificates: which one a client is shown, which clients have to show one, and that new contents of the files
//! are taken without a connection being dropped. Files that cannot be used change nothing: what was read last goes on.

mod error;
mod files;

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{CertificateParams, ClientAuthParams, TlsParams};
use crate::proxy::Tls;
use crate::proxy::socket::Socket;

pub use error::TlsError;
use files::Contents;

const ALPN_HTTP1: &[u8] = b"http/1.1";
const ALPN_HTTP2: &[u8] = b"h2";

/// TLS as it is spoken at present.
#[derive(Debug)]
pub struct TlsServer {
    params: TlsParams,
    http2: bool,
    config: RwLock<Arc<ServerConfig>>,
    /// When each certificate expires, in seconds since 1970, in the order of the files.
    expiries: RwLock<Vec<i64>>,
    /// The contents that were looked at last, good or bad.
    looked_at: RwLock<[u8; 32]>,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) stream: TlsStream<Socket>,
    pub(super) tls: Tls,
    /// Whether HTTP/2 was agreed on.
    pub(super) is_http2: bool,
}

impl TlsServer {
    /// Reads the files that `params` name. `http2` says whether that is offered.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn new(params: TlsParams, http2: bool) -> Result<Self, TlsError> {
        let contents = Contents::read(&params)?;
        let (config, expiries) = config(&params, http2, &contents)?;
        let (config, expiries) = (RwLock::new(Arc::new(config)), RwLock::new(expiries));
        Ok(Self { params, http2, config, expiries, looked_at: RwLock::new(contents.digest()) })
    }

    /// The files of the certificates in use, and when each expires, in seconds since 1970.
    pub(super) fn expiries(&self) -> Vec<(String, i64)> {
        let files = self.params.certificates.iter().map(|files| files.cert.display().to_string());
        let expiries = self.expiries.read().unwrap_or_else(PoisonError::into_inner);
        files.zip(expiries.iter().copied()).collect()
    }

    /// Does the handshake.
    pub(super) async fn accept(&self, socket: Socket) -> std::io::Result<Secured> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let accepting = TlsAcceptor::from(config).accept(socket);
        let stream = timeout(self.params.handshake_timeout, accepting).await??;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|leaf| Sha256::digest(leaf).into());
        let is_http2 = session.alpn_protocol() == Some(ALPN_HTTP2);
        Ok(Secured { stream, tls: Tls { certificate }, is_http2 })
    }

    /// Takes new contents of the files, for as long as it is polled.
    pub async fn reload_forever(self: Arc<Self>) {
        loop {
            sleep(self.params.reload_interval).await;
            let own = self.clone();
            // It fails only if the runtime is ending.
            spawn_blocking(move || own.reload()).await.unwrap_or(());
        }
    }

    fn reload(&self) {
        let contents = match Contents::read(&self.params) {
            Ok(contents) => contents,
            // A file may be missing for a moment while it is replaced, and then the next look finds it.
            Err(error) => {
                if self.is_new([0; 32]) {
                    warn!(%error, "the certificates are kept as they are");
                }
                return;
            }
        };
        if !self.is_new(contents.digest()) {
            return;
        }
        match config(&self.params, self.http2, &contents) {
            Ok((config, expiries)) => {
                *self.expiries.write().unwrap_or_else(PoisonError::into_inner) = expiries;
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                info!("new certificates are in use");
            }
            Err(error) => warn!(%error, "the certificates are kept as they are"),
        }
    }

    /// Whether this is not what was looked at last.
    fn is_new(&self, digest: [u8; 32]) -> bool {
        let mut last = self.looked_at.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, digest) != digest
    }
}

impl CertificateParams {
    /// Whether the files can be used: reads them.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        files::certified_key(self, &aws_lc_rs::default_provider()).map(drop)
    }
}

impl ClientAuthParams {
    /// Whether clients can be checked by it: reads the file.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        verifier(files::roots(self)?, self.required, provider).map(drop)
    }
}

/// What is spoken by these contents, and when each certificate expires.
fn config(
    params: &TlsParams,
    http2: bool,
    contents: &Contents,
) -> Result<(ServerConfig, Vec<i64>), TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let keys = contents.keys(params, &provider)?;
    let expiries = keys.iter().map(|key| expiry(key)).collect();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let builder = match &params.client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => {
            let roots = contents.client_roots(auth)?;
            builder.with_client_cert_verifier(verifier(roots, auth.required, provider)?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(BySni(keys)));
    config.alpn_protocols =
        if http2 { vec![ALPN_HTTP2.into(), ALPN_HTTP1.into()] } else { vec![ALPN_HTTP1.into()] };
    // What comes with 0-RTT can be replayed by anybody who sees it.
    config.max_early_data_size = 0;
    Ok((config, expiries))
}

/// When a certificate expires (RFC 5280 §4.1.2.5); 0 if it does not say so in a way that can be read.
fn expiry(key: &CertifiedKey) -> i64 {
    let leaf = key.end_entity_cert().ok().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    leaf.map_or(0, |(_, leaf)| leaf.validity().not_after.timestamp())
}

fn verifier(
    roots: RootCertStore,
    required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(TlsError::Verifier)
}

/// The first certificate for the host that the client names and the signatures that it knows; else the first of all.
#[derive(Debug)]
struct BySni(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |key: &Arc<CertifiedKey>, name: &ServerName<'_>| {
            let leaf = key.end_entity_cert().ok();
            let leaf = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            leaf.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
        };
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = name.and_then(|name| self.0.iter().filter(|key| is_for(key, &name)).find(suits));
        named.or_else(|| self.0.first()).cloned()
    }
}

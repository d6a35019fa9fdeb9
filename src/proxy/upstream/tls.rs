//! TLS to upstreams (rustls over aws-lc-rs, versions 1.2 and 1.3, no early data).
//!
//! Owns what is believed, the name that is asked for, and what is offered by ALPN (RFC 7301). A connection whose handshake
//! did not end well has carried no byte of a request.

use std::error::Error as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::proxy::policy::{Address, Protocol, Upstream, UpstreamTls};
use crate::proxy::socket::Socket;

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Why TLS cannot be spoken as the operator wants it. The texts are for the operator and say how to mend it.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("{} cannot be read as PEM ({source}); name a readable file", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A PEM file holds no certificate.
    #[error("{} holds no certificate; name a PEM file that does", .0.display())]
    NoCertificate(PathBuf),
    /// The system has no authorities that it believes.
    #[error("this system has no certificates of authorities; install them (ca-certificates), or set `ca`")]
    NoSystemRoots,
    /// Certificate and key do not belong together, or one of them is of no use.
    #[error("the certificates or the key are of no use ({0}); renew them")]
    Unusable(#[from] rustls::Error),
    /// The name is none that a certificate can have.
    #[error("the name for TLS is no name of a host ({0}); mend `server_name`")]
    Name(#[from] InvalidDnsNameError),
}

/// What the files of an upstream held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilesDigest([u8; 32]);

/// How TLS is spoken to one endpoint.
#[derive(Clone)]
pub(super) struct Tls {
    /// Offers what the upstream's `protocol` allows.
    any: TlsConnector,
    /// Offers HTTP/1.1 and nothing else: only there a connection can switch protocols.
    http1: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS to `address` with what `config` believes.
    pub(super) fn new(config: &ClientConfig, address: &Address, params: &Upstream) -> Result<Self, TlsError> {
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let any = match params.protocol {
            Protocol::Http1 => offering(&[HTTP1]),
            Protocol::Http2 => offering(&[HTTP2]),
            Protocol::Auto => offering(&[HTTP2, HTTP1]),
        };
        let name = match (&params.tls.server_name, address) {
            (Some(name), _) | (None, Address::Name(name, _)) => name.clone().try_into()?,
            (None, Address::Ip(address)) => ServerName::from(address.ip()),
            (None, Address::Unix(_)) => ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST)),
        };
        Ok(Self { any, http1: offering(&[HTTP1]), name })
    }

    /// The handshake. Its end says whether HTTP/2 is spoken.
    pub(super) async fn handshake(
        &self,
        socket: Socket,
        http1_only: bool,
    ) -> io::Result<(TlsStream<Socket>, bool)> {
        let connector = if http1_only { &self.http1 } else { &self.any };
        let stream = connector.connect(self.name.clone(), socket).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok((stream, is_http2))
    }
}

impl UpstreamTls {
    /// What is believed, and who this proxy says it is: reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots(self.ca.as_deref())?);
        Ok(match &self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(certificates(chain)?, private_key(key)?)?,
            None => builder.with_no_client_auth(),
        })
    }

    /// What the files hold at present, good or bad.
    pub(super) fn digest(&self) -> FilesDigest {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        let mut digest = Sha256::new();
        for path in self.ca.iter().chain(identity) {
            match fs::read(path) {
                Ok(contents) => digest.update(Sha256::digest(contents)),
                Err(_) => digest.update([0]),
            }
        }
        FilesDigest(digest.finalize().into())
    }
}

/// Whether the peer ended the handshake because of this proxy's certificate, or the lack of one. TLS 1.3 lets a client send
/// before it knows (RFC 8446 §4.4.2.4), but nothing of it is read before the certificate was judged. True only of the first
/// request on a connection.
pub(super) fn is_turned_away(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let cause = cause.and_then(io::Error::get_ref).and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(
        cause,
        Some(rustls::Error::AlertReceived(
            AlertDescription::AccessDenied
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate
        ))
    )
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(TlsError::NoSystemRoots);
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(unreadable)?;
    if certificates.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(certificates) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

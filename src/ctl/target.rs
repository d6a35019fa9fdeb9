//! Where the admin listener is, what is shown to it and what it has to show.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::client::ClientError;
use crate::config::{self, ConfigError};
use crate::server::{AdminParams, TokenParams};

/// Without a word on where it is.
const DEFAULT: &str = "127.0.0.1:9090";

/// The file has mistakes.
const MISTAKEN: &str =
    "the configuration has mistakes, so this is only the usual address: name it with --admin";

/// The environment's token.
const TOKEN_VARIABLE: &str = "ONCEGATE_ADMIN_TOKEN";

/// One admin listener.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Host and port.
    pub(super) authority: String,
    pub(super) tls: Option<Tls>,
    /// What may be wrong with the address, where nobody is found there.
    pub(super) doubt: Option<&'static str>,
    token: Option<TokenParams>,
    /// A certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

/// What its certificate is judged by.
#[derive(Clone, Debug)]
pub(super) enum Tls {
    /// The authorities of this file, or of the system.
    By(Option<Vec<u8>>),
    /// The certificate that the listener was told to show: this process and it share the files.
    Pinned(CertificateDer<'static>),
}

impl Target {
    pub(super) fn of_url(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(url.to_owned());
        let parsed: Uri = url.parse().map_err(|_| wrong())?;
        let (tls, default_port) = match parsed.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(Tls::By(None)), 443),
            _ => return Err(wrong()),
        };
        if parsed.path() != "/" || parsed.query().is_some() {
            return Err(wrong());
        }
        let authority = parsed.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(default_port);
        Ok(Self { authority: format!("{}:{port}", authority.host()), tls, ..Self::usual() })
    }

    /// What `[admin]` of this file says. Without the file, or with one that has mistakes, the usual address: a process that
    /// runs goes by what it has read before.
    pub(super) fn of_config(path: &Path) -> Self {
        match config::load(path) {
            Ok(loaded) => {
                loaded.settings.server.admin.map_or_else(Self::usual, |admin| Self::of_params(&admin))
            }
            Err(ConfigError::Unreadable { .. }) => Self::usual(),
            Err(ConfigError::Invalid { .. }) => Self { doubt: Some(MISTAKEN), ..Self::usual() },
        }
    }

    fn usual() -> Self {
        Self { authority: DEFAULT.to_owned(), tls: None, doubt: None, token: None, identity: None }
    }

    fn of_params(admin: &AdminParams) -> Self {
        let ip = match admin.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        let certificate = admin.tls.as_ref().and_then(|tls| tls.certificates.first());
        let pinned = certificate.and_then(|files| CertificateDer::from_pem_file(&files.cert).ok());
        let tls = admin.tls.is_some().then(|| pinned.map_or(Tls::By(None), Tls::Pinned));
        let authority = SocketAddr::new(ip, admin.listen.port()).to_string();
        Self { authority, tls, token: admin.token.clone(), ..Self::usual() }
    }

    /// With the token of this file, or of the environment, if there is one.
    pub(super) fn with_token(self, file: Option<&Path>) -> Result<Self, ClientError> {
        let variable =
            std::env::var_os(TOKEN_VARIABLE).map(|_| TokenParams::Environment(TOKEN_VARIABLE.to_owned()));
        let token = file.map(|file| TokenParams::File(file.to_owned())).or(variable);
        if let Some(token) = &token {
            token.check()?;
        }
        Ok(Self { token: token.or(self.token), ..self })
    }

    /// With the authorities of this file.
    pub(super) fn with_ca(self, file: Option<&Path>) -> Result<Self, ClientError> {
        let Some(file) = file else { return Ok(self) };
        let pem = std::fs::read(file).map_err(|cause| ClientError::Ca { path: file.to_owned(), cause })?;
        Ok(Self { tls: self.tls.map(|_| Tls::By(Some(pem))), ..self })
    }

    /// With this certificate and its key.
    pub(super) fn with_identity(self, identity: Option<(PathBuf, PathBuf)>) -> Self {
        Self { identity, ..self }
    }

    /// How TLS is spoken, if it is.
    pub(super) fn tls_config(&self) -> Result<Option<ClientConfig>, ClientError> {
        let identity = self.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        self.tls.as_ref().map(|tls| tls.config(identity)).transpose()
    }

    /// The token, if there is one that can be read. A probe needs none.
    pub(super) fn token(&self) -> Option<String> {
        self.token.as_ref().and_then(|token| token.read().ok())
    }
}

impl Tls {
    fn config(&self, identity: Option<(&Path, &Path)>) -> Result<ClientConfig, ClientError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match self {
            Self::Pinned(certificate) => {
                let verifier = Pinned { certificate: certificate.clone(), provider };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Self::By(pem) => builder.with_root_certificates(roots(pem.as_deref())?),
        };
        let Some((cert, key)) = identity else { return Ok(builder.with_no_client_auth()) };
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |cause| ClientError::Pem { path, cause }
        };
        let chain =
            CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(unreadable(cert))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
        Ok(builder.with_client_auth_cert(chain, key)?)
    }
}

fn roots(pem: Option<&[u8]>) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    match pem {
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
                roots.add(certificate)?;
            }
        }
    }
    if roots.is_empty() { Err(ClientError::NoAuthorities) } else { Ok(roots) }
}

/// Takes one certificate, whatever name it is for and whoever vouches for it.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

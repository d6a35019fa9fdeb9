//! TLS before a scripted upstream: certificates of a test's own authority, and what was seen of each handshake.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::aside;

/// An authority, and the files of what it has issued.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// What a front does beside decrypting.
#[derive(Clone, Debug)]
pub struct Front {
    /// What it chooses from by ALPN, best first.
    pub alpn: Vec<&'static str>,
    /// Whether it says goodbye (close_notify) before it closes.
    pub is_polite: bool,
    pub wants_client_certificate: bool,
    pub versions: Vec<&'static SupportedProtocolVersion>,
}

/// One handshake that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaken {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub is_client_known: bool,
}

/// A running front.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    shaken: Arc<Mutex<Vec<Shaken>>>,
}

impl Default for Front {
    fn default() -> Self {
        let versions = vec![&rustls::version::TLS13, &rustls::version::TLS12];
        Self { alpn: vec!["h2", "http/1.1"], is_polite: true, wants_client_certificate: false, versions }
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than its certificates have, or OpenSSL takes them for their own issuers.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        Self { issuer, folder: tempfile::tempdir().expect("a folder") }
    }

    /// The file of its certificate.
    pub fn ca(&self) -> PathBuf {
        let path = self.folder.path().join("ca.pem");
        std::fs::write(&path, self.issuer.pem()).expect("a file");
        path
    }

    /// The files of a certificate for `name` and of its key.
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |kind| self.folder.path().join(format!("{name}.{kind}"));
        std::fs::write(file("pem"), certificate.pem()).expect("a file");
        std::fs::write(file("key"), key.serialize_pem()).expect("a file");
        (file("pem"), file("key"))
    }

    fn server(&self, name: &str, front: &Front) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (cert, key) = self.issue(name);
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&front.versions).expect("versions");
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let builder = match front.wants_client_certificate {
            true => builder.with_client_cert_verifier(verifier.build().expect("a verifier")),
            false => builder.with_no_client_auth(),
        };
        let chain = vec![CertificateDer::from_pem_file(cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let mut config = builder.with_single_cert(chain, key).expect("a certificate and its key");
        config.alpn_protocols = front.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

impl TlsFront {
    /// Before what listens at `back`, as `name`.
    pub async fn start(back: SocketAddr, authority: &Authority, name: &str, front: Front) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(authority.server(name, &front)));
        let shaken = Arc::new(Mutex::new(Vec::new()));
        let seen = shaken.clone();
        drop(aside(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                drop(aside(serve(stream, acceptor, back, front.is_polite, seen)));
            }
        }));
        Self { address, shaken }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn shaken(&self) -> Vec<Shaken> {
        self.shaken.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    back: SocketAddr,
    is_polite: bool,
    seen: Arc<Mutex<Vec<Shaken>>>,
) {
    // A handshake that fails is the test's point, or shows in what it does next.
    let Ok(tls) = acceptor.accept(stream).await else { return };
    let state = tls.get_ref().1;
    seen.lock().unwrap().push(Shaken {
        name: state.server_name().map(str::to_owned),
        protocol: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        is_client_known: state.peer_certificates().is_some(),
    });
    let mut back = TcpStream::connect(back).await.expect("the upstream behind");
    let (mut back_reads, mut back_writes) = back.split();
    let (mut front_reads, mut front_writes) = split(tls);
    tokio::select! {
        _ = copy(&mut back_reads, &mut front_writes) => {
            if is_polite {
                front_writes.shutdown().await.unwrap_or(());
            }
        }
        _ = copy(&mut front_reads, &mut back_writes) => {}
    }
}

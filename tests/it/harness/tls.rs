//! Certificates of a test's own, as files, and clients that speak TLS.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::within;

/// Who vouches for all certificates of a test, and the folder where they are.
#[derive(Debug)]
pub struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    pub der: CertificateDer<'static>,
    key: KeyPair,
}

impl Certificates {
    /// Writes `ca.crt`.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // Another name than that of what it signs, or openssl takes them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// With `server.crt` and `server.key` for `api.test`.
    pub fn with_server() -> Self {
        let authority = Self::new();
        drop(authority.certify("server", &["api.test"]));
        authority
    }

    /// The path of a file, as a configuration names it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `tls` of `[server]` says: `server.crt`, `server.key`, and `more`.
    pub fn toml(&self, more: &str) -> String {
        let folder = self.folder.path().display();
        let comma = if more.is_empty() { "" } else { ", " };
        let more = more.replace("@", &format!("{folder}/"));
        format!("tls = {{ cert = \"{folder}/server.crt\", key = \"{folder}/server.key\"{comma}{more} }}")
    }

    /// Writes `name.crt` and `name.key`, for these hosts.
    pub fn certify(&self, name: &str, hosts: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let signed = CertificateParams::new(hosts).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.crt")), signed.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        Certificate { der: signed.der().clone(), key }
    }

    /// A client's connection, its handshake done.
    pub async fn connect(
        &self,
        address: SocketAddr,
        host: &str,
        protocol: &str,
        client: Option<&Certificate>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        self.secure(stream, host, protocol, client).await
    }

    /// Does the handshake on a connection.
    pub async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
        protocol: &str,
        client: Option<&Certificate>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => config.with_no_client_auth(),
            Some(Certificate { der, key }) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                config.with_client_auth_cert(vec![der.clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from(host.to_owned()).unwrap();
        within("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

//! Certificates of a test's own, as files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// Who vouches for all certificates of a test, and the folder where they are.
#[derive(Debug)]
pub struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    temporary: Option<TempDir>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    pub der: CertificateDer<'static>,
    key: KeyPair,
}

impl Certificates {
    /// Writes `ca.crt`, into a folder that ends with this.
    pub fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut certificates = Self::in_folder(temporary.path());
        certificates.temporary = Some(temporary);
        certificates
    }

    /// Writes `ca.crt` into a folder of somebody else's.
    pub fn in_folder(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        // Another name than that of what it signs, or openssl takes them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, folder: folder.to_owned(), temporary: None }
    }

    /// With `server.crt` and `server.key` for `api.test`.
    pub fn with_server() -> Self {
        let authority = Self::new();
        drop(authority.certify("server", &["api.test"]));
        authority
    }

    /// The authority's own.
    pub fn authority(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// The path of a file, as a configuration names it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
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
}

impl Certificate {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

//! Certificates and keys as they stand in files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};

use super::TlsError;
use crate::server::{CertificateParams, ClientAuthParams, TlsParams};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What stands in the files, in the order in which they are named.
pub(super) struct Contents {
    /// The chain and the key of each certificate.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(params: &TlsParams) -> Result<Self, TlsError> {
        let pair = |files: &CertificateParams| Ok((read(&files.cert)?, read(&files.key)?));
        let pairs = params.certificates.iter().map(pair).collect::<Result<_, _>>()?;
        let client_ca = params.client_auth.as_ref().map(|auth| read(&auth.ca)).transpose()?;
        Ok(Self { pairs, client_ca })
    }

    /// Tells contents apart.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let pairs = self.pairs.iter().flat_map(|(cert, key)| [cert, key]);
        for contents in pairs.chain(&self.client_ca) {
            hasher.update((contents.len() as u64).to_be_bytes());
            hasher.update(contents);
        }
        hasher.finalize().into()
    }

    pub(super) fn keys(
        &self,
        params: &TlsParams,
        provider: &CryptoProvider,
    ) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
        let keys = params.certificates.iter().zip(&self.pairs);
        keys.map(|(files, (chain, key))| parsed_key(files, chain, key, provider).map(Arc::new)).collect()
    }

    pub(super) fn client_roots(&self, auth: &ClientAuthParams) -> Result<RootCertStore, TlsError> {
        parsed_roots(auth, self.client_ca.as_deref().unwrap_or_default())
    }
}

/// Reads a certificate and its key.
pub(super) fn certified_key(
    files: &CertificateParams,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    parsed_key(files, &read(&files.cert)?, &read(&files.key)?, provider)
}

/// Reads who vouches for clients.
pub(super) fn roots(auth: &ClientAuthParams) -> Result<RootCertStore, TlsError> {
    parsed_roots(auth, &read(&auth.ca)?)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |cause| TlsError::Unreadable { path: path.to_owned(), cause };
    let mut contents = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut contents).map_err(unreadable)?;
    if contents.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB")));
    }
    Ok(contents)
}

fn parsed_roots(auth: &ClientAuthParams, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&auth.ca, pem)? {
        roots.add(root).map_err(|cause| TlsError::ClientCa { path: auth.ca.clone(), cause })?;
    }
    Ok(roots)
}

fn parsed_key(
    files: &CertificateParams,
    chain: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert, chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey(files.key.clone()))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|cause| {
        if cause == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
            TlsError::Mismatch { key: files.key.clone(), cert: files.cert.clone() }
        } else {
            TlsError::Unusable { path: files.cert.clone(), cause }
        }
    })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    read.ok().filter(|found| !found.is_empty()).ok_or_else(|| TlsError::NoCertificate(path.to_owned()))
}

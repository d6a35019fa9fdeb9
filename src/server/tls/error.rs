//! Why certificates cannot be used, each with its mend.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Certificates that cannot be used. What is wrong, then, after a semicolon, how to mend it.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} ({cause}); name a file that the user who runs Oncegate may read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file without certificates.
    #[error("{} holds no certificate in PEM; write the server's own first, and behind it those that vouch for it", .0.display())]
    NoCertificate(PathBuf),
    /// A file without a key.
    #[error("{} holds no private key in PEM; name the key of the certificate, without passphrase", .0.display())]
    NoKey(PathBuf),
    /// A key of another certificate.
    #[error("the key in {} is not that of the first certificate in {}; name the two that belong together", .key.display(), .cert.display())]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        cert: PathBuf,
    },
    /// A certificate, or its key, of a kind that is not known.
    #[error("{} and its key cannot be used ({cause}); make a certificate with an ECDSA, Ed25519 or RSA key", .path.display())]
    Unusable {
        /// The file of the certificate.
        path: PathBuf,
        /// What rustls said.
        #[source]
        cause: rustls::Error,
    },
    /// A certificate that cannot vouch for clients.
    #[error("{} holds a certificate that cannot vouch for others ({cause}); name the file of a certificate authority", .path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        #[source]
        cause: rustls::Error,
    },
    /// Nobody vouches for clients.
    #[error(
        "client certificates cannot be checked ({0}); name a file with a certificate authority in `client_ca`"
    )]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The cryptography lacks what TLS needs.
    #[error("TLS cannot be set up ({0}); build Oncegate with aws-lc-rs")]
    Provider(#[source] rustls::Error),
}

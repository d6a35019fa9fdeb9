//! The operator's token.
//!
//! Owns its hash, never the token itself, and compares hashes, in the same time whatever was shown. The file is read at each
//! look, so that a new token is taken at once; while it cannot be read, the last one goes on.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::server::TokenParams;

/// The shortest token: 16 characters of base64 are 96 bits.
const MIN_BYTES: usize = 16;
const MAX_BYTES: usize = 1024;

type TokenHash = [u8; 32];

/// The token of one listener.
#[derive(Debug)]
pub(super) struct Token {
    source: TokenParams,
    last: RwLock<Last>,
}

#[derive(Debug)]
struct Last {
    hash: TokenHash,
    /// Whether the file could be read the last time.
    is_readable: bool,
}

/// A token that cannot be used. What is wrong, then, after a semicolon, how to mend it.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The environment has no such variable.
    #[error("the environment has no {0}; set it, or name a file in token_file")]
    NotSet(String),
    /// The file cannot be read.
    #[error("{} cannot be read ({cause}); name a readable file", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It is too short or too long, or holds what no field can carry.
    #[error(
        "the token must be {MIN_BYTES} to {MAX_BYTES} visible ASCII characters; make one with `openssl rand -base64 32`"
    )]
    Unfit,
}

impl TokenParams {
    /// Whether the token can be used: reads it.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn check(&self) -> Result<(), TokenError> {
        self.read().map(drop)
    }

    /// The token, for one who has to show it.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn read(&self) -> Result<String, TokenError> {
        let text = match self {
            Self::Environment(name) => {
                std::env::var(name).map_err(|_| TokenError::NotSet(name.clone()))?.into_bytes()
            }
            Self::File(path) => {
                read(path).map_err(|cause| TokenError::Unreadable { path: path.clone(), cause })?
            }
        };
        let token = text.trim_ascii_end();
        let fits = (MIN_BYTES..=MAX_BYTES).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
        let token = std::str::from_utf8(token).ok().filter(|_| fits);
        token.map(str::to_owned).ok_or(TokenError::Unfit)
    }
}

impl Token {
    pub(super) fn new(source: TokenParams) -> Result<Self, TokenError> {
        let last = Last { hash: hash(source.read()?.as_bytes()), is_readable: true };
        Ok(Self { source, last: RwLock::new(last) })
    }

    /// Whether this is the token, as it stands now.
    pub(super) async fn is(&self, shown: &[u8]) -> bool {
        let source = self.source.clone();
        // It fails only if the runtime is ending.
        if let Ok(read) = spawn_blocking(move || source.read()).await {
            self.note(read.map(|token| hash(token.as_bytes())));
        }
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner).hash;
        verify_slices_are_equal(&hash(shown), &last).is_ok()
    }

    fn note(&self, read: Result<TokenHash, TokenError>) {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(hash) => {
                if hash != last.hash {
                    info!("a new admin token is in use");
                }
                *last = Last { hash, is_readable: true };
            }
            Err(error) => {
                if last.is_readable {
                    warn!(%error, "the admin token is kept as it is");
                }
                last.is_readable = false;
            }
        }
    }
}

fn hash(token: &[u8]) -> TokenHash {
    Sha256::digest(token).into()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 3).read_to_end(&mut text)?;
    Ok(text)
}

//! What a file holds, as it was read: known by its digest, whichever way it came to be there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{ConfigError, Loaded, difference, parse};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = bytesize::MIB;

/// How many bytes of its digest name it.
const NAME_BYTES: usize = 8;

/// The contents of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    text: String,
}

impl Contents {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unreadable`] if it cannot be read, is not UTF-8, or is larger than 1 MiB.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { text })
    }

    /// What it asks for. The files that it names are beside `path`, where it was read.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with every mistake.
    pub fn parse(&self, path: &Path) -> Result<Loaded, ConfigError> {
        parse(&self.text, &path.display().to_string())
    }

    /// Its name: the first 16 hexadecimal digits of its SHA-256.
    #[must_use]
    pub fn hash(&self) -> String {
        let digest = Sha256::digest(&self.text);
        HEXLOWER.encode(digest.get(..NAME_BYTES).unwrap_or_default())
    }

    /// The settings, by their paths, that are written otherwise than in `earlier`; never their values.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        difference::between(&earlier.text, &self.text)
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Contents").field(&self.hash()).finish()
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

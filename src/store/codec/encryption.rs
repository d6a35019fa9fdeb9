//! Encryption at rest: the keys, and records sealed with them.
//!
//! Whoever reads the store, or a dump of it, learns neither answers nor fingerprints (which could be guessed from few
//! possible payloads), and cannot pass a record off as that of another request or of another part. Owners, times, ids
//! and lengths stay visible, and an old record of the same request can be put back.
//!
//! AES-256-GCM-SIV (RFC 8452) under random nonces of 96 bits: up to 2^32 records of one key two share a nonce with a
//! probability below 2^-32. Where plain GCM would then give the key's authentication away, here it only shows whether two
//! records of one request and one part are equal.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{CodecError, SEALED};
use crate::idempotency::RequestId;

const KEY_BYTES: usize = 32;

/// The largest file that is read.
const MAX_FILE_BYTES: usize = 1024;

const MAX_ID_BYTES: usize = 64;

/// A key, and what records call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionKeyParams {
    /// Up to 64 letters, digits, `.`, `_` and `-`. Every record that the key has sealed names it.
    pub id: String,
    /// The file: 32 bytes, as they are, in hexadecimal or in Base64.
    pub file: PathBuf,
}

/// A key that cannot be used. What is wrong, then, after a semicolon, how to mend it.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {} ({cause}); name a file that the user who runs Oncegate may read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no key of 32 bytes, as they are, in hexadecimal or in Base64; make one, as by `openssl rand -hex 32`", .0.display())]
    NoKey(PathBuf),
    /// An id that records cannot carry.
    #[error("\"{0}\" is no id of a key; write up to 64 letters, digits, \".\", \"_\" and \"-\"")]
    BadId(String),
    /// Two keys of one id.
    #[error("two keys have the id \"{0}\"; give each key an id of its own, which it keeps for ever")]
    SameId(String),
    /// Two ids of one key.
    #[error("\"{0}\" and \"{1}\" are the same key; make another, as by `openssl rand -hex 32`")]
    SameKey(String, String),
}

impl KeyError {
    /// The setting of the key that is wrong.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::NoKey(_) | Self::SameKey(..) => "file",
            Self::BadId(_) | Self::SameId(_) => "id",
        }
    }
}

impl EncryptionKeyParams {
    /// Whether the key can be used: reads the file.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn check(&self) -> Result<(), KeyError> {
        if !is_id(self.id.as_bytes()) {
            return Err(KeyError::BadId(self.id.clone()));
        }
        self.read().map(drop)
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let unreadable = |cause| KeyError::Unreadable { path: self.file.clone(), cause };
        // It never grows, which would leave a copy behind.
        let mut contents = Zeroizing::new(Vec::with_capacity(2 * MAX_FILE_BYTES));
        let file = File::open(&self.file).map_err(unreadable)?;
        file.take(MAX_FILE_BYTES as u64).read_to_end(&mut contents).map_err(unreadable)?;
        key(contents).ok_or_else(|| KeyError::NoKey(self.file.clone()))
    }
}

/// What a record is, and of which request. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Claim(&'a RequestId),
    Outcome(&'a RequestId),
}

/// The keys at hand.
#[derive(Default)]
pub(super) struct KeyRing {
    /// The first seals.
    keys: Vec<Key>,
    /// Whether it does.
    seals: bool,
}

struct Key {
    id: String,
    key: RandomizedNonceKey,
}

impl KeyRing {
    pub(super) fn read(params: &[EncryptionKeyParams], seals: bool) -> Result<Self, KeyError> {
        let mut read: Vec<(&str, Zeroizing<Vec<u8>>)> = Vec::new();
        for key in params {
            key.check()?;
            let bytes = key.read()?;
            for (id, other) in &read {
                if *id == key.id {
                    return Err(KeyError::SameId(key.id.clone()));
                }
                if *other == bytes {
                    return Err(KeyError::SameKey((*id).to_owned(), key.id.clone()));
                }
            }
            read.push((&key.id, bytes));
        }
        let keys = read.iter().zip(params).map(|((id, bytes), params)| {
            let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, bytes);
            let key = key.map_err(|_| KeyError::NoKey(params.file.clone()))?;
            Ok(Key { id: (*id).to_owned(), key })
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, seals })
    }

    /// The record as it is kept: sealed, unless no key does that.
    pub(super) fn sealed(&self, place: Place<'_>, mut record: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        let Some(Key { id, key }) = self.keys.first().filter(|_| self.seals) else { return Ok(record) };
        let bound = Aad::from(place.associated_data(id));
        let nonce = key.seal_in_place_append_tag(bound, &mut record);
        let nonce = nonce.map_err(|_| CodecError::Unwritable("it cannot be sealed"))?;
        let id_length =
            u8::try_from(id.len()).map_err(|_| CodecError::Unwritable("its key has a long id"))?;
        Ok([&[SEALED, id_length], id.as_bytes(), nonce.as_ref(), &record].concat())
    }

    /// The record that was sealed into what stands behind the format byte.
    pub(super) fn opened(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, CodecError> {
        let (id, nonce, sealed) = parts(sealed).ok_or(CodecError::Damaged("it is cut short"))?;
        let Some(Key { key, .. }) = self.keys.iter().find(|key| key.id == id) else {
            return Err(CodecError::MissingKey(id.to_owned()));
        };
        let mut record = sealed.to_vec();
        let bound = Aad::from(place.associated_data(id));
        let length = match key.open_in_place(Nonce::assume_unique_for_key(nonce), bound, &mut record) {
            Ok(opened) => opened.len(),
            Err(_) => return Err(CodecError::NotOpened(id.to_owned())),
        };
        record.truncate(length);
        Ok(record)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|key| &key.id).collect();
        f.debug_struct("KeyRing").field("ids", &ids).field("seals", &self.seals).finish()
    }
}

impl Place<'_> {
    fn associated_data(self, key_id: &str) -> Vec<u8> {
        let (part, id) = match self {
            Self::Claim(id) => (1, id),
            Self::Outcome(id) => (2, id),
        };
        [&[SEALED, part][..], id.as_bytes(), key_id.as_bytes()].concat()
    }
}

/// The id of the key, the nonce, and what was sealed.
fn parts(sealed: &[u8]) -> Option<(&str, [u8; NONCE_LEN], &[u8])> {
    let (id_length, rest) = sealed.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*id_length))?;
    let (nonce, sealed) = rest.split_first_chunk()?;
    // It is shown where the key is missing.
    let id = std::str::from_utf8(id).ok().filter(|id| is_id(id.as_bytes()))?;
    Some((id, *nonce, sealed))
}

fn is_id(id: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.iter().all(known)
}

/// The key that a file's contents are. Text is never taken as it is: 32 characters are half a key, or a password.
fn key(contents: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    let is_text = contents.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let key = if is_text {
        let text = contents.trim_ascii();
        let key = HEXLOWER_PERMISSIVE.decode(text).or_else(|_| BASE64.decode(text));
        Zeroizing::new(key.ok()?)
    } else {
        contents
    };
    (key.len() == KEY_BYTES).then_some(key)
}

//! How a shared store writes claims and outcomes down.
//!
//! Owns the bytes: a format byte, then what it announces, so that builds of different age can share a store during a
//! rolling upgrade. A build reads every format up to its own and refuses any other; it never guesses. Fields are only
//! ever added, and only such as may be overlooked: whatever a reader must understand is another way of ending, or another
//! format. What a store itself has to judge (owner, state, times) is not in here.
//!
//! ```text
//! 1 · protobuf message
//! 2 · length of the key's id u8 · id · nonce (12 bytes) · a record of format 1, sealed
//! ```

mod compression;
mod encryption;
mod messages;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prost::Message;
use thiserror::Error;

use crate::idempotency::{Answer, AnswerError, CallerHash, Claim, Fingerprint, Outcome, RequestId, State};

pub use encryption::{EncryptionKeyParams, KeyError};
use encryption::{KeyRing, Place};
use messages::{ClaimMessage, Ending, OutcomeMessage, answer, caller, cause, status};

/// A protobuf message as it is.
const PLAIN: u8 = 1;
/// A record behind a key's id and a nonce.
const SEALED: u8 = 2;

/// How records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecParams {
    /// Answers of more bytes than this are compressed, if that makes them smaller.
    pub compress_above_bytes: u64,
    /// The keys that open records. The first seals new ones.
    pub encryption_keys: Vec<EncryptionKeyParams>,
    /// Whether new records are sealed, if there is a key. While replicas are taught the keys one by one, or sealed records
    /// die out, they only open.
    pub encrypt: bool,
}

/// Writes and reads what a shared store keeps. Cheap to clone. The default neither compresses nor seals.
#[derive(Clone, Debug)]
pub struct Codec {
    compress_above_bytes: u64,
    keys: Arc<KeyRing>,
}

/// What a claim says of its request, once and for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The caller, where the id leaves him out.
    pub caller: Option<CallerHash>,
    /// The payload's fingerprint, unless it is still to come.
    pub fingerprint: Option<Fingerprint>,
    /// Whose entry it is counted as.
    pub share: Option<CallerHash>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What readers are shown.
    pub state: State,
    /// The fingerprint, if the claim left it open.
    pub fingerprint: Option<Fingerprint>,
}

/// Why a record cannot be read or written.
#[derive(Debug, Error)]
pub enum CodecError {
    /// Written by a build that is newer than this one, or not by Oncegate.
    #[error(
        "a record is of format {0}, which this build does not know; upgrade it, or give it a store of its own"
    )]
    UnknownFormat(u8),
    /// A request ended as only a newer build can tell, or its answer is kept in a form of that.
    #[error("a record tells of an outcome that this build does not know; upgrade it")]
    UnknownEnding,
    /// Damaged, or not written by Oncegate.
    #[error("a record is damaged: {0}")]
    Damaged(&'static str),
    /// The message cannot be read.
    #[error("a record is damaged: {0}")]
    Message(#[from] prost::DecodeError),
    /// The answer in it cannot be read.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Sealed with a key that is not at hand.
    #[error(
        "a record is sealed with the encryption key \"{0}\", which this process does not have; name it in `encryption_keys`, behind the key that seals"
    )]
    MissingKey(String),
    /// The key of this id does not open it.
    #[error(
        "a record does not open with the encryption key \"{0}\": it is damaged, was kept under another id, or replicas have different keys of that name"
    )]
    NotOpened(String),
    /// The record cannot be written.
    #[error("a record cannot be written: {0}")]
    Unwritable(&'static str),
}

impl CodecParams {
    /// Whether the keys can be used, each and together: reads their files.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn check(&self) -> Result<(), KeyError> {
        Codec::new(self).map(drop)
    }
}

impl Default for Codec {
    fn default() -> Self {
        Self { compress_above_bytes: u64::MAX, keys: Arc::default() }
    }
}

impl Codec {
    /// Reads the keys that `params` name.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn new(params: &CodecParams) -> Result<Self, KeyError> {
        Ok(Self {
            compress_above_bytes: params.compress_above_bytes,
            keys: Arc::new(KeyRing::read(&params.encryption_keys, params.encrypt)?),
        })
    }

    /// The bytes of a claim, to be kept under `id`.
    ///
    /// # Errors
    ///
    /// [`CodecError::Unwritable`].
    pub fn claim(&self, id: &RequestId, claim: &Claim) -> Result<Vec<u8>, CodecError> {
        let message = ClaimMessage {
            caller: claim.caller.map(|caller| caller.as_bytes().to_vec()),
            fingerprint: claim.fingerprint.map(Into::into),
            share: claim.share.map(|share| share.caller.as_bytes().to_vec()),
        };
        self.write(Place::Claim(id), &message)
    }

    /// What a claim said.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if this process cannot read it.
    pub fn claimed(&self, id: &RequestId, bytes: &[u8]) -> Result<Claimed, CodecError> {
        let message: ClaimMessage = self.read(Place::Claim(id), bytes)?;
        Ok(Claimed {
            caller: message.caller.as_deref().map(caller).transpose()?,
            fingerprint: message.fingerprint.map(TryInto::try_into).transpose()?,
            share: message.share.as_deref().map(caller).transpose()?,
        })
    }

    /// The bytes of an outcome, to be kept under `id`. A long answer is compressed: some 0.7 ms of work for each MiB.
    ///
    /// # Errors
    ///
    /// [`CodecError::Unwritable`].
    pub fn outcome(
        &self,
        id: &RequestId,
        outcome: &Outcome,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Vec<u8>, CodecError> {
        let ending = match outcome {
            Outcome::Completed(answer) => Ending::of_answer(answer, self.compress_above_bytes),
            Outcome::NotRetained { status } => Ending::NotRetained((*status).into()),
            Outcome::Unknown(cause) => Ending::Unknown(cause.as_str().to_owned()),
        };
        let message = OutcomeMessage { fingerprint: fingerprint.map(Into::into), ending: Some(ending) };
        self.write(Place::Outcome(id), &message)
    }

    /// How the request ended.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if this process cannot read it.
    pub fn ended(&self, id: &RequestId, bytes: &[u8]) -> Result<Ended, CodecError> {
        let message: OutcomeMessage = self.read(Place::Outcome(id), bytes)?;
        let completed = |answer: Answer| State::Completed { status: answer.status(), answer: Some(answer) };
        let state = match message.ending.ok_or(CodecError::UnknownEnding)? {
            Ending::Answer(bytes) => completed(answer(&bytes)?),
            Ending::Compressed(compressed) => completed(answer(&compressed.decompressed()?)?),
            Ending::NotRetained(number) => State::Completed { status: status(number)?, answer: None },
            Ending::Unknown(name) => State::Unknown(cause(&name)),
        };
        Ok(Ended { state, fingerprint: message.fingerprint.map(TryInto::try_into).transpose()? })
    }

    fn write(&self, place: Place<'_>, message: &impl Message) -> Result<Vec<u8>, CodecError> {
        let mut record = Vec::with_capacity(1 + message.encoded_len());
        record.push(PLAIN);
        message.encode(&mut record).map_err(|_| CodecError::Unwritable("it is too long"))?;
        self.keys.sealed(place, record)
    }

    fn read<M: Message + Default>(&self, place: Place<'_>, record: &[u8]) -> Result<M, CodecError> {
        match record.split_first() {
            Some((&SEALED, sealed)) => plain(&self.keys.opened(place, sealed)?),
            Some(_) | None => plain(record),
        }
    }
}

fn plain<M: Message + Default>(record: &[u8]) -> Result<M, CodecError> {
    match record.split_first() {
        Some((&PLAIN, message)) => Ok(M::decode(message)?),
        Some((format, _)) => Err(CodecError::UnknownFormat(*format)),
        None => Err(CodecError::Damaged("it is empty")),
    }
}

//! How a shared store writes claims and outcomes down.
//!
//! Owns the bytes: a format byte, then a protobuf message, so that builds of different age can share a store during a
//! rolling upgrade. A build reads every format up to its own and refuses any other; it never guesses. Fields are only
//! ever added, never given another meaning. What a store itself has to judge (owner, state, times) is not in here.

use prost::Message;
use thiserror::Error;

use crate::idempotency::{
    Answer, AnswerError, CallerHash, Claim, Fingerprint, Outcome, RequestId, State, UnknownCause,
};

/// A protobuf message as it is.
const PLAIN: u8 = 1;

/// Writes and reads what a shared store keeps.
#[derive(Clone, Debug, Default)]
pub struct Codec {}

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

/// Why what a store keeps cannot be read.
#[derive(Debug, Error)]
pub enum CodecError {
    /// Written by a build that is newer than this one, or not by Oncegate.
    #[error(
        "a record is of format {0}, which this build does not know; upgrade it, or give it a store of its own"
    )]
    UnknownFormat(u8),
    /// Damaged, or not written by Oncegate.
    #[error("a record is damaged: {0}")]
    Damaged(&'static str),
    /// The message cannot be read.
    #[error("a record is damaged: {0}")]
    Message(#[from] prost::DecodeError),
    /// The answer in it cannot be read.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

#[derive(Clone, PartialEq, Message)]
struct ClaimRecord {
    #[prost(bytes = "vec", optional, tag = "1")]
    caller: Option<Vec<u8>>,
    #[prost(message, optional, tag = "2")]
    fingerprint: Option<FingerprintRecord>,
    #[prost(bytes = "vec", optional, tag = "3")]
    share: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct FingerprintRecord {
    #[prost(fixed32, tag = "1")]
    rule: u32,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct OutcomeRecord {
    /// The upstream's status; absent if the outcome is unknown.
    #[prost(uint32, optional, tag = "1")]
    status: Option<u32>,
    /// The answer in its own format, as it is.
    #[prost(bytes = "vec", optional, tag = "2")]
    answer: Option<Vec<u8>>,
    /// Why nobody can tell.
    #[prost(string, optional, tag = "3")]
    unknown: Option<String>,
    #[prost(message, optional, tag = "4")]
    fingerprint: Option<FingerprintRecord>,
}

impl Codec {
    /// The bytes of a claim, to be kept under `id`.
    #[must_use]
    pub fn claim(&self, _id: &RequestId, claim: &Claim) -> Vec<u8> {
        framed(&ClaimRecord {
            caller: claim.caller.map(|caller| caller.as_bytes().to_vec()),
            fingerprint: claim.fingerprint.map(Into::into),
            share: claim.share.map(|share| share.caller.as_bytes().to_vec()),
        })
    }

    /// What a claim said.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if this build cannot read it.
    pub fn claimed(&self, _id: &RequestId, bytes: &[u8]) -> Result<Claimed, CodecError> {
        let record = ClaimRecord::decode(unframed(bytes)?)?;
        Ok(Claimed {
            caller: record.caller.as_deref().map(caller).transpose()?,
            fingerprint: record.fingerprint.map(TryInto::try_into).transpose()?,
            share: record.share.as_deref().map(caller).transpose()?,
        })
    }

    /// The bytes of an outcome, to be kept under `id`.
    #[must_use]
    pub fn outcome(&self, _id: &RequestId, outcome: &Outcome, fingerprint: Option<Fingerprint>) -> Vec<u8> {
        let mut record =
            OutcomeRecord { fingerprint: fingerprint.map(Into::into), ..OutcomeRecord::default() };
        match outcome {
            Outcome::Completed(answer) => {
                record.status = Some(answer.status().into());
                record.answer = Some(answer.as_bytes().to_vec());
            }
            Outcome::NotRetained { status } => record.status = Some((*status).into()),
            Outcome::Unknown(cause) => record.unknown = Some(cause.as_str().to_owned()),
        }
        framed(&record)
    }

    /// How the request ended.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if this build cannot read it.
    pub fn ended(&self, _id: &RequestId, bytes: &[u8]) -> Result<Ended, CodecError> {
        let record = OutcomeRecord::decode(unframed(bytes)?)?;
        let state = match (record.status, record.unknown) {
            (Some(status), None) => State::Completed {
                status: u16::try_from(status).map_err(|_| CodecError::Damaged("its status is no status"))?,
                answer: record.answer.as_deref().map(Answer::from_bytes).transpose()?,
            },
            (None, Some(name)) => State::Unknown(cause(&name)),
            (None, None) | (Some(_), Some(_)) => return Err(CodecError::Damaged("it has no outcome")),
        };
        Ok(Ended { state, fingerprint: record.fingerprint.map(TryInto::try_into).transpose()? })
    }
}

impl From<Fingerprint> for FingerprintRecord {
    fn from(fingerprint: Fingerprint) -> Self {
        let (rule, digest) = fingerprint.to_parts();
        Self { rule: rule.get(), digest: digest.to_vec() }
    }
}

impl TryFrom<FingerprintRecord> for Fingerprint {
    type Error = CodecError;

    fn try_from(record: FingerprintRecord) -> Result<Self, CodecError> {
        let rule = record.rule.try_into().ok();
        let digest = record.digest.try_into().ok();
        let (rule, digest) = rule.zip(digest).ok_or(CodecError::Damaged("its fingerprint is none"))?;
        Ok(Self::from_parts(rule, digest))
    }
}

/// A cause that a newer build has named is as unknown as any.
fn cause(name: &str) -> UnknownCause {
    UnknownCause::ALL.into_iter().find(|cause| cause.as_str() == name).unwrap_or(UnknownCause::Abandoned)
}

fn caller(bytes: &[u8]) -> Result<CallerHash, CodecError> {
    let bytes = bytes.try_into().map_err(|_| CodecError::Damaged("its caller is none"))?;
    Ok(CallerHash::from_bytes(bytes))
}

fn framed(record: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + record.encoded_len());
    bytes.push(PLAIN);
    bytes.extend(record.encode_to_vec());
    bytes
}

fn unframed(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        Some((&PLAIN, message)) => Ok(message),
        Some((format, _)) => Err(CodecError::UnknownFormat(*format)),
        None => Err(CodecError::Damaged("it is empty")),
    }
}

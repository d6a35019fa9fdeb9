//! The messages that records consist of.
//!
//! Owns the tags. None is ever used again, or given another meaning, and unknown ones are overlooked.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::CodecError;
use super::compression::CompressedAnswer;
use crate::idempotency::{Answer, CallerHash, Fingerprint, UnknownCause};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClaimMessage {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) caller: Option<Vec<u8>>,
    #[prost(message, optional, tag = "2")]
    pub(super) fingerprint: Option<FingerprintMessage>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) share: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FingerprintMessage {
    #[prost(fixed32, tag = "1")]
    rule: u32,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OutcomeMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) fingerprint: Option<FingerprintMessage>,
    /// A way that a newer build has added reads as none at all, and is refused.
    #[prost(oneof = "Ending", tags = "2, 3, 4, 5")]
    pub(super) ending: Option<Ending>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Ending {
    /// The answer in its own format, as it is.
    #[prost(bytes = "bytes", tag = "2")]
    Answer(Bytes),
    #[prost(message, tag = "3")]
    Compressed(CompressedAnswer),
    /// The status of an answer that is not kept.
    #[prost(uint32, tag = "4")]
    NotRetained(u32),
    /// Why nobody can tell.
    #[prost(string, tag = "5")]
    Unknown(String),
}

impl Ending {
    /// The answer, compressed if it is longer than `compress_above_bytes` and becomes shorter by it.
    pub(super) fn of_answer(answer: &Answer, compress_above_bytes: u64) -> Self {
        let bytes = answer.as_bytes();
        let is_long = bytes.len() as u64 > compress_above_bytes;
        let compressed = is_long.then(|| CompressedAnswer::compress(bytes)).flatten();
        compressed.map_or_else(|| Self::Answer(Bytes::from_owner(answer.clone())), Self::Compressed)
    }
}

impl From<Fingerprint> for FingerprintMessage {
    fn from(fingerprint: Fingerprint) -> Self {
        let (rule, digest) = fingerprint.to_parts();
        Self { rule: rule.get(), digest: digest.to_vec() }
    }
}

impl TryFrom<FingerprintMessage> for Fingerprint {
    type Error = CodecError;

    fn try_from(message: FingerprintMessage) -> Result<Self, CodecError> {
        let rule = message.rule.try_into().ok();
        let digest = message.digest.try_into().ok();
        let (rule, digest) = rule.zip(digest).ok_or(CodecError::Damaged("its fingerprint is none"))?;
        Ok(Self::from_parts(rule, digest))
    }
}

pub(super) fn answer(bytes: &[u8]) -> Result<Answer, CodecError> {
    let answer = Answer::from_bytes(bytes)?;
    status(answer.status().into())?;
    Ok(answer)
}

/// A status code (RFC 9110 §15).
pub(super) fn status(number: u32) -> Result<u16, CodecError> {
    u16::try_from(number)
        .ok()
        .filter(|status| (100..1000).contains(status))
        .ok_or(CodecError::Damaged("its status is none"))
}

/// A cause that a newer build has named is as unknown as any.
pub(super) fn cause(name: &str) -> UnknownCause {
    UnknownCause::ALL.into_iter().find(|cause| cause.as_str() == name).unwrap_or(UnknownCause::Abandoned)
}

pub(super) fn caller(bytes: &[u8]) -> Result<CallerHash, CodecError> {
    let bytes = bytes.try_into().map_err(|_| CodecError::Damaged("its caller is none"))?;
    Ok(CallerHash::from_bytes(bytes))
}

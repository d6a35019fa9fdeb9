//! Answers that take less room.
//!
//! Owns the bound: what a damaged or hostile store hands in never makes more than `MAX_RATIO` times as many bytes of it.

use std::cell::RefCell;

use bytes::Bytes;
use prost::Message;
use zstd::bulk::{Compressor, Decompressor};

use super::CodecError;

/// zstd's fastest ordinary level: on JSON the next ones save nothing and take longer.
const LEVEL: i32 = 1;

/// What would become longer than this many times its compressed form is kept as it is.
const MAX_RATIO: u64 = 1024;

/// The longest answer: the largest `max_response_body` and a head.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024 * 1024 + 64 * 1024 * 1024;

// A context costs more to make than a short answer to compress.
thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CompressedAnswer {
    /// One zstd frame (RFC 8878) of the answer in its own format.
    #[prost(bytes = "bytes", tag = "1")]
    frame: Bytes,
    /// How long the answer is.
    #[prost(uint64, tag = "2")]
    length_bytes: u64,
}

impl CompressedAnswer {
    /// `None` if it would not be shorter, or so short that nobody would believe it.
    pub(super) fn compress(answer: &[u8]) -> Option<Self> {
        let length_bytes = answer.len() as u64;
        // No room for what is longer than the answer: zstd gives up there.
        let mut frame = Vec::with_capacity(answer.len());
        COMPRESSOR
            .with_borrow_mut(|compressor| compressor.as_mut()?.compress_to_buffer(answer, &mut frame).ok())?;
        let message = Self { frame: frame.into(), length_bytes };
        (message.encoded_len() < answer.len() && message.is_believable()).then_some(message)
    }

    /// The answer's bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError::Damaged`].
    pub(super) fn decompressed(&self) -> Result<Vec<u8>, CodecError> {
        let length = usize::try_from(self.length_bytes).ok().filter(|_| self.is_believable());
        let mut answer = Vec::with_capacity(length.ok_or(CodecError::Damaged("its answer is too long"))?);
        let whole = DECOMPRESSOR.with_borrow_mut(|decompressor| {
            decompressor.as_mut()?.decompress_to_buffer(&self.frame, &mut answer).ok()
        });
        (whole == length).then_some(answer).ok_or(CodecError::Damaged("its answer cannot be decompressed"))
    }

    fn is_believable(&self) -> bool {
        let most = (self.frame.len() as u64).saturating_mul(MAX_RATIO);
        self.length_bytes <= most.min(MAX_ANSWER_BYTES)
    }
}

//! Field lines that frame a body, read byte by byte.

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";
const CHUNKED: &[u8] = b"chunked";

/// The longest length that hyper takes.
const MAX_LENGTH_BYTES: u64 = u64::MAX - 2;

/// A name that may become one of these, with the bytes that agree so far. The colon belongs to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    ContentLength(usize),
    TransferEncoding(usize),
}

/// The value of `Content-Length` so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Length {
    #[default]
    Before,
    Digits(u64),
    After(u64),
}

/// The last coding of a `Transfer-Encoding` value so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Coding {
    #[default]
    Before,
    /// This many bytes agree with `chunked`.
    Chunked(usize),
    AfterChunked,
    Other,
    /// The value is no text. hyper takes none of its codings.
    NoText,
}

/// Whether the line that starts here can be skipped. If too little of it is there to tell, it cannot.
pub(super) fn says_nothing(line: &[u8]) -> bool {
    match line.first() {
        Some(b'c' | b'C') => line.len() >= CONTENT_LENGTH.len() && Name::split_off(line).is_none(),
        Some(b't' | b'T') => line.len() >= TRANSFER_ENCODING.len() && Name::split_off(line).is_none(),
        Some(b' ' | b'\t' | b'\r' | b'\n') | None => false,
        Some(_) => true,
    }
}

impl Name {
    pub(super) fn starting_with(byte: u8) -> Option<Self> {
        match byte {
            b'c' | b'C' => Some(Self::ContentLength(1)),
            b't' | b'T' => Some(Self::TransferEncoding(1)),
            _ => None,
        }
    }

    /// The whole name that `line` starts with, and what follows it.
    pub(super) fn split_off(line: &[u8]) -> Option<(Self, &[u8])> {
        let split = |name: &[u8]| {
            let (start, rest) = line.split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name).then_some(rest)
        };
        match Self::starting_with(*line.first()?)? {
            Self::ContentLength(_) => {
                Some((Self::ContentLength(CONTENT_LENGTH.len()), split(CONTENT_LENGTH)?))
            }
            Self::TransferEncoding(_) => {
                Some((Self::TransferEncoding(TRANSFER_ENCODING.len()), split(TRANSFER_ENCODING)?))
            }
        }
    }

    /// `None` if it is another name.
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        let agrees = |name: &[u8], at: usize| name.get(at) == Some(&byte.to_ascii_lowercase());
        match self {
            Self::ContentLength(at) => agrees(CONTENT_LENGTH, at).then_some(Self::ContentLength(at + 1)),
            Self::TransferEncoding(at) => {
                agrees(TRANSFER_ENCODING, at).then_some(Self::TransferEncoding(at + 1))
            }
        }
    }

    pub(super) fn is_whole(self) -> bool {
        match self {
            Self::ContentLength(at) => at == CONTENT_LENGTH.len(),
            Self::TransferEncoding(at) => at == TRANSFER_ENCODING.len(),
        }
    }
}

impl Length {
    /// `None` if it is no length.
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Before, b' ' | b'\t') => Some(Self::Before),
            (Self::Before, b'0'..=b'9') => Self::Digits(0).next(byte),
            (Self::Digits(value), b'0'..=b'9') => {
                let value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
                (value <= MAX_LENGTH_BYTES).then_some(Self::Digits(value))
            }
            (Self::Digits(value) | Self::After(value), b' ' | b'\t' | b'\r') => Some(Self::After(value)),
            _ => None,
        }
    }

    pub(super) fn value(self) -> Option<u64> {
        match self {
            Self::Before => None,
            Self::Digits(value) | Self::After(value) => Some(value),
        }
    }
}

impl Coding {
    pub(super) fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::NoText, _) | (_, 0x80..) => Self::NoText,
            (_, b',') => Self::Before,
            (Self::Before, b' ' | b'\t') => Self::Before,
            (Self::Chunked(_) | Self::AfterChunked, b' ' | b'\t' | b'\r') if self.is_chunked() => {
                Self::AfterChunked
            }
            (Self::Before, _) => Self::Chunked(0).next(byte),
            (Self::Chunked(at), _) if CHUNKED.get(at) == Some(&byte.to_ascii_lowercase()) => {
                Self::Chunked(at + 1)
            }
            (Self::Chunked(_) | Self::AfterChunked | Self::Other, _) => Self::Other,
        }
    }

    pub(super) fn is_chunked(self) -> bool {
        match self {
            Self::Chunked(at) => at == CHUNKED.len(),
            Self::AfterChunked => true,
            Self::Before | Self::Other | Self::NoText => false,
        }
    }
}

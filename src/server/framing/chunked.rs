//! A chunked body (RFC 9112 §7.1), skipped as hyper's decoder reads it, but that every line ends in CRLF.

/// Where in the body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Chunked {
    #[default]
    SizeStart,
    Size(u64),
    /// White space after the size: no digit may follow.
    SizeEnd(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

/// What became of the bytes given.
pub(super) enum Progress<'b> {
    /// All belong to the body, which goes on.
    More(Chunked),
    /// The body has ended before these.
    Ended(&'b [u8]),
    /// From these on it is no chunked body.
    Malformed(&'b [u8]),
}

impl Chunked {
    pub(super) fn follow(self, bytes: &[u8]) -> Progress<'_> {
        let mut state = self;
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            let from_here = rest;
            rest = after;
            state = match (state, byte) {
                (Self::Data(remaining), _) => {
                    let length =
                        usize::try_from(remaining).unwrap_or(usize::MAX).saturating_sub(1).min(after.len());
                    rest = after.get(length..).unwrap_or_default();
                    match remaining.saturating_sub(length as u64).saturating_sub(1) {
                        0 => Self::DataCr,
                        remaining => Self::Data(remaining),
                    }
                }
                (Self::EndLf, b'\n') => return Progress::Ended(after),
                _ => match state.next(byte) {
                    Some(state) => state,
                    None => return Progress::Malformed(from_here),
                },
            };
        }
        Progress::More(state)
    }

    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::SizeStart, _) => Self::add_digit(0, byte),
            (Self::Size(size) | Self::SizeEnd(size), b' ' | b'\t') => Some(Self::SizeEnd(size)),
            (Self::Size(size) | Self::SizeEnd(size), b';') => Some(Self::Extension(size)),
            (Self::Size(size) | Self::SizeEnd(size) | Self::Extension(size), b'\r') => {
                Some(Self::SizeLf(size))
            }
            (Self::Size(size), _) => Self::add_digit(size, byte),
            (Self::Extension(size), _) if byte != b'\n' => Some(Self::Extension(size)),
            (Self::SizeLf(0), b'\n') => Some(Self::TrailerStart),
            (Self::SizeLf(size), b'\n') => Some(Self::Data(size)),
            (Self::DataCr, b'\r') => Some(Self::DataLf),
            (Self::DataLf, b'\n') => Some(Self::SizeStart),
            (Self::TrailerStart, b'\r') => Some(Self::EndLf),
            (Self::Trailer, b'\r') => Some(Self::TrailerLf),
            (Self::TrailerStart | Self::Trailer, _) if byte != b'\n' => Some(Self::Trailer),
            (Self::TrailerLf, b'\n') => Some(Self::TrailerStart),
            _ => None,
        }
    }

    fn add_digit(size: u64, byte: u8) -> Option<Self> {
        let digit = char::from(byte).to_digit(16)?;
        size.checked_mul(16)?.checked_add(u64::from(digit)).map(Self::Size)
    }
}

//! Spellings of a path.
//!
//! Owns which spellings a guarded route takes, the one that enters the request id, and (in `readings`) how else a back
//! end may read a path. Nothing here changes what is forwarded: the bytes forwarded are the bytes matched.

use std::borrow::Cow;

use thiserror::Error;

mod readings;

pub use readings::{TooAmbiguous, any_reading, climbs, fold};

/// Why a path is not in canonical form. The texts are for the client and say how to mend it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathFault {
    /// A segment is `.` or `..`, raw or encoded.
    #[error("the path has a \".\" or \"..\" segment; resolve it before sending")]
    DotSegment,
    /// Two slashes in a row.
    #[error("the path has an empty segment; send one slash where there are several")]
    EmptySegment,
    /// A raw or encoded backslash.
    #[error("the path has a backslash; separate segments with \"/\"")]
    Backslash,
    /// A raw or encoded semicolon.
    #[error("the path has a semicolon; send it without path parameters")]
    Semicolon,
    /// A raw or encoded control character, NUL included.
    #[error("the path has a control character; leave it out")]
    ControlCharacter,
    /// A slash that is percent-encoded.
    #[error("the path has a percent-encoded slash; back ends disagree on what it means, so leave it out")]
    EncodedSlash,
    /// A percent sign without two hex digits.
    #[error("the path has a \"%\" that two hexadecimal digits do not follow; write it as \"%25\"")]
    MalformedEncoding,
    /// An unreserved character (RFC 3986 §2.3) that is percent-encoded.
    #[error("the path has a needless percent-encoding; send letters, digits and \"-._~\" as they are")]
    NeedlessEncoding,
    /// A percent-encoding of a percent-encoding.
    #[error("the path is percent-encoded twice; encode it once")]
    DoubleEncoding,
    /// An ASCII character in two bytes or more, as no UTF-8 encoder writes it.
    #[error("the path has an overlong UTF-8 sequence; send the character that it stands for")]
    OverlongEncoding,
    /// A raw byte outside ASCII, a space, or one of ``"<>^`{|}``, `?` and `#`.
    #[error("the path has a character that must be percent-encoded (RFC 3986); encode it")]
    UnencodedCharacter,
}

/// Whether a path (without its query) is the only spelling of its resource. A trailing slash and upper case are: what they
/// name is a resource of its own. Encoded reserved characters are, too: [`identity`] makes them one.
///
/// # Errors
///
/// The first [`PathFault`] found.
pub fn is_canonical(path: &str) -> Result<(), PathFault> {
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'/' if after.first() == Some(&b'/') => return Err(PathFault::EmptySegment),
            b'/' if starts_with_dot_segment(after) => return Err(PathFault::DotSegment),
            b'%' => rest = canonical_encoding(after)?,
            b'\\' => return Err(PathFault::Backslash),
            b';' => return Err(PathFault::Semicolon),
            0x00..=0x1F | 0x7F => return Err(PathFault::ControlCharacter),
            b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | b'?' | b'#' | 0x80.. => {
                return Err(PathFault::UnencodedCharacter);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The spelling that enters the request id: hexadecimal digits in upper case, and reserved characters that mean the same
/// encoded or not within a segment (RFC 3986 sub-delims, `:`, `@` and brackets) decoded. So a client that encodes `@` on one try and
/// not on the next is told apart by its key only. The semicolon stays: it separates path parameters.
#[must_use]
pub fn identity(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut pieces = path.split('%');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match decode_pair(piece.as_bytes()) {
            Some((byte, _)) if means_the_same_raw(byte) => out.push(char::from(byte)),
            Some((byte, _)) => out.push_str(&format!("%{byte:02X}")),
            None => {
                out.push('%');
                out.push_str(piece);
                continue;
            }
        }
        out.push_str(piece.get(2..).unwrap_or_default());
    }
    Cow::Owned(out)
}

fn means_the_same_raw(byte: u8) -> bool {
    b"!$&'()*+,=:@[]".contains(&byte)
}

/// Judges the encoding whose `%` has been read, and returns what follows it.
fn canonical_encoding(after_percent: &[u8]) -> Result<&[u8], PathFault> {
    let (byte, rest) = decode_pair(after_percent).ok_or(PathFault::MalformedEncoding)?;
    let next = rest.strip_prefix(b"%").and_then(decode_pair).map(|(byte, _)| byte);
    match byte {
        b'/' => Err(PathFault::EncodedSlash),
        b'\\' => Err(PathFault::Backslash),
        b';' => Err(PathFault::Semicolon),
        0x00..=0x1F | 0x7F => Err(PathFault::ControlCharacter),
        b'%' if decode_pair(rest).is_some() => Err(PathFault::DoubleEncoding),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            Err(PathFault::NeedlessEncoding)
        }
        0xC0 | 0xC1 if matches!(next, Some(0x80..=0xBF)) => Err(PathFault::OverlongEncoding),
        0xE0 if matches!(next, Some(0x80..=0x9F)) => Err(PathFault::OverlongEncoding),
        _ => Ok(rest),
    }
}

/// Whether the segment that starts here is `.` or `..`, each dot raw or encoded.
fn starts_with_dot_segment(rest: &[u8]) -> bool {
    let dot = |rest: &[u8]| match rest {
        [b'.', ..] => Some(1),
        [b'%', b'2', b'e' | b'E', ..] => Some(3),
        _ => None,
    };
    let ends = |rest: &[u8]| matches!(rest.first(), None | Some(b'/'));
    let Some(rest) = dot(rest).and_then(|length| rest.get(length..)) else { return false };
    ends(rest) || dot(rest).and_then(|length| rest.get(length..)).is_some_and(ends)
}

/// The byte that two hex digits stand for, and what follows them.
fn decode_pair(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (pair, rest) = rest.split_first_chunk::<2>()?;
    let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
    let byte = u8::try_from(high? * 16 + low?).ok()?;
    Some((byte, rest))
}

#[cfg(test)]
mod tests;

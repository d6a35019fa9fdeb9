//! How else a back end may read a path.
//!
//! Back ends decode, cut, merge, trim and fold in orders of their own. So no order is assumed: starting from the path as
//! sent, every step is applied to every reading until none adds a new one. The number of readings and their bytes are
//! bounded; a path that goes beyond has too many meanings to be judged.

use std::borrow::Cow;

use thiserror::Error;

use super::decode_pair;

/// How often a path may be decoded before it stands still.
const MAX_DECODE_ROUNDS: u8 = 4;
/// How many readings a path may have.
const MAX_READINGS: usize = 64;
/// How many bytes all readings of a path may have together.
const MAX_READINGS_BYTES: usize = 64 * 1024;

/// The path has more readings than are looked at.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the path can be read in too many ways; send it in canonical form")]
pub struct TooAmbiguous;

struct Reading {
    path: Vec<u8>,
    decoded_rounds: u8,
}

type Step = fn(&[u8]) -> Vec<u8>;

const DECODE: [Step; 2] = [decode_all, decode_within_segments];

const STEPS: [Step; 8] = [
    decode_overlong,
    backslashes_to_slashes,
    cut_parameters_of_segments,
    cut_at_parameters,
    cut_at_end_mark,
    merge_slashes,
    resolve_dot_segments,
    trim_segments,
];

/// Whether a back end may read `path` as something that satisfies `reaches`. The path as sent is among the readings; case is
/// left to [`fold`].
///
/// # Errors
///
/// [`TooAmbiguous`] if the readings within the limits do not satisfy `reaches` and there are more.
pub fn any_reading(path: &str, mut reaches: impl FnMut(&str) -> bool) -> Result<bool, TooAmbiguous> {
    if reaches(path) {
        return Ok(true);
    }
    if reads_one_way(path) {
        return Ok(false);
    }
    let mut readings = vec![Reading { path: path.into(), decoded_rounds: 0 }];
    let mut bytes = path.len();
    let mut current = 0;
    while let Some(reading) = readings.get(current) {
        for next in reread(reading) {
            if readings.iter().any(|known| known.path == next.path) {
                continue;
            }
            bytes = bytes.saturating_add(next.path.len());
            if reaches(&String::from_utf8_lossy(&next.path)) {
                return Ok(true);
            }
            let over = readings.len() >= MAX_READINGS || bytes > MAX_READINGS_BYTES;
            if over || next.decoded_rounds > MAX_DECODE_ROUNDS {
                return Err(TooAmbiguous);
            }
            readings.push(next);
        }
        current += 1;
    }
    Ok(false)
}

/// The form in which readings and patterns are compared: one case, no trailing slash.
#[must_use]
pub fn fold(reading: &str) -> Cow<'_, str> {
    let trimmed = match reading.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    if trimmed.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        // By way of upper case, where letters like ſ and ı meet the ones that they are compared equal to.
        Cow::Owned(trimmed.to_uppercase().to_lowercase())
    } else {
        Cow::Borrowed(trimmed)
    }
}

/// Whether `..` leads above the root somewhere in `reading`.
#[must_use]
pub fn climbs(reading: &str) -> bool {
    if !reading.contains("/..") {
        return false;
    }
    let mut depth = 0;
    reading.split('/').skip(1).any(|segment| {
        depth += match segment {
            ".." => -1,
            "." => 0,
            _ => 1,
        };
        depth < 0
    })
}

/// No step changes such a path, save for trailing slashes, which [`fold`] drops. This is nearly every path.
fn reads_one_way(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&byte);
    let mut last = 0;
    for byte in path.bytes() {
        let segment_ends_in_dot = byte == b'/' && last == b'.';
        let empty_segment = byte == b'/' && last == b'/';
        if !plain(byte) || segment_ends_in_dot || empty_segment {
            return false;
        }
        last = byte;
    }
    last != b'.'
}

fn reread(reading: &Reading) -> Vec<Reading> {
    let step = |steps: &[Step], decoded_rounds: u8| -> Vec<Reading> {
        let read = steps.iter().map(|step| step(&reading.path)).filter(|path| *path != reading.path);
        read.map(|path| Reading { path, decoded_rounds }).collect()
    };
    let mut next = step(&DECODE, reading.decoded_rounds.saturating_add(1));
    next.extend(step(&STEPS, reading.decoded_rounds));
    next
}

fn decode_all(path: &[u8]) -> Vec<u8> {
    decode(path, |_| true)
}

/// As frameworks do that split the path first and decode each segment.
fn decode_within_segments(path: &[u8]) -> Vec<u8> {
    decode(path, |byte| !matches!(byte, b'/' | b'\\'))
}

/// One round of percent-decoding, `%uXXXX` (IIS) included. What `takes` refuses and what is malformed stays.
fn decode(path: &[u8], takes: fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
        } else if let Some((decoded, after)) = decode_pair(after).filter(|(decoded, _)| takes(*decoded)) {
            out.push(decoded);
            rest = after;
        } else if let Some((decoded, after)) = decode_iis(after)
            .filter(|(decoded, _)| u8::try_from(*decoded).is_ok_and(takes) || !decoded.is_ascii())
        {
            out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            out.push(byte);
        }
    }
    out
}

/// `uXXXX`. Full-width forms are read as the ASCII that they resemble.
fn decode_iis(after_percent: &[u8]) -> Option<(char, &[u8])> {
    let digits = after_percent.strip_prefix(b"u").or_else(|| after_percent.strip_prefix(b"U"))?;
    let (high, rest) = decode_pair(digits)?;
    let (low, rest) = decode_pair(rest)?;
    let code = match u32::from(high) << 8 | u32::from(low) {
        full_width @ 0xFF01..=0xFF5E => full_width - 0xFEE0,
        code => code,
    };
    Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

/// ASCII written in two or three bytes, as decoders without checks take it.
fn decode_overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match *rest {
            [] => return out,
            [lead @ (0xC0 | 0xC1), low, ref after @ ..] => {
                out.push((lead & 1) << 6 | low & 0x3F);
                after
            }
            [0xE0, high @ (0x80 | 0x81), low, ref after @ ..] => {
                out.push((high & 1) << 6 | low & 0x3F);
                after
            }
            [byte, ref after @ ..] => {
                out.push(byte);
                after
            }
        };
    }
}

fn backslashes_to_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

fn cut_parameters_of_segments(path: &[u8]) -> Vec<u8> {
    map_segments(path, |segment| segment.split(|byte| *byte == b';').next().unwrap_or_default())
}

fn cut_at_parameters(path: &[u8]) -> Vec<u8> {
    before_last(path, |byte| byte == b';').to_vec()
}

/// Where a C string, a query or a fragment would begin to matter: decoding alone produces these bytes.
fn cut_at_end_mark(path: &[u8]) -> Vec<u8> {
    before_last(path, |byte| matches!(byte, 0 | b'?' | b'#')).to_vec()
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|byte, before| *byte == b'/' && *before == b'/');
    out
}

/// RFC 3986 §5.2.4.
fn resolve_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    let root = segments.next().unwrap_or_default();
    while let Some(segment) = segments.next() {
        let is_dot = matches!(segment, b"." | b"..");
        if segment == b".." {
            out.pop();
        }
        if !is_dot {
            out.push(segment);
        } else if segments.peek().is_none() {
            out.push(b"");
        }
    }
    out.insert(0, root);
    out.join(&b'/')
}

/// As file systems and string functions do that drop what ends a name. What ends the path ends up as trailing slashes.
fn trim_segments(path: &[u8]) -> Vec<u8> {
    map_segments(path, |segment| match trim(segment, is_blank) {
        dots @ (b"." | b"..") => dots,
        _ => trim(segment, |byte| is_blank(byte) || byte == b'.'),
    })
}

/// Space and control characters: regular expressions end before a line feed, C strings at NUL.
fn is_blank(byte: u8) -> bool {
    byte <= b' '
}

/// What is taken again is cut at the mark before it, down to the first.
fn before_last(path: &[u8], marks: fn(u8) -> bool) -> &[u8] {
    path.rsplitn(2, |byte| marks(*byte)).last().unwrap_or_default()
}

fn trim(path: &[u8], drops: fn(u8) -> bool) -> &[u8] {
    let kept = path.iter().rposition(|byte| !drops(*byte)).map_or(0, |last| last + 1);
    path.get(..kept).unwrap_or_default()
}

fn map_segments(path: &[u8], map: fn(&[u8]) -> &[u8]) -> Vec<u8> {
    path.split(|byte| *byte == b'/').map(map).collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests;

//! How else a back end may read a path.
//!
//! Back ends decode, cut, merge, trim and fold in orders of their own. So no order is assumed: starting from the path as
//! sent, every step is applied to every reading until none adds a new one. The number of readings and their bytes are
//! bounded; a path that goes beyond has too many meanings to be judged.

use std::borrow::Cow;

use thiserror::Error;

mod steps;

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
    // Nearly no path has it, and a search that has to be set up costs more than the loop.
    if !reading.as_bytes().windows(3).any(|bytes| bytes == b"/..") {
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
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_~!$&'*,=:@".contains(&byte);
    path.bytes().all(plain) && !path.as_bytes().windows(2).any(|bytes| bytes == b"//")
}

fn reread(reading: &Reading) -> Vec<Reading> {
    let step = |steps: &[steps::Step], decoded_rounds: u8| -> Vec<Reading> {
        let read = steps.iter().map(|step| step(&reading.path)).filter(|path| *path != reading.path);
        read.map(|path| Reading { path, decoded_rounds }).collect()
    };
    let mut next = step(&steps::DECODE, reading.decoded_rounds.saturating_add(1));
    next.extend(step(&steps::OTHER, reading.decoded_rounds));
    next
}

#[cfg(test)]
mod tests;

//! A whole answer of the upstream, as it is kept and replayed.
//!
//! Owns the bytes: one allocation of the exact size, so that an answer in memory never pins the read buffer it came from,
//! and the same bytes serve a store that writes them elsewhere. Names of the usual fields take one byte, dates four.
//!
//! ```text
//! version u8 · status u16 · head length u32 · body length u32 · head · body · trailers (the rest)
//! field: name · value                                                                   (all little endian)
//! name:  index u8 in USUAL_NAMES, or 255 · length u8 · bytes
//! value: length u8 up to 253 · bytes, or 254 · seconds since 1970 u32, or 255 · length u16 · bytes
//! ```

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use thiserror::Error;

/// Status, fields, body and trailers of an answer. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(Arc<[u8]>);

/// Why an answer cannot be kept, or kept bytes are no answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AnswerError {
    /// The bytes are not an answer of this version.
    #[error("the stored answer is not of a version that this build reads, or it is damaged")]
    Corrupt,
    /// A field name of more than 255 bytes, a field value of more than 65,535, or a body of 4 GiB.
    #[error("the answer has a field or a body that is too long to be kept")]
    TooLong,
}

/// The name of a kept field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldName<'a> {
    /// The one with this index in [`USUAL_NAMES`].
    Usual(usize),
    /// Any other, in lower case.
    Literal(&'a str),
}

/// Fields that most answers carry. Kept answers name them by index: append only. A constant would be copied at each use.
pub static USUAL_NAMES: [&str; 32] = [
    "content-type",
    "date",
    "server",
    "location",
    "cache-control",
    "etag",
    "vary",
    "x-request-id",
    "content-encoding",
    "content-language",
    "content-location",
    "content-disposition",
    "last-modified",
    "expires",
    "pragma",
    "link",
    "via",
    "age",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
    "referrer-policy",
    "content-security-policy",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "x-powered-by",
    "request-id",
    "x-correlation-id",
];

const VERSION: u8 = 1;
/// A name that is not in [`USUAL_NAMES`].
const LITERAL: u8 = 255;
/// A value that is a date (RFC 9110 §5.6.7) in the one form in which dates are written.
const DATE: u8 = 254;
/// A value that is longer than one byte can tell.
const LONG: u8 = 255;
const PREFIX: usize = 11;

impl Answer {
    /// Copies the parts into one answer of exact size. `fields` and `trailers` are names in lower case and values, in the
    /// order in which they are to be replayed.
    ///
    /// # Errors
    ///
    /// [`AnswerError::TooLong`] if a part exceeds what the encoding carries.
    pub fn new<'a>(
        status: u16,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        body: &[u8],
        trailers: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, AnswerError> {
        let mut bytes = Vec::with_capacity(PREFIX + 256 + body.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&status.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        write_fields(fields, &mut bytes)?;
        let head_length = u32::try_from(bytes.len() - PREFIX).map_err(|_| AnswerError::TooLong)?;
        let body_length = u32::try_from(body.len()).map_err(|_| AnswerError::TooLong)?;
        bytes.extend_from_slice(body);
        write_fields(trailers, &mut bytes)?;
        let lengths = head_length.to_le_bytes().into_iter().chain(body_length.to_le_bytes());
        for (slot, byte) in bytes.iter_mut().skip(3).zip(lengths) {
            *slot = byte;
        }
        Ok(Self(bytes.into()))
    }

    /// The answer that a store kept.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Corrupt`] if the bytes are not those of [`Answer::as_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AnswerError> {
        let answer = Self(bytes.into());
        let body = answer.body_range();
        let whole = answer.0.first() == Some(&VERSION) && PREFIX <= body.start && body.end <= bytes.len();
        let regions = [(PREFIX, body.start), (body.end, bytes.len())];
        let readable = |(start, end): (usize, usize)| {
            let mut fields = Fields(bytes.get(start..end).unwrap_or_default());
            while fields.next().is_some() {}
            fields.0.is_empty()
        };
        (whole && regions.into_iter().all(readable)).then_some(answer).ok_or(AnswerError::Corrupt)
    }

    /// The answer's bytes, for a store that has to keep them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        u16::from_le_bytes(self.array(1))
    }

    /// The fields of the head, in order.
    pub fn fields(&self) -> impl Iterator<Item = (FieldName<'_>, Cow<'_, [u8]>)> {
        Fields(self.0.get(PREFIX..self.body_range().start).unwrap_or_default())
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.0.get(self.body_range()).unwrap_or_default()
    }

    /// Where in [`Answer::as_bytes`] the body stands, for a reader that shares the bytes.
    #[must_use]
    pub fn body_range(&self) -> Range<usize> {
        let start = PREFIX.saturating_add(self.length(3));
        start..start.saturating_add(self.length(7))
    }

    /// The trailers, in order.
    pub fn trailers(&self) -> impl Iterator<Item = (FieldName<'_>, Cow<'_, [u8]>)> {
        Fields(self.0.get(self.body_range().end..).unwrap_or_default())
    }

    fn length(&self, at: usize) -> usize {
        u32::from_le_bytes(self.array(at)) as usize
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status(), self.0.len())
    }
}

fn write_fields<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<(), AnswerError> {
    for (name, value) in fields {
        match (0u8..).zip(&USUAL_NAMES).find(|(_, known)| **known == name) {
            Some((index, _)) => out.push(index),
            None => {
                out.push(LITERAL);
                out.push(u8::try_from(name.len()).map_err(|_| AnswerError::TooLong)?);
                out.extend_from_slice(name.as_bytes());
            }
        }
        write_value(value, out)?;
    }
    Ok(())
}

fn write_value(value: &[u8], out: &mut Vec<u8>) -> Result<(), AnswerError> {
    match (u8::try_from(value.len()), seconds(value)) {
        (_, Some(seconds)) => {
            out.push(DATE);
            out.extend_from_slice(&seconds.to_le_bytes());
            return Ok(());
        }
        (Ok(length), None) if length < DATE => out.push(length),
        _ => {
            out.push(LONG);
            let length = u16::try_from(value.len()).map_err(|_| AnswerError::TooLong)?;
            out.extend_from_slice(&length.to_le_bytes());
        }
    }
    out.extend_from_slice(value);
    Ok(())
}

/// The date that `value` is, if it would be written again as it stands here: of the forms that are read, and only with the
/// right day of the week, one alone is so long and ends so.
fn seconds(value: &[u8]) -> Option<u32> {
    const LENGTH: usize = "Tue, 15 Nov 1994 08:12:31 GMT".len();
    if value.len() != LENGTH || !value.ends_with(b" GMT") {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u32::try_from(since.as_secs()).ok()
}

fn date(seconds: u32) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.into()))
}

struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (FieldName<'a>, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (index, rest) = self.0.split_first()?;
        let (name, rest) = match *index {
            LITERAL => {
                let (length, rest) = rest.split_first()?;
                let (name, rest) = rest.split_at_checked(usize::from(*length))?;
                (FieldName::Literal(std::str::from_utf8(name).ok()?), rest)
            }
            index if usize::from(index) < USUAL_NAMES.len() => (FieldName::Usual(usize::from(index)), rest),
            _ => return None,
        };
        let (tag, rest) = rest.split_first()?;
        let (value, rest) = match *tag {
            DATE => {
                let (seconds, rest) = rest.split_first_chunk()?;
                (Cow::Owned(date(u32::from_le_bytes(*seconds)).into_bytes()), rest)
            }
            LONG => {
                let (length, rest) = rest.split_first_chunk()?;
                let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
                (Cow::Borrowed(value), rest)
            }
            length => {
                let (value, rest) = rest.split_at_checked(usize::from(length))?;
                (Cow::Borrowed(value), rest)
            }
        };
        self.0 = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Field = (String, Vec<u8>);

    fn build(status: u16, fields: &[Field], body: &[u8], trailers: &[Field]) -> Answer {
        fn refs(fields: &[Field]) -> impl Iterator<Item = (&str, &[u8])> {
            fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
        }
        Answer::new(status, refs(fields), body, refs(trailers)).unwrap()
    }

    fn owned<'a>(fields: impl Iterator<Item = (FieldName<'a>, Cow<'a, [u8]>)>) -> Vec<Field> {
        let name = |name| match name {
            FieldName::Usual(index) => USUAL_NAMES[index],
            FieldName::Literal(name) => name,
        };
        fields.map(|(kept, value)| (name(kept).to_owned(), value.to_vec())).collect()
    }

    fn fields() -> impl Strategy<Value = Vec<Field>> {
        let name =
            prop_oneof!["[a-z-]{1,20}", prop::sample::select(USUAL_NAMES.to_vec()).prop_map(str::to_owned)];
        let date = any::<u32>().prop_map(|seconds| date(seconds).into_bytes());
        let value = prop_oneof![prop::collection::vec(any::<u8>(), 0..300), date];
        prop::collection::vec((name, value), 0..6)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            status in 100u16..600, head in fields(), body in prop::collection::vec(any::<u8>(), 0..200), tail in fields(),
        ) {
            let kept = build(status, &head, &body, &tail);
            let answer = Answer::from_bytes(kept.as_bytes()).unwrap();
            prop_assert_eq!(answer.status(), status);
            prop_assert_eq!(owned(answer.fields()), head);
            prop_assert_eq!(answer.body(), body);
            prop_assert_eq!(owned(answer.trailers()), tail);
        }

        #[test]
        fn what_looks_like_a_date_comes_out_as_it_went_in(
            value in "(Mon|Tue|Sun|Sat| Sa|Sunday)[, ][ -]?[0-9 ]{1,2}[ -](Jan|Feb|Nov|nov)[ -](19|20|0)[0-9]{1,3} [0-2][0-9]:[0-6][0-9]:[0-6][0-9] GMT",
        ) {
            let head = vec![("date".to_owned(), value.into_bytes())];
            prop_assert_eq!(owned(build(200, &head, b"", &[]).fields()), head);
        }

        #[test]
        fn reading_never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(answer) = Answer::from_bytes(&bytes) {
                prop_assert!(answer.fields().count() + answer.trailers().count() + answer.body().len() <= bytes.len());
            }
        }

        #[test]
        fn a_cut_answer_is_corrupt(head in fields(), cut in 1usize..30) {
            let kept = build(200, &head, b"0123456789", &[]);
            let bytes = &kept.as_bytes()[..kept.as_bytes().len().saturating_sub(cut)];
            prop_assert_eq!(Answer::from_bytes(bytes), Err(AnswerError::Corrupt));
        }
    }

    #[test]
    fn a_part_that_is_too_long_is_refused() {
        let value = vec![b'v'; 65_536];
        let fields = [("a", value.as_slice())];
        assert_eq!(Answer::new(200, fields.into_iter(), b"", [].into_iter()), Err(AnswerError::TooLong));
    }

    #[test]
    fn a_date_takes_four_bytes_and_what_only_looks_like_one_stays_as_it_is() {
        for (value, taken) in [
            ("Tue, 15 Nov 1994 08:12:31 GMT", 6),
            ("Mon, 15 Nov 1994 08:12:31 GMT", 31),
            ("Tuesday, 15-Nov-94 08:12:31 GMT", 33),
            ("Thu, 15 Nov 1894 08:12:31 GMT", 31),
            ("Tue, 15 Nov 1994 08:12:60 GMT", 31),
            ("Tue, 31 Nov 1994 08:12:31 GMT", 31),
            ("tue, 15 nov 1994 08:12:31 GMT", 31),
            ("Tue, 15 Nov 1994 08:12:31 UTC", 31),
            ("  Tue Nov 15 08:12:31 1994   ", 31),
            ("Mon, 06-Nov-94 08:12:31   GMT", 31),
        ] {
            let kept = build(200, &[("date".to_owned(), value.as_bytes().to_vec())], b"", &[]);
            assert_eq!(kept.as_bytes().len() - PREFIX, taken, "{value}");
            assert_eq!(owned(kept.fields()), [("date".to_owned(), value.as_bytes().to_vec())]);
        }
    }

    #[test]
    fn a_cut_trailer_is_corrupt() {
        let kept = build(200, &[], b"", &[("x-sum".to_owned(), b"1".to_vec())]);
        let bytes = &kept.as_bytes()[..kept.as_bytes().len() - 1];
        assert_eq!(Answer::from_bytes(bytes), Err(AnswerError::Corrupt));
    }
}

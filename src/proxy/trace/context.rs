//! The `traceparent` field (W3C Trace Context §3.2): read from clients, written to upstreams.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{SpanId, TraceId};
use crate::proxy::correlation::write_hex;

/// The field that names the trace and the span that a request belongs to.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flag of a trace that is recorded.
pub(super) const SAMPLED: u8 = 0b01;

/// The flags that are known: sampled, and (level 2) that the id is random.
const KNOWN_FLAGS: u8 = 0b11;

/// `00-` trace `-` span `-` flags, in hexadecimal digits.
const LENGTH: usize = 55;

/// The span that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Parent {
    pub(in crate::proxy) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) flags: u8,
}

impl Parent {
    /// What a request's fields say; `None` if they say nothing, or nothing that can be read.
    pub(in crate::proxy) fn of(fields: &HeaderMap) -> Option<Self> {
        let mut values = fields.get_all(TRACEPARENT).into_iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        parse(value.to_str().ok()?)
    }

    /// As a field of version 00.
    pub(super) fn field(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let [first, second] = halves(self.trace_id);
        let span = u64::from_be_bytes(self.span_id);
        for (range, number) in [(3..19, first), (19..35, second), (36..52, span)] {
            write_hex(number, text.get_mut(range).unwrap_or_default());
        }
        let mut flags = [b'0'; 16];
        write_hex(self.flags.into(), &mut flags);
        if let (Some(written), Some(last)) = (text.get_mut(53..), flags.get(14..)) {
            written.copy_from_slice(last);
        }
        // Hexadecimal digits and hyphens are a field's value.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

fn halves(trace_id: TraceId) -> [u64; 2] {
    let id = u128::from_be_bytes(trace_id);
    [(id >> 64) as u64, id as u64]
}

/// Later versions may go on after a hyphen (§3.2.1); all zeros are no id.
fn parse(text: &str) -> Option<Parent> {
    let version = hex(text.get(0..2)?)?;
    let is_of_length = match text.as_bytes().get(LENGTH) {
        None => true,
        Some(next) => version != 0 && *next == b'-',
    };
    let has_hyphens = [2, 35, 52].into_iter().all(|at| text.as_bytes().get(at) == Some(&b'-'));
    if version == 0xFF || !is_of_length || !has_hyphens {
        return None;
    }
    let trace_id = hex(text.get(3..35)?).filter(|id| *id != 0)?;
    let span_id = hex(text.get(36..52)?).filter(|id| *id != 0)?;
    let flags = hex(text.get(53..LENGTH)?)?;
    Some(Parent {
        trace_id: trace_id.to_be_bytes(),
        span_id: u64::try_from(span_id).ok()?.to_be_bytes(),
        flags: u8::try_from(flags).ok()? & KNOWN_FLAGS,
    })
}

/// Digits in lower case alone.
fn hex(digits: &str) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.bytes().all(is_digit) { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_as_it_is_written() {
        let parent = parse(FIELD).unwrap();
        assert_eq!(parent.field(), FIELD);
        assert_eq!(parent.flags, SAMPLED);
        assert_eq!(
            parse(&FIELD.replace("-01", "-fe")).unwrap().flags,
            0b10,
            "unknown flags are not passed on"
        );
        assert_eq!(parse(&FIELD.replace("00-", "cc-")), Some(parent));
        assert_eq!(parse(&(FIELD.replace("00-", "cc-") + "-more")), Some(parent));
    }

    #[test]
    fn what_is_no_parent_is_none() {
        for text in [
            "",
            "00",
            &FIELD[1..],
            &FIELD[..54],
            &format!("{FIELD}0"),
            &format!("{FIELD}-more"),
            &FIELD.replace("00-", "ff-"),
            &FIELD.replace("00-", "0g-"),
            &FIELD.to_uppercase(),
            &FIELD.replace('-', "_"),
            &FIELD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &FIELD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &FIELD.replace("b7ad6b7169203331", "+7ad6b716920333\u{e9}"),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn two_fields_name_no_parent() {
        let mut fields = HeaderMap::new();
        fields.append(TRACEPARENT, HeaderValue::from_static(FIELD));
        assert!(Parent::of(&fields).is_some());
        fields.append(TRACEPARENT, HeaderValue::from_static(FIELD));
        assert!(Parent::of(&fields).is_none());
    }
}

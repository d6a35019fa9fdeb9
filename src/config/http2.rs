//! `[server.http2]`.

use std::ops::RangeInclusive;

use super::defaults;
use super::reader::Section;
use super::values::{DAY, MILLISECOND, SECOND, count, duration, flag, size};
use crate::server::Http2Params;

/// What a window may be: RFC 9113 starts with the least, and forbids more than the most (§6.9.1).
const WINDOW_BYTES: RangeInclusive<u64> = 65_535..=(1 << 31) - 1;

/// `None` if it is not to be spoken.
pub(super) fn http2(server: &mut Section<'_>) -> Option<Http2Params> {
    let mut section = server.section_or_empty("http2");
    let default = defaults::HTTP2;
    let is_enabled = section.read("enabled", true, flag).value;
    let window = |section: &mut Section<'_>, key, default: u32| {
        let window = section.read(key, u64::from(default), size(WINDOW_BYTES));
        u32::try_from(window.value).unwrap_or(default)
    };
    let params = Http2Params {
        max_concurrent_streams: section
            .read("max_concurrent_streams", default.max_concurrent_streams, count(1..=10_000))
            .value,
        max_attempts: section.read("max_attempts", default.max_attempts, count(1..=1_000_000)).value,
        max_pending_resets: section
            .read("max_pending_resets", default.max_pending_resets, count(1..=10_000))
            .value,
        max_error_resets: section.read("max_error_resets", default.max_error_resets, count(1..=10_000)).value,
        stream_window_bytes: window(&mut section, "stream_window", default.stream_window_bytes),
        connection_window_bytes: window(&mut section, "connection_window", default.connection_window_bytes),
        ping_interval: section.read("ping_interval", default.ping_interval, duration(SECOND..=DAY)).value,
        ping_timeout: section.read("ping_timeout", default.ping_timeout, duration(MILLISECOND..=DAY)).value,
    };
    section.finish();
    is_enabled.then_some(params)
}

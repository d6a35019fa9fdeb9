//! Values as an operator writes them: what is printed here can be pasted into the file.

use std::time::Duration;

use bytesize::{GIB, KIB, MIB};

/// A duration in its largest whole unit: `24h`, `5m`, `1500ms`. Days from the third one on.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds, duration.subsec_nanos()) {
        (0, 0) => "0s".to_owned(),
        (259_200.., 0) if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        (_, 0) if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        (_, 0) if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        (_, 0) => format!("{seconds}s"),
        (_, nanos) if nanos.is_multiple_of(1_000_000) => format!("{}ms", duration.as_millis()),
        (_, nanos) if nanos.is_multiple_of(1_000) => format!("{}us", duration.as_micros()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

/// A size in its largest whole unit: `8MiB`, `1KiB`, `1500B`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        GIB.. if bytes.is_multiple_of(GIB) => format!("{}GiB", bytes / GIB),
        MIB.. if bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        KIB.. if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        _ => format!("{bytes}B"),
    }
}

/// A count with its thousands set apart: `1,000,000`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Alternatives: `a`, `a or b`, `a, b or c`.
pub(super) fn alternatives(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// A list as TOML has it: `["a", "b"]`.
pub(super) fn list(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("\"{}\"", word.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_their_largest_whole_unit() {
        for (millis, written) in [
            (0, "0s"),
            (1, "1ms"),
            (1_500, "1500ms"),
            (90_000, "90s"),
            (300_000, "5m"),
            (86_400_000, "24h"),
            (172_800_000, "48h"),
            (259_200_000, "3d"),
            (262_800_000, "73h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), written);
        }
        assert_eq!(duration(Duration::from_nanos(1_500)), "1500ns");
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for nanos in [0, 1, 1_000, 1_500_000_000, 60_000_000_000, 604_800_000_000_000] {
            let original = Duration::from_nanos(nanos);
            assert_eq!(humantime::parse_duration(&duration(original)).unwrap(), original);
        }
        for bytes in [0, 1, 1_000, 1_024, 1_536, 8 << 20, 3 << 30, 1 << 50] {
            assert_eq!(size(bytes).parse::<bytesize::ByteSize>().unwrap().as_u64(), bytes);
        }
    }

    #[test]
    fn counts_have_their_thousands_set_apart() {
        for (number, written) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_000_000, "1,000,000")] {
            assert_eq!(count(number), written);
        }
    }
}

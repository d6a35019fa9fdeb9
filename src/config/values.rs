//! Single values: durations, sizes, counts, choices, and lists of any of them.
//!
//! Each function reads an item, or reports its mistake and yields nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use toml::de::DeValue;

use super::reader::Item;
use super::wording;

/// What a head may be bounded to: real clients and servers send the least of it, and hyper reads no more than the most.
pub(super) const HEADER_BYTES: RangeInclusive<u64> = 8 * bytesize::KIB..=256 * bytesize::KIB;

/// The shortest duration where zero makes no sense.
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
/// The unit of what clients read in whole seconds.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// The longest that one request may be kept waiting for anything.
pub(super) const DAY: Duration = Duration::from_hours(24);

/// `true` or `false`.
pub(super) fn flag(item: &Item<'_>) -> Option<bool> {
    match item.value().as_bool() {
        Some(flag) => Some(flag),
        None => item.refuse("this is neither true nor false; write true or false, without quotes"),
    }
}

/// A text that is not empty.
pub(super) fn text(item: &Item<'_>) -> Option<String> {
    match item.value().as_str() {
        Some("") => item.refuse("this is empty; write a value, or remove the setting"),
        Some(text) => Some(text.to_owned()),
        None => item.refuse(format!("this is {}, not a text; put it in quotes", kind(item.value()))),
    }
}

/// A text read by `parse`, whose error says what is wrong and how to mend it.
pub(super) fn text_as<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&Item<'_>) -> Option<T> {
    move |item| parse(&text(item)?).map_or_else(|wrong| item.refuse(wrong), Some)
}

/// One of several words.
pub(super) fn choice<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Item<'_>) -> Option<T> {
    move |item| {
        let written = text(item)?;
        let chosen = words.iter().find(|(word, _)| *word == written).map(|(_, value)| *value);
        chosen.or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            item.refuse(format!("\"{written}\" is no choice here; write {}", wording::alternatives(&words)))
        })
    }
}

/// A duration with its unit, as in `"30s"`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Item<'_>) -> Option<Duration> {
    move |item| {
        let number = item.value().as_integer().map(ToString::to_string);
        if let Some(number) = number.or_else(|| item.value().as_float().map(ToString::to_string)) {
            return item.refuse(format!("{number} has no unit; write a unit, as in \"{number}s\""));
        }
        let written = text(item)?;
        match humantime::parse_duration(&written) {
            Ok(duration) => {
                within(item, duration, &range, |duration| format!("\"{}\"", wording::duration(*duration)))
            }
            Err(_) => item.refuse(format!(
                "\"{written}\" is no duration; write a number and ms, s, m, h or d, as in \"30s\""
            )),
        }
    }
}

/// A size with its unit, as in `"8MiB"`, or a bare number of bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&Item<'_>) -> Option<u64> {
    move |item| {
        let bytes = match item.value().as_integer() {
            Some(_) => integer(item)?,
            None => text_as(bytes)(item)?,
        };
        within(item, bytes, &range, |bytes| format!("\"{}\"", wording::size(*bytes)))
    }
}

fn bytes(written: &str) -> Result<u64, String> {
    written.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| {
        format!("\"{written}\" is no size; write a number and B, KiB, MiB or GiB, as in \"8MiB\"")
    })
}

/// A whole number without unit.
pub(super) fn count<T>(range: RangeInclusive<T>) -> impl Fn(&Item<'_>) -> Option<T>
where
    T: TryFrom<u64> + Copy + PartialOrd + ToString,
{
    move |item| {
        let number = integer(item)?;
        match T::try_from(number) {
            Ok(number) => within(item, number, &range, ToString::to_string),
            Err(_) => item.refuse(format!("{number} is too much; write at most {}", range.end().to_string())),
        }
    }
}

/// A list whose elements `parse` reads, none of them twice.
pub(super) fn list<T: PartialEq>(
    parse: impl Fn(&Item<'_>) -> Option<T>,
) -> impl Fn(&Item<'_>) -> Option<Vec<T>> {
    move |item| {
        let Some(elements) = item.elements() else {
            return item.refuse(format!("this is {}, not a list; put it in brackets", kind(item.value())));
        };
        let mut values = Vec::with_capacity(elements.len());
        let mut sound = true;
        for element in elements {
            match parse(&element) {
                Some(value) if values.contains(&value) => {
                    sound = false;
                    element.refuse::<()>("this stands in the list twice; remove one of them");
                }
                Some(value) => values.push(value),
                None => sound = false,
            }
        }
        sound.then_some(values)
    }
}

/// A list that names at least one; `otherwise` tells how to say that none is meant.
pub(super) fn some_of<T: PartialEq>(
    parse: impl Fn(&Item<'_>) -> Option<T>,
    otherwise: &str,
) -> impl Fn(&Item<'_>) -> Option<Vec<T>> {
    let list = list(parse);
    move |item| match list(item)? {
        values if values.is_empty() => item.refuse(format!("the list is empty; {otherwise}")),
        values => Some(values),
    }
}

/// A single value, or a list that names at least one.
pub(super) fn one_or_some_of<T: PartialEq>(
    parse: impl Fn(&Item<'_>) -> Option<T>,
    otherwise: &str,
) -> impl Fn(&Item<'_>) -> Option<Vec<T>> {
    move |item| {
        if item.elements().is_some() {
            return some_of(&parse, otherwise)(item);
        }
        parse(item).map(|value| vec![value])
    }
}

fn integer(item: &Item<'_>) -> Option<u64> {
    let DeValue::Integer(number) = item.value() else {
        return item
            .refuse(format!("this is {}, not a whole number; write one without quotes", kind(item.value())));
    };
    match u64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => Some(number),
        Err(_) if number.as_str().starts_with('-') => {
            item.refuse(format!("{number} is below zero; write a positive number"))
        }
        Err(_) => item.refuse(format!("{number} is too much; write a smaller number")),
    }
}

fn within<T: PartialOrd>(
    item: &Item<'_>,
    value: T,
    range: &RangeInclusive<T>,
    written: impl Fn(&T) -> String,
) -> Option<T> {
    if value < *range.start() {
        return item.refuse(format!(
            "{} is too little; write at least {}",
            written(&value),
            written(range.start())
        ));
    }
    if value > *range.end() {
        return item.refuse(format!(
            "{} is too much; write at most {}",
            written(&value),
            written(range.end())
        ));
    }
    Some(value)
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

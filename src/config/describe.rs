//! What a file would run, in words.
use super::Settings;
/// Describes.
#[must_use]
pub fn describe(settings: &Settings) -> String {
    format!("{settings:?}")
}

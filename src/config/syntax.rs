//! Mistakes of TOML itself.
//!
//! The parser goes on after an error. After some it knows where it is, and the rest of the file can be read as well;
//! after others all that follows is noise, and only the first counts.

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::report::Report;

/// The document, if what it says can be known beside its mistakes, which are reported.
pub(super) fn document<'a>(text: &'a str, report: &Report<'_>) -> Option<Spanned<DeTable<'a>>> {
    let (document, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(place);
    for error in &errors {
        let mend = local_mend(error);
        report.unreadable(
            place(error),
            format!(
                "this is not TOML ({}); {}",
                error.message(),
                mend.unwrap_or("write one setting on each line, and close every quote and bracket")
            ),
        );
        // Whatever stands behind is read as part of something else.
        mend?;
    }
    Some(document)
}

/// The mend of an error after which the parser knows where it is.
fn local_mend(error: &Error) -> Option<&'static str> {
    let message = error.message();
    if message.starts_with("string values must be quoted") {
        Some("put the value in quotes, as in key = \"30s\"")
    } else if message.starts_with("duplicate key") {
        Some("it stands above already, remove one of the two")
    } else {
        None
    }
}

fn place(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

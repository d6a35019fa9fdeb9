//! What is wrong with a file, and where.
//!
//! Owns the list that all sections write to while a document is read, and the way from a byte's offset to line and column.

use std::cell::RefCell;
use std::fmt;

/// A remark on one place of the file. Written `line:column: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, then, after a semicolon, how to mend it.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Gathers mistakes and warnings while a document is read.
#[derive(Debug)]
pub(super) struct Report<'a> {
    text: &'a str,
    mistakes: RefCell<Vec<Remark>>,
    /// Mistakes of TOML itself. Whatever else is said of their lines is a misunderstanding.
    unreadable: RefCell<Vec<Remark>>,
    warnings: RefCell<Vec<Remark>>,
}

/// A message and the offset of the byte it is about: sorts by place.
type Remark = (usize, String);

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            mistakes: RefCell::default(),
            unreadable: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn mistake(&self, at: usize, message: impl Into<String>) {
        self.mistakes.borrow_mut().push((at, message.into()));
    }

    pub(super) fn unreadable(&self, at: usize, message: impl Into<String>) {
        self.unreadable.borrow_mut().push((at, message.into()));
    }

    pub(super) fn warning(&self, at: usize, message: impl Into<String>) {
        self.warnings.borrow_mut().push((at, message.into()));
    }

    /// The mistakes, then the warnings, each in the order of the file and none twice.
    pub(super) fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let unreadable = located(self.text, self.unreadable);
        let mut mistakes = located(self.text, self.mistakes);
        mistakes.retain(|mistake| unreadable.iter().all(|other| other.line != mistake.line));
        mistakes.extend(unreadable);
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        (mistakes, located(self.text, self.warnings))
    }
}

fn located(text: &str, remarks: RefCell<Vec<Remark>>) -> Vec<Diagnostic> {
    let mut remarks = remarks.into_inner();
    remarks.sort();
    remarks.dedup();
    remarks.into_iter().map(|(at, message)| locate(text, at, message)).collect()
}

fn locate(text: &str, at: usize, message: String) -> Diagnostic {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Diagnostic {
        line: before.matches('\n').count() + 1,
        column: before.chars().count() - before.get(..line_start).unwrap_or_default().chars().count() + 1,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "a = 1\n# é\né = 2\n";
        for (at, line, column) in
            [(0, 1, 1), (4, 1, 5), (6, 2, 1), (11, 3, 1), (13, 3, 2), (text.len(), 4, 1), (99, 4, 1)]
        {
            let found = locate(text, at, String::new());
            assert_eq!((found.line, found.column), (line, column), "offset {at}");
        }
    }

    #[test]
    fn nothing_else_is_said_of_a_line_that_is_not_toml() {
        let report = Report::new("a\nb = c\n");
        report.mistake(6, "no choice");
        report.mistake(0, "unknown");
        report.unreadable(2, "not TOML");
        let printed: Vec<String> = report.finish().0.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["1:1: unknown", "2:1: not TOML"]);
    }

    #[test]
    fn remarks_come_in_the_order_of_the_file_and_none_twice() {
        let report = Report::new("a\nb\n");
        for (at, message) in [(2, "late"), (0, "early"), (2, "late")] {
            report.mistake(at, message);
        }
        let (mistakes, warnings) = report.finish();
        let printed: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["1:1: early", "2:1: late"]);
        assert_eq!(warnings, []);
    }
}

//! The corpora: text files in which every byte of a message can be written. `requests.txt` says how.

use std::fmt;

/// One message, and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The line of the file that it stands on, and its text.
    pub name: String,
    text: String,
    pub expected: Vec<Expected>,
}

/// What must come of a case, and where.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The word before the colon: a route. None: all.
    pub scope: Option<String>,
    pub words: Vec<String>,
}

impl Case {
    /// The cases of a file.
    pub fn all(file: &str) -> Vec<Self> {
        let mut cases = Vec::new();
        let mut template = String::new();
        let mut expected: Vec<Expected> = Vec::new();
        let mut before = ' ';
        for (number, line) in file.lines().enumerate() {
            let Some(kind) = line.chars().next() else { continue };
            let text = line.strip_prefix(kind).unwrap_or_default();
            let text = text.strip_prefix(' ').unwrap_or(text);
            match kind {
                '#' => continue,
                '|' => {
                    if before != '|' {
                        template.clear();
                    }
                    template.push_str(text);
                    match template.strip_suffix("\\c") {
                        Some(open) => template.truncate(open.len()),
                        None => template.push_str("\\r\\n"),
                    }
                }
                '>' => {
                    if before != '>' {
                        expected.clear();
                    }
                    expected.push(Expected::parse(text));
                }
                '-' => cases.push(Self {
                    name: format!("line {}: {text}", number + 1),
                    text: template.replace("{this}", text),
                    expected: expected.clone(),
                }),
                other => panic!("line {}: no line begins with {other:?}", number + 1),
            }
            before = kind;
        }
        cases
    }

    /// The bytes, with `words` in place of their names in braces.
    pub fn bytes(&self, words: &[(&str, &str)]) -> Vec<u8> {
        let text = words.iter().fold(self.text.clone(), |text, (name, word)| text.replace(name, word));
        unescape(&text)
    }

    /// What must come of it on the route of this name.
    pub fn expected(&self, scope: &str) -> &[String] {
        let fits = |expected: &&Expected| expected.scope.as_deref().is_none_or(|own| own == scope);
        let expected = self.expected.iter().find(fits);
        &expected.unwrap_or_else(|| panic!("{} says nothing about {scope}", self.name)).words
    }
}

impl Expected {
    fn parse(text: &str) -> Self {
        let (scope, words) = match text.split_once(':') {
            Some((scope, words)) => (Some(scope.to_owned()), words),
            None => (None, text),
        };
        Self { scope, words: words.split_whitespace().map(str::to_owned).collect() }
    }
}

/// `\r`, `\n`, `\t`, `\\`, `\xHH`, and `\*N{text}`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        match escape {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two hex digits"));
                rest = &rest[2..];
            }
            b'*' => {
                let (count, more) = rest.split_once('{').expect("a brace");
                let (repeated, more) = more.split_once('}').expect("a brace");
                let count = count.parse().expect("a count");
                bytes.extend(unescape(repeated).repeat(count));
                rest = more;
            }
            other => panic!("no escape: {:?} in {text:?}", char::from(other)),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Bytes as they may be shown.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(1500)];
        write!(f, "{}", shown.escape_ascii().to_string().replace("\\r\\n", "\\r\\n\n    "))
    }
}

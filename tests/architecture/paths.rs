//! Reads the paths that a source file names: in `use`, through renamed imports, and in code.

use std::collections::HashMap;

/// A path as it is meant, from the crate (`crate::guard::Permit`) or from outside (`std::io`), or a method of interest
/// (`.elapsed`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) line: usize,
}

/// What has the names of crates: the dependencies and std.
const MANIFEST: &str = include_str!("../../Cargo.toml");

impl Found {
    /// The top-level module, if the path is the crate's own.
    pub(crate) fn in_crate(&self) -> Option<&str> {
        self.path.strip_prefix("crate::")?.split("::").next()
    }

    /// The crate, if the path is another's.
    pub(crate) fn outside(&self) -> Option<&str> {
        let first = self.path.split("::").next()?;
        let is_dependency = || dependencies().any(|name| name == first);
        (["std", "core", "alloc"].contains(&first) || is_dependency()).then_some(first)
    }
}

fn dependencies() -> impl Iterator<Item = String> {
    let mut section = "";
    MANIFEST.lines().filter_map(move |line| {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split('=').next()?.trim();
        section.ends_with("dependencies]").then(|| name.replace('-', "_"))
    })
}

/// Every path in `text`, which is the module `module` of the crate. Comments, strings and `#[cfg(test)]` items are left
/// out.
pub(crate) fn paths_in(text: &str, module: &[String]) -> Vec<Found> {
    let tokens = tokens(&without_tests(&without_text(text)));
    let mut reader = Reader { tokens: &tokens, at: 0, paths: Vec::new() };
    reader.read_all();

    // Imports first: code may name what is imported further down.
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for path in reader.paths.iter().filter(|path| path.is_import) {
        if let Some(name) = &path.name {
            names.insert(name.clone(), path.parts.clone());
        }
    }
    let resolve = |path: &Read| {
        let mut parts = path.parts.clone();
        // A name may come through another: `use std::time as t; use t::SystemTime;`. Bounded, since `use a::a;` exists.
        for _ in 0..4 {
            let Some(first) = parts.first() else { break };
            match names.get(first) {
                Some(full) if full.first() != Some(first) => {
                    parts = full.iter().chain(parts.iter().skip(1)).cloned().collect();
                }
                _ => break,
            }
        }
        Found { path: from_the_root(parts, module).join("::"), line: path.line }
    };
    reader.paths.iter().map(resolve).collect()
}

/// Replaces `self`, `super` and the crate's own name.
fn from_the_root(parts: Vec<String>, module: &[String]) -> Vec<String> {
    let mut base: Option<Vec<String>> = None;
    let mut rest = parts.as_slice();
    while let Some((first, behind)) = rest.split_first() {
        base = match (first.as_str(), base) {
            ("crate" | "oncegate", None) => Some(Vec::new()),
            ("self", None) => Some(module.to_vec()),
            ("super", base) => {
                let mut base = base.unwrap_or_else(|| module.to_vec());
                base.pop();
                Some(base)
            }
            (_, base) => {
                return match base {
                    Some(base) => ["crate".to_owned()].into_iter().chain(base).chain(rest.to_vec()).collect(),
                    None => parts,
                };
            }
        };
        rest = behind;
    }
    base.map_or(parts, |base| ["crate".to_owned()].into_iter().chain(base).collect())
}

#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

#[derive(Clone, Debug)]
struct Read {
    parts: Vec<String>,
    line: usize,
    is_import: bool,
    /// Under which name it is imported.
    name: Option<String>,
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    paths: Vec<Read>,
}

impl Reader<'_> {
    fn read_all(&mut self) {
        while let Some(token) = self.tokens.get(self.at) {
            let before = self.at.checked_sub(1).map_or("", |at| self.text(at));
            if before == "." && is_name(&token.text) {
                let path = Read {
                    parts: vec![format!(".{}", token.text)],
                    line: token.line,
                    is_import: false,
                    name: None,
                };
                self.paths.push(path);
                self.at += 1;
            } else if is_name(&token.text) && token.text != "use" {
                self.tree(Vec::new(), before == "use");
            } else {
                self.at += 1;
            }
        }
    }

    /// Reads one path, or a group of paths behind `prefix`.
    fn tree(&mut self, prefix: Vec<String>, is_import: bool) {
        let mut parts = prefix;
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        loop {
            match self.text(self.at) {
                "{" => return self.group(&parts, is_import),
                text if is_name(text) || text == "*" => {
                    parts.push(text.to_owned());
                    self.at += 1;
                }
                // What follows `::` is a type's argument: the path ends here.
                _ => break,
            }
            if self.text(self.at) != "::" {
                break;
            }
            self.at += 1;
        }
        // `use a::b::{self}` is `use a::b`.
        if parts.len() > 1 && parts.last().is_some_and(|last| last == "self") {
            parts.pop();
        }
        let mut name = parts.last().cloned();
        if is_import && self.text(self.at) == "as" {
            name = Some(self.text(self.at + 1).to_owned());
            self.at += 2;
        }
        if is_import || parts.len() > 1 || self.text(self.at) == "(" {
            self.paths.push(Read { parts, line, is_import, name });
        }
    }

    fn group(&mut self, prefix: &[String], is_import: bool) {
        self.at += 1;
        while !["}", ""].contains(&self.text(self.at)) {
            let start = self.at;
            self.tree(prefix.to_vec(), is_import);
            if self.text(self.at) == "," || self.at == start {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if rest.starts_with("::") {
                2
            } else if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (text, behind) = rest.split_at(length);
            if !text.trim().is_empty() {
                tokens.push(Token { text: text.to_owned(), line: number + 1 });
            }
            rest = behind;
        }
    }
    tokens
}

/// Blanks comments, strings and characters; lines stay where they are.
fn without_text(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    let mut last_was_name = false;
    while let Some(first) = rest.chars().next() {
        let length = match text_length(rest, last_was_name) {
            0 => {
                code.push(first);
                last_was_name = first.is_alphanumeric() || first == '_';
                first.len_utf8()
            }
            length => {
                let (text, _) = rest.split_at(length);
                code.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                last_was_name = false;
                length
            }
        };
        rest = rest.split_at(length).1;
    }
    code
}

/// How many bytes of a comment, a string or a character `rest` starts with.
fn text_length(rest: &str, behind_a_name: bool) -> usize {
    let until = |end: &str, from: usize| {
        let behind = rest.get(from..).unwrap_or_default();
        behind.find(end).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    if rest.starts_with('\'') {
        let is_character = rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'');
        return if is_character { quoted_length(rest, '\'') } else { 0 };
    }
    let raw = rest.strip_prefix('b').or_else(|| rest.strip_prefix('c')).unwrap_or(rest);
    if let Some(behind) = raw.strip_prefix('r').filter(|_| !behind_a_name) {
        let hashes = behind.len() - behind.trim_start_matches('#').len();
        if behind.trim_start_matches('#').starts_with('"') {
            let opening = rest.len() - behind.len() + hashes + 1;
            return until(&format!("\"{}", "#".repeat(hashes)), opening);
        }
    }
    0
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(behind) = rest.get(at..).filter(|behind| !behind.is_empty()) {
        if behind.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if behind.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += behind.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Blanks items marked `#[cfg(test)]`. Strings are gone already, so that braces match.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        let (item, behind) = marked.split_at(item_length(marked));
        kept.push_str(before);
        kept.extend(item.chars().filter(|c| *c == '\n'));
        rest = behind;
    }
    kept + rest
}

/// The length of the item that `marked` starts with: up to the first `;`, or the brace that closes its first.
fn item_length(marked: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in marked.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '}' if depth == 1 => return at + 1,
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    marked.len()
}

//! A route's path as written: literal segments, `{name}` segments, and at most one trailing `{*rest}`.
//!
//! Owns the syntax, and when two patterns tie. Literals are canonical, because only a canonical path is ever matched: a
//! pattern that no request can reach would leave the route's requests to another route.

use std::fmt::Write as _;

/// One segment of a pattern. Names do not matter to what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// The text itself.
    Literal(String),
    /// Any one segment.
    Any,
    /// All that follows.
    Rest,
}

/// The segments of `pattern`: two patterns with equal segments match the same paths.
///
/// The error says what is wrong and, after a semicolon, how to mend it.
pub(super) fn segments(pattern: &str) -> Result<Vec<Segment>, String> {
    let Some(path) = pattern.strip_prefix('/') else {
        return Err(format!("\"{pattern}\" does not start with a slash; write \"/{pattern}\""));
    };
    if let Some(stray) = pattern.find(['?', '#']) {
        let path = pattern.get(..stray).unwrap_or_default();
        return Err(format!(
            "\"{pattern}\" has a query or a fragment, and only paths are matched; write \"{path}\""
        ));
    }
    let mut segments = Vec::new();
    let mut names = Vec::new();
    let last = path.split('/').count() - 1;
    for (index, written) in path.split('/').enumerate() {
        let (segment, name) = segment(written)?;
        if segment == Segment::Rest && index != last {
            return Err(format!(
                "something follows `{written}`, which takes all the rest; let it be the end of the path"
            ));
        }
        if segment == Segment::Literal(String::new()) && index != last {
            return Err("the path has an empty segment (`//`); write a single slash".to_owned());
        }
        if let Some(name) = name {
            if names.contains(&name) {
                return Err(format!("two segments are named `{name}`; give each a name of its own"));
            }
            names.push(name);
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// Whether some path matches both.
pub(super) fn overlap(one: &[Segment], other: &[Segment]) -> bool {
    match (one, other) {
        ([], []) | ([Segment::Rest, ..], [_, ..]) | ([_, ..], [Segment::Rest, ..]) => true,
        ([Segment::Literal(one), ..], [Segment::Literal(other), ..]) if one != other => false,
        // A name takes no empty segment.
        ([Segment::Any, ..], [Segment::Literal(text), ..])
        | ([Segment::Literal(text), ..], [Segment::Any, ..])
            if text.is_empty() =>
        {
            false
        }
        ([_, one @ ..], [_, other @ ..]) => overlap(one, other),
        ([], [..]) | ([..], []) => false,
    }
}

fn segment(written: &str) -> Result<(Segment, Option<&str>), String> {
    let Some(inner) = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        literal(written)?;
        return Ok((Segment::Literal(written.to_owned()), None));
    };
    let (segment, name) = match inner.strip_prefix('*') {
        Some(name) => (Segment::Rest, name),
        None => (Segment::Any, inner),
    };
    if !is_identifier(name) {
        return Err(format!(
            "`{written}` has no proper name; use letters, digits and `_`, as in {{id}} or {{*rest}}"
        ));
    }
    Ok((segment, Some(name)))
}

fn is_identifier(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn literal(written: &str) -> Result<(), String> {
    if matches!(written, "." | "..") {
        return Err(format!(
            "`{written}` is a dot segment, which no canonical path has; write the path that it leads to"
        ));
    }
    if written.contains(['{', '}']) {
        return Err(format!(
            "`{written}` has braces beside other text; a name takes a whole segment, as in /{{id}}/"
        ));
    }
    let mut rest = written.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => rest = escape(written, after)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {}
            b';' | b'\\' => {
                return Err(format!(
                    "`{written}` has a `{}`, which back ends read in different ways; leave it out",
                    char::from(byte)
                ));
            }
            _ => {
                let mend = escaped(written);
                return Err(format!("`{written}` has a character that no path has; write \"{mend}\""));
            }
        }
    }
    Ok(())
}

/// Judges the escape whose `%` has been read, and returns what follows it.
fn escape<'a>(segment: &str, after: &'a [u8]) -> Result<&'a [u8], String> {
    let Some((digits, value, rest)) = pair(after) else {
        return Err(format!(
            "`{segment}` has a `%` without two hexadecimal digits; write a percent sign as %25"
        ));
    };
    match value {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            let plain = char::from(value);
            Err(format!("`{segment}` escapes `{plain}`, which needs no escape; write `{plain}`"))
        }
        b'/' | b'\\' | b';' | 0x00..=0x1F | 0x7F => Err(format!(
            "`{segment}` hides %{value:02X}, which back ends read in different ways; leave it out"
        )),
        b'%' if pair(rest).is_some() => Err(format!(
            "`{segment}` escapes an escape, which back ends read in different ways; leave it out"
        )),
        _ if digits.iter().any(u8::is_ascii_lowercase) => {
            Err(format!("`{segment}` has an escape in lower case; write it as %{value:02X}"))
        }
        _ => Ok(rest),
    }
}

/// Two hexadecimal digits, what they stand for, and what follows them.
fn pair(text: &[u8]) -> Option<([u8; 2], u8, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    let value = u8::try_from(high? << 4 | low?).ok()?;
    Some((*digits, value, rest))
}

fn escaped(segment: &str) -> String {
    segment.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'^' | b'`' | b'|' | b'[' | b']') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_match_the_same_paths_have_equal_segments() {
        let same = [("/a/{id}", "/a/{key}"), ("/{*rest}", "/{*all}"), ("/a", "/a")];
        for (one, other) in same {
            assert_eq!(segments(one).unwrap(), segments(other).unwrap(), "{one} and {other}");
        }
        let different =
            [("/a", "/A"), ("/a", "/a/"), ("/a/{id}", "/a/{*id}"), ("/{a}/b", "/{a}/c"), ("/", "/{*a}")];
        for (one, other) in different {
            assert_ne!(segments(one).unwrap(), segments(other).unwrap(), "{one} and {other}");
        }
    }

    #[test]
    fn patterns_overlap_if_a_path_matches_both() {
        for (one, other, expected) in [
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("/a", "/{x}", true),
            ("/a/", "/a/{x}", false),
            ("/{x}/b", "/a/{y}", true),
            ("/{x}/b", "/a/{y}/c", false),
            ("/{*rest}", "/a/b", true),
            ("/{*rest}", "/", true),
            ("/a/{*rest}", "/b/{*rest}", false),
            ("/a/{*rest}", "/a", false),
            ("/a/{*rest}", "/{x}/{*rest}", true),
        ] {
            let (first, second) = (segments(one).unwrap(), segments(other).unwrap());
            assert_eq!(overlap(&first, &second), expected, "{one} and {other}");
            assert_eq!(overlap(&second, &first), expected, "{other} and {one}");
        }
    }

    #[test]
    fn canonical_patterns_are_taken() {
        for pattern in [
            "/",
            "/v1/charges",
            "/v1/{id}/refund",
            "/{*rest}",
            "/v1/",
            "/caf%C3%A9",
            "/a:b,(c)",
            "/a%20b",
            "/a%25",
        ] {
            assert!(segments(pattern).is_ok(), "{pattern}: {:?}", segments(pattern));
        }
    }

    #[test]
    fn every_other_pattern_is_refused_with_its_mend() {
        for (pattern, mend) in [
            ("", "write \"/\""),
            ("v1", "write \"/v1\""),
            ("/a?b=1", "write \"/a\""),
            ("/a#b", "write \"/a\""),
            ("/{*rest}/b", "let it be the end"),
            ("/a//b", "a single slash"),
            ("//", "a single slash"),
            ("/{a}/{a}", "a name of its own"),
            ("/{}", "as in {id}"),
            ("/{1a}", "as in {id}"),
            ("/{*}", "as in {id}"),
            ("/{a-b}", "as in {id}"),
            ("/a{b}", "a whole segment"),
            ("/{a", "a whole segment"),
            ("/{a}{b}", "as in {id}"),
            ("/a/../b", "that it leads to"),
            ("/./b", "that it leads to"),
            ("/a;b", "leave it out"),
            ("/a\\b", "leave it out"),
            ("/a%3Bb", "leave it out"),
            ("/a%2fb", "leave it out"),
            ("/a%0Ab", "leave it out"),
            ("/a%2541", "leave it out"),
            ("/%61", "write `a`"),
            ("/a%c3%a9", "write it as %C3"),
            ("/a%", "as %25"),
            ("/a%2", "as %25"),
            ("/a%+1", "as %25"),
            ("/café", "write \"caf%C3%A9\""),
            ("/<a>", "write \"%3Ca%3E\""),
            ("/a b", "write \"a%20b\""),
        ] {
            let refusal = segments(pattern).expect_err(pattern);
            assert!(refusal.contains(mend), "{pattern}: {refusal}");
            assert!(refusal.contains("; "), "{pattern} has no mend: {refusal}");
        }
    }
}

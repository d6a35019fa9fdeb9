//! What back ends do to a path, one step at a time.
//!
//! Each step is one that a product in use takes, or took; where it is not common knowledge, its comment says which. A step
//! that finds nothing to do returns the path as it is.

use super::super::decode_pair;

/// Returns the path as it reads after the step.
pub(super) type Step = fn(&[u8]) -> Vec<u8>;

/// The steps of which a path may need several rounds.
pub(super) const DECODE: [Step; 2] = [decode_all, decode_within_segments];

/// All other steps.
pub(super) const OTHER: [Step; 15] = [
    decode_overlong,
    decode_look_alikes,
    backslashes_to_slashes,
    plus_to_space,
    cut_parameters_of_segments,
    cut_at_parameters,
    cut_at_end_mark,
    merge_slashes,
    resolve_dot_segments,
    trim_segments,
    trim_dots,
    drop_format,
    drop_script,
    drop_path_info,
    drop_cookieless_segments,
];

/// What ends the name of a script that is run with the rest of the path as its `PATH_INFO` (RFC 3875 §4.1.5).
const SCRIPTS: [&[u8]; 6] = [b".php", b".phtml", b".cgi", b".fcgi", b".pl", b".py"];

fn decode_all(path: &[u8]) -> Vec<u8> {
    decode(path, |_| true)
}

/// As frameworks do that split the path first and decode each segment.
fn decode_within_segments(path: &[u8]) -> Vec<u8> {
    decode(path, |byte| !matches!(byte, b'/' | b'\\'))
}

/// One round of percent-decoding, `%uXXXX` (IIS) included. What `takes` refuses and what is malformed stays.
fn decode(path: &[u8], takes: fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
        } else if let Some((decoded, after)) = decode_pair(after).filter(|(decoded, _)| takes(*decoded)) {
            out.push(decoded);
            rest = after;
        } else if let Some((decoded, after)) = decode_iis(after)
            .filter(|(decoded, _)| u8::try_from(*decoded).is_ok_and(takes) || !decoded.is_ascii())
        {
            out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            out.push(byte);
        }
    }
    out
}

/// `uXXXX`. Full-width forms are read as the ASCII that they resemble.
fn decode_iis(after_percent: &[u8]) -> Option<(char, &[u8])> {
    let digits = after_percent.strip_prefix(b"u").or_else(|| after_percent.strip_prefix(b"U"))?;
    let (high, rest) = decode_pair(digits)?;
    let (low, rest) = decode_pair(rest)?;
    let code = match u32::from(high) << 8 | u32::from(low) {
        full_width @ 0xFF01..=0xFF5E => full_width - 0xFEE0,
        code => code,
    };
    Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

/// ASCII written in two to four bytes, as decoders without checks take it.
fn decode_overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match *rest {
            [] => return out,
            [lead @ (0xC0 | 0xC1), low, ref after @ ..] => {
                out.push((lead & 1) << 6 | low & 0x3F);
                after
            }
            [0xE0, high @ (0x80 | 0x81), low, ref after @ ..]
            | [0xF0, 0x80, high @ (0x80 | 0x81), low, ref after @ ..] => {
                out.push((high & 1) << 6 | low & 0x3F);
                after
            }
            [byte, ref after @ ..] => {
                out.push(byte);
                after
            }
        };
    }
}

/// Characters in UTF-8 that Windows maps to ASCII where a program asks for its arguments or variables in the code page of
/// the system ("best fit"), PHP as CGI among them: full-width forms, the slashes of mathematics, and what stands in the
/// place of the backslash in Japanese and Korean code pages. See Orange Tsai and splitline, "WorstFit" (Black Hat EU 2024).
fn decode_look_alikes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match *rest {
            [] => return out,
            // U+FF01 to U+FF3F, and U+FF40 to U+FF5E.
            [0xEF, 0xBC, low @ 0x81..=0xBF, ref after @ ..] => {
                out.push(low - 0x60);
                after
            }
            [0xEF, 0xBD, low @ 0x80..=0x9E, ref after @ ..] => {
                out.push(low - 0x20);
                after
            }
            // U+2044 and U+2215.
            [0xE2, 0x81, 0x84, ref after @ ..] | [0xE2, 0x88, 0x95, ref after @ ..] => {
                out.push(b'/');
                after
            }
            // U+00A5 and U+20A9; U+2216.
            [0xC2, 0xA5, ref after @ ..]
            | [0xE2, 0x82, 0xA9, ref after @ ..]
            | [0xE2, 0x88, 0x96, ref after @ ..] => {
                out.push(b'\\');
                after
            }
            [byte, ref after @ ..] => {
                out.push(byte);
                after
            }
        };
    }
}

/// As in a query: PHP's and Perl's `urldecode` of a whole target do.
fn plus_to_space(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect()
}

fn backslashes_to_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

fn cut_parameters_of_segments(path: &[u8]) -> Vec<u8> {
    map_segments(path, |segment| segment.split(|byte| *byte == b';').next().unwrap_or_default())
}

fn cut_at_parameters(path: &[u8]) -> Vec<u8> {
    before_last(path, |byte| byte == b';').to_vec()
}

/// Where a C string, a query or a fragment would begin to matter: decoding alone produces these bytes.
fn cut_at_end_mark(path: &[u8]) -> Vec<u8> {
    before_last(path, |byte| matches!(byte, 0 | b'?' | b'#')).to_vec()
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|byte, before| *byte == b'/' && *before == b'/');
    out
}

/// RFC 3986 §5.2.4.
fn resolve_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    let root = segments.next().unwrap_or_default();
    while let Some(segment) = segments.next() {
        let is_dot = matches!(segment, b"." | b"..");
        if segment == b".." {
            out.pop();
        }
        if !is_dot {
            out.push(segment);
        } else if segments.peek().is_none() {
            out.push(b"");
        }
    }
    out.insert(0, root);
    out.join(&b'/')
}

/// As file systems and string functions do that drop what ends a name. What ends the path ends up as trailing slashes.
fn trim_segments(path: &[u8]) -> Vec<u8> {
    map_segments(path, |segment| match trim(segment, is_blank) {
        dots @ (b"." | b"..") => dots,
        _ => trim(segment, |byte| is_blank(byte) || byte == b'.'),
    })
}

/// The same where `.. ` is no `..` but a name of which nothing is left.
fn trim_dots(path: &[u8]) -> Vec<u8> {
    map_segments(path, |segment| match segment {
        dots @ (b"." | b"..") => dots,
        _ => trim(segment, |byte| is_blank(byte) || byte == b'.'),
    })
}

/// Space and control characters: regular expressions end before a line feed, C strings at NUL. Python's `strip` drops U+0085
/// and U+00A0 too, Node's `trim` U+00A0, as a byte of Latin-1 or in UTF-8.
fn is_blank(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, 0x7F | 0x85 | 0xA0 | 0xC2)
}

/// `/charges.json` is `/charges` in Rails, whose routes end in `(.:format)` unless told otherwise, in Spring until 5.3
/// (suffix patterns), and to Apache's MultiViews.
fn drop_format(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let (named, slashes) = path.split_at(end);
    let start = named.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = named.get(start..).unwrap_or_default();
    let dot = name.iter().rposition(|byte| *byte == b'.').unwrap_or_default();
    // The dots of `.`, `..` and `.well-known` are no suffix.
    if name.iter().take(dot).all(|byte| *byte == b'.') {
        return path.to_vec();
    }
    [named.get(..start + dot).unwrap_or_default(), slashes].concat()
}

/// `/index.php/charges` is `/charges` to what is behind a front controller: Laravel, Symfony, Slim, CodeIgniter, WordPress.
fn drop_script(path: &[u8]) -> Vec<u8> {
    let after = script_end(path).and_then(|end| path.get(end..)).filter(|rest| rest.starts_with(b"/"));
    after.unwrap_or(path).to_vec()
}

/// `/charges.php/x` runs `/charges.php`: nginx and Apache hand over `PATH_INFO`, and PHP looks for it (`cgi.fix_pathinfo`).
fn drop_path_info(path: &[u8]) -> Vec<u8> {
    script_end(path).and_then(|end| path.get(..end)).unwrap_or(path).to_vec()
}

/// Where the first segment ends that is a script.
fn script_end(path: &[u8]) -> Option<usize> {
    let mut end = 0;
    for (index, segment) in path.split(|byte| *byte == b'/').enumerate() {
        end += segment.len() + usize::from(index > 0);
        let ends_in = |suffix: &&[u8]| {
            let at = segment.len().checked_sub(suffix.len());
            at.and_then(|at| segment.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        if SCRIPTS.iter().any(ends_in) {
            return Some(end);
        }
    }
    None
}

/// ASP.NET takes `/(S(x))` out of a path, where a session without cookies has its id, even if there are none
/// (CVE-2023-36899 was about a second one).
fn drop_cookieless_segments(path: &[u8]) -> Vec<u8> {
    let is_session = |segment: &&[u8]| matches!(segment, [b'(', letter, b'(', .., b')', b')'] if letter.is_ascii_alphabetic());
    let kept: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|segment| !is_session(segment)).collect();
    kept.join(&b'/')
}

/// What is taken again is cut at the mark before it, down to the first.
fn before_last(path: &[u8], marks: fn(u8) -> bool) -> &[u8] {
    path.rsplitn(2, |byte| marks(*byte)).last().unwrap_or_default()
}

fn trim(path: &[u8], drops: fn(u8) -> bool) -> &[u8] {
    let kept = path.iter().rposition(|byte| !drops(*byte)).map_or(0, |last| last + 1);
    path.get(..kept).unwrap_or_default()
}

fn map_segments(path: &[u8], map: fn(&[u8]) -> &[u8]) -> Vec<u8> {
    path.split(|byte| *byte == b'/').map(map).collect::<Vec<_>>().join(&b'/')
}

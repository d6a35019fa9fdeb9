//! JSON reduced to one spelling, for fingerprints.
//!
//! Key order, white space and string escapes never matter. Numbers keep their text and doubled keys are refused, because
//! RFC 8785 libraries read numbers as doubles and keep one of two equal keys: under them `9007199254740993` equals
//! `9007199254740992`, and a changed amount could pass for a retry. Scanning is serde_json's; this file only orders.

use std::fmt;

use serde::Deserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

/// Arrays and objects may nest this deep. Each level is scanned once more, so the depth bounds the work.
const MAX_DEPTH: usize = 64;

/// Why a body has no canonical form.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum JsonError {
    /// The body is not one JSON text (RFC 8259).
    #[error("the body is not valid JSON")]
    NotJson,
    /// An object names a member twice.
    #[error("an object in the body names a member twice")]
    DuplicateKey,
    /// Nested deeper than the limit.
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Which parts of a JSON text count, as JSON pointers (RFC 6901).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    include: Vec<Pointer>,
    exclude: Vec<Pointer>,
}

type Pointer = Vec<String>;

impl Selection {
    /// Only the values under `include` count (all, if empty), less those under `exclude`.
    ///
    /// # Errors
    ///
    /// The first string that is no JSON pointer.
    pub fn new<'a>(include: &[&'a str], exclude: &[&'a str]) -> Result<Self, &'a str> {
        Ok(Self { include: pointers(include)?, exclude: pointers(exclude)? })
    }

    /// The pointers whose values count, in their order; none if all count.
    #[must_use]
    pub fn include(&self) -> Vec<String> {
        self.include.iter().map(spelled).collect()
    }

    /// The pointers whose values do not count, in their order.
    #[must_use]
    pub fn exclude(&self) -> Vec<String> {
        self.exclude.iter().map(spelled).collect()
    }

    /// The one spelling of the selected parts of `body`.
    ///
    /// # Errors
    ///
    /// [`JsonError`] if the body is no JSON text, doubles a key anywhere, or nests too deep.
    pub fn canonicalize(&self, body: &[u8]) -> Result<Vec<u8>, JsonError> {
        let root: &RawValue = serde_json::from_slice(body).map_err(|_| JsonError::NotJson)?;
        let mut out = Vec::with_capacity(body.len());
        if self.include.is_empty() {
            self.write(root, &mut Vec::new(), 0, Some(&mut out))?;
            return Ok(out);
        }
        // What does not count must be well-formed all the same.
        self.write(root, &mut Vec::new(), 0, None)?;
        for pointer in &self.include {
            write_text(&pointer.join("/"), &mut out);
            out.push(b'=');
            if let Some(raw) = find(root, pointer)? {
                self.write(raw, &mut pointer.clone(), 0, Some(&mut out))?;
            }
            out.push(b'\n');
        }
        Ok(out)
    }

    /// Writes one value in its one spelling, or only checks it. Holds no more than one object's members for each level.
    fn write(
        &self,
        raw: &RawValue,
        path: &mut Pointer,
        depth: usize,
        out: Option<&mut Vec<u8>>,
    ) -> Result<(), JsonError> {
        let mut out = out.filter(|_| !self.exclude.contains(path));
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        match (raw.get().as_bytes().first(), &mut out) {
            (Some(b'{'), _) => self.write_object(raw, path, depth, out),
            (Some(b'['), _) => self.write_array(raw, path, depth, out),
            (Some(b'"'), _) => {
                let text: String = serde_json::from_str(raw.get()).map_err(|_| JsonError::NotJson)?;
                out.into_iter().for_each(|out| write_text(&text, out));
                Ok(())
            }
            (_, out) => {
                out.iter_mut().for_each(|out| out.extend_from_slice(raw.get().as_bytes()));
                Ok(())
            }
        }
    }

    fn write_object(
        &self,
        raw: &RawValue,
        path: &mut Pointer,
        depth: usize,
        mut out: Option<&mut Vec<u8>>,
    ) -> Result<(), JsonError> {
        let mut members = members(raw)?;
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        if members.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
            return Err(JsonError::DuplicateKey);
        }
        out.iter_mut().for_each(|out| out.push(b'{'));
        for (name, member) in members {
            path.push(name);
            let mut out = out.as_deref_mut().filter(|_| !self.exclude.contains(path));
            if let (Some(out), Some(name)) = (&mut out, path.last()) {
                write_text(name, out);
                out.push(b':');
            }
            self.write(member, path, depth + 1, out.as_deref_mut())?;
            out.into_iter().for_each(|out| out.push(b','));
            path.pop();
        }
        out.into_iter().for_each(|out| out.push(b'}'));
        Ok(())
    }

    fn write_array(
        &self,
        raw: &RawValue,
        path: &mut Pointer,
        depth: usize,
        mut out: Option<&mut Vec<u8>>,
    ) -> Result<(), JsonError> {
        out.iter_mut().for_each(|out| out.push(b'['));
        let mut index = 0_usize;
        for_each_item(raw, |item| {
            // Only what is excluded asks for names.
            path.push(if self.exclude.is_empty() { String::new() } else { index.to_string() });
            index += 1;
            self.write(item, path, depth + 1, out.as_deref_mut())?;
            path.pop();
            out.iter_mut().for_each(|out| out.push(b','));
            Ok(())
        })?;
        out.into_iter().for_each(|out| out.push(b']'));
        Ok(())
    }
}

/// The value that `pointer` names below `raw` (RFC 6901 §4).
fn find<'a>(raw: &'a RawValue, pointer: &[String]) -> Result<Option<&'a RawValue>, JsonError> {
    let Some((token, rest)) = pointer.split_first() else { return Ok(Some(raw)) };
    let mut found = None;
    match raw.get().as_bytes().first() {
        Some(b'{') => {
            found = members(raw)?.into_iter().find(|(name, _)| name == token).map(|(_, member)| member);
        }
        Some(b'[') => {
            let mut index = 0_usize;
            for_each_item(raw, |item| {
                if found.is_none() && *token == index.to_string() {
                    found = Some(item);
                }
                index += 1;
                Ok(())
            })?;
        }
        _ => {}
    }
    found.map_or(Ok(None), |found| find(found, rest))
}

/// An object's members in their order, doubled names included.
fn members(raw: &RawValue) -> Result<Vec<(String, &RawValue)>, JsonError> {
    struct Collect;

    impl<'de> Visitor<'de> for Collect {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }

    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Collect).map_err(|_| JsonError::NotJson)
}

/// Hands an array's items on one by one, so that a long array of small items takes no more memory than its text.
fn for_each_item<'a>(
    raw: &'a RawValue,
    each: impl FnMut(&'a RawValue) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    struct Each<F>(F);

    impl<'de, F: FnMut(&'de RawValue) -> Result<(), JsonError>> Visitor<'de> for Each<F> {
        type Value = Result<(), JsonError>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut done = Ok(());
            while let Some(item) = seq.next_element()? {
                if done.is_ok() {
                    done = (self.0)(item);
                }
            }
            Ok(done)
        }
    }

    let done = serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Each(each));
    done.map_err(|_| JsonError::NotJson)?
}

fn pointers<'a>(texts: &[&'a str]) -> Result<Vec<Pointer>, &'a str> {
    let mut pointers: Vec<Pointer> =
        texts.iter().map(|text| pointer(text).ok_or(*text)).collect::<Result<_, _>>()?;
    pointers.sort();
    Ok(pointers)
}

/// RFC 6901 §3 and §4: empty, or tokens each led by a slash, with `~1` for `/` and `~0` for `~`.
fn pointer(text: &str) -> Option<Pointer> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.strip_prefix('/')?.split('/').map(unescape).collect()
}

/// The pointer as RFC 6901 writes it.
fn spelled(pointer: &Pointer) -> String {
    pointer.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect()
}

fn unescape(token: &str) -> Option<String> {
    let bad = token.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
    (!bad).then(|| token.replace("~1", "/").replace("~0", "~"))
}

/// Length-prefixed, so that no escape is needed and no text can pass for structure.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;

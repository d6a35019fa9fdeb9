//! JSON reduced to one spelling, for fingerprints.
//!
//! Key order, white space and string escapes never matter. Numbers keep their text and doubled keys are refused, because
//! RFC 8785 libraries read numbers as doubles and keep one of two equal keys: under them `9007199254740993` equals
//! `9007199254740992`, and a changed amount could pass for a retry. Scanning is serde_json's; this file only orders.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
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
        let raw: &RawValue = serde_json::from_slice(body).map_err(|_| JsonError::NotJson)?;
        let root = Node::read(raw, 0)?;
        let mut out = Vec::with_capacity(body.len());
        if self.include.is_empty() {
            self.write(&root, &mut Vec::new(), &mut out);
        }
        for pointer in &self.include {
            write_text(&pointer.join("/"), &mut out);
            out.push(b'=');
            if let Some(node) = root.find(pointer) {
                self.write(node, &mut pointer.iter().map(String::as_str).collect(), &mut out);
            }
            out.push(b'\n');
        }
        Ok(out)
    }

    fn write<'a>(&'a self, node: &'a Node<'_>, path: &mut Vec<&'a str>, out: &mut Vec<u8>) {
        if self.exclude.iter().any(|pointer| pointer == path) {
            return;
        }
        match node {
            Node::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Node::Text(text) => write_text(text, out),
            Node::Array(items) => {
                out.push(b'[');
                for (index, item) in items {
                    path.push(index);
                    self.write(item, path, out);
                    path.pop();
                    out.push(b',');
                }
                out.push(b']');
            }
            Node::Object(members) => {
                out.push(b'{');
                for (name, member) in members {
                    path.push(name);
                    if !self.exclude.iter().any(|pointer| pointer == path) {
                        write_text(name, out);
                        out.push(b':');
                        self.write(member, path, out);
                        out.push(b',');
                    }
                    path.pop();
                }
                out.push(b'}');
            }
        }
    }
}

/// A JSON text whose numbers are still text. Array items carry their index as the pointer token that names them.
enum Node<'a> {
    Literal(&'a str),
    Text(String),
    Array(Vec<(String, Self)>),
    Object(BTreeMap<String, Self>),
}

impl<'a> Node<'a> {
    fn read(raw: &'a RawValue, depth: usize) -> Result<Self, JsonError> {
        let text = raw.get();
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        match text.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text).map_err(|_| JsonError::NotJson)?;
                let mut object = BTreeMap::new();
                for (name, member) in members {
                    if object.insert(name, Self::read(member, depth + 1)?).is_some() {
                        return Err(JsonError::DuplicateKey);
                    }
                }
                Ok(Self::Object(object))
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| JsonError::NotJson)?;
                let node = |(index, item): (usize, &'a RawValue)| {
                    Ok((index.to_string(), Self::read(item, depth + 1)?))
                };
                Ok(Self::Array(items.into_iter().enumerate().map(node).collect::<Result<_, _>>()?))
            }
            Some(b'"') => Ok(Self::Text(serde_json::from_str(text).map_err(|_| JsonError::NotJson)?)),
            _ => Ok(Self::Literal(text)),
        }
    }

    fn find(&self, pointer: &[String]) -> Option<&Self> {
        let Some((token, rest)) = pointer.split_first() else { return Some(self) };
        let next = match self {
            Self::Object(members) => members.get(token),
            Self::Array(items) => {
                let index: usize = token.parse().ok()?;
                items.get(index).and_then(|(name, item)| (name == token).then_some(item))
            }
            Self::Literal(_) | Self::Text(_) => None,
        };
        next?.find(rest)
    }
}

/// An object's members in their order, doubled names included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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

        deserializer.deserialize_map(Collect).map(Members)
    }
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

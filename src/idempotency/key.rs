//! The idempotency key as a client writes it.
//!
//! Owns the syntax of the field's value: draft-ietf-httpapi-idempotency-key-header §2.1 makes it a Structured Field
//! String (RFC 9651 §3.3.3); most clients send it bare. A key is never printed: it is a client's secret.

use std::fmt;

use sfv::{BareItem, Item, Parser};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// An idempotency key, unquoted: `"k"` and `k` are the same key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<str>);

/// Which spellings of a key are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySyntax {
    /// The quoted form of the draft and the bare form of most clients, as the same key.
    #[default]
    Lenient,
    /// The quoted form only.
    Strict,
}

/// How a key is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRules {
    /// Which spellings are taken.
    pub syntax: KeySyntax,
    /// The longest key in bytes, after unquoting.
    pub max_length_bytes: usize,
}

/// Why a field value is not a key. The texts are for the client and never repeat the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// The bare form holds a byte outside 0x21–0x7E, a quote or a comma.
    #[error(
        "a bare key is made of visible ASCII characters without quotes and commas; send one key, or quote it"
    )]
    Bare,
    /// Nothing but white space, outside or inside the quotes.
    #[error("the key is empty")]
    Empty,
    /// The value starts with a quote but is no Structured Field String.
    #[error("the value starts with a quote but is not one Structured Field String (RFC 9651)")]
    Malformed,
    /// The value carries Structured Field parameters.
    #[error("the key carries parameters; send the key alone")]
    Parameters,
    /// The field was sent more than once, or under more than one of its names.
    #[error("the request carries more than one key; send exactly one")]
    Several,
    /// The key is longer than the limit.
    #[error("the key is longer than {max_length_bytes} bytes")]
    TooLong {
        /// The limit in bytes, after unquoting.
        max_length_bytes: usize,
    },
    /// Strict syntax, and the value is not quoted.
    #[error("the key must be a quoted string, as in \"8e03978e-40d5-43e8-bc93-6894a57f9324\"")]
    Unquoted,
}

impl Key {
    /// Reads the key from the field lines of all its names: `None` if there is no line at all.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if there are several lines, or the one line is no key under `rules`.
    pub fn parse<'a>(
        lines: impl IntoIterator<Item = &'a [u8]>,
        rules: KeyRules,
    ) -> Result<Option<Self>, KeyError> {
        let mut lines = lines.into_iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(KeyError::Several);
        }
        let value = line.trim_ascii();
        let text = match value.first() {
            None => return Err(KeyError::Empty),
            Some(b'"') => quoted(value)?,
            Some(_) if rules.syntax == KeySyntax::Strict => return Err(KeyError::Unquoted),
            Some(_) => bare(value)?,
        };
        if text.len() > rules.max_length_bytes {
            return Err(KeyError::TooLong { max_length_bytes: rules.max_length_bytes });
        }
        Ok(Some(Self(text)))
    }

    /// The key's bytes, unquoted.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The first 8 hex digits of the key's SHA-256: the only form in which a key may reach a log.
    #[must_use]
    pub fn hash_prefix(&self) -> String {
        let digest = Sha256::digest(self.as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.hash_prefix())
    }
}

fn quoted(value: &[u8]) -> Result<Box<str>, KeyError> {
    let item: Item = Parser::new(value).parse().map_err(|_| KeyError::Malformed)?;
    if !item.params.is_empty() {
        return Err(KeyError::Parameters);
    }
    let BareItem::String(text) = item.bare_item else { return Err(KeyError::Malformed) };
    let text = text.as_str();
    if text.trim_matches(' ').is_empty() {
        return Err(KeyError::Empty);
    }
    Ok(text.into())
}

fn bare(value: &[u8]) -> Result<Box<str>, KeyError> {
    let is_bare = value.iter().all(|byte| matches!(byte, 0x21..=0x7E) && !matches!(byte, b'"' | b','));
    match std::str::from_utf8(value) {
        Ok(text) if is_bare => Ok(text.into()),
        _ => Err(KeyError::Bare),
    }
}

#[cfg(test)]
mod tests;

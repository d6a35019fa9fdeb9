//! Responses as a client reads them.

use std::fmt;
use std::io;

use serde_json::Value;

use super::wire::{Fields, Framing, Head, Wire, values};

/// A whole response.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The 1xx responses that came before it.
    pub informational: Vec<u16>,
    pub is_chunked: bool,
}

/// A connection that ended before the response was whole.
#[derive(Debug)]
pub struct Broken {
    /// What had come of it: the head at least, and some of the body.
    pub partial: Option<Response>,
    pub error: io::Error,
}

impl Response {
    /// Reads one final response. `to_head` says that the request was a HEAD, so that no body follows.
    pub async fn read(wire: &mut Wire, to_head: bool) -> Result<Self, Broken> {
        let broken = |error| Broken { partial: None, error };
        let mut informational = Vec::new();
        loop {
            let head = wire.head().await.map_err(broken)?;
            let head = head.ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?;
            let response = Self::of_head(&head);
            if !(100..200).contains(&response.status) || response.status == 101 {
                return Self { informational, ..response }.read_body(wire, &head, to_head).await;
            }
            informational.push(response.status);
        }
    }

    fn of_head(head: &Head) -> Self {
        let status = head.word(1).parse().unwrap_or_else(|_| panic!("no status line: {:?}", head.first_line));
        Self {
            status,
            fields: head.fields.clone(),
            body: Vec::new(),
            trailers: Vec::new(),
            informational: Vec::new(),
            is_chunked: head.framing(Framing::UntilClose) == Framing::Chunked,
        }
    }

    async fn read_body(mut self, wire: &mut Wire, head: &Head, to_head: bool) -> Result<Self, Broken> {
        if to_head || matches!(self.status, 101 | 204 | 304) {
            return Ok(self);
        }
        let body = &mut self.body;
        match wire.body(head.framing(Framing::UntilClose), |piece| body.extend_from_slice(piece)).await {
            Ok(trailers) => Ok(Self { trailers, ..self }),
            Err(error) => Err(Broken { partial: Some(self), error }),
        }
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }

    /// The value of a field that comes at most once.
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} comes more than once in {self:?}");
        values.first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: no JSON in {self:?}"))
    }

    pub fn is_replay(&self) -> bool {
        self.value("idempotent-replayed") == Some("true")
    }

    /// The last word of a problem's `type`.
    pub fn problem(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some(body.get("type")?.as_str()?.rsplit(['/', '#', ':']).next()?.to_owned())
    }

    /// The fields that a replay keeps: all but those that belong to one message or mark the replay.
    pub fn kept_fields(&self) -> Fields {
        let own = [
            "connection",
            "content-length",
            "idempotent-replayed",
            "keep-alive",
            "transfer-encoding",
            "x-request-id",
        ];
        self.fields
            .iter()
            .filter(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str()))
            .cloned()
            .collect()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status {}", self.status)?;
        for (name, value) in &self.fields {
            writeln!(f, "  {name}: {value}")?;
        }
        let shown = &self.body[..self.body.len().min(600)];
        write!(f, "  ({} bytes) {}", self.body.len(), String::from_utf8_lossy(shown))
    }
}

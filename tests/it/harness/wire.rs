//! HTTP/1.1 as it stands on the wire, read by either end of a test.
//!
//! Owns the framing of heads and bodies. Strict where a mistake of the proxy would show, and no more than that.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Names and values in order. Bytes beyond ASCII are read as Latin-1.
pub type Fields = Vec<(String, String)>;

/// A head: its first line and its fields.
#[derive(Clone, Debug)]
pub struct Head {
    pub first_line: String,
    pub fields: Fields,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Chunked,
    Length(usize),
    UntilClose,
}

/// One connection and what was read from it too early.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Head {
    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }

    /// How the fields frame a body; `otherwise` if they do not say.
    pub fn framing(&self, otherwise: Framing) -> Framing {
        if self.values("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        let length =
            self.values("content-length").first().map(|value| value.parse().expect("a Content-Length"));
        length.map_or(otherwise, Framing::Length)
    }

    pub fn word(&self, index: usize) -> String {
        self.first_line.splitn(3, ' ').nth(index).unwrap_or_default().to_owned()
    }
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, unread: Vec::new() }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Half-closes: the other end sees the end of the stream and may still answer.
    pub async fn finish_writing(&mut self) -> Result<()> {
        self.stream.shutdown().await
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// The next head; `None` if the connection ends before it begins.
    pub async fn head(&mut self) -> Result<Option<Head>> {
        let Some(first_line) = self.line().await? else { return Ok(None) };
        Ok(Some(Head { first_line, fields: self.fields().await? }))
    }

    /// Reads a body piece by piece, and returns its trailers.
    pub async fn body(&mut self, framing: Framing, mut piece: impl FnMut(&[u8])) -> Result<Fields> {
        match framing {
            Framing::Length(length) => {
                self.exactly(length, &mut piece).await?;
                Ok(Vec::new())
            }
            Framing::UntilClose => {
                while self.fill().await? > 0 || !self.unread.is_empty() {
                    piece(&std::mem::take(&mut self.unread));
                }
                Ok(Vec::new())
            }
            Framing::Chunked => loop {
                let line = self.line().await?.ok_or(ErrorKind::UnexpectedEof)?;
                let size = line.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|_| Error::new(ErrorKind::InvalidData, format!("no chunk size: {line:?}")))?;
                if size == 0 {
                    return self.fields().await;
                }
                self.exactly(size, &mut piece).await?;
                self.exactly(2, &mut |_| ()).await?;
            },
        }
    }

    /// The next bytes, whatever they are; none at the end of the stream.
    pub async fn some(&mut self) -> Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Reads whatever comes until the other end is gone, and returns it.
    pub async fn until_gone(&mut self) -> Vec<u8> {
        while matches!(self.fill().await, Ok(1..)) {}
        std::mem::take(&mut self.unread)
    }

    async fn exactly(&mut self, mut length: usize, piece: &mut impl FnMut(&[u8])) -> Result<()> {
        while length > 0 {
            if self.unread.is_empty() && self.fill().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let taken: Vec<u8> = self.unread.drain(..length.min(self.unread.len())).collect();
            length -= taken.len();
            piece(&taken);
        }
        Ok(())
    }

    async fn fields(&mut self) -> Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?.ok_or(ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(Error::new(ErrorKind::InvalidData, format!("no field: {line:?}")));
            };
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    async fn line(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).take(end).collect();
                return Ok(Some(line.into_iter().map(char::from).collect()));
            }
            if self.fill().await? == 0 {
                return if self.unread.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    async fn fill(&mut self) -> Result<usize> {
        self.unread.reserve(64 * 1024);
        self.stream.read_buf(&mut self.unread).await
    }
}

/// All values of a field, in order.
pub fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

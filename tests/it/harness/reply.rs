//! What the scripted upstream does with one request.
//!
//! A reply is described first and played once. It can be held at a gate before its first byte, fed by the test piece by
//! piece, cut short, sent before the request was read, and followed by things that no reply should be followed by.

use std::io;

use tokio::sync::{mpsc, oneshot};

use super::request::{chunk, last_chunk};
use super::wire::{Fields, Wire};
use super::within;

/// One reply in the making.
#[derive(Debug)]
pub struct Reply {
    head: Vec<u8>,
    body: Body,
    /// How many bytes of the framed body are sent; all if `None`.
    cut: Option<usize>,
    end: End,
    gate: Option<GateEnds>,
    reads_body: bool,
}

#[derive(Debug)]
enum Body {
    None,
    Chunked(Vec<Vec<u8>>, Fields),
    Length(Vec<u8>),
    UntilClose(Vec<u8>),
    /// Sent as it is, framing included.
    Raw(Vec<u8>),
    /// In pieces that the test feeds.
    Fed {
        pieces: mpsc::UnboundedReceiver<Vec<u8>>,
        is_chunked: bool,
    },
}

/// What follows the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    Echo,
    KeepAlive,
    Reset,
    Stall,
}

#[derive(Debug)]
struct GateEnds {
    arrived: oneshot::Sender<()>,
    release: oneshot::Receiver<()>,
}

/// Holds a request at the upstream until the test lets it go. Dropping it lets it go too.
#[derive(Debug)]
pub struct Gate {
    arrived: Option<oneshot::Receiver<()>>,
    release: oneshot::Sender<()>,
}

/// Feeds the body of a reply. Dropping it ends the body as it should end.
#[derive(Debug)]
pub struct Feed(mpsc::UnboundedSender<Vec<u8>>);

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            head: format!("HTTP/1.1 {status} Scripted\r\n").into_bytes(),
            body: Body::None,
            cut: None,
            end: End::KeepAlive,
            gate: None,
            reads_body: true,
        }
    }

    /// A created charge, and the reply of most tests.
    pub fn created(body: &str) -> Self {
        let date = "Tue, 15 Nov 1994 08:12:31 GMT";
        Self::status(201).field("Date", date).field("Content-Type", "application/json").body(body)
    }

    /// Bytes as they are: an informational response, garbage, or a whole response of one's own.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { head: Vec::new(), body: Body::Raw(bytes.as_ref().to_vec()), ..Self::status(200) }
    }

    /// Reads the request, then closes without a word.
    pub fn hang_up() -> Self {
        Self::raw("").then(End::Close)
    }

    /// Reads the request, then resets.
    pub fn reset() -> Self {
        Self::raw("").then(End::Reset)
    }

    /// Reads the request and never answers.
    pub fn stall() -> Self {
        Self::raw("").then(End::Stall)
    }

    /// Agrees to speak another protocol, and repeats whatever is said in it.
    pub fn echo(protocol: &str) -> Self {
        Self::status(101).field("Connection", "Upgrade").field("Upgrade", protocol).then(End::Echo)
    }

    /// A body that the test feeds, as chunks.
    pub fn fed(status: u16) -> (Self, Feed) {
        let (feed, pieces) = mpsc::unbounded_channel();
        let reply = Self::status(status).field("Transfer-Encoding", "chunked");
        (Self { body: Body::Fed { pieces, is_chunked: true }, ..reply }, Feed(feed))
    }

    /// A body of known length that the test feeds.
    pub fn fed_of_length(status: u16, length: usize) -> (Self, Feed) {
        let (feed, pieces) = mpsc::unbounded_channel();
        let reply = Self::status(status).field("Content-Length", length.to_string());
        (Self { body: Body::Fed { pieces, is_chunked: false }, ..reply }, Feed(feed))
    }

    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let line = [name.as_bytes(), b": ", value.as_ref(), b"\r\n"].concat();
        self.head.extend_from_slice(&line);
        self
    }

    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self { body: Body::Length(body.as_ref().to_vec()), ..self }
    }

    pub fn chunked(self, chunks: &[&str]) -> Self {
        let chunks = chunks.iter().map(|data| data.as_bytes().to_vec()).collect();
        let reply = self.field("Transfer-Encoding", "chunked");
        Self { body: Body::Chunked(chunks, Vec::new()), ..reply }
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let Body::Chunked(_, trailers) = &mut self.body else { panic!("only a chunked reply has trailers") };
        trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body without length, ended by the connection's end.
    pub fn until_close(self, body: &str) -> Self {
        Self { body: Body::UntilClose(body.into()), end: End::Close, ..self }
    }

    /// Sends the head and so many bytes of the framed body, then closes.
    pub fn cut_after(self, length: usize) -> Self {
        Self { cut: Some(length), end: End::Close, ..self }
    }

    pub fn then(self, end: End) -> Self {
        Self { end, ..self }
    }

    pub fn then_close(self) -> Self {
        self.then(End::Close)
    }

    pub fn then_reset(self) -> Self {
        self.then(End::Reset)
    }

    pub fn then_stall(self) -> Self {
        self.then(End::Stall)
    }

    /// Answers as soon as the request's head is there.
    pub fn before_the_body(self) -> Self {
        Self { reads_body: false, ..self }
    }

    /// Sends an informational response first.
    pub fn after(mut self, informational: &str) -> Self {
        self.head = [format!("HTTP/1.1 {informational}\r\n\r\n").as_bytes(), &self.head].concat();
        self
    }

    /// Holds the reply before its first byte.
    pub fn held(self) -> (Self, Gate) {
        let (arrived_end, arrived) = oneshot::channel();
        let (release, release_end) = oneshot::channel();
        let ends = GateEnds { arrived: arrived_end, release: release_end };
        (Self { gate: Some(ends), ..self }, Gate { arrived: Some(arrived), release })
    }

    pub fn reads_body(&self) -> bool {
        self.reads_body
    }

    /// Plays the reply, and says what is to follow. Fails when the other end is gone.
    pub async fn play(mut self, to_head: bool, wire: &mut Wire) -> io::Result<End> {
        if let Some(GateEnds { arrived, release }) = self.gate.take() {
            // The test may have lost interest in either end.
            arrived.send(()).unwrap_or(());
            drop(release.await);
        }
        let is_raw = matches!(self.body, Body::Raw(_));
        let (framing, framed) = match self.body {
            Body::None => (no_body_framing(&self.head), Vec::new()),
            Body::Chunked(chunks, trailers) => {
                let mut bytes: Vec<u8> = chunks.iter().flat_map(|data| chunk(data)).collect();
                bytes.extend_from_slice(&last_chunk(&trailers));
                (String::new(), bytes)
            }
            Body::Length(body) => (format!("Content-Length: {}\r\n", body.len()), body),
            Body::UntilClose(body) | Body::Raw(body) => (String::new(), body),
            Body::Fed { mut pieces, is_chunked } => {
                wire.write(&[&self.head[..], b"\r\n"].concat()).await?;
                while let Some(data) = pieces.recv().await {
                    wire.write(&if is_chunked { chunk(&data) } else { data }).await?;
                }
                if is_chunked {
                    wire.write(&last_chunk(&[])).await?;
                }
                return Ok(self.end);
            }
        };
        let mut bytes = self.head;
        if !is_raw {
            bytes.extend_from_slice(framing.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        if !to_head {
            bytes.extend_from_slice(framed.get(..self.cut.unwrap_or(framed.len())).unwrap_or(&framed));
        }
        wire.write(&bytes).await?;
        Ok(self.end)
    }
}

impl Gate {
    /// Waits until the request has arrived at the upstream.
    pub async fn arrived(&mut self) {
        let arrived = self.arrived.take().expect("a gate is waited for once");
        within("the request at the upstream", arrived).await.expect("the upstream plays the held reply");
    }

    /// Lets the reply go.
    pub fn release(self) {
        self.release.send(()).unwrap_or(());
    }
}

impl Feed {
    /// Sends one piece; false once the other end is gone.
    pub fn send(&self, data: impl AsRef<[u8]>) -> bool {
        self.0.send(data.as_ref().to_vec()).is_ok()
    }

    /// Ends the body.
    pub fn end(self) {}
}

fn no_body_framing(head: &[u8]) -> String {
    // Statuses without body have no length either.
    let status = head.rsplit(|byte| *byte == b'\n').filter(|line| line.starts_with(b"HTTP/")).count();
    let bodiless = [&b" 101 "[..], b" 204 ", b" 304 "];
    let has_none = bodiless.iter().any(|status| head.windows(status.len()).any(|window| window == *status));
    if status > 0 && has_none { String::new() } else { "Content-Length: 0\r\n".to_owned() }
}

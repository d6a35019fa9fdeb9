//! HTTP/2 frame by frame, for what no client says (RFC 9113 §4, RFC 7541 without its tables).

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::wire::Wire;
use super::within;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// One connection, after its preface and an empty SETTINGS.
#[derive(Debug)]
pub struct Frames {
    wire: Wire,
    unread: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        Self { kind, flags, stream, payload: payload.as_ref().to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let code = if self.kind == GOAWAY { &self.payload[4..8] } else { &self.payload[..4] };
        u32::from_be_bytes(code.try_into().unwrap())
    }
}

impl Frames {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        let mut frames = Self { wire: Wire::new(stream), unread: Vec::new() };
        frames.wire.write(PREFACE).await.expect("room to write");
        frames.send(&Frame::new(SETTINGS, 0, 0, [])).await;
        frames
    }

    pub async fn send(&mut self, frame: &Frame) {
        // Whoever closes the connection meanwhile shows it in what is read.
        drop(within("room to write", self.wire.write(&frame.bytes())).await);
    }

    /// The next frame; `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.unread.split_at_checked(9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if rest.len() >= length {
                    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
                    let frame = Frame::new(head[3], head[4], stream, &rest[..length]);
                    self.unread.drain(..9 + length);
                    return Some(frame);
                }
            }
            let more = within("a frame", self.wire.some()).await.unwrap_or_default();
            if more.is_empty() {
                return None;
            }
            self.unread.extend(more);
        }
    }

    /// The next frame of one of these kinds.
    pub async fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            match self.next().await {
                Some(frame) if kinds.contains(&frame.kind) => return Some(frame),
                Some(_) => {}
                None => return None,
            }
        }
    }
}

/// A block of fields, each literal and without an index.
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// RFC 7541 §5.1, of 7 bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else { return block.push(value as u8) };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Begins requests and resets each at once, until the connection is ended.
pub async fn reset_rapidly(client: &mut Frames, streams: u32) -> Frame {
    let fields: [(&str, &[u8]); 4] =
        [(":method", b"GET"), (":scheme", b"http"), (":authority", b"api.test"), (":path", b"/")];
    let cancel = 8_u32.to_be_bytes();
    let mut bytes = Vec::new();
    for stream in (0..streams).map(|index| 2 * index + 1) {
        bytes.extend(Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, block(&fields)).bytes());
        bytes.extend(Frame::new(RST_STREAM, 0, stream, cancel).bytes());
    }
    drop(client.wire.write(&bytes).await);
    client.next_of(&[GOAWAY]).await.expect("a GOAWAY")
}

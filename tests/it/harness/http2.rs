//! A scripted HTTP/2 upstream that speaks frames (RFC 9113 §4), in cleartext by prior knowledge.
//!
//! Strict where a mistake of the proxy would show, and able to say at each moment what a library would not let it say. It
//! decodes no heads: it counts requests, and reads their bodies.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{aside, eventually};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub const REFUSED_STREAM: u32 = 7;
pub const NO_ERROR: u32 = 0;
/// The last stream that there can be.
const ANY_STREAM: u32 = u32::MAX >> 1;
pub const INTERNAL_ERROR: u32 = 2;

/// What becomes of a request once it has come whole.
#[derive(Clone, Debug)]
pub enum Then {
    /// A status with a body, and trailers if there are any.
    Answer { status: u16, body: &'static str, trailers: Vec<(&'static str, &'static str)> },
    /// A head and some of the body, then a reset with this code.
    CutBy(u32),
    /// The same in one write: no time lies between them, however busy the machine is.
    CutAtOnceBy(u32),
    /// A goodbye that names no last stream yet, as before a shutdown (RFC 9113 §6.8), and a whole answer.
    GoodbyeAndAnswer,
    /// A whole answer, then a reset with this code.
    AnswerAndReset(u32),
    /// A reset with this code.
    Reset(u32),
    /// A goodbye that names `last` (streams are 1, 3, 5 …) and this code; what is beyond gets nothing more.
    Goodbye { last: u32, code: u32 },
    /// The end of the connection.
    HangUp,
    /// Nothing, until the test says `release`.
    Hold,
    /// Nothing at all, not even answers to pings.
    PlayDead,
}

/// A running upstream.
#[derive(Debug)]
pub struct Http2Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A request as it was seen.
#[derive(Clone, Debug)]
pub struct SeenStream {
    stream: u32,
    pub body: Vec<u8>,
    /// How many header blocks came: two with trailers.
    pub blocks: usize,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<VecDeque<Then>>,
    seen: Mutex<Vec<SeenStream>>,
    resets: AtomicUsize,
    connections: AtomicUsize,
    pings: AtomicUsize,
    released: Notify,
    max_streams: u32,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Http2Upstream {
    /// One that allows `max_streams` at once on each connection.
    pub async fn start(max_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { max_streams, ..Shared::default() });
        let serving = shared.clone();
        drop(aside(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                // How a connection ends is for the test to see.
                drop(aside(async move { shared.serve(stream).await.unwrap_or(()) }));
            }
        }));
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of the next request that has no script. Without one it is answered with 201.
    pub fn next(&self, then: Then) {
        self.shared.script.lock().unwrap().push_back(then);
    }

    pub fn seen(&self) -> Vec<SeenStream> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn pings(&self) -> usize {
        self.shared.pings.load(Ordering::SeqCst)
    }

    /// Answers what is held.
    pub fn release(&self) {
        self.shared.released.notify_waiters();
    }

    pub async fn requests_to_be(&self, count: usize) {
        eventually("the requests have come", async || self.seen().len() >= count).await;
    }

    /// Waits until so many streams were reset by the other end.
    pub async fn resets_to_be(&self, count: usize) {
        eventually("the streams are reset", async || self.shared.resets.load(Ordering::SeqCst) >= count)
            .await;
    }
}

impl Shared {
    async fn serve(&self, mut wire: TcpStream) -> io::Result<()> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut preface = [0; 24];
        wire.read_exact(&mut preface).await?;
        assert_eq!(preface, PREFACE, "the client says hello");
        let max_streams = [&3_u16.to_be_bytes()[..], &self.max_streams.to_be_bytes()].concat();
        write(&mut wire, SETTINGS, 0, 0, &max_streams).await?;
        let mut open: Vec<SeenStream> = Vec::new();
        let mut held: Vec<u32> = Vec::new();
        loop {
            let frame = tokio::select! {
                frame = read(&mut wire) => frame?,
                () = self.released.notified() => {
                    for stream in held.drain(..) {
                        answer(&mut wire, stream, 201, "released", &[]).await?;
                    }
                    continue;
                }
            };
            let has_ended = frame.flags & END_STREAM != 0;
            match frame.kind {
                HEADERS => {
                    assert!(frame.flags & END_HEADERS != 0, "these tests have short heads");
                    match open.iter_mut().find(|own| own.stream == frame.stream) {
                        Some(own) => own.blocks += 1,
                        None => {
                            open.push(SeenStream { stream: frame.stream, body: Vec::new(), blocks: 1 });
                            assert!(open.len() + held.len() <= self.max_streams as usize, "too many streams");
                        }
                    }
                }
                DATA => {
                    let own = open.iter_mut().find(|own| own.stream == frame.stream).expect("a stream");
                    own.body.extend_from_slice(&frame.payload);
                }
                RST_STREAM => {
                    open.retain(|own| own.stream != frame.stream);
                    held.retain(|own| *own != frame.stream);
                    self.resets.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                SETTINGS if frame.flags & ACK == 0 => write(&mut wire, SETTINGS, ACK, 0, &[]).await?,
                PING if frame.flags & ACK == 0 => {
                    self.pings.fetch_add(1, Ordering::SeqCst);
                    write(&mut wire, PING, ACK, 0, &frame.payload).await?;
                }
                CONTINUATION => panic!("these tests have short heads"),
                _ => continue,
            }
            if !has_ended || !matches!(frame.kind, HEADERS | DATA) {
                continue;
            }
            let index = open.iter().position(|own| own.stream == frame.stream).expect("a stream");
            self.seen.lock().unwrap().push(open.remove(index));
            let then = self.script.lock().unwrap().pop_front();
            match then.unwrap_or(Then::Answer { status: 201, body: "created", trailers: Vec::new() }) {
                Then::Answer { status, body, trailers } => {
                    answer(&mut wire, frame.stream, status, body, &trailers).await?;
                }
                Then::CutBy(code) => {
                    write(&mut wire, HEADERS, END_HEADERS, frame.stream, &head(201)).await?;
                    write(&mut wire, DATA, 0, frame.stream, b"cut").await?;
                    write(&mut wire, RST_STREAM, 0, frame.stream, &code.to_be_bytes()).await?;
                }
                Then::CutAtOnceBy(code) => {
                    let frames = [
                        bytes(HEADERS, END_HEADERS, frame.stream, &head(201)),
                        bytes(DATA, 0, frame.stream, b"cut"),
                        bytes(RST_STREAM, 0, frame.stream, &code.to_be_bytes()),
                    ];
                    wire.write_all(&frames.concat()).await?;
                }
                Then::GoodbyeAndAnswer => {
                    let goodbye = [ANY_STREAM.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
                    write(&mut wire, GOAWAY, 0, 0, &goodbye).await?;
                    answer(&mut wire, frame.stream, 201, "created", &[]).await?;
                }
                Then::AnswerAndReset(code) => {
                    answer(&mut wire, frame.stream, 201, "created", &[]).await?;
                    write(&mut wire, RST_STREAM, 0, frame.stream, &code.to_be_bytes()).await?;
                }
                Then::Reset(code) => {
                    write(&mut wire, RST_STREAM, 0, frame.stream, &code.to_be_bytes()).await?;
                }
                Then::Goodbye { last, code } => {
                    let goodbye = [last.to_be_bytes(), code.to_be_bytes()].concat();
                    write(&mut wire, GOAWAY, 0, 0, &goodbye).await?;
                    if last >= frame.stream {
                        held.push(frame.stream);
                    }
                }
                Then::HangUp => return Ok(()),
                Then::Hold => held.push(frame.stream),
                Then::PlayDead => {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

async fn answer(
    wire: &mut TcpStream,
    stream: u32,
    status: u16,
    body: &str,
    trailers: &[(&str, &str)],
) -> io::Result<()> {
    let names: Vec<&str> = trailers.iter().map(|(name, _)| *name).collect();
    if names.is_empty() {
        write(wire, HEADERS, END_HEADERS, stream, &head(status)).await?;
        return write(wire, DATA, END_STREAM, stream, body.as_bytes()).await;
    }
    // Announced for the sake of clients that speak HTTP/1.1.
    let head = [head(status), field("trailer", &names.join(", "))].concat();
    write(wire, HEADERS, END_HEADERS, stream, &head).await?;
    write(wire, DATA, 0, stream, body.as_bytes()).await?;
    let block: Vec<u8> = trailers.iter().flat_map(|(name, value)| field(name, value)).collect();
    write(wire, HEADERS, END_HEADERS | END_STREAM, stream, &block).await
}

/// A status and a content type, without the dynamic table (RFC 7541 §6.2.2).
fn head(status: u16) -> Vec<u8> {
    let status = [&[0x08, 3][..], status.to_string().as_bytes()].concat();
    [status, field("content-type", "application/json")].concat()
}

fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).expect("a short text");
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

async fn read(wire: &mut TcpStream) -> io::Result<Frame> {
    let mut head = [0; 9];
    // Frames come whole in these tests, so that a wait that is given up has read none of one.
    wire.readable().await?;
    wire.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut payload = vec![0; length];
    wire.read_exact(&mut payload).await?;
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}

async fn write(wire: &mut TcpStream, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
    wire.write_all(&bytes(kind, flags, stream, payload)).await
}

/// A frame.
fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

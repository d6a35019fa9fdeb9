//! The strict recording upstream: it keeps every byte that it receives, connection by connection, and answers what it reads
//! as a whole request. What it cannot read it never answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::harness::{aside, within};

#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Vec<u8>>>,
    connections: TaskTracker,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let recording = Arc::clone(&shared);
        drop(aside(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = {
                    let mut received = recording.received.lock().unwrap();
                    received.push(Vec::new());
                    received.len() - 1
                };
                let serving = Arc::clone(&recording).serve(stream, connection);
                drop(aside(recording.connections.track_future(serving)));
            }
        }));
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that was received, once every connection has ended.
    pub async fn received(&self) -> Vec<Vec<u8>> {
        self.shared.connections.close();
        within("the end of the upstream's connections", self.shared.connections.wait()).await;
        self.shared.received.lock().unwrap().clone()
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut stream: TcpStream, connection: usize) {
        let mut answered = 0;
        let mut piece = vec![0; 64 * 1024];
        // The end of the stream and its reset are one here: what came is kept.
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            let whole = {
                let received = &mut self.received.lock().unwrap()[connection];
                received.extend_from_slice(&piece[..length]);
                let mut rest = &received[answered..];
                let mut whole = Vec::new();
                while let Some((request, after)) = split_request(rest) {
                    whole.push(request.starts_with(b"HEAD "));
                    answered += rest.len() - after.len();
                    rest = after;
                }
                whole
            };
            for is_head in whole {
                let body = if is_head { "" } else { "{}" };
                let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{body}");
                // Whoever left without the answer is noticed by the next read.
                stream.write_all(answer.as_bytes()).await.unwrap_or(());
            }
        }
    }
}

/// The first request and what follows it, if it is whole: CRLF only, names without blanks, one length or one `chunked`.
fn split_request(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok().map(str::to_ascii_lowercase);
    // Field values may be no UTF-8; what frames is ASCII.
    let head = head.unwrap_or_else(|| String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase());
    let lines: Vec<&str> = head.split("\r\n").skip(1).collect();
    let value = |name: &str| {
        let found = lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(|value| value.trim_matches([' ', '\t']).to_owned()).collect::<Vec<_>>()
    };
    let body = &bytes[end + 4..];
    let length = match (value("content-length").as_slice(), value("transfer-encoding").as_slice()) {
        ([], []) => Some(0),
        ([length], []) => length.parse().ok(),
        ([], [coding]) if coding == "chunked" => chunked_length(body),
        _ => None,
    };
    let length = length.filter(|length| *length <= body.len())?;
    Some(bytes.split_at(end + 4 + length))
}

fn chunked_length(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&body[at..], b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        if size == 0 {
            break;
        }
        if body.get(at + size..at + size + 2)? != b"\r\n" {
            return None;
        }
        at += size + 2;
    }
    if body.get(at..at + 2)? == b"\r\n" {
        return Some(at + 2);
    }
    Some(at + find(&body[at..], b"\r\n\r\n")? + 4)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

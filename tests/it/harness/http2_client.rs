//! A client of HTTP/2 over any bytes. It keeps to the protocol, but can be slow, and reset its streams.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::wire::Fields;
use super::{Request, Response, aside, within};

/// One connection.
#[derive(Debug)]
pub struct Http2Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request under way.
#[derive(Debug)]
pub struct Http2Stream {
    upload: SendStream<Bytes>,
    response: ResponseFuture,
}

impl Http2Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        Self::over(stream).await
    }

    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self::with(&mut Builder::new(), stream).await
    }

    pub async fn with(
        builder: &mut Builder,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (sender, connection) =
            within("a handshake", builder.handshake(stream)).await.expect("a handshake");
        Self { sender, connection: aside(connection) }
    }

    /// Sends the whole request and reads the whole response.
    pub async fn request(&mut self, request: &Request) -> Response {
        let response = self.try_request(request).await;
        response.unwrap_or_else(|error| panic!("no whole response to {request:?}: {error:?}"))
    }

    pub async fn try_request(&mut self, request: &Request) -> Result<Response, h2::Error> {
        self.send(request).await.response().await
    }

    /// Sends the whole request.
    pub async fn send(&mut self, request: &Request) -> Http2Stream {
        let body = request.body_data();
        let is_bodyless = body.is_empty();
        let mut stream = self.begin(request, is_bodyless).await;
        if !is_bodyless {
            stream.send_data(body, true);
        }
        stream
    }

    /// Sends the head.
    pub async fn begin(&mut self, request: &Request, is_bodyless: bool) -> Http2Stream {
        let sender = self.sender.clone();
        let mut sender = within("room for a stream", sender.ready()).await.expect("room for a stream");
        let (response, upload) = sender.send_request(request.http2(), is_bodyless).expect("a request");
        Http2Stream { upload, response }
    }

    /// Waits until the other end has closed the connection, and says how.
    pub async fn closed(self) -> Result<(), h2::Error> {
        let Self { sender, connection } = self;
        let ended = within("the connection's end", connection).await.expect("no panic");
        drop(sender);
        ended
    }
}

impl Http2Stream {
    pub fn send_data(&mut self, data: impl Into<Bytes>, is_end: bool) {
        self.upload.send_data(data.into(), is_end).expect("a stream that takes data");
    }

    pub fn send_trailer(&mut self, name: &'static str, value: &'static str) {
        let trailers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        self.upload.send_trailers(trailers).expect("a stream that takes trailers");
    }

    pub fn reset(self) {
        self.reset_with(Reason::CANCEL);
    }

    pub fn reset_with(mut self, reason: Reason) {
        self.upload.send_reset(reason);
    }

    pub async fn response(self) -> Result<Response, h2::Error> {
        let (mut response, mut body) = self.head().await?;
        while let Some(data) = within("more of a body", body.data()).await {
            let data = data?;
            response.body.extend_from_slice(&data);
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = within("the end of a body", body.trailers()).await?;
        response.trailers = fields(&trailers.unwrap_or_default());
        Ok(response)
    }

    /// The head of the response, and the body to read or to leave.
    pub async fn head(self) -> Result<(Response, RecvStream), h2::Error> {
        let Self { upload: _upload, response } = self;
        let (parts, body) = within("a response", response).await?.into_parts();
        let response = Response {
            status: parts.status.as_u16(),
            fields: fields(&parts.headers),
            body: Vec::new(),
            trailers: Fields::new(),
            informational: Vec::new(),
            is_chunked: false,
        };
        Ok((response, body))
    }
}

fn fields(headers: &HeaderMap) -> Fields {
    let text = |value: &[u8]| value.iter().copied().map(char::from).collect();
    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

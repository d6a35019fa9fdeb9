//! A client that speaks bytes: it can be slow, cut itself short, pipeline and lie.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::request::Request;
use super::response::{Broken, Response};
use super::wire::Wire;
use super::within;

/// One connection of a client.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        Self { wire: Wire::new(stream) }
    }

    /// Sends the whole request and reads the whole response.
    pub async fn request(&mut self, request: &Request) -> Response {
        self.send(request).await;
        let read = within("a response", Response::read(&mut self.wire, request.is_head())).await;
        read.unwrap_or_else(|broken| panic!("no whole response to {request:?}: {broken:?}"))
    }

    /// Sends a request on a connection of its own to where nobody may be.
    pub async fn ask(address: SocketAddr, request: &Request) -> io::Result<Response> {
        let mut wire = Wire::new(TcpStream::connect(address).await?);
        wire.write(&request.bytes()).await?;
        Response::read(&mut wire, request.is_head()).await.map_err(|broken| broken.error)
    }

    pub async fn send(&mut self, request: &Request) {
        self.send_bytes(request.bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: impl AsRef<[u8]>) {
        within("room to write", self.wire.write(bytes.as_ref())).await.expect("the connection takes bytes");
    }

    /// Sends what the other end may no longer want to read.
    pub async fn try_send_bytes(&mut self, bytes: impl AsRef<[u8]>) {
        // Whether it was read shows in the answer.
        within("room to write", self.wire.write(bytes.as_ref())).await.unwrap_or(());
    }

    /// Reads the next response.
    pub async fn response(&mut self) -> Response {
        self.try_response().await.unwrap_or_else(|broken| panic!("no whole response: {broken:?}"))
    }

    /// Reads the next response, or what came of it before the connection ended.
    pub async fn try_response(&mut self) -> Result<Response, Broken> {
        within("a response", Response::read(&mut self.wire, false)).await
    }

    /// Reads raw bytes until `wanted` is among them, and returns all that came.
    pub async fn read_until(&mut self, wanted: &str) -> String {
        let mut all = Vec::new();
        within(wanted, async {
            while !String::from_utf8_lossy(&all).contains(wanted) {
                let some = self.wire.some().await.expect("a connection");
                assert!(
                    !some.is_empty(),
                    "the connection ended before {wanted:?}: {:?}",
                    String::from_utf8_lossy(&all)
                );
                all.extend_from_slice(&some);
            }
        })
        .await;
        String::from_utf8_lossy(&all).into_owned()
    }

    /// What has come so far and has not been read, for a test that nothing more comes: it waits a little for it.
    pub async fn unread(&mut self) -> String {
        let mut all = Vec::new();
        while let Ok(Ok(some)) = timeout(Duration::from_millis(150), self.wire.some()).await
            && !some.is_empty()
        {
            all.extend_from_slice(&some);
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Waits until the other end closes, and returns what came before.
    pub async fn closed(&mut self) -> String {
        let rest = within("the connection's end", self.wire.until_gone()).await;
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// The next response with this key, once the request is no longer in flight.
    pub async fn settled(address: SocketAddr, request: &Request) -> Response {
        let mut last = None;
        super::eventually("the request is no longer in flight", async || {
            let response = Self::connect(address).await.request(request).await;
            let is_settled = response.problem().as_deref() != Some("request-in-flight");
            last = Some(response);
            is_settled
        })
        .await;
        last.expect("a response")
    }

    /// Says that nothing more will be sent, and stays to read.
    pub async fn half_close(&mut self) {
        // It may be gone already, which is more than half.
        self.wire.finish_writing().await.unwrap_or(());
    }

    /// Goes away with a FIN.
    pub fn close(self) {}

    /// Goes away with a reset.
    pub fn reset(self) {
        self.wire.reset();
    }
}

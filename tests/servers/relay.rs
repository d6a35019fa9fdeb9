//! A wire that can be cut, slowed and made deaf, to stand between Oncegate and a server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::aside;

/// What is read at once, and all that is ever held, for each direction of a connection.
const BUFFER_BYTES: usize = 16 << 10;

/// Passes bytes between whoever connects and one server, on both sides as they come, until told otherwise. It ends, and its
/// connections with it, when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    accepting: JoinHandle<()>,
}

/// What befalls the bytes, of old connections and new ones.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    is_cut: bool,
    swallows_replies: bool,
    delay: Duration,
}

impl Relay {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (weather, watched) = watch::channel(Weather::default());
        let accepting = aside(accept(listener, server, watched));
        Self { address, weather, accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and each new one at once.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.is_cut = true);
    }

    /// Holds each piece that goes to the server for so long.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Lets the server hear everything, and nobody hear the server.
    pub fn drop_replies(&self) {
        self.weather.send_modify(|weather| weather.swallows_replies = true);
    }

    /// Takes all of that back. What was cut or swallowed stays so.
    pub fn heal(&self) {
        self.weather.send_replace(Weather::default());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, weather: watch::Receiver<Weather>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(relay(client, server, weather.clone()));
    }
}

async fn relay(client: TcpStream, server: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let watched = weather.clone();
    let passed = async {
        let server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::try_join!(
            requests(from_client, to_server, &watched),
            replies(from_server, to_client, &watched)
        )
    };
    tokio::select! {
        biased;
        // It ends with the relay, too.
        _ = weather.wait_for(|weather| weather.is_cut) => {}
        _ = passed => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: &watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        let delay = weather.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: &watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        if !weather.borrow().swallows_replies {
            to.write_all(&buffer[..read]).await?;
        }
    }
}

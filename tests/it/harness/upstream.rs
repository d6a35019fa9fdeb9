//! The scripted upstream: it records every request and does what the test told it to.
//!
//! Without a script it answers 201 with a number of its own, so that a second execution shows in the answer as well as
//! in the count.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::reply::{End, Gate, Reply};
use super::wire::{Fields, Framing, Head, Wire, values};
use super::{aside, eventually};

/// A raw-socket HTTP/1.1 server on a port of its own.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Whether the body came to its end.
    pub is_whole: bool,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

/// An address that takes no connection and refuses none: whoever connects waits.
#[derive(Debug)]
pub struct StuckEndpoint {
    listener: Socket,
    _waiting: Vec<Socket>,
    address: SocketAddr,
}

/// An address at which nothing listens, and nothing will while this lives.
#[derive(Debug)]
pub struct DeadEndpoint {
    bound: Socket,
    address: SocketAddr,
}

type MakeReply = Box<dyn Fn(usize) -> Reply + Send>;

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    script: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Option<MakeReply>>,
    connections: AtomicUsize,
    /// How many connections the other end has left while a reply was due or going on.
    hang_ups: AtomicUsize,
    /// How many idle connections were closed.
    closed_idle: AtomicUsize,
    close_idle: Notify,
    /// How many connections the other end has left without a request, or before all of it came.
    left: AtomicUsize,
    /// How long an idle connection is kept; for ever if `None`.
    patience: Mutex<Option<Duration>>,
}

impl Upstream {
    pub async fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        drop(aside(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(aside(Arc::clone(&serving).serve(Wire::new(stream))));
            }
        }));
        Self { address, shared }
    }

    fn serve_on(socket: Socket) -> Self {
        socket.listen(128).expect("a listener");
        socket.set_nonblocking(true).expect("a listener");
        Self::serve(TcpListener::from_std(socket.into()).expect("a listener"))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request that has no reply yet gets this one.
    pub fn next(&self, reply: Reply) {
        self.shared.script.lock().unwrap().push_back(reply);
    }

    /// The next request is answered like any other, once the gate lets it go.
    pub fn hold_next(&self) -> Gate {
        let (reply, gate) = Reply::created(r#"{"held":true}"#).held();
        self.next(reply);
        gate
    }

    /// Every request without a reply of its own gets one of these. The number counts requests from 1.
    pub fn always(&self, make: impl Fn(usize) -> Reply + Send + 'static) {
        *self.shared.otherwise.lock().unwrap() = Some(Box::new(make));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The one request that came.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "the upstream should have seen one request: {seen:#?}");
        seen.into_iter().next().expect("one request")
    }

    /// How many requests came with this key, in either spelling.
    pub fn executions(&self, key: &str) -> usize {
        let seen = self.seen();
        let keys = seen.iter().flat_map(|request| request.values("idempotency-key"));
        keys.filter(|value| value.trim_matches('"') == key).count()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn close_idle_connections(&self) {
        self.shared.close_idle.notify_waiters();
    }

    /// Closes each connection that has carried a request once it has been idle for `patience`, as servers do.
    pub fn keep_idle_connections_for(&self, patience: Duration) {
        *self.shared.patience.lock().unwrap() = Some(patience);
    }

    pub fn closed_connections(&self) -> usize {
        self.shared.closed_idle.load(Ordering::SeqCst)
    }

    pub async fn closed_connections_to_be(&self, count: usize) {
        let closed = &self.shared.closed_idle;
        eventually("the idle connections are closed", async || closed.load(Ordering::SeqCst) >= count).await;
    }

    pub async fn left_to_be(&self, count: usize) {
        let left = &self.shared.left;
        eventually("connections are given up", async || left.load(Ordering::SeqCst) >= count).await;
    }

    pub async fn requests_to_be(&self, count: usize) {
        eventually("the upstream has seen the requests", async || self.seen().len() >= count).await;
    }

    pub async fn hang_ups_to_be(&self, count: usize) {
        let hang_ups = &self.shared.hang_ups;
        eventually("the upstream was left", async || hang_ups.load(Ordering::SeqCst) >= count).await;
    }
}

impl Seen {
    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} comes more than once in {self:?}");
        values.first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl StuckEndpoint {
    /// Listens with the shortest queue there is, and fills it.
    pub fn new() -> Self {
        let (listener, address) = bound_socket();
        listener.listen(0).expect("a listener");
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            // Those beyond the queue never come through, which is the point.
            drop(socket.connect(&address.into()));
            waiting.push(socket);
        }
        Self { listener, _waiting: waiting, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to take connections.
    pub fn revive(self) -> Upstream {
        Upstream::serve_on(self.listener)
    }
}

impl DeadEndpoint {
    pub fn new() -> Self {
        let (bound, address) = bound_socket();
        Self { bound, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to serve here: from now on the endpoint is alive.
    pub fn revive(self) -> Upstream {
        Upstream::serve_on(self.bound)
    }
}

fn bound_socket() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    (socket, address)
}

impl Shared {
    async fn serve(self: Arc<Self>, mut wire: Wire) {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        loop {
            let patience = *self.patience.lock().unwrap();
            let idle_for_too_long = async {
                match patience {
                    Some(patience) => sleep(patience).await,
                    None => self.close_idle.notified().await,
                }
            };
            let head = tokio::select! {
                // What has come is read before patience ends, as servers do.
                biased;
                head = wire.head() => head,
                () = idle_for_too_long => {
                    drop(wire);
                    self.closed_idle.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            };
            let Ok(Some(head)) = head else {
                self.left.fetch_add(1, Ordering::SeqCst);
                return;
            };
            let index = self.record(&head, connection);
            let reply = self.reply(index + 1);
            let framing = head.framing(Framing::Length(0));
            if reply.reads_body() && self.read_body(&mut wire, framing, index).await.is_err() {
                self.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
            let reads_body = reply.reads_body();
            match reply.play(head.word(0) == "HEAD", &mut wire).await {
                Ok(End::KeepAlive) => {}
                Ok(End::Close) => return,
                Ok(End::Reset) => return wire.reset(),
                Ok(End::Stall) => {
                    wire.until_gone().await;
                    self.hang_ups.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Ok(End::Echo) => return echo(wire).await,
                Err(_) => {
                    self.hang_ups.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            if !reads_body && self.read_body(&mut wire, framing, index).await.is_err() {
                self.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }

    fn record(&self, head: &Head, connection: usize) -> usize {
        let mut seen = self.seen.lock().unwrap();
        seen.push(Seen {
            method: head.word(0),
            target: head.word(1),
            fields: head.fields.clone(),
            body: Vec::new(),
            trailers: Vec::new(),
            is_whole: false,
            connection,
        });
        seen.len() - 1
    }

    fn reply(&self, number: usize) -> Reply {
        let scripted = self.script.lock().unwrap().pop_front();
        scripted.unwrap_or_else(|| match self.otherwise.lock().unwrap().as_ref() {
            Some(make) => make(number),
            None => Reply::created(&format!(r#"{{"execution":{number}}}"#)),
        })
    }

    async fn read_body(&self, wire: &mut Wire, framing: Framing, index: usize) -> std::io::Result<()> {
        let read =
            wire.body(framing, |piece| self.seen.lock().unwrap()[index].body.extend_from_slice(piece)).await;
        let mut seen = self.seen.lock().unwrap();
        seen[index].trailers = read?;
        seen[index].is_whole = true;
        Ok(())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("seen", &self.seen).finish_non_exhaustive()
    }
}

async fn echo(mut wire: Wire) {
    while let Ok(some) = wire.some().await {
        if some.is_empty() || wire.write(&some).await.is_err() {
            return;
        }
    }
}

//! What an operator may choose about listeners and connections.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything the listeners need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Where clients connect: at least one.
    pub listeners: Vec<ListenerParams>,
    /// The admin listener; `None` to have none.
    pub admin: Option<AdminParams>,
    /// Whether it is ready only while the store can be reached.
    pub ready_needs_store: bool,
    /// How long requests are still welcome after the first signal, while nobody is to send any more.
    pub drain_delay: Duration,
    /// How long work may go on after that.
    pub shutdown_grace: Duration,
    /// How many connections are served at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How many connections of one client address are served at once; more are closed.
    pub max_connections_per_address: Option<usize>,
    /// How many fields a request may have.
    pub max_headers: usize,
    /// How many bytes a request head may have.
    pub max_header_bytes: usize,
    /// How long a client may take nothing of what is sent to it.
    pub write_timeout: Duration,
    /// How long a new connection may take to send its first byte, and any to send a request head, from its first byte on.
    pub header_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// What is shown and asked for by listeners with TLS; `None` where there are none.
    pub tls: Option<TlsParams>,
    /// HTTP/2; `None` to speak HTTP/1.1 only.
    pub http2: Option<Http2Params>,
}

/// One address where clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerParams {
    /// The address.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether every connection begins with a PROXY header, which says who the client is.
    pub proxy_protocol: bool,
}

/// The admin listener, and what it takes to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminParams {
    /// The address.
    pub listen: SocketAddr,
    /// Where the token stands that lets in.
    pub token: Option<TokenParams>,
    /// Its certificate, and who vouches for those who may come in with one of theirs.
    pub tls: Option<TlsParams>,
}

/// Where a token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenParams {
    /// In a variable of this name.
    Environment(String),
    /// In this file, alone. It is reread: a new token is taken at once.
    File(PathBuf),
}

/// TLS towards clients: versions 1.2 and 1.3, no early data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsParams {
    /// At least one. The first is shown to clients that name no host, or none that a certificate is for.
    pub certificates: Vec<CertificateParams>,
    /// Which clients have to prove who they are; `None` if nobody is asked.
    pub client_auth: Option<ClientAuthParams>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How often the files are looked at for new contents.
    pub reload_interval: Duration,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateParams {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key of the first one (PKCS #8, PKCS #1 or SEC1).
    pub key: PathBuf,
}

/// How clients prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthParams {
    /// The certificates, PEM, of who vouches for clients.
    pub ca: PathBuf,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// The bounds of one HTTP/2 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Params {
    /// How many requests may be under way.
    pub max_concurrent_streams: u32,
    /// How many guarded requests may be at work, those included whose streams the client has reset.
    pub max_attempts: usize,
    /// How many streams a client may reset before they were looked at.
    pub max_pending_resets: usize,
    /// How many streams may be reset because of the client's mistakes.
    pub max_error_resets: usize,
    /// How much of one request body may be under way.
    pub stream_window_bytes: u32,
    /// How much of all request bodies may be under way.
    pub connection_window_bytes: u32,
    /// How often the client has to answer a ping.
    pub ping_interval: Duration,
    /// How long it may take to.
    pub ping_timeout: Duration,
}

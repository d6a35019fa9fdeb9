//! What an operator may choose about listeners and connections.

use std::net::SocketAddr;
use std::time::Duration;

/// Everything the listeners need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Where clients connect: at least one.
    pub listen: Vec<SocketAddr>,
    /// Where the admin endpoints are served; `None` for nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// How long work may go on after the first signal.
    pub shutdown_grace: Duration,
    /// How many connections are served at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How many fields a request may have.
    pub max_headers: usize,
    /// How many bytes a request head may have.
    pub max_header_bytes: usize,
    /// How long a client may take nothing of what is sent to it.
    pub write_timeout: Duration,
    /// How long a connection may take to send a request head, idle time included.
    pub header_timeout: Duration,
}

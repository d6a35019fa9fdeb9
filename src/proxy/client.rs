//! Who sent a request, and the connection it came by.

use http::Version;
use tokio::sync::OwnedSemaphorePermit;

use super::forwarded::{Peer, Trust};
use super::headers::Received;
use super::quota::{Quota, Share};
use super::socket::Probe;

/// The port that a host need not name, without TLS and with it (RFC 9110 §4.2).
const DEFAULT_PORTS: [u16; 2] = [80, 443];

/// One connection of a client, shared by its requests.
#[derive(Debug)]
pub struct Client {
    /// The client: the other end of the connection, or whom the PROXY header names.
    pub peer: Peer,
    /// The socket.
    pub connection: Probe,
    /// Its place among the connections, which a tunnel keeps.
    pub place: OwnedSemaphorePermit,
    /// Counts it among the connections that are open.
    pub counted: Option<Share>,
    /// Its place among those of its address, where these are bounded.
    pub place_of_address: Option<Share>,
    /// What TLS says of it; `None` on a connection in cleartext.
    pub tls: Option<Tls>,
    /// The guarded requests that may be at work for it at once, where it can leave some behind: one that resets its streams
    /// (HTTP/2) has more of them than streams.
    pub attempts: Option<Quota>,
}

/// What is known of a client by TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The SHA-256 of the certificate (DER) by which the client has proved who it is.
    pub certificate: Option<[u8; 32]>,
}

impl Client {
    /// How a request of this `version` came, and whether it comes from a proxy that is believed.
    #[must_use]
    pub fn received(&self, version: Version, trust: &Trust) -> Received<'_> {
        Received {
            from: &self.peer,
            is_trusted: trust.covers(self.peer.address()),
            over_tls: self.tls.is_some(),
            version,
        }
    }

    /// The port that a host need not name.
    #[must_use]
    pub fn default_port(&self) -> u16 {
        let [plain, over_tls] = DEFAULT_PORTS;
        if self.tls.is_some() { over_tls } else { plain }
    }

    /// A share of what may be at work for this connection: `None` if there is no room, `Some(None)` if nothing counts.
    #[must_use]
    pub(super) fn take_attempt(&self) -> Option<Option<Share>> {
        self.attempts.as_ref().map_or(Some(None), |attempts| attempts.take(1).map(Some))
    }
}

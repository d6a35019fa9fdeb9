//! Ports for servers that cannot choose one themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the system gives to outgoing connections: one of these would take the port of a server that restarts.
const RANGE: Range<u16> = 16_000..32_000;

/// An address of 127.0.0.1 at which nobody listens; none is given out twice.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run side by side begin at different places.
    let begin = std::process::id() as u16;
    for _ in RANGE {
        let offset = begin.wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, RANGE.start + offset % RANGE.len() as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port of {RANGE:?} is free");
}

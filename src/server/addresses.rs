//! How many connections each client address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::proxy::{Quota, Share};

/// From how many addresses on those without a connection are forgotten.
const FORGET_FROM: usize = 1024;

/// The bound, and what each address has taken of it.
#[derive(Debug)]
pub(super) struct Addresses {
    max_connections: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    quotas: HashMap<IpAddr, Quota>,
    forget_from: usize,
}

impl Addresses {
    pub(super) fn new(max_connections: usize) -> Self {
        let seen = Seen { quotas: HashMap::new(), forget_from: FORGET_FROM };
        Self { max_connections: max_connections as u64, seen: Mutex::new(seen) }
    }

    /// A place for one more connection of `address`, if there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Share> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.quotas.len() >= seen.forget_from {
            seen.quotas.retain(|_, quota| quota.taken() > 0);
            seen.forget_from = (2 * seen.quotas.len()).max(FORGET_FROM);
        }
        seen.quotas.entry(network(address)).or_insert_with(|| Quota::new(self.max_connections)).take(1)
    }
}

/// What one client has: an address of IPv4, a network of 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_at_its_bound_does_not_keep_others_out() {
        let addresses = Addresses::new(2);
        let take = |address: &str| addresses.take(address.parse().unwrap());
        let held = (take("10.0.0.1").unwrap(), take("::ffff:10.0.0.1").unwrap());
        assert!(take("10.0.0.1").is_none());
        assert!(take("10.0.0.2").is_some());
        drop(held.0);
        assert!(take("10.0.0.1").is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let addresses = Addresses::new(1);
        let take = |address: &str| addresses.take(address.parse().unwrap());
        let _held = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff::2").is_none());
        assert!(take("2001:db8:0:2::1").is_some());
    }

    #[test]
    fn addresses_without_a_connection_are_forgotten() {
        let addresses = Addresses::new(1);
        let held = addresses.take("10.0.0.1".parse().unwrap()).unwrap();
        for address in 0..10 * u32::try_from(FORGET_FROM).unwrap() {
            drop(addresses.take(IpAddr::from(address.to_be_bytes())));
        }
        assert!(addresses.seen.lock().unwrap().quotas.len() <= FORGET_FROM);
        assert!(addresses.take("10.0.0.1".parse().unwrap()).is_none());
        drop(held);
    }
}

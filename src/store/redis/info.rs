//! What servers say of themselves in `INFO`, which managed services allow where `CONFIG` is forbidden.
//!
//! Owns the reading of it, and which servers are fit to keep entries.

use std::collections::HashMap;

/// `SET … PXAT` came with it.
const OLDEST: (u32, u32) = (6, 2);

const KEEPS_ALL: &str = "noeviction";

/// What one server says, or several of a cluster together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts(Vec<Server>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    /// `None` of Valkey, of which every version will do.
    redis_version: Option<String>,
    is_replica: bool,
    policy: Option<String>,
    is_durable: bool,
    replicas: u64,
}

impl Facts {
    /// From the texts of all primaries.
    pub(super) fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(texts.into_iter().map(Server::read).collect())
    }

    /// Why these servers cannot be used, with a mend.
    pub(super) fn unfit(&self) -> Option<String> {
        self.0.iter().find_map(|server| {
            if let Some(version) = server.redis_version.as_deref().filter(|version| is_older(version)) {
                let (major, minor) = OLDEST;
                return Some(format!("it is Redis {version}; run {major}.{minor} or later, or Valkey"));
            }
            if server.is_replica {
                return Some("it is a replica, which takes no writes; name its primary, or its sentinels".to_owned());
            }
            server.evicts().map(|policy| {
                format!(
                    "its maxmemory-policy is {policy}: when it is full it would drop live keys, and their duplicates would run \
                     again; set maxmemory-policy to {KEEPS_ALL}"
                )
            })
        })
    }

    /// The policy by which live entries may be dropped, if it is such a one.
    pub(super) fn evicts(&self) -> Option<&str> {
        self.0.iter().find_map(Server::evicts)
    }

    /// Whether every server says what its policy is.
    pub(super) fn tells_policy(&self) -> bool {
        self.0.iter().all(|server| server.policy.is_some())
    }

    /// For servers that did not say it.
    pub(super) fn set_policy(&mut self, policy: &str) {
        for server in &mut self.0 {
            server.policy.get_or_insert_with(|| policy.to_owned());
        }
    }

    /// Whether the end of any one process would leave the entries somewhere.
    pub(super) fn is_durable(&self) -> bool {
        self.0.iter().all(|server| server.is_durable)
    }

    /// How many replicas the server with the fewest has.
    pub(super) fn replicas(&self) -> u64 {
        self.0.iter().map(|server| server.replicas).min().unwrap_or(0)
    }
}

impl Server {
    fn read(text: &str) -> Self {
        let fields: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let field = |name: &str| fields.get(name).copied();
        let is_valkey = field("valkey_version").is_some();
        let replicas = field("connected_slaves").and_then(|number| number.parse().ok()).unwrap_or(0);
        Self {
            redis_version: field("redis_version").filter(|_| !is_valkey).map(str::to_owned),
            is_replica: field("role") == Some("slave"),
            policy: field("maxmemory_policy").map(str::to_owned),
            is_durable: field("aof_enabled") == Some("1") || replicas > 0,
            replicas,
        }
    }

    fn evicts(&self) -> Option<&str> {
        self.policy.as_deref().filter(|policy| *policy != KEEPS_ALL)
    }
}

/// A version that cannot be read is taken for a new one.
fn is_older(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version < OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n\
                       # Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n";

    fn facts(change: (&str, &str)) -> Facts {
        assert!(FIT.contains(change.0), "{change:?} changes nothing");
        Facts::read([FIT, &FIT.replace(change.0, change.1)])
    }

    #[test]
    fn one_unfit_server_of_several_is_enough() {
        for (change, said) in [
            (("7.0.15", "6.0.16"), "it is Redis 6.0.16; run 6.2"),
            (("7.0.15", "5.0"), "it is Redis 5.0"),
            (("role:master", "role:slave"), "it is a replica"),
            (("noeviction", "allkeys-lru"), "its maxmemory-policy is allkeys-lru"),
            (("noeviction", "volatile-ttl"), "set maxmemory-policy to noeviction"),
        ] {
            let unfit = facts(change).unfit();
            assert!(unfit.as_ref().is_some_and(|unfit| unfit.contains(said)), "{change:?}: {unfit:?}");
        }
    }

    #[test]
    fn what_is_fit_is_taken() {
        for change in [
            ("7.0.15", "7.0.15"),
            ("7.0.15", "6.2.0"),
            ("7.0.15", "10.0.0"),
            ("7.0.15", "unstable"),
            ("redis_version:7.0.15", "redis_version:5.0.0\r\nvalkey_version:8.0.0"),
            ("maxmemory_policy:noeviction\r\n", ""),
        ] {
            assert_eq!(facts(change).unfit(), None, "{change:?}");
        }
    }

    #[test]
    fn a_file_or_a_replica_makes_durable() {
        assert!(facts(("", "")).is_durable());
        assert!(!facts(("aof_enabled:1", "aof_enabled:0")).is_durable());
        let replicated = Facts::read([FIT
            .replace("aof_enabled:1", "aof_enabled:0")
            .replace("connected_slaves:0", "connected_slaves:2")
            .as_str()]);
        assert!(replicated.is_durable());
        assert_eq!((replicated.replicas(), facts(("", "")).replicas()), (2, 0));
    }

    #[test]
    fn a_policy_that_is_told_otherwise_counts_where_none_is_told() {
        let mut silent = facts(("maxmemory_policy:noeviction\r\n", ""));
        assert!(!silent.tells_policy());
        silent.set_policy("allkeys-lfu");
        assert!(silent.tells_policy() && silent.evicts() == Some("allkeys-lfu"));
    }
}

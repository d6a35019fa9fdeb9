//! Servers that are started once for a test binary and used by many of its tests, each under keys of its own.
//!
//! Nobody can stop or break them: they are lent out, and what stops a server takes a `&mut`.

use tokio::sync::OnceCell;

use super::{Cluster, Launch, Make, Sentinels, Server};

/// Redis, alone.
pub async fn redis() -> &'static Server {
    static REDIS: OnceCell<Server> = OnceCell::const_new();
    REDIS.get_or_init(|| Launch::of(Make::Redis).start()).await
}

/// Redis, alone, by TLS.
pub async fn redis_tls() -> &'static Server {
    static REDIS_TLS: OnceCell<Server> = OnceCell::const_new();
    REDIS_TLS.get_or_init(|| Launch::of(Make::Redis).tls().start()).await
}

/// Valkey, alone, where there is one.
pub async fn valkey() -> Option<&'static Server> {
    static VALKEY: OnceCell<Server> = OnceCell::const_new();
    if !Make::here().contains(&Make::Valkey) {
        return None;
    }
    Some(VALKEY.get_or_init(|| Launch::of(Make::Valkey).start()).await)
}

/// Redis under Sentinel, with one replica.
pub async fn sentinels() -> &'static Sentinels {
    static SENTINELS: OnceCell<Sentinels> = OnceCell::const_new();
    SENTINELS.get_or_init(|| Sentinels::start(Make::Redis, 1)).await
}

/// A cluster of Redis.
pub async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| Cluster::start(Make::Redis)).await
}

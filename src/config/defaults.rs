//! What holds where the file says nothing. The same values stand in `proxy.toml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::{GIB, KIB, MIB};

use crate::server::Http2Params;

/// `[server] listen`: every address, port 8080.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// `[server] drain_delay`: an orchestrator's own delay (`preStop`) does as well.
pub(super) const DRAIN_DELAY: Duration = Duration::ZERO;
/// `[server] shutdown_grace`: what orchestrators wait before they kill.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);
/// `[server] max_connections`.
pub(super) const MAX_CONNECTIONS: usize = 10_000;
/// `[server] max_headers`.
pub(super) const MAX_HEADERS: usize = 100;
/// `[server] max_header_size`.
pub(super) const MAX_HEADER_BYTES: u64 = 64 * KIB;
/// `[server] write_timeout`.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// `[server] header_timeout`.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// `[server] idle_timeout`.
pub(super) const SERVER_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// `[server] tls.handshake_timeout`.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// `[server] tls.reload_interval`.
pub(super) const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// `[server] reload_interval`: of the file itself.
pub(super) const CONFIG_RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// `[server.http2]`: HTTP/2 is spoken, within these bounds.
pub(super) const HTTP2: Http2Params = Http2Params {
    max_concurrent_streams: 100,
    max_attempts: 200,
    max_pending_resets: 20,
    max_error_resets: 100,
    // What a client on another continent fills a fast line with.
    stream_window_bytes: 256 * 1024,
    connection_window_bytes: 1024 * 1024,
    ping_interval: Duration::from_secs(30),
    ping_timeout: Duration::from_secs(20),
};
/// `[server] max_guarded_in_flight`.
pub(super) const MAX_GUARDED_IN_FLIGHT: usize = 10_000;
/// `[server] max_buffered_bytes`.
pub(super) const MAX_BUFFERED_BYTES: u64 = 256 * MIB;
/// `[server] min_body_rate`: per second.
pub(super) const MIN_BODY_RATE_BYTES: u64 = 240;
/// `[server] min_body_rate_window`.
pub(super) const MIN_BODY_RATE_WINDOW: Duration = Duration::from_secs(20);
/// `[server] problem_base`.
pub(super) const PROBLEM_BASE: &str = "urn:oncegate:problem";
/// `[server] request_id`.
pub(super) const REQUEST_ID: bool = true;

/// `[log] access`.
pub(super) const ACCESS_LOG: bool = true;
/// `[log] level`.
pub(super) const LOG_LEVEL: &str = "info";

/// `[traces] sample_ratio`: of the traces that begin here.
pub(super) const SAMPLE_RATIO: f64 = 1.0;
/// `[traces] service_name`.
pub(super) const SERVICE_NAME: &str = "oncegate";
/// `[traces] timeout`: of one batch.
pub(super) const TRACES_TIMEOUT: Duration = Duration::from_secs(10);

/// `[store] max_bytes`: of answers.
pub(super) const MAX_STORE_BYTES: u64 = 256 * MIB;
/// `[store] max_entries`.
pub(super) const MAX_ENTRIES: u64 = 1_000_000;
/// `[store] prune_interval`.
pub(super) const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// `[store] lease`: renewed every third of it.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// `[store] ready_needs_store`.
pub(super) const READY_NEEDS_STORE: bool = false;
/// `[store.redis] key_prefix`.
pub(super) const KEY_PREFIX: &str = "oncegate:";
/// `[store.redis] connections`.
pub(super) const STORE_CONNECTIONS: usize = 4;
/// `[store.redis] compress_above`: below it, a little less room costs more time than the whole answer.
pub(super) const COMPRESS_ABOVE_BYTES: u64 = 2 * KIB;
/// `[store.redis] encrypt`, where there are keys.
pub(super) const ENCRYPT: bool = true;
/// `[store.redis] connect_timeout`.
pub(super) const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// `[store.redis] max_waiting`: operations without a connection.
pub(super) const STORE_MAX_WAITING: usize = 1_000;
/// `[store.redis] wait_replicas`.
pub(super) const WAIT_REPLICAS: u32 = 0;
/// `[store.redis] wait_timeout`.
pub(super) const STORE_WAIT_TIMEOUT: Duration = Duration::from_millis(250);
/// `[store.redis] wait_connections`: claims that wait for replicas at once.
pub(super) const WAIT_CONNECTIONS: usize = 32;
/// `[store.redis] watch_interval`.
pub(super) const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// `[store.redis] cache_max_bytes`: of copies of answers.
pub(super) const STORE_CACHE_BYTES: u64 = 64 * MIB;
/// `[store.redis] cache_ttl`: most retries come within it.
pub(super) const STORE_CACHE_TTL: Duration = Duration::from_secs(10);
/// `[store] timeout`: of one operation.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_millis(250);
/// `[store] settle_retry`: also the most that it may be.
pub(super) const SETTLE_RETRY: Duration = Duration::from_mins(10);
/// `[store] max_pending_writes`.
pub(super) const MAX_PENDING_WRITES: usize = 1024;

/// `[upstreams.NAME] connect_timeout`.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// `[upstreams.NAME] response_timeout`: the client's patience.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// `[upstreams.NAME] attempt_timeout`: ours.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(5);
/// `[upstreams.NAME] idle_timeout`: below the 5 s after which common servers close.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// `[upstreams.NAME] max_reuse_idle`.
pub(super) const MAX_REUSE_IDLE: Duration = Duration::from_millis(500);
/// `[upstreams.NAME] max_connections`: per endpoint, as many as clients may have by default.
pub(super) const MAX_UPSTREAM_CONNECTIONS: usize = 10_000;
/// `[upstreams.NAME] max_idle_connections`: per endpoint.
pub(super) const MAX_IDLE_CONNECTIONS: usize = 256;
/// `[upstreams.NAME] max_connection_age`.
pub(super) const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// `[upstreams.NAME] http2_max_streams`: per connection, what most servers allow at least.
pub(super) const HTTP2_MAX_STREAMS: usize = 100;
/// `[upstreams.NAME] http2_ping_interval`.
pub(super) const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// `[upstreams.NAME] http2_ping_timeout`.
pub(super) const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// `[upstreams.NAME] eject_after`: failures to connect in a row.
pub(super) const EJECT_AFTER: u32 = 1;
/// `[upstreams.NAME] ejection_time`: of the first ejection.
pub(super) const EJECTION_TIME: Duration = Duration::from_secs(1);
/// `[upstreams.NAME] max_ejection_time`.
pub(super) const MAX_EJECTION_TIME: Duration = Duration::from_secs(30);
/// `[upstreams.NAME.health_check] interval`.
pub(super) const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// `[upstreams.NAME.health_check] timeout`.
pub(super) const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// `[upstreams.NAME.health_check] healthy_after`: good answers in a row.
pub(super) const HEALTHY_AFTER: u32 = 2;
/// `[upstreams.NAME.health_check] unhealthy_after`: failures in a row.
pub(super) const UNHEALTHY_AFTER: u32 = 3;

/// `[upstreams.NAME] stream_idle_timeout`.
pub(super) const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// `[upstreams.NAME] tunnel_idle_timeout`.
pub(super) const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_hours(1);
/// `[upstreams.NAME] max_response_headers`.
pub(super) const MAX_RESPONSE_HEADERS: usize = 100;
/// `[upstreams.NAME] max_response_header_size`.
pub(super) const MAX_RESPONSE_HEADER_BYTES: u64 = 64 * KIB;

/// `[idempotency] header`.
pub(super) const HEADER: http::HeaderName = http::HeaderName::from_static("idempotency-key");
/// `[idempotency] methods`.
pub(super) const METHODS: [http::Method; 2] = [http::Method::POST, http::Method::PATCH];
/// `[idempotency] max_key_length`: in bytes, after unquoting.
pub(super) const MAX_KEY_LENGTH_BYTES: usize = 255;
/// `[idempotency] ttl`: from settlement.
pub(super) const TTL: Duration = Duration::from_hours(24);
/// `[idempotency] wait_timeout`.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// `[idempotency] max_waiters`: per key.
pub(super) const MAX_WAITERS: usize = 128;
/// `[idempotency] retry_after`.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// `[idempotency] release_status`: Too Early and Too Many Requests say that nothing was done.
pub(super) const RELEASE_STATUS: [u16; 2] = [425, 429];
/// `[idempotency] max_request_body`.
pub(super) const MAX_REQUEST_BODY_BYTES: u64 = 8 * MIB;
/// `[idempotency] max_request_body` of a body that streams.
pub(super) const MAX_STREAM_BYTES: u64 = GIB;
/// `[idempotency] request_body_timeout` of a body that streams.
pub(super) const STREAM_TIMEOUT: Duration = Duration::from_hours(1);
/// `[idempotency] request_body_timeout`.
pub(super) const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// `[idempotency] max_response_body`.
pub(super) const MAX_RESPONSE_BODY_BYTES: u64 = MIB;

/// `[[routes]] upgrades`.
pub(super) const UPGRADES: [&str; 1] = ["websocket"];
/// `[[routes]] cors_max_age`.
pub(super) const CORS_MAX_AGE: Duration = Duration::from_mins(10);

//! One connection to whatever servers there are.
//!
//! Owns how a topology is dialled. A connection to a single server ends with its socket; one to a cluster mends itself.
//! Neither sends a command twice on its own, but for a cluster that moves a key: the scripts bear that.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr,
};
use redis::io::tcp::{TcpSettings, socket2};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult,
    TlsCertificates, TlsMode, Value,
};
use std::time::Duration;

use super::params::{Login, Node, RedisParams, TlsParams, Topology};

/// A silent peer is asked for a sign of life after this time, and given up after three times as long; so is one that does not
/// acknowledge what it was sent.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// When the cluster's client gives an answer up. Each operation has a deadline of its own, which is sooner, but for the biggest
/// of answers.
const CLUSTER_RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the cluster's client sends a command again, to the node that it was told of.
const CLUSTER_RETRIES: u32 = 3;

const NOT_BY_NODES: (ErrorKind, &str) =
    (ErrorKind::UnexpectedReturnType, "the answers of several servers do not tell whose they are");

/// A connection that many share. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To every server of a cluster.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Connects, within `connect_timeout`.
    pub(super) async fn open(params: &RedisParams) -> RedisResult<Self> {
        within(params.connect_timeout, Self::dial(params)).await
    }

    async fn dial(params: &RedisParams) -> RedisResult<Self> {
        if let Topology::Cluster(nodes) = &params.topology {
            return Self::dial_cluster(params, nodes).await;
        }
        // The deadline of an operation is the store's.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = client(params).await?;
        client.get_multiplexed_async_connection_with_config(&config).await.map(Self::Server)
    }

    async fn dial_cluster(params: &RedisParams, nodes: &[Node]) -> RedisResult<Self> {
        let nodes = nodes.iter().map(|node| address(node, params.tls.as_ref()));
        let mut builder = ClusterClient::builder(nodes)
            .retries(CLUSTER_RETRIES)
            .connection_timeout(params.connect_timeout)
            .response_timeout(CLUSTER_RESPONSE_TIMEOUT)
            .overall_response_timeout(None)
            .tcp_settings(tcp());
        if let Some(username) = &params.login.username {
            builder = builder.username(username);
        }
        if let Some(password) = &params.login.password {
            builder = builder.password(password.reveal());
        }
        if let Some(tls) = &params.tls {
            builder = builder.tls(TlsMode::Secure).certs(certificates(tls));
        }
        builder.build()?.get_async_connection().await.map(Self::Cluster)
    }
}

impl Connection {
    /// Sends to every server that has keys, and lists what they answer.
    pub(super) async fn ask_every_primary(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answers = match self {
            Self::Server(connection) => vec![connection.send_packed_command(command).await?],
            Self::Cluster(connection) => {
                let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answers = connection.route_command(command.clone(), everywhere).await?;
                let answers = answers.into_map_iter().map_err(|_| NOT_BY_NODES)?;
                answers.map(|(_, answer)| answer).collect()
            }
        };
        listed(answers)
    }

    /// Sends two commands by one connection, the second directly behind the first, to the server that has `key`.
    pub(super) async fn send_both(&mut self, key: &str, first: &Cmd, second: &Cmd) -> RedisResult<Value> {
        let mut both = redis::pipe();
        both.add_command(first.clone()).add_command(second.clone());
        let answers = match self {
            Self::Server(connection) => connection.send_packed_commands(&both, 0, 2).await?,
            Self::Cluster(connection) => {
                let primary = Route::with_slot(Slot::for_key(key), SlotAddr::Master);
                let there = SingleNodeRoutingInfo::SpecificNode(primary);
                connection.route_pipeline(both, 0, 2, there).await?
            }
        };
        listed(answers)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// The answers as one, or the first refusal among them.
fn listed(answers: Vec<Value>) -> RedisResult<Value> {
    let answers: RedisResult<Vec<Value>> = answers.into_iter().map(Value::extract_error).collect();
    answers.map(Value::Array)
}

/// Bounds `connecting`.
pub(super) async fn within<T>(
    timeout: Duration,
    connecting: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no connection within {} ms", timeout.as_millis()),
        )
        .into()),
    }
}

/// What connects to one server: the only one, the one that the sentinels name, or any of those of a cluster.
pub(super) async fn client(params: &RedisParams) -> RedisResult<Client> {
    let tls = params.tls.as_ref();
    match &params.topology {
        Topology::Standalone(node) => one_server(params, node),
        Topology::Cluster(nodes) => {
            let any = getrandom::u32().map_or(0, |random| random as usize).checked_rem(nodes.len());
            let node = any.and_then(|any| nodes.get(any));
            one_server(
                params,
                node.ok_or_else(|| RedisError::from(std::io::Error::from(std::io::ErrorKind::NotFound)))?,
            )
        }
        Topology::Sentinel { sentinels, master, login } => {
            let sentinels = sentinels.iter().map(|node| address(node, tls));
            let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
                .set_client_to_redis_db(params.database.into())
                .set_client_to_redis_tcp_settings(tcp())
                .set_client_to_sentinel_tcp_settings(tcp());
            if let Some(username) = &params.login.username {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = &params.login.password {
                builder = builder.set_client_to_redis_password(password.reveal());
            }
            if let Some(username) = &login.username {
                builder = builder.set_client_to_sentinel_username(username);
            }
            if let Some(password) = &login.password {
                builder = builder.set_client_to_sentinel_password(password.reveal());
            }
            if let Some(tls) = tls {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(certificates(tls))
                    .set_client_to_sentinel_certificates(certificates(tls));
            }
            builder.build()?.async_get_client().await
        }
    }
}

fn one_server(params: &RedisParams, node: &Node) -> RedisResult<Client> {
    let settings = settings(&params.login).set_db(params.database.into());
    let info = address(node, params.tls.as_ref()).into_connection_info()?;
    let info: ConnectionInfo = info.set_redis_settings(settings).set_tcp_settings(tcp());
    match &params.tls {
        Some(tls) => Client::build_with_tls(info, certificates(tls)),
        None => Client::open(info),
    }
}

fn address(node: &Node, tls: Option<&TlsParams>) -> ConnectionAddr {
    let (host, port) = (node.host.clone(), node.port);
    match tls {
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(host, port),
    }
}

fn settings(login: &Login) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default();
    if let Some(username) = &login.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password.reveal());
    }
    settings
}

fn tcp() -> TcpSettings {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(KEEPALIVE * 3);
    settings
}

fn certificates(tls: &TlsParams) -> TlsCertificates {
    let client = tls.client.clone();
    TlsCertificates {
        client_tls: client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
        root_cert: tls.ca.clone(),
    }
}

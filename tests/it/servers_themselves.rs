//! The servers that tests run against, themselves: what they say they do, they do.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisResult, ServerErrorKind, TlsCertificates};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::{aside, eventually, within};
use crate::servers::{Cluster, Launch, Make, PASSWORD, Relay, Sentinels, Server, USER, shared};

/// Long enough for an answer that comes.
const A_WHILE: Duration = Duration::from_millis(200);

async fn set(server: &Server, key: &str, value: &str) {
    assert_eq!(server.command::<String>(&["SET", key, value]).await.unwrap(), "OK");
}

async fn get(server: &Server, key: &str) -> Option<String> {
    server.command(&["GET", key]).await.unwrap()
}

/// A connection as a stranger would have it, and one command.
async fn ping(client: RedisResult<Client>) -> RedisResult<String> {
    let patience = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
    let mut connection = client?.get_multiplexed_async_connection_with_config(&patience).await?;
    redis::cmd("PING").query_async(&mut connection).await
}

/// A bare connection that has logged in, and asks.
async fn logged_in(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("AUTH {USER} {}\r\n", PASSWORD).as_bytes()).await.unwrap();
    assert_eq!(read(&mut stream).await, "+OK\r\n");
    stream
}

async fn read(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 64];
    let read = within("an answer", stream.read(&mut buffer)).await.unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

#[tokio::test]
async fn a_server_takes_nobody_without_the_password() {
    for make in Make::here() {
        let server = Launch::of(make).start().await;
        assert_eq!(server.command::<String>(&["PING"]).await.unwrap(), "PONG");
        let stranger = ping(Client::open(format!("redis://{}", server.address()))).await.unwrap_err();
        assert_eq!(stranger.code(), Some("NOAUTH"), "{make:?}: {stranger}");
        let guess = format!("redis://{USER}:guess@{}", server.address());
        let wrong = ping(Client::open(guess)).await.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::AuthenticationFailed, "{make:?}: {wrong}");
    }
}

#[tokio::test]
async fn a_server_ends_with_whoever_started_it_and_leaves_nothing() {
    let server = Launch::of(Make::Redis).start().await;
    let said: String = server.command(&["INFO", "server"]).await.unwrap();
    let id = said.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
    let (process, folder) = (format!("/proc/{id}"), server.path(""));
    assert!(Path::new(&process).exists() && folder.exists());
    drop(server);
    assert!(!Path::new(&process).exists(), "it runs on");
    assert!(!folder.exists(), "its files are still there");
}

#[tokio::test]
async fn an_append_only_server_has_after_a_kill_what_it_acknowledged() {
    for make in Make::here() {
        let (mut keeps, mut forgets) =
            (Launch::of(make).appendonly().start().await, Launch::of(make).start().await);
        for server in [&mut keeps, &mut forgets] {
            set(server, "key", "value").await;
            server.kill();
            assert!(server.command::<String>(&["PING"]).await.is_err(), "{make:?} was killed");
            server.restart().await;
        }
        assert_eq!(get(&keeps, "key").await.as_deref(), Some("value"), "{make:?}");
        assert_eq!(get(&forgets, "key").await, None, "{make:?}");
    }
}

#[tokio::test]
async fn a_paused_server_keeps_its_connections_and_answers_when_it_goes_on() {
    let mut server = Launch::of(Make::Redis).start().await;
    let mut stream = logged_in(server.address()).await;
    server.pause();
    stream.write_all(b"PING\r\n").await.unwrap();
    timeout(A_WHILE, stream.readable()).await.expect_err("nobody answers");
    server.resume();
    assert_eq!(read(&mut stream).await, "+PONG\r\n");
}

#[tokio::test]
async fn a_tls_server_takes_only_who_trusts_its_authority() {
    let server = shared::redis_tls().await;
    assert_eq!(server.command::<String>(&["PING"]).await.unwrap(), "PONG");
    let plain = ping(Client::open(format!("redis://{}", server.address()))).await.unwrap_err();
    assert!(plain.is_io_error() || plain.is_connection_dropped(), "{plain}");
    let nobody = TlsCertificates { client_tls: None, root_cert: None };
    let stranger = ping(Client::build_with_tls(server.url(), nobody)).await.unwrap_err();
    assert!(stranger.to_string().contains("UnknownIssuer"), "{stranger}");
}

#[tokio::test]
async fn a_server_by_mutual_tls_takes_only_who_shows_a_certificate() {
    let server = Launch::of(Make::Redis).mutual_tls().start().await;
    assert_eq!(server.command::<String>(&["PING"]).await.unwrap(), "PONG");
    let authority = std::fs::read(server.path("ca.crt")).unwrap();
    let bare = TlsCertificates { client_tls: None, root_cert: Some(authority) };
    let refused = ping(Client::build_with_tls(server.url(), bare)).await.unwrap_err();
    assert!(refused.is_io_error() || refused.is_connection_dropped(), "{refused}");
}

#[tokio::test]
async fn sentinel_promotes_a_replica_which_has_what_was_replicated_and_no_more() {
    for make in Make::here() {
        let mut set = Sentinels::start(make, 2).await;
        let primary = set.primary().await;
        self::set(primary, "early", "kept").await;
        set.replicated().await;
        set.cut_replication().await;
        let primary = set.primary().await;
        self::set(primary, "late", "lost").await;
        let ended = set.fail_over().await;
        let promoted = set.primary().await;
        assert_ne!(promoted.address(), ended);
        assert_eq!(get(promoted, "early").await.as_deref(), Some("kept"), "{make:?}");
        assert_eq!(get(promoted, "late").await, None, "{make:?}");
        self::set(promoted, "later", "goes on").await;
        set.server_at(ended).restart().await;
        set.replicated().await;
        assert_eq!(get(set.server_at(ended), "later").await.as_deref(), Some("goes on"), "{make:?}");
        assert_eq!(
            get(set.server_at(ended), "late").await,
            None,
            "the last write is gone for good: {make:?}"
        );
    }
}

#[tokio::test]
async fn replication_that_is_cut_can_be_healed() {
    let mut set = Sentinels::start(Make::Redis, 1).await;
    set.cut_replication().await;
    let primary = set.primary().await;
    let wait = ["WAIT", "1", "100"];
    assert_eq!(primary.command::<u64>(&wait).await.unwrap(), 0, "no replica is there");
    self::set(primary, "key", "value").await;
    set.heal_replication().await;
    set.replicated().await;
}

#[tokio::test]
async fn every_node_of_a_cluster_answers_for_its_slots_and_for_no_others() {
    for make in Make::here() {
        let cluster = Cluster::start(make).await;
        let mut served = [false; 3];
        for key in (0..32).map(|number| format!("key-{number}")) {
            let owner = cluster.owner_of(&key).await;
            set(&cluster.nodes()[owner], &key, "value").await;
            served[owner] = true;
            let other = &cluster.nodes()[(owner + 1) % 3];
            let moved = other.command::<Option<String>>(&["GET", &key]).await.unwrap_err();
            assert_eq!(moved.kind(), ErrorKind::Server(ServerErrorKind::Moved), "{make:?}: {moved}");
            let to = cluster.nodes()[owner].address().to_string();
            assert_eq!(moved.redirect_node().map(|(address, _)| address), Some(to.as_str()), "{make:?}");
        }
        assert_eq!(served, [true; 3], "{make:?}: some key belongs to each");
    }
}

#[tokio::test]
async fn a_cluster_that_lost_a_node_refuses_all_keys_until_it_is_back() {
    let mut cluster = Cluster::start(Make::Redis).await;
    let key = "key";
    let owner = cluster.owner_of(key).await;
    let lost = (owner + 1) % 3;
    cluster.node(lost).kill();
    let node = &cluster.nodes()[owner];
    eventually("the others notice", async || {
        let said = node.command::<Option<String>>(&["GET", key]).await;
        said.is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::ClusterDown))
    })
    .await;
    cluster.node(lost).restart().await;
    let node = &cluster.nodes()[owner];
    let answers = async || node.command::<Option<String>>(&["GET", key]).await.is_ok();
    eventually("it is back", answers).await;
}

#[tokio::test]
async fn a_relay_cuts_old_connections_and_new_ones_until_it_is_healed() {
    let server = shared::redis().await;
    let relay = Relay::before(server.address()).await;
    let mut stream = logged_in(relay.address()).await;
    relay.cut();
    assert_eq!(read_end(&mut stream).await, "");
    let mut another = TcpStream::connect(relay.address()).await.unwrap();
    assert_eq!(read_end(&mut another).await, "");
    relay.heal();
    logged_in(relay.address()).await;
}

#[tokio::test]
async fn a_relay_delays_what_goes_to_the_server() {
    let server = shared::redis().await;
    let relay = Relay::before(server.address()).await;
    let mut stream = logged_in(relay.address()).await;
    relay.delay(A_WHILE);
    let asked = Instant::now();
    stream.write_all(b"PING\r\n").await.unwrap();
    assert_eq!(read(&mut stream).await, "+PONG\r\n");
    assert!(asked.elapsed() >= A_WHILE, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_relay_that_drops_replies_lets_commands_through() {
    let server = shared::redis().await;
    let relay = Relay::before(server.address()).await;
    let mut stream = logged_in(relay.address()).await;
    relay.drop_replies();
    stream.write_all(b"SET through-the-relay heard\r\n").await.unwrap();
    let heard = async || get(server, "through-the-relay").await.as_deref() == Some("heard");
    eventually("the server has heard it", heard).await;
    relay.heal();
    stream.write_all(b"PING\r\n").await.unwrap();
    assert_eq!(read(&mut stream).await, "+PONG\r\n", "the first answer is gone");
}

#[tokio::test]
async fn shared_servers_are_the_same_for_all_tests() {
    let (one, other) = tokio::join!(aside(shared::redis()), aside(shared::redis()));
    assert_eq!(one.unwrap().address(), other.unwrap().address());
    assert_eq!(shared::cluster().await.nodes().len(), 3);
    assert_eq!(shared::sentinels().await.sentinels().len(), 3);
    assert_eq!(shared::valkey().await.map(Server::make), shared::valkey().await.map(|_| Make::Valkey));
}

/// What comes until the connection ends, by a close or by a reset.
async fn read_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    within("the end", stream.read_to_end(&mut all)).await.unwrap_or_default();
    String::from_utf8_lossy(&all).into_owned()
}

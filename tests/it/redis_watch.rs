//! What a server has to be to keep keys, and what is noticed when it is no longer that.

use std::fs;
use std::path::Path;

use oncegate::store::{Store, Trouble};

use crate::harness::{Upstream, Way, eventually};
use crate::servers::{Cluster, Launch, Make, PASSWORD, Relay, Sentinels, Server, USER};

/// Often, so that tests need not wait.
const WATCHFUL: &str = "watch_interval = \"1s\"";

async fn order(server: &Server, words: &[&str]) {
    let done: String = server.command(words).await.expect("an answer");
    assert_eq!(done, "OK", "{words:?}");
}

#[tokio::test]
async fn a_server_that_would_drop_live_keys_is_refused_with_a_mend() {
    for make in Make::here() {
        let server = Launch::of(make).with("maxmemory 100mb\nmaxmemory-policy allkeys-lru").start().await;
        let error = Way::to_server(&server).setup_error().await;
        assert!(error.contains("its maxmemory-policy is allkeys-lru"), "{make:?}: {error}");
        assert!(error.contains("set maxmemory-policy to noeviction"), "{make:?}: {error}");
    }
}

#[tokio::test]
async fn a_replica_is_refused() {
    let set = Sentinels::start(Make::Redis, 1).await;
    let replica = set.replica();
    let error = Way::to_server(replica).setup_error().await;
    assert!(error.contains("it is a replica"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_let_in_is_refused_and_says_why() {
    let server = Launch::of(Make::Redis).start().await;
    let way = Way::to_server(&server);
    let wrong = way.setup_as(USER, "guess").await.unwrap_err().to_string();
    assert!(wrong.contains("it refuses the user or the password"), "{wrong}");
    assert!(!wrong.contains("guess"), "no secret is told: {wrong}");
    let nobody = Way::to("127.0.0.1:1".parse().unwrap()).setup_error().await;
    assert!(nobody.contains("unavailable") && nobody.contains("refused"), "{nobody}");
}

/// The line that docs/configuration.md gives.
fn documented_permissions() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().skip_while(|line| !line.contains("ACL SETUSER oncegate"));
    let words = lines.take_while(|line| !line.starts_with("```"));
    let words = words.flat_map(|line| line.trim_end_matches('\\').split_whitespace().map(str::to_owned));
    words.skip_while(|word| word != "on").filter(|word| !word.starts_with('>')).collect()
}

#[tokio::test]
async fn the_permissions_in_the_documentation_are_enough_and_none_of_them_is_needless() {
    let permissions = documented_permissions();
    assert!(permissions.len() > 20, "{permissions:?}");
    // Reconnecting and other versions need these; a server does not tell a lack of them.
    let unseen = ["+config|get", "+select", "+role", "+wait", "+cluster|slots", "+subscribe", "+unsubscribe"];
    for make in Make::here() {
        let server = Launch::of(make).start().await;
        let way = Way::to_server(&server);
        let try_with = async |user: &str, permissions: &[&str]| {
            let mut words = vec!["ACL", "SETUSER", user];
            words.extend(permissions);
            let password = format!(">{PASSWORD}");
            words.push(&password);
            order(&server, &words).await;
            order(&server, &["SCRIPT", "FLUSH"]).await;
            way.setup_as(user, PASSWORD).await.map_err(|error| error.to_string())
        };
        let all: Vec<&str> = permissions.iter().map(String::as_str).collect();
        assert_eq!(try_with("all", &all).await, Ok(()), "{make:?}");
        let mut needless = Vec::new();
        for lacking in all.iter().filter(|word| word.starts_with('+') && !unseen.contains(word)) {
            let less: Vec<&str> = all.iter().filter(|word| *word != lacking).copied().collect();
            match try_with(&format!("no{lacking}"), &less).await {
                Ok(()) => needless.push(*lacking),
                Err(error) => {
                    let said = "it forbids the user something";
                    assert!(error.contains(said), "{make:?}, {lacking}: {error}");
                }
            }
        }
        assert!(needless.is_empty(), "{make:?} needs none of these: {needless:?}");
    }
}

#[tokio::test]
async fn a_policy_that_changes_is_noticed_and_so_is_its_mend() {
    let server = Launch::of(Make::Redis).appendonly_unsynced().start().await;
    let store = Way::to_server(&server).with(WATCHFUL).open();
    store.setup().await.unwrap();
    assert_eq!(store.troubles(), []);
    order(&server, &["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await;
    eventually("it is noticed", async || store.troubles() == [Trouble::Evicts]).await;
    order(&server, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    eventually("the mend is noticed", async || store.troubles().is_empty()).await;
    assert_eq!(store.stats().policy_changes, 1);
}

#[tokio::test]
async fn a_server_that_keeps_nothing_elsewhere_is_named_until_it_does() {
    let server = Launch::of(Make::Redis).start().await;
    let store = Way::to_server(&server).with(WATCHFUL).open();
    store.setup().await.unwrap();
    assert_eq!(store.troubles(), [Trouble::NotDurable]);
    order(&server, &["CONFIG", "SET", "appendonly", "yes"]).await;
    eventually("it is durable", async || store.troubles().is_empty()).await;
    let set = Sentinels::start(Make::Redis, 1).await;
    let replicated = Way::to_sentinels(&set).open();
    replicated.setup().await.unwrap();
    assert_eq!(replicated.troubles(), [], "a replica will do");
}

#[tokio::test]
async fn a_flushed_server_is_noticed_once_by_every_replica() {
    for make in Make::here() {
        let server = Launch::of(make).appendonly_unsynced().start().await;
        let way = Way::to_server(&server).with(WATCHFUL);
        let stores = [way.open(), way.open()];
        for store in &stores {
            store.setup().await.unwrap();
            assert_eq!(store.troubles(), []);
        }
        order(&server, &["FLUSHALL"]).await;
        for store in &stores {
            eventually("the loss is noticed", async || store.troubles() == [Trouble::Forgot]).await;
        }
        // Two more looks at the least.
        let seen = looks(&server).await;
        eventually("it is looked again", async || looks(&server).await >= seen + 4).await;
        for store in &stores {
            assert_eq!((store.stats().losses, store.troubles()), (1, vec![Trouble::Forgot]), "{make:?}");
        }
        let newcomer = way.open();
        newcomer.setup().await.unwrap();
        assert_eq!(newcomer.troubles(), [], "{make:?}: who came later lost nothing");
    }
}

/// How often a server was asked for an epoch.
async fn looks(server: &Server) -> u64 {
    let said: String = server.command(&["INFO", "commandstats"]).await.expect("an answer");
    let gets = said.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls=")).expect("a number");
    gets.split(',').next().expect("a number").parse().expect("a number")
}

/// What scripts wrote is a transaction in the server's file, and read again as the default user's (redis/redis#14541).
#[tokio::test]
async fn a_server_that_drops_transactions_of_its_file_is_noticed() {
    let mut server = Launch::of(Make::Redis).appendonly_unsynced().start().await;
    order(&server, &["ACL", "SETUSER", "default", "nocommands"]).await;
    order(&server, &["CONFIG", "REWRITE"]).await;
    let upstream = Upstream::start().await;
    let (proxy, store) = Way::to_server(&server).with(WATCHFUL).start(&upstream).await;
    proxy.charge("k").await.expect_status(201);
    assert_eq!(store.troubles(), []);
    server.restart().await;
    eventually("the loss is noticed", async || store.troubles() == [Trouble::Forgot]).await;
}

#[tokio::test]
async fn one_server_of_a_cluster_that_forgets_is_noticed() {
    let mut cluster = Cluster::start(Make::Redis).await;
    let store = Way::to_cluster(&cluster).with(WATCHFUL).open();
    store.setup().await.unwrap();
    assert_eq!(store.troubles(), [Trouble::NotDurable]);
    order(cluster.node(1), &["FLUSHALL"]).await;
    eventually("the loss is noticed", async || store.troubles().contains(&Trouble::Forgot)).await;
    assert_eq!(store.stats().losses, 1);
    cluster.node(2).pause();
    eventually("it is unreachable", async || store.troubles().contains(&Trouble::Unreachable)).await;
    cluster.node(2).resume();
    eventually("it is back", async || !store.troubles().contains(&Trouble::Unreachable)).await;
}

#[tokio::test]
async fn a_server_out_of_reach_is_noticed_without_any_request() {
    let mut server = Launch::of(Make::Redis).appendonly_unsynced().start().await;
    let upstream = Upstream::start().await;
    let relay = Relay::before(server.address()).await;
    let way = Way::to(relay.address()).with(WATCHFUL).store("ready_needs_store = true");
    let (proxy, store) = way.start(&upstream).await;
    assert_eq!(proxy.readiness().await, (200, "ready\n".to_owned()));
    // A server that hangs, and a way that is cut.
    server.pause();
    eventually("it is named", async || proxy.readiness().await.0 == 503).await;
    assert_eq!(proxy.readiness().await.1, "not ready\nstore: unreachable\n");
    assert_eq!(proxy.admin("/livez").await, 200);
    server.resume();
    eventually("it is ready again", async || proxy.readiness().await.0 == 200).await;
    relay.cut();
    eventually("it is named", async || proxy.readiness().await.0 == 503).await;
    relay.heal();
    eventually("it is ready again", async || proxy.readiness().await.0 == 200).await;
    assert_eq!(store.troubles(), []);
}

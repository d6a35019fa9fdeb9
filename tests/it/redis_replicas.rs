//! Several Oncegates on one Redis: a settlement wakes waiters everywhere, a release is known everywhere, and what was answered
//! already costs no round trip.

use std::cell::Cell;
use std::sync::Arc;

use oncegate::config::{self, StoreSettings};
use oncegate::idempotency::RequestId;
use oncegate::store::redis::RedisStore;
use oncegate::store::{Store, codec::Codec};

use crate::harness::{Config, Proxy, Request, StuckEndpoint, Upstream, eventually, within};
use crate::servers::{Launch, Make, Relay, Server, USER};

const WAITS: &str = "on_in_flight = \"wait\"\nwait_timeout = \"15s\"";

/// Long enough that nothing here goes by itself.
const LASTING: &str = "cache_ttl = \"1h\"";

/// A store on this server, with these lines in `[store.redis]`.
fn store(server: &Server, lines: &str) -> Arc<RedisStore> {
    store_by(server, &server.url(), lines)
}

fn store_by(server: &Server, url: &str, lines: &str) -> Arc<RedisStore> {
    let password = server.path("password");
    let toml = format!(
        "[store]\nkind = \"redis\"\nurl = \"{url}\"\ntimeout = \"3s\"\n\
         [store.redis]\nusername = \"{USER}\"\npassword_file = {password:?}\n{lines}\n\
         [upstreams.none]\nendpoints = [\"http://127.0.0.1:9\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"none\"\n"
    );
    let settings =
        config::parse(&toml, "proxy.toml").unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
    let StoreSettings::Redis(params, _) = settings.store else { panic!("another store") };
    Arc::new(RedisStore::new(*params, Codec::default()))
}

/// A proxy on a store of its own on this server.
async fn replica(upstream: &Upstream, server: &Server, lines: &str) -> Proxy {
    Config::before(upstream).charges(WAITS).start_with_store(store(server, lines)).await
}

/// How often scripts were called: each is a round trip, and nothing else is sent for a request.
async fn round_trips(server: &Server) -> u64 {
    calls(server, "evalsha").await + calls(server, "eval").await
}

async fn calls(server: &Server, command: &str) -> u64 {
    let stats: String = server.command(&["INFO", "commandstats"]).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// How many listen for what others settle and release.
async fn listeners(server: &Server) -> u64 {
    let counted: (String, u64) = server.command(&["PUBSUB", "NUMSUB", "oncegate:events"]).await.unwrap();
    counted.1
}

async fn listeners_to_be(server: &Server, count: u64) {
    eventually("everybody listens", async || listeners(server).await == count).await;
}

async fn nobody_may_publish_or_listen(server: &Server, listening: u64) {
    listeners_to_be(server, listening).await;
    let _: String = server.command(&["ACL", "SETUSER", USER, "resetchannels"]).await.unwrap();
    listeners_to_be(server, 0).await;
}

/// The key of the only record there is.
async fn record(server: &Server) -> String {
    let keys: Vec<String> = server.command(&["KEYS", "oncegate:{*}:????????*"]).await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.into_iter().next().unwrap()
}

/// An operator frees the only key there is.
async fn release(server: &Server) {
    let key = record(server).await;
    let (_, hex) = key.split_once("}:").unwrap();
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
    let id = RequestId::from_bytes(bytes.try_into().unwrap());
    let operator = store(server, "cache_max_bytes = 0");
    let entry = operator.lookup(&id).await.unwrap().expect("an entry");
    let write = operator.remove(&id, entry.owner).await.unwrap();
    assert_eq!(write, oncegate::store::Write::Applied);
}

async fn runs_anew(upstream: &Upstream, proxy: &Proxy, key: &str) {
    eventually("the key runs anew", async || {
        let response = proxy.charge(key).await;
        response.status == 201 && !response.is_replay()
    })
    .await;
    upstream.expect_executions(key, 2);
}

#[tokio::test]
async fn waiters_are_told_of_a_settlement_elsewhere_and_fetch_it_once() {
    const WAITERS: u64 = 20;
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let owner = replica(&upstream, &server, "").await;
    let other = replica(&upstream, &server, "").await;
    listeners_to_be(&server, 2).await;
    let mut trips = Vec::new();
    for key in ["k1", "k2", "k3"] {
        let begun = round_trips(&server).await;
        let mut gate = upstream.hold_next();
        let first = owner.request_aside(Request::charge(key));
        gate.arrived().await;
        let waiters: Vec<_> = (0..WAITERS).map(|_| other.request_aside(Request::charge(key))).collect();
        // The claim; each of them asks twice; and one of them, for all, how long it will be.
        let asked = begun + 1 + 2 * WAITERS + 1;
        eventually("they wait", async || round_trips(&server).await >= asked).await;
        let begun = round_trips(&server).await;
        gate.release();
        let first = within("the answer", first).await.unwrap();
        first.expect_status(201);
        for waiter in waiters {
            within("a waiter's answer", waiter).await.unwrap().expect_replay_of(&first);
        }
        trips.push(round_trips(&server).await - begun);
        release(&server).await;
    }
    // The settlement, and one look for all. Who polls asks once more, which may happen on a slow day, but not each time.
    assert!(trips.contains(&2), "{trips:?}");
}

#[tokio::test]
async fn waiters_get_the_answer_though_nobody_may_publish_or_listen() {
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let owner = replica(&upstream, &server, "").await;
    let other = replica(&upstream, &server, "").await;
    nobody_may_publish_or_listen(&server, 2).await;
    let mut gate = upstream.hold_next();
    let first = owner.request_aside(Request::charge("k"));
    gate.arrived().await;
    let marked = calls(&server, "setrange").await;
    let waiter = other.request_aside(Request::charge("k"));
    // A record that somebody waits for is marked.
    eventually("somebody waits", async || calls(&server, "setrange").await > marked).await;
    gate.release();
    let first = within("the answer", first).await.unwrap();
    first.expect_status(201);
    within("the waiter's answer", waiter).await.unwrap().expect_replay_of(&first);
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_waiter_on_another_replica_takes_over_what_was_never_sent() {
    let server = Launch::of(Make::Redis).start().await;
    let (upstream, nobody) = (Upstream::start().await, StuckEndpoint::new());
    let config = Config::before_endpoints([nobody.address()]).upstream("connect_timeout = \"2s\"");
    let owner = config.start_with_store(store(&server, "")).await;
    let other = replica(&upstream, &server, "").await;
    listeners_to_be(&server, 2).await;
    let begun = round_trips(&server).await;
    let first = owner.request_aside(Request::charge("k"));
    eventually("it is claimed", async || round_trips(&server).await > begun).await;
    let taken_over = other.charge("k").await;
    within("the refusal", first).await.unwrap().expect_problem(504, "upstream-unreachable");
    assert!(!taken_over.expect_status(201).is_replay(), "{taken_over:?}");
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_release_is_known_at_once_to_whoever_has_a_copy() {
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let owner = replica(&upstream, &server, LASTING).await;
    let other = replica(&upstream, &server, LASTING).await;
    listeners_to_be(&server, 2).await;
    let first = owner.charge("k").await;
    other.charge("k").await.expect_replay_of(&first);
    release(&server).await;
    runs_anew(&upstream, &other, "k").await;
    // The owner's copy is of the entry that was released, and not of the one that stands there now.
    eventually("the owner has heard, too", async || {
        let replayed = owner.charge("k").await;
        assert!(replayed.is_replay(), "{replayed:?}");
        replayed.body != first.body
    })
    .await;
}

#[tokio::test]
async fn a_release_that_nobody_is_told_of_is_known_within_the_caches_ttl() {
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let proxy = replica(&upstream, &server, "cache_ttl = \"300ms\"").await;
    nobody_may_publish_or_listen(&server, 1).await;
    let first = proxy.charge("k").await;
    proxy.charge("k").await.expect_replay_of(&first);
    release(&server).await;
    runs_anew(&upstream, &proxy, "k").await;
}

#[tokio::test]
async fn a_release_that_was_missed_is_known_once_the_subscription_is_there_again() {
    let server = Launch::of(Make::Redis).start().await;
    let relay = Relay::before(server.address()).await;
    let upstream = Upstream::start().await;
    let store = store_by(&server, &server.url_by(relay.address()), LASTING);
    let proxy = Config::before(&upstream).start_with_store(store).await;
    listeners_to_be(&server, 1).await;
    let first = proxy.charge("k").await;
    relay.cut();
    listeners_to_be(&server, 0).await;
    release(&server).await;
    proxy.charge("k").await.expect_replay_of(&first);
    relay.heal();
    runs_anew(&upstream, &proxy, "k").await;
}

#[tokio::test]
async fn a_first_time_key_takes_two_round_trips_a_replay_one_and_a_copy_none() {
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let owner = replica(&upstream, &server, LASTING).await;
    let other = replica(&upstream, &server, LASTING).await;
    let without = replica(&upstream, &server, "cache_max_bytes = 0").await;
    let published = calls(&server, "publish").await;
    let first = Cell::new(None);
    for (what, proxy, expected) in [
        ("a first-time key", &owner, 2),
        ("a replay where it was answered", &owner, 0),
        ("a replay elsewhere", &other, 1),
        ("another replay there", &other, 0),
        ("a replay without a cache", &without, 1),
        ("another replay without a cache", &without, 1),
    ] {
        let begun = round_trips(&server).await;
        let response = proxy.charge("k").await;
        assert_eq!(round_trips(&server).await - begun, expected, "{what}");
        match first.take() {
            None => first.set(Some(response)),
            Some(answer) => {
                response.expect_replay_of(&answer);
                first.set(Some(answer));
            }
        }
    }
    assert_eq!(calls(&server, "publish").await, published, "nobody waits, and somebody is told");
}

#[tokio::test]
async fn calls_share_a_connection_as_long_as_it_answers() {
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let proxy = replica(&upstream, &server, "connections = 4").await;
    for number in 0..8 {
        proxy.charge(&format!("k{number}")).await.expect_status(201);
    }
    let clients: String = server.command(&["CLIENT", "LIST"]).await.unwrap();
    let unused = clients.lines().filter(|line| line.contains(" cmd=NULL ")).count();
    assert_eq!(unused, 3, "{clients}");
}

#[tokio::test]
async fn a_copy_is_judged_as_the_entry_is() {
    let server = Launch::of(Make::Redis).start().await;
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream)
        .idempotency("on_other_caller = \"refuse\"")
        .store("max_entries_per_caller = 1");
    let proxy = config.start_with_store(store(&server, LASTING)).await;
    let alice = |key| Request::charge(key).bearer("alice");
    let first = proxy.request(&alice("k")).await;
    let begun = round_trips(&server).await;
    proxy.request(&alice("k").json("{}")).await.expect_problem(422, "key-reused");
    proxy.request(&Request::charge("k").bearer("bob")).await.expect_problem(409, "other-caller");
    proxy.request(&alice("k")).await.expect_replay_of(&first);
    assert_eq!(round_trips(&server).await, begun, "there is no copy to judge");
    proxy.request(&alice("k2")).await.expect_problem(429, "too-many-keys");
    upstream.expect_executions("k", 1);
}

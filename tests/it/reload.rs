//! New settings for a running proxy: what was begun goes on as it began, and a file that cannot be taken changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oncegate::server::Reloaded;
use tempfile::TempDir;

use crate::harness::{
    Authority, Client, Config, Front, Metrics, Process, Proxy, Reply, Request, Response, TlsFront, Upstream,
    eventually,
};

/// A file of settings that is looked at only when that is asked for.
struct File {
    folder: TempDir,
}

impl File {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }
}

fn before(upstream: &Upstream) -> Config {
    Config::before(upstream).memory().server("reload_interval = false")
}

#[tokio::test]
async fn an_open_connection_gets_the_new_settings_with_its_next_request() {
    let upstream = Upstream::start().await;
    let (file, config) = (File::new(), before(&upstream));
    let proxy = config.start_from(&file.path()).await;
    let mut client = proxy.client().await;
    let unkeyed = Request::post("/v1/charges").json("{}");
    client.request(&unkeyed).await.expect_problem(400, "key-missing");
    config.clone().charges("key = \"optional\"").write_to(&file.path()).await;
    assert_eq!(proxy.expect_reload().await, ["routes.charges.key (added)"]);
    client.request(&unkeyed).await.expect_status(201);
    config.write_to(&file.path()).await;
    assert_eq!(proxy.expect_reload().await, ["routes.charges.key (removed)"]);
    client.request(&unkeyed).await.expect_problem(400, "key-missing");
    assert_eq!(proxy.reload().await, Reloaded::Unchanged);
}

#[tokio::test]
async fn keys_are_known_across_new_settings() {
    let upstream = Upstream::start().await;
    let (file, config) = (File::new(), before(&upstream));
    let proxy = config.start_from(&file.path()).await;
    let first = proxy.charge("done").await;
    let mut gate = upstream.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    upstream.next(Reply::hang_up());
    proxy.charge("unknown").await.expect_problem(502, "outcome-unknown");
    config.clone().idempotency("ttl = \"1h\"").write_to(&file.path()).await;
    assert_eq!(proxy.expect_reload().await, ["idempotency (added)"]);
    proxy.charge("done").await.expect_replay_of(&first);
    proxy.charge("held").await.expect_problem(409, "request-in-flight");
    proxy.charge("unknown").await.expect_problem(502, "outcome-unknown");
    gate.release();
    let held = held.await.unwrap();
    proxy.charge("held").await.expect_replay_of(&held);
    for key in ["done", "held", "unknown"] {
        upstream.expect_executions(key, 1);
    }
}

#[tokio::test]
async fn a_request_keeps_the_settings_that_it_began_with() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    let lives = |ttl: &str| format!("expires_header = \"X-Expires\"\nttl = \"{ttl}\"");
    let file = File::new();
    let proxy = before(&old).idempotency(&lives("1h")).start_from(&file.path()).await;
    let mut gate = old.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    let streaming = {
        let (reply, feed) = Reply::fed(200);
        old.next(reply);
        let mut client = proxy.client().await;
        client.send(&Request::get("/events")).await;
        assert!(feed.send("first"));
        client.read_until("first").await;
        (client, feed)
    };
    before(&new).idempotency(&lives("9h")).write_to(&file.path()).await;
    assert_eq!(proxy.expect_reload().await, ["idempotency.ttl", "upstreams.legacy.endpoints"]);
    let next = proxy.charge("next").await;
    new.expect_executions("next", 1);
    gate.release();
    let held = held.await.unwrap();
    assert_eq!(held.expect_status(201).text(), r#"{"held":true}"#);
    assert_eq!((hours_to_live(&held), hours_to_live(&next)), (1, 9), "an entry keeps its ttl");
    proxy.charge("held").await.expect_replay_of(&held);
    let (mut client, feed) = streaming;
    assert!(feed.send("last"));
    client.read_until("last").await;
    assert_eq!((old.executions("held"), new.executions("held")), (1, 0));
}

/// How long an entry is to live, by its answer.
fn hours_to_live(answer: &Response) -> u64 {
    let at = |field: &str| {
        let value = answer.value(field).unwrap_or_else(|| panic!("{field} is missing in {answer:?}"));
        httpdate::parse_http_date(value).expect("a date")
    };
    let lives = at("x-expires").duration_since(std::time::SystemTime::now()).expect("the future");
    (lives.as_secs() + 600) / 3_600
}

#[tokio::test]
async fn an_upstream_that_stays_keeps_its_connections_and_one_that_goes_loses_them() {
    let (kept, gone) = (Upstream::start().await, Upstream::start().await);
    let (file, base) = (File::new(), before(&kept).upstream("max_reuse_idle = \"10s\""));
    let with_other = format!("{}\n", base.toml().await).replace(
        "[idempotency]",
        &format!("[upstreams.other]\nendpoints = [\"http://{}\"]\n[idempotency]", gone.address()),
    ) + "[[routes]]\nname = \"other\"\npath = \"/other\"\nupstream = \"other\"\nguarded = false\n";
    let proxy = base.start_from(&file.path()).await;
    fs::write(file.path(), with_other).unwrap();
    assert_eq!(proxy.expect_reload().await, ["routes.other (added)", "upstreams.other (added)"]);
    proxy.charge("before").await.expect_status(201);
    proxy.request(&Request::get("/other")).await.expect_status(201);
    assert_eq!(gone.seen().len(), 1);
    base.write_to(&file.path()).await;
    assert_eq!(proxy.expect_reload().await, ["routes.other (removed)", "upstreams.other (removed)"]);
    proxy.charge("after").await.expect_status(201);
    proxy.request(&Request::get("/other")).await.expect_status(201);
    assert_eq!(gone.seen().len(), 1, "it goes to the catch-all now");
    assert_eq!(kept.connections(), 1);
    gone.left_to_be(1).await;
}

#[tokio::test]
async fn health_checks_begin_and_end_with_their_upstreams() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let check = "health_check = { path = \"/healthy\", interval = \"100ms\" }";
    let file = File::new();
    let proxy = before(&one).start_from(&file.path()).await;
    before(&other).upstream(check).write_to(&file.path()).await;
    proxy.expect_reload().await;
    other.requests_to_be(2).await;
    before(&one).upstream(check).write_to(&file.path()).await;
    proxy.expect_reload().await;
    one.requests_to_be(2).await;
    let asked = other.seen().len();
    one.requests_to_be(8).await;
    assert!(other.seen().len() <= asked + 1, "one question may have been under way");
}

#[tokio::test]
async fn an_upstream_that_stays_is_not_asked_twice_as_often() {
    let (kept, new) = (Upstream::start().await, Upstream::start().await);
    let check = "health_check = { path = \"/healthy\", interval = \"100ms\" }";
    let (file, config) = (File::new(), before(&kept).upstream(check));
    let proxy = config.start_from(&file.path()).await;
    let with_new = config.toml().await.replace(
        "[idempotency]",
        &format!("[upstreams.new]\nendpoints = [\"http://{}\"]\n{check}\n[idempotency]", new.address()),
    ) + "[[routes]]\nname = \"new\"\npath = \"/new\"\nupstream = \"new\"\nguarded = false\n";
    fs::write(file.path(), with_new).unwrap();
    proxy.expect_reload().await;
    new.requests_to_be(1).await;
    let asked = kept.seen().len();
    new.requests_to_be(11).await;
    let asked = kept.seen().len() - asked;
    assert!(asked <= 15, "{asked} questions in the time of 10");
}

#[tokio::test]
async fn an_upstreams_renewed_certificates_are_noticed_without_a_new_file() {
    let (upstream, old, new) = (Upstream::start().await, Authority::new(), Authority::new());
    let front = TlsFront::start(upstream.address(), &new, "localhost", Front::default()).await;
    let file = File::new();
    let ca = file.folder.path().join("ca.pem");
    fs::copy(old.ca(), &ca).unwrap();
    let config = Config::before_endpoints([]).memory().server("reload_interval = \"100ms\"").upstream(
        &format!("endpoints = [\"https://localhost:{}\"]\ntls = {{ ca = \"ca.pem\" }}", front.port()),
    );
    let proxy = config.start_from(&file.path()).await;
    proxy.charge("k").await.expect_problem(502, "upstream-unreachable");
    fs::copy(new.ca(), &ca).unwrap();
    taken(&proxy, &Request::charge("k"), 201).await;
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_file_with_mistakes_changes_nothing_and_has_them_all_named() {
    let upstream = Upstream::start().await;
    let (file, config) = (File::new(), before(&upstream));
    let proxy = config.start_from(&file.path()).await;
    config.clone().idempotency("ttl = \"soon\"\nkey = \"maybe\"").write_to(&file.path()).await;
    let Reloaded::Invalid(mistakes) = proxy.reload().await else { panic!("it has mistakes") };
    assert!(
        mistakes.len() == 2 && mistakes[0].contains("ttl") && mistakes[1].contains("key"),
        "{mistakes:?}"
    );
    fs::remove_file(file.path()).unwrap();
    let Reloaded::Invalid(mistakes) = proxy.reload().await else { panic!("there is no file") };
    assert!(mistakes[0].contains("cannot read the file"), "{mistakes:?}");
    proxy.request(&Request::post("/v1/charges").json("{}")).await.expect_problem(400, "key-missing");
    proxy.charge("k").await.expect_status(201);
    config.write_to(&file.path()).await;
    assert_eq!(proxy.reload().await, Reloaded::Unchanged);
}

#[tokio::test]
async fn what_takes_a_restart_is_named_and_the_file_is_not_taken_at_all() {
    let upstream = Upstream::start().await;
    let (file, config) = (File::new(), before(&upstream));
    let proxy = config.start_from(&file.path()).await;
    let text = config.toml().await;
    for (setting, replacement, named) in [
        ("[server]", "[server]\nmax_connections = 9", "`max_connections`"),
        ("[server]", "[server]\nmax_connections_per_address = 9", "`max_connections_per_address`"),
        ("[server]", "[server]\nhttp2 = { enabled = false }", "[server.http2]"),
        ("[server]\nlisten = [\"127.0.0.1:0\"]", "[server]\nlisten = [\"127.0.0.1:1\"]", "`listen`"),
        ("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"127.0.0.1:1\"", "[admin]"),
        ("[store]", "[store]\nlease = \"3s\"", "[store]"),
        ("[store]", "[store]\nmax_entries = 7", "[store]"),
        ("[idempotency]", "[idempotency]\nmax_waiters = 7", "[store]"),
        ("[idempotency]", "[traces]\n[idempotency]", "[traces]"),
        ("[idempotency]", "[idempotency]\nheader = \"X-Key\"", "`header`"),
        ("[idempotency]", "[idempotency]\nkey_syntax = \"strict\"", "`key_syntax`"),
        ("[idempotency]", "[idempotency]\ncaller = [\"cookie:session\"]", "`caller`"),
        ("[idempotency]", "[idempotency]\non_other_caller = \"refuse\"", "`on_other_caller`"),
    ] {
        assert!(text.contains(setting), "{setting} is not in\n{text}");
        fs::write(file.path(), text.replacen(setting, replacement, 1) + "key = \"optional\"\n").unwrap();
        let Reloaded::NeedsRestart(reasons) = proxy.reload().await else { panic!("{replacement} is taken") };
        assert!(reasons.iter().all(|reason| reason.contains(named)), "{replacement}: {reasons:?}");
    }
    let unkeyed = Request::post("/v1/refunds/1").json("{}");
    proxy.request(&unkeyed).await.expect_problem(400, "key-missing");
}

#[tokio::test]
async fn two_reloads_do_not_do_what_one_may_not() {
    let upstream = Upstream::start().await;
    let (file, config) = (File::new(), before(&upstream));
    let proxy = config.start_from(&file.path()).await;
    let first = proxy.charge("k").await;
    let text = config.toml().await;
    let enforced = "path = \"/v1/charges\"\n";
    assert!(text.contains(enforced), "{text}");
    let with = |rules: &str| text.replace(enforced, &format!("{enforced}{rules}\n"));
    let of_another_caller = with("caller = [\"cookie:session\"]");
    for (way, between) in [
        ("it is not there", text.replace(enforced, "path = \"/v1/elsewhere\"\n")),
        ("it is not guarded", with("guarded = false")),
        ("it observes", with("mode = \"observe\"")),
    ] {
        fs::write(file.path(), &between).unwrap();
        let changes = proxy.expect_reload().await;
        let is_said =
            |change: &String| change.contains("`charges` are not looked at any more while it is so");
        assert_eq!(changes.iter().filter(|change| is_said(change)).count(), 1, "{way}: {changes:?}");
        fs::write(file.path(), &of_another_caller).unwrap();
        let Reloaded::NeedsRestart(reasons) = proxy.reload().await else { panic!("{way}: it is taken") };
        assert!(reasons.iter().all(|reason| reason.contains("`caller`")), "{way}: {reasons:?}");
        fs::write(file.path(), &text).unwrap();
        proxy.expect_reload().await;
        proxy.charge("k").await.expect_replay_of(&first);
    }
    upstream.expect_executions("k", 1);
}

#[tokio::test]
async fn a_volume_that_kubernetes_swaps_is_noticed_by_what_it_holds() {
    let upstream = Upstream::start().await;
    let config = Config::before(&upstream).memory().server("reload_interval = \"100ms\"");
    let volume = tempfile::tempdir().unwrap();
    let swap = async |version: &str, config: &Config| {
        let folder = volume.path().join(version);
        fs::create_dir(&folder).unwrap();
        config.write_to(&folder.join("proxy.toml")).await;
        let next = volume.path().join("..data_tmp");
        symlink(version, &next).unwrap();
        fs::rename(next, volume.path().join("..data")).unwrap();
    };
    swap("..1", &config).await;
    symlink("..data/proxy.toml", volume.path().join("proxy.toml")).unwrap();
    let proxy = config.start_from(&volume.path().join("proxy.toml")).await;
    let unkeyed = Request::post("/v1/charges").json("{}");
    proxy.request(&unkeyed).await.expect_problem(400, "key-missing");
    swap("..2", &config.clone().charges("key = \"optional\"")).await;
    taken(&proxy, &unkeyed, 201).await;
    swap("..3", &config.clone().charges("key = \"nonsense\"")).await;
    swap("..4", &config).await;
    taken(&proxy, &unkeyed, 400).await;
    assert!(Path::new(&volume.path().join("..1")).exists(), "old versions do not matter");
}

/// Waits until this is the answer.
async fn taken(proxy: &Proxy, request: &Request, status: u16) {
    eventually("the new settings are in force", async || proxy.request(request).await.status == status).await;
}

#[tokio::test]
async fn who_may_change_things_can_ask_for_it_and_is_told_what_came_of_it() {
    const TOKEN: &str = "a-token-of-this-test";
    let upstream = Upstream::start().await;
    let file = File::new();
    fs::write(file.folder.path().join("token"), TOKEN).unwrap();
    let config = before(&upstream).admin("token_file = \"token\"");
    let proxy = config.start_from(&file.path()).await;
    let reload = Request::post("/reload").bearer(TOKEN);
    assert_eq!(proxy.ask_admin(&Request::post("/reload")).await.status, 401);
    let unchanged = proxy.ask_admin(&reload).await;
    assert_eq!(unchanged.expect_status(200).text(), r#"{"result":"unchanged","changes":[]}"#);

    config.clone().charges("key = \"optional\"").write_to(&file.path()).await;
    let changed = proxy.ask_admin(&reload).await;
    let expected = r#"{"result":"changed","changes":["routes.charges.key (added)"]}"#;
    assert_eq!(changed.expect_status(200).text(), expected);

    config.clone().charges("ttl = \"soon\"\nkey = \"maybe\"").write_to(&file.path()).await;
    let mistaken = proxy.ask_admin(&reload).await;
    assert_eq!(mistaken.expect_status(422).value("content-type"), Some("application/problem+json"));
    let mistaken = mistaken.json();
    let errors = mistaken["errors"].as_array().unwrap();
    assert!(errors.len() == 2 && errors.iter().all(|error| error.as_str().unwrap().contains("proxy.toml:")));

    config.clone().charges("caller = [\"cookie:session\"]").write_to(&file.path()).await;
    let refused = proxy.ask_admin(&reload).await;
    let reason = refused.expect_status(409).json()["errors"][0].as_str().unwrap().to_owned();
    assert!(reason.contains("`caller`") && reason.contains("charges"), "{reason}");
    proxy.request(&Request::post("/v1/charges").json("{}")).await.expect_status(201);
}

#[tokio::test]
async fn the_program_reads_its_file_again_at_a_sighup() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    let endpoints = |upstream: &Upstream| format!("endpoints = [\"http://{}\"]", upstream.address());
    let process = Process::start(&endpoints(&old), &[]);
    let mut client = Client::connect(process.address()).await;
    let first = client.request(&Request::charge("k")).await;
    process.rewrite(&endpoints(&new));
    process.signal("HUP");
    eventually("the new upstream is asked", async || {
        client.request(&Request::get("/")).await.expect_status(201);
        !new.seen().is_empty()
    })
    .await;
    client.request(&Request::charge("k")).await.expect_replay_of(&first);
    assert_eq!((old.executions("k"), new.executions("k")), (1, 0));
}

#[tokio::test]
async fn what_becomes_of_new_settings_is_counted_and_the_file_in_force_is_named() {
    const SUCCESSFUL: &str = "oncegate_config_last_reload_successful";
    let reloads = |metrics: &Metrics| {
        ["success", "failure"]
            .map(|result| metrics.value(&format!("oncegate_config_reloads_total{{result=\"{result}\"}}")))
    };
    let hashes = |metrics: &Metrics| {
        let lines = metrics.0.lines().filter(|line| line.starts_with("oncegate_config_info{hash=\""));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let upstream = Upstream::start().await;
    let file = File::new();
    let config = Config::before(&upstream).memory().server("reload_interval = \"100ms\"");
    let proxy = config.start_from(&file.path()).await;
    let first = proxy.metrics().await;
    assert_eq!((reloads(&first), first.value(SUCCESSFUL)), ([0.0, 0.0], 1.0));
    assert_eq!(hashes(&first).len(), 1, "{first:?}");
    assert!(first.value("oncegate_config_last_reload_success_timestamp_seconds") > 1e9);

    config.clone().charges("ttl = \"soon\"").write_to(&file.path()).await;
    let failed = async || proxy.metrics().await.value(SUCCESSFUL) == 0.0;
    eventually("it is noticed", failed).await;
    assert!(matches!(proxy.reload().await, Reloaded::Invalid(_)));
    let refused = proxy.metrics().await;
    assert_eq!(reloads(&refused), [0.0, 2.0], "each reading that says something new, or was asked for");
    assert_eq!(hashes(&refused), hashes(&first));

    config.clone().charges("ttl = \"2h\"").write_to(&file.path()).await;
    eventually("it is taken", async || proxy.metrics().await.value(SUCCESSFUL) == 1.0).await;
    let taken = proxy.metrics().await;
    assert_eq!(reloads(&taken), [1.0, 2.0]);
    assert!(hashes(&taken).len() == 1 && hashes(&taken) != hashes(&first), "{taken:?}");
}

#[tokio::test]
async fn new_settings_do_not_call_off_a_drain() {
    let upstream = Upstream::start().await;
    let (file, config) = (File::new(), before(&upstream));
    let mut proxy = config.start_from(&file.path()).await;
    let mut gate = upstream.hold_next();
    let held = proxy.request_aside(Request::charge("held"));
    gate.arrived().await;
    let begun = Request::charge("new").bytes();
    let mut open = proxy.client().await;
    open.send_bytes(&begun[..30]).await;
    // Until the proxy has read what was begun: a request of another connection comes after it.
    proxy.request(&Request::get("/")).await.expect_status(201);
    proxy.begin_shutdown();
    eventually("it says that it drains", async || proxy.admin("/readyz").await == 503).await;
    config.idempotency("ttl = \"1h\"").write_to(&file.path()).await;
    proxy.expect_reload().await;
    open.try_send_bytes(&begun[30..]).await;
    if let Ok(response) = open.try_response().await {
        response.expect_problem(503, "shutting-down").expect_retry_after();
    }
    gate.release();
    held.await.unwrap().expect_status(201);
    proxy.ended().await;
    upstream.expect_executions("new", 0);
}

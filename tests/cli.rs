//! The program as its users start it: commands, exit codes, signals, and what stands in its log.
//!
//! Everything else is tested in this process (`tests/it`); here the binary runs on its own, with pipes for a terminal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails in a helper fails its test"
)]

#[path = "cli/keys.rs"]
mod keys;
#[allow(unreachable_pub, reason = "a test binary exports nothing")]
#[path = "it/harness/log.rs"]
mod log;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use log::Log;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before its test gives up.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

fn oncegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oncegate"));
    command.env_remove("ONCEGATE_CONFIG").env_remove("ONCEGATE_LOG").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    oncegate().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Looks again and again for what can only be seen from outside.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..DEADLINE.as_millis() / PAUSE.as_millis() {
        if let Some(seen) = look() {
            return seen;
        }
        thread::sleep(PAUSE);
    }
    panic!("waited {DEADLINE:?} in vain until: {what}")
}

/// An upstream that counts what it is asked and answers 201, to a target that names `/held` only once it may, and
/// not at all to one that names `/broken`.
struct Upstream {
    address: SocketAddr,
    executions: Arc<AtomicUsize>,
    release: Sender<()>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let executions = Arc::new(AtomicUsize::new(0));
        let counted = executions.clone();
        let (release, released) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(head) = read_request(&mut stream) else { continue };
                counted.fetch_add(1, Ordering::SeqCst);
                if head.contains("/held") {
                    released.recv().unwrap_or(());
                }
                if head.contains("/broken") {
                    continue;
                }
                let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmade";
                stream.write_all(answer).unwrap_or(());
            }
        });
        Self { address, executions, release }
    }

    fn executions(&self) -> usize {
        self.executions.load(Ordering::SeqCst)
    }

    fn executions_to_be(&self, count: usize) {
        eventually("the upstream has executed them", || (self.executions() == count).then_some(()));
    }
}

/// The head of one request, once its body has been read.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let length = head.to_ascii_lowercase().lines().find_map(|line| {
        let value = line.strip_prefix("content-length:")?;
        value.trim().parse().ok()
    });
    let length = length.unwrap_or(0);
    let read = std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    (read == length).then_some(head)
}

/// A guarded `/v1/…` beside an unguarded rest, on a port of its own.
fn configuration(upstream: SocketAddr) -> (TempDir, PathBuf) {
    written(&format!(
        r#"
        server.listen = ["127.0.0.1:0"]
        upstreams.legacy.endpoints = ["http://{upstream}"]
        routes = [
            {{ name = "charges", path = "/v1/{{*rest}}", upstream = "legacy" }},
            {{ name = "everything-else", path = "/{{*rest}}", upstream = "legacy", guarded = false }},
        ]
        "#
    ))
}

/// The shipped file, but for its addresses.
fn shipped(upstream: SocketAddr) -> (TempDir, PathBuf) {
    let mut text = include_str!("../proxy.toml").to_owned();
    let own = upstream.to_string();
    for (shipped, own) in
        [("0.0.0.0:8080", "127.0.0.1:0"), ("127.0.0.1:9090", "127.0.0.1:0"), ("127.0.0.1:9000", own.as_str())]
    {
        assert_eq!(text.matches(shipped).count(), 1, "{shipped}");
        text = text.replace(shipped, own);
    }
    written(&text)
}

fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// A running proxy. Its log is read line by line.
struct Process {
    child: Child,
    lines: Log,
    address: SocketAddr,
    admin: Option<String>,
    _folder: TempDir,
}

impl Process {
    fn start((folder, path): (TempDir, PathBuf)) -> Self {
        let mut child = oncegate()
            .arg("--config")
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = Log::of(child.stdout.take().unwrap());
        let serving = find(&mut lines, |line| line["message"] == "serving");
        let address = serving["listen"].as_str().unwrap().trim_matches(['[', ']']).parse().unwrap();
        let admin = serving["admin"].as_str().map(str::to_owned);
        Self { child, lines, address, admin, _folder: folder }
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn answer(&self, request: &str) -> String {
        let mut answer = String::new();
        self.send(request).read_to_string(&mut answer).unwrap();
        answer
    }

    /// The next line of the access log.
    fn access(&mut self) -> Value {
        find(&mut self.lines, |line| line["target"] == "oncegate::access")
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.unwrap().success(), "the signal was not sent");
    }

    /// The exit code, and what was written to standard error.
    fn ended(mut self) -> (Option<i32>, String) {
        let status = eventually("the process has ended", || self.child.try_wait().unwrap());
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (status.code(), errors)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        self.child.kill().unwrap_or(());
        self.child.wait().map(drop).unwrap_or(());
    }
}

/// The first line that is sought; every line on the way there has to be JSON.
fn find(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    is_sought: impl Fn(&Value) -> bool,
) -> Value {
    for line in lines {
        let line = line.unwrap();
        let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if is_sought(&line) {
            return line;
        }
    }
    panic!("the log has ended before the line that is sought")
}

fn post(target: &str, key: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIdempotency-Key: {key}\r\nAuthorization: Bearer hush\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn the_demonstration_shows_a_replay_and_ends() {
    let done = output(&["demo", "--once"]);
    let shown = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{shown}{}", text(&done.stderr));
    assert_eq!(shown.matches("> POST /v1/charges").count(), 2, "both exchanges are shown: {shown}");
    assert_eq!(shown.matches("idempotent-replayed: true").count(), 1, "{shown}");
    assert_eq!(shown.matches(r#"{"id":"ch_1""#).count(), 2, "{shown}");
    assert!(shown.contains("charged 1 time"), "the executions are counted: {shown}");
}

#[test]
fn without_once_the_demonstration_stays_up_until_a_signal() {
    let mut demo = oncegate().arg("demo").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Log::of(demo.stdout.take().unwrap());
    let line = lines.find(|line| line.as_ref().unwrap().contains("order-1001' -H 'Content-Type"));
    let line = line.expect("a command to go on with").unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut answer = String::new();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET /executions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n1\n"), "{answer}");
    let sent = Command::new("sh").arg("-c").arg(format!("kill -INT {}", demo.id())).status();
    assert!(sent.unwrap().success());
    assert_eq!(demo.wait().unwrap().code(), Some(0));
}

#[test]
fn a_check_says_what_would_run_and_opens_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (folder, path) = configuration("127.0.0.1:9".parse().unwrap());
    let config = std::fs::read_to_string(&path).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&path, config.replace("127.0.0.1:0", &address)).unwrap();
    let done = oncegate().arg("check").env("ONCEGATE_CONFIG", &path).output().unwrap();
    let said = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{said}{}", text(&done.stderr));
    for part in [&address, "charges", "/v1/{*rest}", "ttl = \"24h\"", "11.6 new keys per second"] {
        assert!(said.contains(part), "{part} is not said: {said}");
    }
    assert!(said.contains("warning: ") && said.contains("keys are forgotten at restart"), "{said}");
    assert_eq!(text(&done.stderr), "", "a file without mistakes");
    drop((taken, folder));
}

#[test]
fn a_wrong_configuration_is_78_with_every_mistake_and_a_wrong_usage_is_2() {
    for command in ["check", "run"] {
        let done = output(&[command, "--config", "tests/config/invalid/everything_at_once.toml"]);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(78), "{command}: {said}");
        let expected = include_str!("config/invalid/everything_at_once.expected");
        assert_eq!(said.lines().count(), expected.lines().count(), "{command}: {said}");
        assert_eq!(text(&done.stdout), "", "{command}: nothing would run");
    }
    assert_eq!(output(&["check", "--config", "no/such/file.toml"]).status.code(), Some(78));
    assert_eq!(output(&["--no-such-option"]).status.code(), Some(2));
    assert_eq!(output(&["--version"]).status.code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_1_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_folder, path) = configuration("127.0.0.1:9".parse().unwrap());
    let config = std::fs::read_to_string(&path).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&path, config.replace("127.0.0.1:0", &address)).unwrap();
    let done = oncegate().arg("--config").arg(&path).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains(&address), "{}", text(&done.stderr));
}

#[test]
fn each_request_has_one_line_of_json_and_no_secret_in_it() {
    let upstream = Upstream::start();
    let mut proxy = Process::start(configuration(upstream.address));
    let charge = post("/v1/charges?card=secret", "hush-hush", "a secret body");
    let table = [
        (charge.clone(), 201, "executed", "charges"),
        (charge.clone(), 201, "replayed", "charges"),
        (post("/v1/charges?card=secret", "hush-hush", "another secret"), 422, "mismatch", "charges"),
        (charge.replace("Idempotency-Key: hush-hush\r\n", ""), 400, "key_missing", "charges"),
        (post("/v1/charges", "hush,secret", ""), 400, "key_invalid", "charges"),
        (post("/v1/./charges", "hush-hush", ""), 400, "refused", "charges"),
        (post("/open", "hush-hush", ""), 201, "passed", "everything-else"),
    ];
    for (request, status, outcome, route) in table {
        let answer = proxy.answer(&request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let line = proxy.access();
        let shown = line.to_string();
        assert_eq!(line["status"], status, "{shown}");
        assert_eq!(line["outcome"], outcome, "{shown}");
        assert_eq!(line["route"], route, "{shown}");
        assert_eq!(line["method"], "POST", "{shown}");
        assert!(line["duration_ms"].is_number(), "{shown}");
        let id = line["request_id"].as_str().expect("the request has an id");
        assert!(answer.contains(&format!("x-request-id: {id}\r\n")), "{shown} {answer}");
        let reached = matches!(outcome, "executed" | "passed");
        assert_eq!(line["upstream_ms"].is_number(), reached, "{shown}");
        let known = matches!(outcome, "executed" | "replayed" | "mismatch");
        // The first 8 hex digits of SHA-256("hush-hush").
        assert_eq!(line["key"].as_str(), known.then_some("fbdc0774"), "{shown}");
        assert!(!shown.contains("hush") && !shown.contains("secret"), "{shown}");
    }
    proxy.signal("TERM");
    assert_eq!(proxy.ended().0, Some(0));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_route_that_observes_warns_at_the_start_and_says_in_each_line_what_would_have_been() {
    let upstream = Upstream::start();
    let (folder, path) = shipped(upstream.address);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("# mode = \"enforce\" ", "mode = \"observe\" ")).unwrap();
    let mut proxy = Process::start((folder, path));
    for (key, observed) in [("k", None), ("k", Some("replayed")), ("two keys", Some("key_invalid"))] {
        assert!(proxy.answer(&post("/v1/charges", key, "{}")).starts_with("HTTP/1.1 201"));
        let line = proxy.access();
        assert_eq!(line["observed"].as_str(), observed, "{line}");
    }
    assert_eq!(upstream.executions(), 3);
}

#[test]
fn the_shipped_file_guards_charges_under_every_spelling_and_passes_the_rest() {
    let upstream = Upstream::start();
    let mut proxy = Process::start(shipped(upstream.address));
    for _ in 0..2 {
        assert!(proxy.answer(&post("/v1/charges", "k", "{}")).starts_with("HTTP/1.1 201"));
    }
    assert_eq!((proxy.access()["outcome"].as_str(), upstream.executions()), (Some("executed"), 1));
    assert_eq!(proxy.access()["outcome"], "replayed");
    for spelling in [
        "/v1/charges/",
        "/V1/Charges",
        "//v1/charges",
        "/v1/./charges",
        "/x/%2e%2e/v1/charges",
        "/v1/%63harges",
        "/v1%2fcharges",
        "/v1%252Fcharges",
        "/v1/charges;x=1",
        "/v1/charges%00",
        "http://a/v1//charges",
    ] {
        for method in ["POST", "PATCH"] {
            let request = post(spelling, "k", "{}").replace("POST", method);
            let answer = proxy.answer(&request);
            assert!(answer.starts_with("HTTP/1.1 400"), "{method} {spelling}: {answer}");
            assert_eq!(proxy.access()["outcome"], "refused", "{method} {spelling}");
        }
    }
    for (unreadable, status) in [
        ("GET / HTTP/9\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(99_999)), "431"),
    ] {
        let answer = proxy.answer(&unreadable);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let line = proxy.access();
        assert_eq!((line["outcome"].as_str(), line["cause"].as_str()), (Some("refused"), Some("head")));
    }
    assert_eq!(upstream.executions(), 1, "no spelling has run");
    for _ in 0..2 {
        assert!(proxy.answer(&post("/v1/customers", "k", "{}")).starts_with("HTTP/1.1 201"));
        let line = proxy.access();
        assert_eq!(
            (line["outcome"].as_str(), line["route"].as_str()),
            (Some("passed"), Some("everything-else"))
        );
    }
    assert_eq!(upstream.executions(), 3);
}

#[test]
fn the_environment_filters_the_log() {
    let upstream = Upstream::start();
    let (_folder, path) = configuration(upstream.address);
    let start = |filter: &str| {
        let mut command = oncegate();
        command.env("ONCEGATE_LOG", filter).env("ONCEGATE_CONFIG", &path);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let refused = start("no=such=filter").wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("ONCEGATE_LOG"), "{}", text(&refused.stderr));
    let mut quiet = start("warn");
    let mut lines = Log::of(quiet.stdout.take().unwrap());
    // The warnings of the file come first; what follows them at a lower level does not.
    assert_eq!(find(&mut lines, |_| true)["level"], "WARN");
    let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", quiet.id())).status();
    assert!(sent.unwrap().success());
    let ended = quiet.wait().unwrap().code();
    // The signal may have come before it was listened for.
    assert!(matches!(ended, Some(0) | None), "{ended:?}");
    assert_eq!(lines.count(), 0, "nothing but warnings");
}

#[test]
fn either_signal_drains_and_what_is_in_flight_is_answered_first() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::start();
        let mut proxy = Process::start(configuration(upstream.address));
        let mut client = proxy.send(&post("/v1/held", "k", ""));
        upstream.executions_to_be(1);
        proxy.signal(signal);
        find(&mut proxy.lines, |line| line["message"] == "draining");
        upstream.release.send(()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{signal}: {answer}");
        assert_eq!(proxy.access()["outcome"], "executed", "{signal}");
        let (code, errors) = proxy.ended();
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_at_once_and_says_that_work_is_unfinished() {
    let upstream = Upstream::start();
    let mut proxy = Process::start(configuration(upstream.address));
    let _client = proxy.send(&post("/v1/held", "k", ""));
    upstream.executions_to_be(1);
    proxy.signal("TERM");
    find(&mut proxy.lines, |line| line["message"] == "draining");
    assert!(proxy.child.try_wait().unwrap().is_none(), "it waits for what is in flight");
    proxy.signal("INT");
    let (code, errors) = proxy.ended();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("unfinished"), "{errors}");
}

/// `ONCEGATE_UPLOAD_MIB=1024` makes the upload larger.
#[test]
fn a_big_upload_streams_through_in_little_memory() {
    const MIB: usize = 1 << 20;
    const MOST_KIB: u64 = 32 * 1024;
    let mib: usize = std::env::var("ONCEGATE_UPLOAD_MIB").map_or(64, |mib| mib.parse().unwrap());
    let upstream = Upstream::start();
    let process = Process::start(written(&format!(
        r#"
        server.listen = ["127.0.0.1:0"]
        upstreams.legacy.endpoints = ["http://{}"]
        routes = [{{ name = "uploads", path = "/v1/uploads", upstream = "legacy", request_body = "stream" }}]
        "#,
        upstream.address
    )));
    let head = post("/v1/uploads", "k", "").replace("Length: 0", &format!("Length: {}", mib * MIB));
    let piece = vec![b'x'; MIB];
    // The second is read to be compared, and gets the replay.
    for _ in 0..2 {
        let mut stream = process.send(&head);
        for _ in 0..mib {
            stream.write_all(&piece).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    assert_eq!(upstream.executions(), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.unwrap().trim().parse().unwrap();
    println!("{mib} MiB passed twice, and the process never held more than {peak} KiB");
    assert!(peak < MOST_KIB, "{peak} KiB");
}

#[test]
fn an_access_line_says_what_proxies_say_and_what_became_of_the_key() {
    let upstream = Upstream::start();
    let mut proxy = Process::start(configuration(upstream.address));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let fields =
        format!("User-Agent: {}\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\nIdem", "u".repeat(300));
    let request = post("/v1/charges?card=4242", "k", "{\"amount\":10}").replace("Idem", &fields);
    for (outcome, is_sent) in [("executed", true), ("replayed", false)] {
        let answer = proxy.answer(&request);
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let line = proxy.access();
        let shown = line.to_string();
        assert_eq!(line["outcome"], outcome, "{shown}");
        assert_eq!(line["path"], "/v1/charges", "without its query: {shown}");
        assert_eq!(line["protocol"], "HTTP/1.1", "{shown}");
        assert!(line["start"].as_str().is_some_and(|start| start.ends_with('Z')), "{shown}");
        assert_eq!(line["user_agent"], "u".repeat(256), "{shown}");
        assert_eq!(line["trace_id"], trace, "{shown}");
        assert_eq!(line["bytes_received"], 13, "{shown}");
        assert_eq!(line["bytes_sent"], body.len(), "{shown}");
        assert!(line["store_ms"].is_number() && line["authority"].is_string(), "{shown}");
        let endpoint = is_sent.then(|| upstream.address.to_string());
        assert_eq!(line["endpoint"].as_str(), endpoint.as_deref(), "{shown}");
        assert!(!shown.contains("4242"), "{shown}");
    }
    let bad = format!("traceparent: 00-{trace}-{}-01\r\nIdem", "0".repeat(16));
    let passed = proxy.answer(&post("/open", "k", "{\"amount\":10}").replace("Idem", &bad));
    let line = proxy.access();
    assert_eq!(line["trace_id"], Value::Null, "a field with no parent's id names no trace: {line}");
    let body = passed.split_once("\r\n\r\n").expect("a body").1;
    assert_eq!(
        (line["bytes_received"].as_u64(), line["outcome"].as_str()),
        (Some(13), Some("passed")),
        "{line}"
    );
    assert_eq!(line["bytes_sent"], body.len(), "{line}");
    assert_eq!(line["client_gone"], Value::Null, "{line}");
}

#[test]
fn a_new_log_level_is_taken_with_the_other_settings() {
    let upstream = Upstream::start();
    let (folder, path) = configuration(upstream.address);
    let settings = std::fs::read_to_string(&path).unwrap();
    let mut proxy = Process::start((folder, path.clone()));
    drop(proxy.answer(&post("/open", "k", "{}")));
    assert_eq!(proxy.access()["outcome"], "passed");
    std::fs::write(&path, format!("{settings}\n[log]\nlevel = \"info,oncegate::access=off\"\n")).unwrap();
    proxy.signal("HUP");
    find(&mut proxy.lines, |line| line["message"] == "new settings are in force");
    drop(proxy.answer(&post("/open", "k", "{}")));
    proxy.signal("TERM");
    let is_either = |line: &Value| line["target"] == "oncegate::access" || line["message"] == "drained";
    let next = find(&mut proxy.lines, is_either);
    assert_eq!(next["message"], "drained", "an access line was to be left out: {next}");
}

//! `oncegate keys` and `oncegate healthcheck`, against a process of its own.

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A process with an admin listener, and a file that says where it is.
struct Bench {
    process: Process,
    upstream: Upstream,
    admin: String,
    folder: TempDir,
}

impl Bench {
    fn start() -> Self {
        Self::with("")
    }

    fn with(admin: &str) -> Self {
        let upstream = Upstream::start();
        let (folder, path) = configuration(upstream.address);
        std::fs::write(folder.path().join("admin.token"), TOKEN).unwrap();
        let config = std::fs::read_to_string(&path).unwrap();
        let config = format!("admin.token_file = \"admin.token\"\n{admin}\n{config}");
        let at = |address: &str| format!("admin.listen = \"{address}\"\n{config}");
        std::fs::write(&path, at("127.0.0.1:0")).unwrap();
        let mut process = Process::start((tempfile::tempdir().unwrap(), path));
        let admin = process.admin.take().unwrap();
        std::fs::write(folder.path().join("proxy.toml"), at(&admin)).unwrap();
        Self { process, upstream, admin, folder }
    }

    /// Runs a command that goes by the file.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.run_with(arguments, |command| command.current_dir(self.folder.path()))
    }

    fn run_with(
        &self,
        arguments: &[&str],
        more: impl FnOnce(&mut Command) -> &mut Command,
    ) -> (Option<i32>, String, String) {
        let mut command = oncegate();
        command.args(arguments).env_remove("ONCEGATE_ADMIN_TOKEN");
        let done = more(&mut command).output().unwrap();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    }

    /// An id of which nobody knows what became of its request.
    fn unknown(&self, key: &str) {
        let answer = self.process.answer(&post("/v1/broken", key, "x"));
        assert!(answer.contains("outcome-unknown"), "{answer}");
    }
}

fn by(key: &str) -> [&str; 8] {
    ["--host", "a", "--path", "/v1/broken", "--caller", "header:authorization=Bearer hush", "--key", key]
}

fn with<'a>(first: &[&'a str], which: [&'a str; 8], more: &[&'a str]) -> Vec<&'a str> {
    [first, &which, more].concat()
}

#[test]
fn keys_are_listed_shown_settled_and_released() {
    let mut bench = Bench::start();
    bench.unknown("k1");
    bench.unknown("k2");
    let (code, listed, errors) = bench.run(&["keys", "list", "--state", "unknown"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{listed}");
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let id = listed.split(' ').next().unwrap();
    assert!(id.len() == 64 && listed.contains("connection_lost"), "{listed}");
    assert_eq!(bench.run(&["keys", "list", "--limit", "1"]).1.lines().count(), 1);

    let (_, by_id, _) = bench.run(&["keys", "show", id]);
    assert!(by_id.contains(id) && by_id.contains("unknown"), "{by_id}");
    let (_, by_key, _) = bench.run(&with(&["keys", "show"], by("k1"), &["--json"]));
    let by_key: Value = serde_json::from_str(&by_key).unwrap();
    assert_eq!((&by_key["id"], &by_key["route"]), (&Value::from(id), &Value::from("charges")));

    let settle = with(&["keys", "settle"], by("k1"), &["--status", "201", "--reason", "in the ledger"]);
    let (code, done, errors) = bench.run(&settle);
    assert_eq!((code, done), (Some(0), format!("{id}: was unknown, is completed\n")), "{errors}");
    let line = find(&mut bench.process.lines, |line| line["target"] == "oncegate::audit");
    for (member, expected) in [
        ("action", "settle"),
        ("id", id),
        ("route", "charges"),
        ("by", "token"),
        ("address", "127.0.0.1"),
        ("reason", "in the ledger"),
        ("before", "unknown"),
        ("after", "completed"),
    ] {
        assert_eq!(line[member], expected, "{member}: {line}");
    }
    assert!(!line.to_string().contains("k1"), "{line}");
    let retry = bench.process.answer(&post("/v1/broken", "k1", "x"));
    assert!(retry.contains("response-not-retained") && retry.contains("201"), "{retry}");

    let (code, _, errors) = bench.run(&["keys", "release", id, "--reason", "a mistake"]);
    assert_eq!(code, Some(1), "a completed key needs force");
    assert!(errors.contains("409") && errors.contains("force"), "{errors}");
    let (code, ..) = bench.run(&["keys", "release", id, "--reason", "a mistake", "--force"]);
    assert_eq!(code, Some(0));
    let (code, _, errors) = bench.run(&["keys", "show", id]);
    assert!(code == Some(1) && errors.contains("404"), "{errors}");
    bench.unknown("k1");
    assert_eq!(bench.upstream.executions(), 3);
}

#[test]
fn the_token_comes_from_a_file_or_the_environment_or_the_configuration() {
    let bench = Bench::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let url = format!("http://{}", bench.admin);
    let list = ["keys", "list", "--admin", url.as_str()];
    let token_file = bench.folder.path().join("admin.token").display().to_string();
    let run = |arguments: &[&str], token: Option<&str>| {
        bench.run_with(arguments, |command| {
            let command = command.current_dir(elsewhere.path());
            if let Some(token) = token { command.env("ONCEGATE_ADMIN_TOKEN", token) } else { command }
        })
    };
    assert_eq!(run(&list, Some(TOKEN)).0, Some(0));
    let by_file = [&list[..], &["--token-file", &token_file]].concat();
    assert_eq!(run(&by_file, None).0, Some(0));
    assert_eq!(run(&by_file, Some("of-another-oncegate")).0, Some(0), "the file goes first");
    for wrong in [None, Some("of-another-oncegate")] {
        let (code, _, errors) = run(&list, wrong);
        assert!(code == Some(1) && errors.contains("401") && !errors.contains("another"), "{errors}");
    }
    assert_eq!(run(&["keys", "list", "--admin", "127.0.0.1:9090"], None).0, Some(1));
    assert_eq!(run(&["keys", "show"], None).0, Some(2));
    assert_eq!(run(&["keys", "release", "00"], None).0, Some(2), "a reason is required");
}

#[test]
fn a_healthcheck_is_0_while_it_lives_and_1_otherwise_and_needs_no_token() {
    let bench = Bench::start();
    for probe in [&["healthcheck"][..], &["healthcheck", "--ready"]] {
        let (code, said, errors) = bench.run(probe);
        assert_eq!((code, said.as_str(), errors.as_str()), (Some(0), "", ""));
    }
    std::fs::remove_file(bench.folder.path().join("admin.token")).unwrap();
    let url = format!("http://{}", bench.admin);
    assert_eq!(bench.run(&["healthcheck", "--admin", &url]).0, Some(0));
    // A request at the upstream keeps the process draining.
    let held = bench.process.send(&post("/v1/held", "k", "x"));
    bench.upstream.executions_to_be(1);
    bench.process.signal("TERM");
    let not_ready = || bench.run(&["healthcheck", "--ready", "--admin", &url]);
    let (_, _, errors) = eventually("it is not ready", || Some(not_ready()).filter(|said| said.0 == Some(1)));
    assert!(errors.contains("503") && errors.contains("draining"), "{errors}");
    assert_eq!(bench.run(&["healthcheck", "--admin", &url]).0, Some(0), "it lives while it drains");
    bench.upstream.release.send(()).unwrap();
    drop(held);
    let Bench { process, folder: _folder, .. } = bench;
    assert_eq!(process.ended().0, Some(0));
    let gone = oncegate().args(["healthcheck", "--admin", &url]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("cannot be asked"), "{}", text(&gone.stderr));
}

#[test]
fn over_tls_the_certificate_of_the_configuration_is_believed_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let certify = |name: &str| {
        let signed = rcgen::generate_simple_self_signed(["oncegate.internal".to_owned()]).unwrap();
        let (cert, key) =
            (folder.path().join(format!("{name}.crt")), folder.path().join(format!("{name}.key")));
        std::fs::write(&cert, signed.cert.pem()).unwrap();
        std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        format!("admin.tls = {{ cert = \"{}\", key = \"{}\" }}", cert.display(), key.display())
    };
    let own = certify("own");
    let bench = Bench::with(&own);
    assert_eq!(bench.run(&["healthcheck"]).0, Some(0));
    assert_eq!(bench.run(&["keys", "list"]).0, Some(0));
    let path = bench.folder.path().join("proxy.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace(&own, &certify("other"))).unwrap();
    let (code, _, errors) = bench.run(&["keys", "list"]);
    assert!(code == Some(1) && errors.contains("certificate"), "{errors}");
}

#[test]
fn a_client_certificate_lets_in_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let ca = write("ca.crt", authority.pem());
    let certify = |name: &str, hosts: &[&str]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let signed = rcgen::CertificateParams::new(hosts).unwrap().signed_by(&key, &authority).unwrap();
        (write(&format!("{name}.crt"), signed.pem()), write(&format!("{name}.key"), key.serialize_pem()))
    };
    let (cert, key) = certify("server", &["127.0.0.1"]);
    let (own_cert, own_key) = certify("operator", &[]);
    let tls = format!("admin.tls = {{ cert = \"{cert}\", key = \"{key}\", client_ca = \"{ca}\" }}");
    let bench = Bench::with(&tls);
    let url = format!("https://{}", bench.admin);
    let list = ["keys", "list", "--admin", url.as_str(), "--ca", ca.as_str()];
    assert_eq!(bench.run(&["healthcheck", "--admin", &url, "--ca", &ca]).0, Some(0));
    let (code, _, errors) = bench.run(&list);
    assert!(code == Some(1) && errors.contains("401"), "{errors}");
    let with_certificate = [&list[..], &["--client-cert", &own_cert, "--client-key", &own_key]].concat();
    let (code, _, errors) = bench.run(&with_certificate);
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn which_lines_are_written_changes_while_it_runs() {
    let mut bench = Bench::start();
    let ask = |method: &str, body: &str, token: &str| {
        let mut stream = TcpStream::connect(&bench.admin).unwrap();
        let request = format!(
            "{method} /log-level HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("GET", "", TOKEN).ends_with("\r\n\r\noncegate::audit=info,info\n"));
    assert!(ask("PUT", "off", "another").starts_with("HTTP/1.1 401"));
    let refused = ask("PUT", "info,=", TOKEN);
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("is not a filter"), "{refused}");
    assert!(ask("PUT", "info,oncegate::access=off\n", TOKEN).starts_with("HTTP/1.1 200"));
    let line = |line: &Value| line["action"] == "log_level" && line["filter"] != "info,=";
    let line = find(&mut bench.process.lines, line);
    assert_eq!((&line["target"], &line["by"]), (&"oncegate::audit".into(), &"token".into()), "{line}");
    bench.process.answer(&post("/v1/unseen", "k", "x"));
    assert!(ask("PUT", "info", TOKEN).ends_with("\r\n\r\noncegate::audit=info,info\n"));
    bench.process.answer("GET /seen HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let access = find(&mut bench.process.lines, |line| line["target"] == "oncegate::access");
    assert_eq!(access["route"], "everything-else", "a line that was not to be written: {access}");
    // Whatever is written, who changes it is.
    assert!(ask("PUT", "off,oncegate::audit=off", TOKEN).starts_with("HTTP/1.1 200"));
    assert!(ask("PUT", "error", TOKEN).starts_with("HTTP/1.1 200"));
    find(&mut bench.process.lines, |line| line["action"] == "log_level" && line["filter"] == "error");
}

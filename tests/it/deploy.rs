//! What `deploy/` ships: manifests that a cluster takes, alerts that fire, configurations that the program accepts, and no
//! metric that is not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use tempfile::TempDir;

use crate::servers::tools;

/// Where overlays mount what is secret.
const SECRETS: &str = "/run/secrets/oncegate/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `tests/deploy.py` made of `deploy/`; `None`, and it says so, where there is no kubectl.
#[expect(clippy::print_stderr, reason = "a test says what it skips")]
fn judged() -> Option<(TempDir, Output)> {
    tools();
    let paths = env::var_os("PATH").expect("a path");
    if !env::split_paths(&paths).any(|folder| folder.join("kubectl").is_file()) {
        eprintln!("skipped: no kubectl, which no package of Debian's brings in a version that reads deploy/");
        return None;
    }
    let out = tempfile::tempdir().expect("a folder");
    let judged = Command::new(root().join("target/tools/bin/python"))
        .arg(root().join("tests/deploy.py"))
        .arg(out.path())
        .output()
        .expect("Python");
    Some((out, judged))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The file with its secrets, which are there only in a cluster, and nothing else changed.
fn with_secrets(file: &Path) -> PathBuf {
    let folder = file.parent().expect("a folder");
    let text = fs::read_to_string(file).expect("a file");
    for named in text.split(SECRETS).skip(1) {
        let name = named.split('"').next().expect("an end");
        fs::write(folder.join(name), "a-secret-of-more-than-thirty-two-bytes").expect("a file");
    }
    let here = format!("{}/", folder.display());
    fs::write(file, text.replace(SECRETS, &here)).expect("a file");
    file.to_owned()
}

#[test]
fn manifests_alerts_and_dashboard_are_what_a_cluster_takes_and_configurations_what_the_program_takes() {
    let Some((out, judged)) = judged() else { return };
    assert!(judged.status.success(), "{}", said(&judged));
    for overlay in ["memory", "redis"] {
        let file = with_secrets(&out.path().join(format!("{overlay}.toml")));
        let checked = Command::new(env!("CARGO_BIN_EXE_oncegate"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .expect("the program");
        assert!(checked.status.success(), "{overlay}: {}", said(&checked));
    }
}

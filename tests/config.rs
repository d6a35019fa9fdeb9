//! Every file under `tests/config/`, and the shipped `proxy.toml`, against the messages that stand beside it.
//!
//! `valid/NAME.toml` has no mistake, and the warnings of `NAME.warnings`. `invalid/NAME.toml` has the mistakes of
//! `NAME.expected`. Run with `ONCEGATE_BLESS=1` to write the messages anew, then read the difference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails its test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use oncegate::config::{self, ConfigError};
use proptest::prelude::*;

#[test]
fn every_valid_file_has_its_warnings_and_no_mistake() {
    let files = files_in("valid");
    assert!(!files.is_empty());
    for path in files {
        compare(&path.with_extension("warnings"), &warnings_of(&path));
    }
}

#[test]
fn every_invalid_file_has_all_its_mistakes_reported() {
    let files = files_in("invalid");
    assert!(files.len() >= 20, "only {} files", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let Err(refused) = config::parse(&text, "proxy.toml") else {
            panic!("{} was accepted", path.display())
        };
        compare(&path.with_extension("expected"), &format!("{refused}\n"));
    }
}

#[test]
fn every_mistake_tells_how_to_mend_it() {
    for path in files_in("invalid") {
        let text = fs::read_to_string(&path).unwrap();
        let refused = config::parse(&text, "proxy.toml").unwrap_err().to_string();
        for line in refused.lines() {
            assert!(line.contains("; "), "{}: no mend in {line}", path.display());
        }
    }
}

#[test]
fn the_shipped_file_has_no_mistake_and_warns_of_its_store_only() {
    let warnings = warnings_of(&root().join("proxy.toml"));
    assert_eq!(warnings.lines().count(), 1, "{warnings}");
    assert!(warnings.contains("keys are forgotten at restart"), "{warnings}");
}

#[test]
fn the_shipped_file_says_what_it_can_carry() {
    let described = described(&shipped());
    assert!(
        described.contains("1,000,000 entries over 48h: 5.8 new keys per second, sustained"),
        "the longest ttl of a guarded route counts:\n{described}"
    );
}

#[test]
fn a_file_is_described_with_the_effective_settings_of_every_guarded_route() {
    let path = root().join("tests/config/valid/every_setting.toml");
    compare(&path.with_extension("described"), &described(&fs::read_to_string(&path).unwrap()));
}

#[test]
fn a_file_without_guarded_routes_is_described_without_a_rate() {
    let path = root().join("tests/config/valid/nothing_guarded.toml");
    let described = described(&fs::read_to_string(path).unwrap());
    assert!(described.contains("no route is guarded") && !described.contains("per second"), "{described}");
}

#[test]
fn what_the_shipped_file_comments_out_is_the_default() {
    let shipped = shipped();
    let settings = |text: &str| format!("{:?}", config::parse(text, "proxy.toml").unwrap().settings);
    let examples = [
        "documentation_url",
        "fingerprint_include",
        "fingerprint_exclude",
        "health_check",
        "hosts",
        "max_entries_per_caller",
        "tls",
        "strip_prefix",
        "request_headers",
        "response_headers",
        "cors_origins",
        "tls",
        "address",
        "proxy_protocol",
        "token_file",
    ];
    let mut uncommented = String::new();
    for line in shipped.lines() {
        let setting = line.strip_prefix("# ").filter(|rest| {
            rest.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ') && !examples.contains(&name))
        });
        writeln!(uncommented, "{}", setting.unwrap_or(line)).unwrap();
    }
    assert!(uncommented.lines().count() > 80 && uncommented != shipped, "nothing was uncommented");
    let waiting = |text: &str| text.replace("on_in_flight = \"reject\"", "on_in_flight = \"wait\"");
    assert_eq!(settings(&waiting(&uncommented)), settings(&waiting(&shipped)));
}

#[test]
fn what_the_shipped_file_says_of_redis_is_the_default() {
    let examples =
        ["url", "sentinel_master", "username", "password_file", "tls", "encryption_keys", "encrypt"];
    let shipped = shipped();
    let lines = shipped.lines().filter_map(|line| line.strip_prefix("#   "));
    let told: Vec<&str> = lines
        // Deeper are words on other settings.
        .filter(|line| !line.starts_with(' '))
        .filter(|line| line.split_once(" = ").is_none_or(|(name, _)| !examples.contains(&name)))
        .collect();
    assert!(told.len() > 12 && told.first() == Some(&"[store.redis]"), "{told:#?}");
    let shared = shipped.replace("kind = \"memory\"", "kind = \"redis\"\nurl = \"redis://127.0.0.1\"");
    let settings = |redis: &str| {
        let loaded = config::parse(&format!("{shared}\n{redis}"), "proxy.toml");
        format!("{:#?}", loaded.unwrap_or_else(|mistakes| panic!("{mistakes}")).settings)
    };
    assert_eq!(settings(&told.join("\n")), settings(""));
}

#[test]
fn what_the_shipped_file_writes_out_is_the_default_too() {
    let least = r#"
        admin.listen = "127.0.0.1:9090"
        upstreams.legacy.endpoints = ["http://127.0.0.1:9000"]
        routes = [
            { name = "charges", path = "/v1/charges", upstream = "legacy", ttl = "48h" },
            { name = "everything-else", path = "/{*rest}", upstream = "legacy", guarded = false },
        ]
    "#;
    let settings = |text: &str| format!("{:#?}", config::parse(text, "proxy.toml").unwrap().settings);
    assert_eq!(settings(&shipped()), settings(least));
}

#[test]
fn every_setting_that_is_read_stands_in_the_shipped_file() {
    let shipped = shipped();
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let told: BTreeSet<&str> = shipped.split(|letter| !is_part(letter)).collect();
    let mut read = BTreeSet::new();
    for source in sources(&root().join("src/config")) {
        let text = fs::read_to_string(source).unwrap();
        for verb in [".read(", ".require(", ".get(", ".section(", ".section_or_empty(", ".sections("] {
            let named = text.split(verb).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            read.extend(named.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()));
        }
    }
    assert!(read.len() > 90, "only {read:?}");
    let missing: Vec<&String> = read.iter().filter(|name| !told.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "proxy.toml says nothing of {missing:?}");
}

#[test]
fn what_the_documents_show_is_taken() {
    let shown = examples("README.md");
    let base = shown.first().unwrap();
    assert!(config::parse(base, "README.md").is_ok());
    let mut fragments = examples("docs/configuration.md");
    fragments.extend(examples("docs/traces.md"));
    assert!(fragments.len() >= 5, "{fragments:?}");
    for fragment in fragments {
        let mistakes = match config::parse(&format!("{base}\n{fragment}"), "configuration.md") {
            Ok(_) => continue,
            Err(ConfigError::Invalid { mistakes, .. }) => mistakes,
            Err(refused @ ConfigError::Unreadable { .. }) => panic!("{refused}"),
        };
        for mistake in mistakes.iter().map(ToString::to_string) {
            // The files that it names are not there.
            assert!(
                mistake.contains("cannot read") || mistake.contains("cannot be read"),
                "{mistake}\n{fragment}"
            );
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let binary = folder.path().join("binary.toml");
    let endless = folder.path().join("endless.toml");
    fs::write(&binary, [0xFF, 0xFE]).unwrap();
    fs::write(&endless, "#".repeat(2 << 20)).unwrap();
    for (path, reason, mend) in [
        (missing.as_path(), "No such file", "--config"),
        (binary.as_path(), "UTF-8", "save it as UTF-8"),
        (endless.as_path(), "larger than 1 MiB", "--config"),
        (folder.path(), "directory", "--config"),
    ] {
        let refused = config::load(path).unwrap_err().to_string();
        assert!(refused.contains(&*path.to_string_lossy()), "{refused}");
        assert!(refused.contains(reason) && refused.contains(mend), "{refused}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reading_panic(text in "[ -~\n]{0,200}") {
        read_safely(&text);
    }

    #[test]
    fn no_edit_of_a_good_file_makes_the_reading_panic(
        start in 0..8_000_usize,
        length in 0..40_usize,
        inserted in "[ -~\né\"'\\[\\]{}=.]{0,12}",
    ) {
        let mut text: Vec<char> = shipped().chars().collect();
        let start = start.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, inserted.chars());
        read_safely(&text.into_iter().collect::<String>());
    }
}

/// A text yields settings that can be described, or at least one mistake, each within the text.
fn read_safely(text: &str) {
    match config::parse(text, "proxy.toml") {
        Ok(loaded) => assert!(!config::describe(&loaded.settings).is_empty()),
        Err(ConfigError::Invalid { mistakes, .. }) => {
            assert!(!mistakes.is_empty());
            let lines = text.matches('\n').count() + 1;
            for mistake in mistakes {
                assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1, "{mistake}");
            }
        }
        Err(refused @ ConfigError::Unreadable { .. }) => panic!("{refused}"),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The TOML that a document shows.
fn examples(document: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn shipped() -> String {
    fs::read_to_string(root().join("proxy.toml")).unwrap()
}

fn described(text: &str) -> String {
    config::describe(&config::parse(text, "proxy.toml").unwrap().settings)
}

fn files_in(kind: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/config").join(kind);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files
}

/// Every source file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

fn warnings_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let loaded =
        config::parse(&text, "proxy.toml").unwrap_or_else(|refused| panic!("{}:\n{refused}", path.display()));
    loaded.warnings.iter().map(|warning| format!("proxy.toml:{warning}\n")).collect()
}

fn compare(expected: &Path, actual: &str) {
    if std::env::var_os("ONCEGATE_BLESS").is_some() {
        fs::write(expected, actual).unwrap();
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    assert_eq!(actual, wanted, "{} differs", expected.display());
}

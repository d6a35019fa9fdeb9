//! What docs/ says is all there is, and there is all that it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use oncegate::proxy::outcome::RequestOutcome;

const OUTCOMES: &str = include_str!("../../src/proxy/outcome.rs");
const GUARANTEE: &str = include_str!("../../docs/guarantee.md");

#[test]
fn every_outcome_is_explained_once_with_what_a_client_should_do() {
    let names: BTreeSet<&str> = OUTCOMES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once("=> \"")?.1.split_once('"'))
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(RequestOutcome::Executed.as_str()) && names.len() > 20, "{names:?}");
    let rows: Vec<Vec<&str>> = GUARANTEE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .filter(|row: &Vec<&str>| row.len() == 4)
        .collect();
    let explained: Vec<&str> = rows.iter().map(|row| row[0].trim_end_matches('`')).collect();
    let explained_once: BTreeSet<&str> = explained.iter().copied().collect();
    assert_eq!(explained_once, names, "left: docs/guarantee.md, right: src/proxy/outcome.rs");
    assert_eq!(explained.len(), names.len(), "an outcome has two rows: {explained:?}");
    for row in rows {
        assert!(row.iter().all(|cell| !cell.trim().is_empty()), "an empty cell: {row:?}");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "deploy/README.md"]
        .map(|name| root.join(name))
        .into();
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut links = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let targets =
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in
            targets.filter(|target| !target.contains("://") && !target.contains(char::is_whitespace))
        {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target} is not there", document.display());
            if !heading.is_empty() && file.extension().is_some_and(|extension| extension == "md") {
                let headings = headings(&fs::read_to_string(&file).unwrap());
                assert!(headings.contains(heading), "{}: no heading for {target}", document.display());
            }
            links += 1;
        }
    }
    assert!(links > 40, "only {links} links");
}

/// The anchors of a document's headings, as forges make them.
fn headings(text: &str) -> BTreeSet<String> {
    let titles =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches(['#', ' ']));
    let is_kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ' ');
    titles
        .map(|title| title.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-"))
        .collect()
}

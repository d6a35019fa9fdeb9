//! What docs/ says is all there is, and there is all that it says.

use std::collections::BTreeSet;

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

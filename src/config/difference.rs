//! Which settings two files write otherwise, by their paths.
//!
//! Values never leave here: a field that a route sets may hold a credential.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

/// What is written under each path.
type Outline = BTreeMap<Vec<String>, String>;

/// The paths whose values differ, a table that was added or removed as one; none if a text is not TOML.
pub(super) fn between(earlier: &str, later: &str) -> Vec<String> {
    let (earlier, later) = (outline(earlier), outline(later));
    let mut changes = BTreeSet::new();
    for path in earlier.keys().chain(later.keys()) {
        match (earlier.get(path), later.get(path)) {
            (Some(before), Some(now)) if before == now => {}
            (Some(_), Some(_)) => _ = changes.insert(path.join(".")),
            (None, _) => _ = changes.insert(format!("{} (added)", missing(path, &earlier))),
            (_, None) => _ = changes.insert(format!("{} (removed)", missing(path, &later))),
        }
    }
    changes.into_iter().collect()
}

/// The shortest part of `path` under which there is nothing in `outline`.
fn missing(path: &[String], outline: &Outline) -> String {
    let is_there = |part: &[String]| outline.keys().any(|known| known.starts_with(part));
    let parts = (1..=path.len()).filter_map(|length| path.get(..length));
    parts.into_iter().find(|part| !is_there(part)).unwrap_or(path).join(".")
}

fn outline(text: &str) -> Outline {
    let mut outline = Outline::new();
    if let Ok(document) = DeTable::parse(text) {
        add_table(&[], document.get_ref(), &mut outline);
    }
    outline
}

fn add_table(path: &[String], table: &DeTable<'_>, outline: &mut Outline) {
    for (key, value) in table {
        let path = [path, &[key.get_ref().to_string()]].concat();
        if let Some(table) = value.get_ref().as_table() {
            add_table(&path, table, outline);
        } else if let Some(tables) = tables(value.get_ref()) {
            for (index, table) in tables.into_iter().enumerate() {
                let name = table.get("name").and_then(|name| name.get_ref().as_str());
                let name = name.map_or_else(|| index.to_string(), str::to_owned);
                add_table(&[path.as_slice(), &[name]].concat(), table, outline);
            }
        } else {
            outline.insert(path, written(value.get_ref()));
        }
    }
}

/// The tables of an array that has nothing else.
fn tables<'a, 'b>(value: &'a DeValue<'b>) -> Option<Vec<&'a DeTable<'b>>> {
    let elements = value.as_array()?;
    let tables: Vec<_> = elements.iter().filter_map(|element| element.get_ref().as_table()).collect();
    (!tables.is_empty() && tables.len() == elements.len()).then_some(tables)
}

/// A value without its place in the file.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(|element| written(element.get_ref())).collect();
            format!("[{}]", elements.join(","))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn changes_are_named_by_their_paths_and_never_by_their_values() {
        let earlier = "[server]\nlisten = [\"a\", \"b\"] # one\nidle_timeout = \"1s\"\n\
                       [[routes]]\nname = \"old\"\npath = \"/old\"\n[[routes]]\nname = \"kept\"\nttl = \"1h\"\n\
                       request_headers = { set = { a = \"secret\" } }\n[log]\naccess = true\n";
        let later = "[server]\n\nlisten = [\"a\",\"b\"]\nwrite_timeout = \"1s\"\n\
                     [[routes]]\nname = \"kept\"\nttl = \"2h\"\nrequest_headers = { set = { a = \"other\" } }\n\
                     [[routes]]\nname = \"new\"\npath = \"/new\"\nhosts = []\n";
        assert_eq!(
            between(earlier, later),
            [
                "log (removed)",
                "routes.kept.request_headers.set.a",
                "routes.kept.ttl",
                "routes.new (added)",
                "routes.old (removed)",
                "server.idle_timeout (removed)",
                "server.write_timeout (added)",
            ]
        );
        assert_eq!(between(earlier, &format!("# a remark\n{earlier}")), Vec::<String>::new());
    }
}

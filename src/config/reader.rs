//! Reading one table of the document, key by key.
//!
//! serde stops at the first mistake; here every mistake is reported and the reading goes on with the fallback, which is
//! never used: a file with a mistake yields no settings. Each key that is asked for counts as known; what is left over at
//! the end is a mistake too.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::report::Report;
use super::wording;

/// A table that is being read.
pub(super) struct Section<'a> {
    /// What messages call it, as in `[server]`.
    title: String,
    /// `None` if the file does not have it: then all its settings have their defaults.
    table: Option<&'a DeTable<'a>>,
    at: usize,
    report: &'a Report<'a>,
    known: Vec<&'static str>,
}

/// A value under its key.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    key: &'static str,
    value: &'a Spanned<DeValue<'a>>,
    report: &'a Report<'a>,
}

/// A setting, and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    pub(super) value: T,
    origin: Origin,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    Default,
    Written { at: usize },
    Mistaken,
}

impl<T> From<T> for Setting<T> {
    fn from(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }
}

impl<T> Setting<T> {
    /// Where it is written; `None` for a default.
    pub(super) const fn at(&self) -> Option<usize> {
        match self.origin {
            Origin::Written { at } => Some(at),
            Origin::Default | Origin::Mistaken => None,
        }
    }

    /// What is made of the value, in its place.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Setting<U> {
        Setting { value: make(self.value), origin: self.origin }
    }

    /// Whether its own mistake was reported, so that comparing it with others would only make noise.
    pub(super) const fn is_mistaken(&self) -> bool {
        matches!(self.origin, Origin::Mistaken)
    }
}

impl<T> Setting<Vec<T>> {
    /// The elements as settings of their own, all of the place of the list.
    pub(super) fn each(self) -> Vec<Setting<T>> {
        let origin = self.origin;
        self.value.into_iter().map(|value| Setting { value, origin }).collect()
    }
}

impl<A, B> Setting<(A, B)> {
    /// Two settings that were written as one.
    pub(super) fn split(self) -> (Setting<A>, B) {
        (Setting { value: self.value.0, origin: self.origin }, self.value.1)
    }
}

impl Setting<u64> {
    /// A number of bytes, as what is held in memory counts them.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.value).unwrap_or(usize::MAX)
    }
}

impl<'a> Section<'a> {
    /// The document itself.
    pub(super) fn root(document: &'a Spanned<DeTable<'a>>, report: &'a Report<'a>) -> Self {
        Self::at("the file", document.get_ref(), document.span().start, report)
    }

    fn at(title: impl Into<String>, table: &'a DeTable<'a>, at: usize, report: &'a Report<'a>) -> Self {
        Self { title: title.into(), table: Some(table), at, report, known: Vec::new() }
    }

    /// The value under `key`, which counts as known from now on.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Item<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key).map(|value| Item { key, value, report: self.report })
    }

    /// The setting under `key`, or `fallback` if it is not written.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        fallback: impl Into<Setting<T>>,
        parse: impl FnOnce(&Item<'a>) -> Option<T>,
    ) -> Setting<T> {
        let fallback = fallback.into();
        let Some(item) = self.get(key) else { return fallback };
        match parse(&item) {
            Some(value) => Setting { value, origin: Origin::Written { at: item.at() } },
            None => Setting { origin: Origin::Mistaken, ..fallback },
        }
    }

    /// The value under `key`, which must be written; `mend` tells how.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        mend: &str,
        parse: impl FnOnce(&Item<'a>) -> Option<T>,
    ) -> Option<Setting<T>> {
        let item = self.get(key);
        if item.is_none() {
            self.mistake(format!("{} has no `{key}`; {mend}", self.title));
        }
        let item = item?;
        parse(&item).map(|value| Setting { value, origin: Origin::Written { at: item.at() } })
    }

    /// The table under `key`.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Self> {
        let item = self.get(key)?;
        let title = format!("[{}]", self.path_of(key));
        match item.value.get_ref().as_table() {
            Some(table) => Some(Self::at(title, table, item.at(), self.report)),
            None => item.refuse(format!("this is no table; write its settings under a line {title}")),
        }
    }

    /// The table under `key`, or an empty one if the file does not have it.
    pub(super) fn section_or_empty(&mut self, key: &'static str) -> Self {
        self.section(key).unwrap_or_else(|| Section {
            title: format!("[{}]", self.path_of(key)),
            table: None,
            at: 0,
            report: self.report,
            known: Vec::new(),
        })
    }

    /// The tables under `key`, each with its name, in the order of the file.
    pub(super) fn named_sections(&mut self, key: &'static str) -> Vec<(&'a Spanned<DeString<'a>>, Self)> {
        let Some(parent) = self.section(key) else { return Vec::new() };
        let mut sections = Vec::new();
        for (name, value) in parent.table.into_iter().flatten() {
            let title = format!("[{key}.{}]", name.get_ref());
            match value.get_ref().as_table() {
                Some(table) => sections.push((name, Self::at(title, table, value.span().start, self.report))),
                None => self.report.mistake(
                    name.span().start,
                    format!(
                        "`{key}.{}` is no table; write its settings under a line {title}",
                        name.get_ref()
                    ),
                ),
            }
        }
        sections.sort_by_key(|(name, _)| name.span().start);
        sections
    }

    /// The tables of the array under `key`, in the order of the file.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let Some(item) = self.get(key) else { return Vec::new() };
        let title = format!("[[{}]]", self.path_of(key));
        let mend = format!("start each one with a line {title}");
        let Some(values) = item.value.get_ref().as_array() else {
            item.refuse::<()>(format!("this is no list of tables; {mend}"));
            return Vec::new();
        };
        let table_of = |value: &'a Spanned<DeValue<'a>>| match value.get_ref().as_table() {
            Some(table) => Some(Self::at(title.clone(), table, value.span().start, self.report)),
            None => Item { value, ..item }.refuse(format!("this is no table; {mend}")),
        };
        values.iter().filter_map(table_of).collect()
    }

    /// What a table under `key` is called: `server.tls` within `[server]`. Within an array, TOML leaves the second brackets
    /// out.
    fn path_of(&self, key: &str) -> String {
        let own = self.title.trim_matches(['[', ']']);
        if own == self.title { key.to_owned() } else { format!("{own}.{key}") }
    }

    /// How many keys were asked for so far.
    pub(super) const fn mark(&self) -> usize {
        self.known.len()
    }

    /// The keys that were asked for since `mark` and are written, each with its place.
    pub(super) fn written_since(&self, mark: usize) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.known.iter().skip(mark).filter_map(|key| Some((*key, self.key_at(key)?)))
    }

    /// Where the table begins.
    pub(super) const fn place(&self) -> usize {
        self.at
    }

    /// Reports a mistake of the table as a whole.
    pub(super) fn mistake(&self, message: impl Into<String>) {
        self.report.mistake(self.at, message);
    }

    /// Reports a mistake of the value under `key`, which is written.
    pub(super) fn refuse<T>(&mut self, key: &'static str, message: impl AsRef<str>) -> Option<T> {
        self.get(key)?.refuse(message)
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                self.report.mistake(
                    key.span().start,
                    format!("`{name}` is not known in {}; {}", self.title, self.mend(name)),
                );
            }
        }
    }

    fn mend(&self, unknown: &str) -> String {
        let distance = |known: &&str| strsim::damerau_levenshtein(known, unknown);
        let nearest = self.known.iter().copied().min_by_key(distance);
        let similar: Vec<String> = match nearest.filter(|nearest| distance(nearest) <= unknown.len() / 3) {
            Some(nearest) => vec![format!("`{nearest}`")],
            None => {
                let longer = self.known.iter().filter(|known| known.contains(unknown));
                longer.map(|known| format!("`{known}`")).collect()
            }
        };
        if similar.is_empty() {
            return "remove it, or look up its name in the shipped proxy.toml".to_owned();
        }
        format!("did you mean {}?", wording::alternatives(&similar))
    }

    fn key_at(&self, key: &str) -> Option<usize> {
        self.table?.get_key_value(key).map(|(key, _)| key.span().start)
    }
}

impl<'a> Item<'a> {
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    pub(super) fn at(&self) -> usize {
        self.value.span().start
    }

    /// The elements, if it is a list.
    pub(super) fn elements(&self) -> Option<Vec<Self>> {
        let values = self.value().as_array()?;
        Some(values.iter().map(|value| Self { value, ..*self }).collect())
    }

    /// The names and values in the order of the file, if it is a table.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        let table = self.value().as_table()?;
        let mut entries: Vec<(&'a str, Self)> =
            table.iter().map(|(name, value)| (name.get_ref().as_ref(), Self { value, ..*self })).collect();
        entries.sort_by_key(|(_, entry)| entry.at());
        Some(entries)
    }

    /// Reports a mistake: what is wrong, and after a semicolon how to mend it.
    pub(super) fn refuse<T>(&self, message: impl AsRef<str>) -> Option<T> {
        self.report.mistake(self.at(), format!("`{}`: {}", self.key, message.as_ref()));
        None
    }

    /// Reports a warning.
    pub(super) fn warn(&self, message: impl AsRef<str>) {
        self.report.warning(self.at(), format!("`{}`: {}", self.key, message.as_ref()));
    }
}

//! A route's path, as the router wants it.
//!
//! Parameters are renamed by their position, so that two patterns that match the same paths have the same template.

/// What is wrong with a path that is no pattern.
pub(super) const NO_PATTERN: &str = "the path must start with \"/\" and be made of literal segments, \"{name}\", and at most a last \"{*rest}\"";
/// What is wrong with a guarded path whose own spelling is doubtful.
pub(super) const TOO_AMBIGUOUS: &str =
    "back ends may read the path in too many ways; write it in canonical form";

/// A path pattern in the syntax of `wayfind`.
pub(super) struct Pattern {
    /// Equal for patterns that match the same paths.
    pub(super) template: String,
    /// What a catch-all matches beside its template: parameters never match nothing.
    pub(super) root: Option<String>,
    pub(super) kind: Kind,
}

/// What a pattern leaves open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Nothing.
    Literal,
    /// Whole segments.
    Named,
    /// The rest of the path.
    CatchAll,
}

impl Pattern {
    pub(super) fn parse(path: &str) -> Result<Self, &'static str> {
        let segments = path.strip_prefix('/').ok_or(NO_PATTERN)?;
        let mut pattern = Self { template: String::new(), root: None, kind: Kind::Literal };
        for (position, segment) in segments.split('/').enumerate() {
            if pattern.kind == Kind::CatchAll {
                return Err(NO_PATTERN);
            }
            pattern.template.push('/');
            match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
                None if segment.contains(['{', '}', '<', '>']) => return Err(NO_PATTERN),
                None => pattern.template.push_str(segment),
                Some(name) => pattern.add_parameter(name, position)?,
            }
        }
        Ok(pattern)
    }

    fn add_parameter(&mut self, name: &str, position: usize) -> Result<(), &'static str> {
        let (rest, name) = name.strip_prefix('*').map_or((false, name), |name| (true, name));
        if name.is_empty() || name.contains(['{', '}', '<', '>', '*']) {
            return Err(NO_PATTERN);
        }
        if rest {
            self.root = Some(self.template.clone());
            self.template.push_str("<*rest>");
            self.kind = Kind::CatchAll;
        } else {
            self.template.push_str(&format!("<{position}>"));
            self.kind = Kind::Named;
        }
        Ok(())
    }
}

//! Which route serves a request, and which requests slip past a guarded one.
//!
//! Routes are found by the path as sent. The most specific pattern wins, whatever the order: segment by segment, literal text
//! goes before `{name}`, and `{name}` before `{*rest}`. Of routes with the same pattern the one that names the host more
//! exactly wins: with its port, by its name, by the longest wildcard, not at all. A second table, in which patterns are folded,
//! tells whether a path that found no guarded route may be read as one that does; where routes take prefixes off, a third one
//! tells the same of the paths that the upstream sees.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use thiserror::Error;
use wayfind::{Router, RouterBuilder};

use super::path;
use super::policy::Route;
use super::rewrite::without_prefix;
use pattern::{Kind, Pattern};

mod pattern;

/// Why routes cannot serve together.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RouteError {
    /// The path is no pattern.
    #[error("route {route:?}: {fault}")]
    Pattern {
        /// The route's name.
        route: String,
        /// What is wrong with it, and how to mend it.
        fault: &'static str,
    },
    /// Both match the same paths of the same host.
    #[error("routes {first:?} and {second:?} match the same paths; change one of them")]
    Tie {
        /// The name of the one that comes first in the file.
        first: String,
        /// The name of the other one.
        second: String,
    },
}

/// The routes of one listener, ready to be searched.
pub struct Routes {
    routes: Vec<Known>,
    by_host: HashMap<String, Table>,
    /// Under what follows the `*`.
    by_wildcard: HashMap<String, Table>,
    any_host: Table,
}

/// What the search needs to know of a route.
struct Known {
    kind: Kind,
    folded: String,
    guarded_methods: Vec<String>,
    enforces: bool,
    upstream: usize,
    strip_prefix: Option<String>,
}

/// What serves one host.
struct Table {
    front: Paths,
    /// The paths that an upstream sees, for those of which a route takes a prefix off.
    behind: HashMap<usize, Paths>,
}

/// Paths and the routes that they reach.
struct Paths {
    exact: Router<usize>,
    /// Each folded pattern with all the guarded routes that fold to it.
    lenient: Router<Vec<usize>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("count", &self.routes.len()).finish_non_exhaustive()
    }
}

impl Routes {
    /// Routes are known by their index in `routes`.
    ///
    /// # Errors
    ///
    /// [`RouteError`] for the first route whose path is no pattern, or the first two that tie.
    pub fn new(routes: &[Route]) -> Result<Self, RouteError> {
        let fault = |route: &Route, fault| RouteError::Pattern { route: route.name.clone(), fault };
        let mut patterns = Vec::with_capacity(routes.len());
        for route in routes {
            patterns.push(Pattern::parse(&route.path).map_err(|text| fault(route, text))?);
        }
        let table = |hosts: Hosts<'_>| Table::new(routes, &patterns, hosts);
        let named: BTreeSet<&String> = routes.iter().flat_map(|route| &route.hosts).collect();
        let (mut by_host, mut by_wildcard) = (HashMap::new(), HashMap::new());
        for name in named {
            match name.strip_prefix('*') {
                Some(suffix) => by_wildcard.insert(suffix.to_owned(), table(Hosts::Below(suffix))?),
                None => by_host.insert(name.clone(), table(Hosts::One(name))?),
            };
        }
        let any_host = table(Hosts::Others)?;
        let routes = routes.iter().zip(&patterns).map(|(route, pattern)| Known {
            kind: pattern.kind,
            folded: path::fold(&pattern.template).into_owned(),
            guarded_methods: guarded_methods(route),
            enforces: route.guard.as_ref().is_some_and(|policy| !policy.observes),
            upstream: route.upstream,
            strip_prefix: route.strip_prefix.clone(),
        });
        Ok(Self { routes: routes.collect(), by_host, by_wildcard, any_host })
    }

    /// The index of the route that serves `path` (as sent, without its query) on `host` (as in the request id: in lower case,
    /// without trailing dot and default port). A route that names a host without a port serves it on every port, and one
    /// that names `*.example.com` serves all names below, however deep.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        self.table(host).front.exact.search(path).map(|found| *found.data())
    }

    /// Whether a request that found the route `found` and runs unguarded there may reach another route that guards one of
    /// `methods` (the request's, and those of its override fields), if a back end reads the path leniently.
    ///
    /// A path that climbs above its root may reach anything beside an endpoint's base path.
    ///
    /// A route of nothing but literals names its one spelling: it is no side door. One with `{name}` segments is none to
    /// a route from which only case or a trailing slash in its own text tells it apart.
    #[must_use]
    pub fn side_door(&self, host: &str, path: &str, found: usize, methods: &[&str]) -> bool {
        self.leads_beside(host, path, found, methods, |_| true)
    }

    /// As [`Routes::side_door`], to a route that does not only observe.
    #[must_use]
    pub fn enforced_side_door(&self, host: &str, path: &str, found: usize, methods: &[&str]) -> bool {
        self.leads_beside(host, path, found, methods, |route| route.enforces)
    }

    fn leads_beside(
        &self,
        host: &str,
        path: &str,
        found: usize,
        methods: &[&str],
        counts: impl Fn(&Known) -> bool,
    ) -> bool {
        let Some(own) = self.routes.get(found) else { return false };
        let guards = |route: &Known| {
            let guarded =
                |method: &&str| route.guarded_methods.iter().any(|own| own.eq_ignore_ascii_case(method));
            counts(route) && methods.iter().any(guarded)
        };
        if own.kind == Kind::Literal || !self.routes.iter().any(guards) {
            return false;
        }
        let named = own.kind == Kind::Named && path::is_canonical(path).is_ok();
        let is_shut = |index: &usize| {
            let route = self.routes.get(*index);
            *index != found
                && route.is_some_and(|route| guards(route) && !(named && route.folded == own.folded))
        };
        let table = self.table(host);
        let reaches = |paths: &Paths, path: &str| {
            let shut = |reading: &str| path::climbs(reading) || paths.reaches(reading, is_shut);
            path::any_reading(path, shut).unwrap_or(true)
        };
        let behind = table.behind.get(&own.upstream);
        reaches(&table.front, path) || behind.is_some_and(|paths| reaches(paths, own.sent(path)))
    }

    fn table(&self, host: &str) -> &Table {
        let name = without_port(host);
        let named = self.by_host.get(host).or_else(|| self.by_host.get(name?));
        named.or_else(|| self.below(name.unwrap_or(host))).unwrap_or(&self.any_host)
    }

    /// The table of the longest wildcard that covers `name`.
    fn below(&self, name: &str) -> Option<&Table> {
        if self.by_wildcard.is_empty() {
            return None;
        }
        name.match_indices('.').find_map(|(dot, _)| self.by_wildcard.get(name.get(dot..)?))
    }
}

impl Known {
    /// The path that the upstream sees.
    fn sent<'a>(&self, path: &'a str) -> &'a str {
        self.strip_prefix.as_deref().and_then(|prefix| without_prefix(path, prefix)).unwrap_or(path)
    }
}

impl Table {
    /// Of two routes with equal patterns the one that names the host more exactly wins; else the table of one host could hide
    /// a guarded route for all hosts behind a catch-all.
    fn new(routes: &[Route], patterns: &[Pattern], hosts: Hosts<'_>) -> Result<Self, RouteError> {
        let mut winners: BTreeMap<&str, (Claim, usize)> = BTreeMap::new();
        for (index, (route, pattern)) in routes.iter().zip(patterns).enumerate() {
            let Some(naming) = hosts.named_by(route) else { continue };
            let root = pattern.root.as_deref().map(|root| (root, Claim { explicit: false, naming }));
            let own = (pattern.template.as_str(), Claim { explicit: true, naming });
            for (template, claim) in [own].into_iter().chain(root) {
                match winners.get(template) {
                    Some((other, first)) if *other == claim => return Err(tie(routes, *first, index)),
                    Some((other, _)) if *other > claim => {}
                    _ => _ = winners.insert(template, (claim, index)),
                }
            }
        }
        let winners: Vec<(&str, usize)> =
            winners.into_iter().map(|(template, (_, index))| (template, index)).collect();
        let mut behind = HashMap::new();
        for upstream in stripping(routes, &winners) {
            behind.insert(upstream, Paths::new(routes, &seen_by(upstream, routes, &winners))?);
        }
        Ok(Self { front: Paths::new(routes, &winners)?, behind })
    }
}

/// The upstreams of which a route takes a prefix off.
fn stripping(routes: &[Route], winners: &[(&str, usize)]) -> BTreeSet<usize> {
    let of_winners = winners.iter().filter_map(|(_, index)| routes.get(*index));
    of_winners.filter(|route| route.strip_prefix.is_some()).map(|route| route.upstream).collect()
}

/// What of the templates the upstream sees, guarded ones first.
fn seen_by<'a>(upstream: usize, routes: &[Route], winners: &[(&'a str, usize)]) -> Vec<(&'a str, usize)> {
    let sent = |&(template, index): &(&'a str, usize)| {
        let route = routes.get(index).filter(|route| route.upstream == upstream)?;
        let stripped = route.strip_prefix.as_deref().and_then(|prefix| without_prefix(template, prefix));
        Some((route.guard.is_none(), stripped.unwrap_or(template), index))
    };
    let mut seen: Vec<(bool, &str, usize)> = winners.iter().filter_map(sent).collect();
    seen.sort_unstable();
    seen.into_iter().map(|(_, template, index)| (template, index)).collect()
}

impl Paths {
    /// Of routes with the same template the first one is found; what guards is found in all of them.
    fn new(routes: &[Route], templates: &[(&str, usize)]) -> Result<Self, RouteError> {
        let mut exact = RouterBuilder::new();
        let mut known = BTreeSet::new();
        let mut folded: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for &(template, index) in templates {
            let route = routes.get(index);
            let name = route.map_or_else(String::new, |route| route.name.clone());
            let fault = |fault| RouteError::Pattern { route: name.clone(), fault };
            if known.insert(template) {
                exact.insert(template, index).map_err(|_| fault(pattern::NO_PATTERN))?;
            }
            let guarded = route.is_some_and(|route| route.guard.is_some());
            let mut add = |reading: &str| {
                let routes = folded.entry(path::fold(reading).into_owned()).or_default();
                routes.extend(guarded.then_some(index));
                false
            };
            if guarded {
                // What reads a request leniently may read its own table so, too.
                path::any_reading(template, add).map_err(|_| fault(pattern::TOO_AMBIGUOUS))?;
            } else {
                add(template);
            }
        }
        let mut lenient = RouterBuilder::new();
        for (template, guarded) in folded {
            // A reading that is no template cannot be matched by a reading of a request either.
            lenient.insert(&template, guarded).ok();
        }
        Ok(Self { exact: exact.build(), lenient: lenient.build() })
    }

    /// The exact table counts as well: folding can put an unguarded literal before a guarded `{name}`.
    fn reaches(&self, reading: &str, is_shut: impl Fn(&usize) -> bool) -> bool {
        let exact = |reading: &str| self.exact.search(reading).is_some_and(|found| is_shut(found.data()));
        let folded = path::fold(reading);
        exact(reading)
            || self.lenient.search(&folded).is_some_and(|found| found.data().iter().any(&is_shut))
            || (folded != reading && exact(&folded))
    }
}

/// Which of two equal templates wins: the one that was written as it stands before the root of a catch-all, then the one
/// whose route names the host more exactly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    explicit: bool,
    naming: Naming,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Naming {
    AnyHost,
    /// By a wildcard: the longer the more exact.
    Below(usize),
    AnyPort,
    Exact,
}

/// The hosts that a table serves.
#[derive(Clone, Copy)]
enum Hosts<'a> {
    /// This one.
    One(&'a str),
    /// Those that end so and are named no more exactly.
    Below(&'a str),
    /// Those that no route names.
    Others,
}

impl Hosts<'_> {
    /// How exactly `route` names these hosts, if it serves them.
    fn named_by(self, route: &Route) -> Option<Naming> {
        if route.hosts.is_empty() {
            return Some(Naming::AnyHost);
        }
        let has = |host: &str| route.hosts.iter().any(|own| own == host);
        match self {
            Self::One(host) if has(host) => Some(Naming::Exact),
            Self::One(host) => {
                let name = without_port(host);
                let by_name = name.is_some_and(has).then_some(Naming::AnyPort);
                by_name.or_else(|| longest_wildcard(route, name.unwrap_or(host)))
            }
            Self::Below(suffix) => longest_wildcard(route, suffix),
            Self::Others => None,
        }
    }
}

/// The longest of the route's wildcards that covers `name`, or all that ends so.
fn longest_wildcard(route: &Route, name: &str) -> Option<Naming> {
    let suffixes = route.hosts.iter().filter_map(|host| host.strip_prefix('*'));
    suffixes.filter(|suffix| name.ends_with(suffix)).map(|suffix| Naming::Below(suffix.len())).max()
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

fn guarded_methods(route: &Route) -> Vec<String> {
    route.guard.iter().flat_map(|guard| &guard.methods).map(ToString::to_string).collect()
}

fn tie(routes: &[Route], first: usize, second: usize) -> RouteError {
    let name = |index: usize| routes.get(index).map_or_else(String::new, |route| route.name.clone());
    RouteError::Tie { first: name(first), second: name(second) }
}

#[cfg(test)]
mod tests;

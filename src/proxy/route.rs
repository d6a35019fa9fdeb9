//! Which route serves a request, and which requests slip past a guarded one.
//!
//! Routes are found by the path as sent. The most specific pattern wins, whatever the order: segment by segment, literal text
//! goes before `{name}`, and `{name}` before `{*rest}`. A second table, in which patterns are folded, tells whether a path
//! that found no guarded route may be read as one that does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use thiserror::Error;
use wayfind::{Router, RouterBuilder};

use super::path;
use super::policy::Route;
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
    any_host: Table,
}

/// What the search needs to know of a route.
struct Known {
    kind: Kind,
    folded: String,
    guarded_methods: Vec<String>,
}

/// What serves one host.
struct Table {
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
        let table = |host: Option<&str>| Table::new(routes, &patterns, host);
        let hosts: BTreeSet<&String> = routes.iter().flat_map(|route| &route.hosts).collect();
        let mut by_host = HashMap::new();
        for host in hosts {
            by_host.insert(host.clone(), table(Some(host))?);
        }
        let any_host = table(None)?;
        let routes = routes.iter().zip(&patterns).map(|(route, pattern)| Known {
            kind: pattern.kind,
            folded: path::fold(&pattern.template).into_owned(),
            guarded_methods: guarded_methods(route),
        });
        Ok(Self { routes: routes.collect(), by_host, any_host })
    }

    /// The index of the route that serves `path` (as sent, without its query) on `host` (as in the request id: in lower case,
    /// without trailing dot and default port). A route that names a host without a port serves it on every port.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        self.table(host).exact.search(path).map(|found| *found.data())
    }

    /// Whether a request that found the route `found` and runs unguarded there may reach another route that guards one of
    /// `methods` (the request's, and those of its override fields), if a back end reads the path leniently.
    ///
    /// A route of nothing but literals names its one spelling: it is no side door. One with `{name}` segments is none to
    /// a route from which only case or a trailing slash in its own text tells it apart.
    #[must_use]
    pub fn side_door(&self, host: &str, path: &str, found: usize, methods: &[&str]) -> bool {
        let Some(own) = self.routes.get(found) else { return false };
        let guards = |route: &Known| {
            let guarded =
                |method: &&str| route.guarded_methods.iter().any(|own| own.eq_ignore_ascii_case(method));
            methods.iter().any(guarded)
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
        path::any_reading(path, |reading| table.reaches(reading, is_shut)).unwrap_or(true)
    }

    fn table(&self, host: &str) -> &Table {
        self.by_host.get(host).or_else(|| self.by_host.get(without_port(host)?)).unwrap_or(&self.any_host)
    }
}

impl Table {
    /// Of two routes with equal patterns the one that names the host wins; else the table of one host could hide a guarded
    /// route for all hosts behind a catch-all.
    fn new(routes: &[Route], patterns: &[Pattern], host: Option<&str>) -> Result<Self, RouteError> {
        let mut winners: BTreeMap<&str, (Claim, usize)> = BTreeMap::new();
        for (index, (route, pattern)) in routes.iter().zip(patterns).enumerate() {
            let Some(naming) = names(route, host) else { continue };
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
        let winners = winners.into_iter().map(|(template, (_, index))| (template, index));
        Self::build(routes, &winners.collect::<Vec<_>>())
    }

    fn build(routes: &[Route], winners: &[(&str, usize)]) -> Result<Self, RouteError> {
        let mut exact = RouterBuilder::new();
        let mut folded: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for &(template, index) in winners {
            let route = routes.get(index);
            let name = route.map_or_else(String::new, |route| route.name.clone());
            let fault = |fault| RouteError::Pattern { route: name.clone(), fault };
            exact.insert(template, index).map_err(|_| fault(pattern::NO_PATTERN))?;
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
    AnyPort,
    Exact,
}

fn names(route: &Route, host: Option<&str>) -> Option<Naming> {
    if route.hosts.is_empty() {
        return Some(Naming::AnyHost);
    }
    let host = host?;
    let has = |host: &str| route.hosts.iter().any(|own| own == host);
    if has(host) {
        return Some(Naming::Exact);
    }
    without_port(host).is_some_and(has).then_some(Naming::AnyPort)
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

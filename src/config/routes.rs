//! `[[routes]]`, each with its overrides of `[idempotency]`.

use std::collections::HashSet;

use std::time::Duration;

use super::idempotency::Idempotency;
use super::names::{host, label};
use super::pattern::{self, Segment};
use super::reader::{Item, Section, Setting};
use super::report::Report;
use super::upstreams::Named;
use super::values::{flag, list, some_of, text, text_as};
use super::{callers, changes, defaults, wording};
use crate::proxy::policy::{self, MinRate};

/// A route, and what is needed to judge it beside the others.
pub(super) struct Route {
    name: Setting<String>,
    path: Setting<String>,
    segments: Vec<Segment>,
    hosts: Setting<Vec<String>>,
    upstream: Option<usize>,
    /// The settings of a guarded route.
    pub(super) idempotency: Option<Idempotency>,
    /// Which of them are its own.
    own: Vec<&'static str>,
    upgrades: Vec<String>,
    strip_prefix: Option<String>,
    request_headers: policy::HeaderChanges,
    response_headers: policy::HeaderChanges,
    cors: Option<policy::Cors>,
}

/// The routes in the order of the file.
pub(super) fn routes(
    root: &mut Section<'_>,
    base: &Idempotency,
    upstreams: &[Named],
    report: &Report<'_>,
) -> Vec<Route> {
    let sections = root.sections("routes");
    if sections.is_empty() {
        root.mistake("there is no route; add a table [[routes]] with name, path and upstream");
    }
    let routes: Vec<Route> =
        sections.into_iter().filter_map(|section| route(section, base, upstreams, report)).collect();
    refuse_doubled_names(&routes, report);
    refuse_ties(&routes, report);
    for (index, named) in upstreams.iter().enumerate() {
        if !routes.iter().any(|route| route.upstream == Some(index)) {
            report.warning(
                named.at,
                format!("the upstream `{}` has no effect: no route names it; remove it", named.upstream.name),
            );
        }
    }
    routes
}

impl Route {
    /// The route as the edge needs it.
    pub(super) fn into_policy(
        self,
        upstreams: &[policy::Upstream],
        min_body_rate: Option<MinRate>,
    ) -> policy::Route {
        let upstream = self.upstream.unwrap_or_default();
        let attempt_timeout =
            upstreams.get(upstream).map_or(Duration::ZERO, |upstream| upstream.attempt_timeout);
        policy::Route {
            name: self.name.value,
            path: self.path.value,
            hosts: self.hosts.value,
            upstream,
            guard: self.idempotency.map(|rules| rules.into_policy(attempt_timeout, min_body_rate)),
            upgrades: self.upgrades,
            strip_prefix: self.strip_prefix,
            request_headers: self.request_headers,
            response_headers: self.response_headers,
            cors: self.cors,
        }
    }
}

/// `None` if a part is missing without which the route cannot be judged.
fn route(
    mut section: Section<'_>,
    base: &Idempotency,
    upstreams: &[Named],
    report: &Report<'_>,
) -> Option<Route> {
    let name = section.require("name", "give it one for the log, as in name = \"charges\"", text_as(label));
    let path = section.require(
        "path",
        "write one, as in path = \"/v1/charges\" or path = \"/{*rest}\"",
        text_as(segments_of),
    );
    let hosts = section.read(
        "hosts",
        Vec::new(),
        some_of(text_as(host), "name a host, or remove the setting to serve all"),
    );
    let upstream = section
        .require("upstream", "name one, as in upstream = \"legacy\"", |item| upstream(item, upstreams));
    let upgrades =
        section.read("upgrades", defaults::UPGRADES.map(str::to_owned).to_vec(), list(text_as(upgrade)));
    let guarded = section.read("guarded", true, flag);
    if let Some(item) = section.get("max_waiters") {
        item.refuse::<()>("one bound holds for all routes; move it to [idempotency]");
    }
    let mark = section.mark();
    let idempotency = Idempotency::read(&mut section, base.clone());
    let own = section.written_since(mark).map(|(key, _)| key).collect();
    if !guarded.value {
        for (key, at) in section.written_since(mark) {
            report.warning(
                at,
                format!("`{key}`: this has no effect on a route that is not guarded; remove it"),
            );
        }
    }
    let idempotency = guarded.value.then_some(idempotency);
    let cors = callers::cors(&mut section, report);
    let request_headers = changes::of_requests(&mut section, idempotency.as_ref());
    let response_headers = changes::of_responses(&mut section, idempotency.as_ref(), cors.as_ref());
    let strip_prefix = section.read("strip_prefix", None, |item| text_as(prefix)(item).map(Some));
    section.finish();
    let (path, segments) = path?.split();
    refuse_foreign_prefix(&strip_prefix, &path, report);
    Some(Route {
        name: name?,
        path,
        segments,
        hosts,
        upstream: upstream.map(|upstream| upstream.value),
        idempotency,
        own,
        upgrades: upgrades.value,
        strip_prefix: strip_prefix.value,
        request_headers,
        response_headers,
        cors,
    })
}

fn segments_of(path: &str) -> Result<(String, Vec<Segment>), String> {
    pattern::segments(path).map(|segments| (path.to_owned(), segments))
}

/// Literal segments that the upstream does not see.
fn prefix(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('/');
    if bare.is_empty() {
        return Err(format!("\"{text}\" is no prefix; write the segments to take off, as in \"/api\""));
    }
    if bare != text {
        return Err(format!("a prefix ends with its last segment; write \"{bare}\""));
    }
    let segments = pattern::segments(text)?;
    if !segments.iter().all(|segment| matches!(segment, Segment::Literal(_))) {
        return Err(format!(
            "\"{text}\" has a name in braces, and only literal text is taken off; write it out"
        ));
    }
    Ok(text.to_owned())
}

/// Each path that the pattern matches begins with the prefix.
fn refuse_foreign_prefix(prefix: &Setting<Option<String>>, path: &Setting<String>, report: &Report<'_>) {
    let Some((at, prefix)) = prefix.at().zip(prefix.value.as_ref()) else { return };
    let begins = path.value.strip_prefix(prefix.as_str());
    if !begins.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        report.mistake(
            at,
            format!(
                "`strip_prefix`: the path {} does not begin with \"{prefix}\"; write path = \"{prefix}{}\", or another prefix",
                path.value, path.value
            ),
        );
    }
}

fn upstream(item: &Item<'_>, upstreams: &[Named]) -> Option<usize> {
    let name = text(item)?;
    upstreams.iter().position(|named| named.upstream.name == name).or_else(|| {
        let known: Vec<String> =
            upstreams.iter().map(|named| format!("\"{}\"", named.upstream.name)).collect();
        match known.as_slice() {
            [] => item.refuse(format!("there is no upstream \"{name}\"; add a table [upstreams.{name}]")),
            known => item.refuse(format!(
                "there is no upstream \"{name}\"; write {}, or add a table [upstreams.{name}]",
                wording::alternatives(known)
            )),
        }
    })
}

fn upgrade(token: &str) -> Result<String, String> {
    let token = token.to_ascii_lowercase();
    match token.as_str() {
        "h2c" => Err("\"h2c\" would carry requests past Oncegate unread; remove it".to_owned()),
        token if token.parse::<http::Method>().is_err() => {
            Err(format!("\"{token}\" is no upgrade token; write one, as in \"websocket\""))
        }
        _ => Ok(token),
    }
}

fn refuse_doubled_names(routes: &[Route], report: &Report<'_>) {
    let mut seen = HashSet::new();
    for route in routes {
        if let Some(at) = route.name.at()
            && !seen.insert(&route.name.value)
        {
            report.mistake(
                at,
                format!(
                    "`name`: another route is named \"{}\" too; give each a name of its own",
                    route.name.value
                ),
            );
        }
    }
}

/// Two routes tie if they match the same paths of the same host. A route for named hosts goes before one for all hosts.
fn refuse_ties(routes: &[Route], report: &Report<'_>) {
    for (index, later) in routes.iter().enumerate() {
        let ties = |earlier: &&Route| {
            earlier.segments == later.segments
                && (earlier.hosts.value == later.hosts.value
                    || earlier.hosts.value.iter().any(|host| later.hosts.value.contains(host)))
        };
        if let Some(earlier) = routes.iter().take(index).find(ties)
            && let Some(at) = later.path.at()
        {
            report.mistake(
                at,
                format!(
                    "`path`: the routes \"{}\" and \"{}\" match the same requests ({} and {}); remove one, or give them \
                     different `hosts`",
                    earlier.name.value, later.name.value, earlier.path.value, later.path.value
                ),
            );
        }
    }
}

/// Warns of each of the `shared` settings that every guarded route sets anew. Beside a single one they are there for the next.
pub(super) fn warn_of_overridden(shared: &[(&str, usize)], routes: &[Route], report: &Report<'_>) {
    let guarded: Vec<&Route> = routes.iter().filter(|route| route.idempotency.is_some()).collect();
    if guarded.len() < 2 {
        return;
    }
    for (key, at) in shared {
        if guarded.iter().all(|route| route.own.contains(key)) {
            report.warning(
                *at,
                format!("`{key}`: every guarded route sets its own, so this has no effect; remove it"),
            );
        }
    }
}

/// Warns of each guarded route for some hosts beside one for all hosts that is not guarded and leads to the same place.
pub(super) fn warn_of_other_hosts(routes: &[Route], report: &Report<'_>) {
    let guarded = routes.iter().filter(|route| route.idempotency.is_some() && !route.hosts.value.is_empty());
    for route in guarded {
        let leads_past = |other: &&Route| {
            other.idempotency.is_none()
                && other.hosts.value.is_empty()
                && other.upstream == route.upstream
                && pattern::overlap(&other.segments, &route.segments)
        };
        if let Some(other) = routes.iter().find(leads_past)
            && let Some(at) = route.hosts.at()
        {
            report.warning(
                at,
                format!(
                    "`hosts`: a request that names another host reaches the same upstream through the route \"{}\", \
                     unguarded; give that one `hosts` too, or remove these",
                    other.name.value
                ),
            );
        }
    }
}

//! What cannot change while the process runs.
//!
//! Sockets are bound once and the store is opened once. Scope rules could change, but keys that are live under the old ones
//! would be forgotten, and their retries would run again: that is left to a restart, which an operator does on purpose.

use super::Settings;
use super::pattern::{self, Segment};
use crate::proxy::policy::{GuardPolicy, Route};
use crate::server;

/// What of `later` takes a restart, each as a sentence; nothing if all of it can come into force after `earlier`.
pub(super) fn fixed(earlier: &Settings, later: &Settings) -> Vec<String> {
    let mut reasons = of_listeners(&earlier.server, &later.server);
    let is_same_store = earlier.store == later.store
        && earlier.guard == later.guard
        && earlier.server.ready_needs_store == later.server.ready_needs_store;
    if !is_same_store {
        reasons.push("[store], its files, and `max_waiters`: the store is opened once; restart".to_owned());
    }
    if earlier.traces != later.traces {
        reasons.push("[traces]: where spans are sent is decided once; restart".to_owned());
    }
    reasons.extend(scopes(earlier, later));
    reasons
}

/// The scope rules of `later` by which keys that are live under `earlier` would be forgotten, each as a sentence.
pub(super) fn scopes(earlier: &Settings, later: &Settings) -> Vec<String> {
    let mut reasons = Vec::new();
    for before in &earlier.proxy.routes {
        for now in &later.proxy.routes {
            if may_take_over(before, now, earlier, later) {
                reasons.extend(other_scope(before, now));
            }
        }
    }
    reasons
}

fn of_listeners(earlier: &server::Params, later: &server::Params) -> Vec<String> {
    let changed = [
        (earlier.listeners != later.listeners, "`listen` and `listeners` of [server]"),
        (earlier.tls != later.tls, "`tls` of [server] (new contents of the same files are taken)"),
        (earlier.http2.is_some() != later.http2.is_some(), "`enabled` of [server.http2]"),
        (earlier.max_connections != later.max_connections, "`max_connections` of [server]"),
        (
            earlier.max_connections_per_address != later.max_connections_per_address,
            "`max_connections_per_address` of [server]",
        ),
        (earlier.admin != later.admin, "[admin] (new contents of the same files are taken)"),
    ];
    let changed = changed.into_iter().filter(|(is_changed, _)| *is_changed);
    changed.map(|(_, what)| format!("{what}: listeners are opened once; restart")).collect()
}

/// Whether `now` may serve what `before` has served. Of two routes that there were and are, the same one goes first.
pub(super) fn may_take_over(before: &Route, now: &Route, earlier: &Settings, later: &Settings) -> bool {
    let is_in = |route: &Route, settings: &Settings| {
        settings.proxy.routes.iter().any(|other| is_same_place(route, other))
    };
    is_same_place(before, now)
        || (share_a_host(before, now)
            && share_a_path(&before.path, &now.path)
            && !(is_in(before, later) && is_in(now, earlier)))
}

/// Whether two routes match the same requests, the ones before them left aside.
pub(super) fn is_same_place(one: &Route, other: &Route) -> bool {
    let has_same_hosts =
        one.hosts.len() == other.hosts.len() && one.hosts.iter().all(|host| other.hosts.contains(host));
    has_same_hosts && pattern::segments(&one.path) == pattern::segments(&other.path)
}

fn share_a_path(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (pattern::segments(one), pattern::segments(other)) else { return true };
    let forms = |segments: &[Segment]| match segments {
        // What takes the rest also matches where there is none.
        [root @ .., Segment::Rest] => vec![segments.to_vec(), root.to_vec()],
        _ => vec![segments.to_vec()],
    };
    forms(&one).iter().any(|one| forms(&other).iter().any(|other| pattern::overlap(one, other)))
}

fn share_a_host(one: &Route, other: &Route) -> bool {
    let may_be = |host: &str, pattern: &str| match pattern.strip_prefix('*') {
        Some(suffix) => host.contains(suffix),
        // A host without a port stands for all its ports.
        None => host.starts_with(pattern),
    };
    let share = |a: &String| other.hosts.iter().any(|b| may_be(a, b) || may_be(b, a));
    one.hosts.is_empty() || other.hosts.is_empty() || one.hosts.iter().any(share)
}

fn other_scope(before: &Route, now: &Route) -> Option<String> {
    let (Some(old), Some(new)) = (&before.guard, &now.guard) else { return None };
    if old.observes {
        // Nothing was promised of its keys.
        return None;
    }
    let rules = changed_rules(old, new);
    if rules.is_empty() {
        return None;
    }
    let rules: Vec<String> = rules.into_iter().map(|rule| format!("`{rule}`")).collect();
    let whose = if is_same_place(before, now) {
        format!("of the route `{}`", now.name)
    } else {
        format!("of the route `{}`, which may serve what `{}` has served", now.name, before.name)
    };
    Some(format!(
        "{} {whose}: keys that are live would be forgotten, and their retries would run again; restart, at a time when that \
         does not matter",
        rules.join(", ")
    ))
}

/// The scope rules that differ.
fn changed_rules(old: &GuardPolicy, new: &GuardPolicy) -> Vec<&'static str> {
    let rules = [
        (old.header != new.header, "header"),
        (old.key_rules.syntax != new.key_rules.syntax, "key_syntax"),
        (old.caller != new.caller, "caller"),
        (old.on_other_caller != new.on_other_caller, "on_other_caller"),
    ];
    rules.into_iter().filter(|(is_changed, _)| *is_changed).map(|(_, rule)| rule).collect()
}

#[cfg(test)]
mod tests {
    use super::fixed;
    use crate::config::{Settings, parse};

    /// Routes by their paths, each with hosts and a caller.
    fn settings(routes: &[(&str, &str, &str)]) -> Settings {
        let mut text = "[upstreams.u]\nendpoints = [\"http://127.0.0.1:9\"]\n".to_owned();
        for (index, (path, hosts, caller)) in routes.iter().enumerate() {
            let rules = if caller.is_empty() {
                "guarded = false".to_owned()
            } else {
                format!("caller = [\"cookie:{caller}\"]")
            };
            text += &format!(
                "[[routes]]\nname = \"r{index}\"\npath = \"{path}\"\nupstream = \"u\"\nhosts = [{hosts}]\n{rules}\n"
            )
            .replace("hosts = []\n", "");
        }
        parse(&text, "test").unwrap_or_else(|mistakes| panic!("{mistakes}")).settings
    }

    #[test]
    fn live_keys_are_not_handed_to_a_route_that_would_not_know_them() {
        let host = "\"a.example\"";
        for (before, now, is_fixed) in [
            (&[("/a", "", "x")][..], &[("/a", "", "y")][..], true),
            (&[("/a", "", "x")], &[("/b", "", "y")], false),
            (&[("/a", "", "x")], &[("/{any}", "", "y")], true),
            (&[("/a", "", "x")], &[("/{any}", "", "x")], false),
            (&[("/a", "", "x")], &[("/a/{*rest}", "", "y")], true),
            // One more, before another: what it serves was the other's.
            (&[("/{*rest}", "", "x")], &[("/{*rest}", "", "x"), ("/a", "", "y")], true),
            (&[("/{*rest}", "", "x")], &[("/{*rest}", "", "x"), ("/a", "", "x")], false),
            // One less: another serves it now.
            (&[("/{*rest}", "", "x"), ("/a", "", "y")], &[("/{*rest}", "", "x")], true),
            (&[("/{*rest}", "", ""), ("/a", "", "y")], &[("/{*rest}", "", "")], false),
            // Both were there before, in whatever order and by whatever name.
            (&[("/{*rest}", "", "x"), ("/{a}", "", "y")], &[("/{b}", "", "y"), ("/{*rest}", "", "x")], false),
            (&[("/a", "", "x")], &[("/a", "", "x"), ("/a", host, "y")], true),
            (&[("/a", host, "x")], &[("/a", "\"b.example\"", "y")], false),
            (&[("/a", host, "x")], &[("/a", "\"*.example\"", "y")], true),
            (&[("/a", "\"a.example:81\"", "x")], &[("/a", host, "y")], true),
            // The operator does without the promise, or begins with it.
            (&[("/a", "", "x")], &[("/a", "", "")], false),
            (&[("/a", "", "")], &[("/a", "", "x")], false),
        ] {
            let reasons = fixed(&settings(before), &settings(now));
            assert_eq!(!reasons.is_empty(), is_fixed, "{before:?} to {now:?}: {reasons:?}");
        }
    }
}

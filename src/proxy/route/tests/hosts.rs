//! Hosts, wildcards among them, and prefixes that upstreams do not see.

use std::cmp::Reverse;

use super::*;

#[test]
fn the_host_that_is_named_more_exactly_wins_among_equal_patterns_only() {
    let all = [
        passing("/{*rest}", &[]),
        passing("/{*rest}", &["*.test"]),
        passing("/{*rest}", &["*.a.test"]),
        passing("/{*rest}", &["x.a.test"]),
        passing("/{*rest}", &["x.a.test:81"]),
        guarded("/charges", &[]),
        guarded("/refunds", &["*.test"]),
    ];
    let table = [
        ("x.a.test:81", "/", 4),
        ("x.a.test", "/", 3),
        ("x.a.test:82", "/", 3),
        ("y.a.test", "/", 2),
        ("y.a.test:81", "/", 2),
        ("z.y.a.test", "/", 2),
        ("a.test", "/", 1),
        ("xa.test", "/", 1),
        ("test", "/", 0),
        ("a.test.evil", "/", 0),
        ("[::1]:81", "/", 0),
        ("", "/", 0),
        // A more specific path goes before a more exact host.
        ("x.a.test:81", "/charges", 5),
        ("y.a.test", "/charges", 5),
        ("x.a.test:81", "/refunds", 6),
        ("z.y.a.test", "/refunds", 6),
        ("test", "/refunds", 0),
    ];
    let mut order: Vec<usize> = (0..all.len()).collect();
    for _ in 0..2 {
        let shuffled: Vec<Route> = order.iter().map(|index| all[*index].clone()).collect();
        let routes = Routes::new(&shuffled).unwrap();
        for (host, path, expected) in table {
            assert_eq!(routes.find(host, path).map(|found| order[found]), Some(expected), "{host} {path}");
        }
        order.reverse();
    }
}

#[test]
fn a_wildcard_guards_the_names_below_it_against_every_spelling() {
    let all = [guarded("/charges", &["*.test"]), passing("/{*rest}", &["x.test"]), passing("/{*rest}", &[])];
    for (host, spelling, shut) in [
        ("x.test", "/Charges", true),
        ("x.test:81", "//charges", true),
        ("y.test", "/charges/", true),
        ("z.y.test", "/%63harges", true),
        ("test", "/Charges", false),
        ("x.other", "/Charges", false),
        ("x.test", "/other", false),
    ] {
        assert_eq!(is_refused(&all, host, spelling), shut, "{host} {spelling}");
    }
}

#[test]
fn of_a_route_s_own_wildcards_the_longest_counts() {
    let all = [passing("/{*rest}", &["*.test", "*.b.a.test"]), passing("/{*rest}", &["*.a.test"])];
    let routes = Routes::new(&all).unwrap();
    for (host, expected) in [("x.test", 0), ("x.a.test", 1), ("x.b.a.test", 0)] {
        assert_eq!(routes.find(host, "/"), Some(expected), "{host}");
    }
}

#[test]
fn the_same_wildcard_twice_ties() {
    let all = [passing("/{*a}", &["*.test"]), passing("/{*b}", &["x.test", "*.test"])];
    assert!(matches!(refused(&all), RouteError::Tie { .. }));
}

fn under(prefix: &str, route: Route) -> Route {
    Route { strip_prefix: Some(prefix.into()), ..route }
}

#[test]
fn what_an_upstream_sees_behind_a_prefix_is_no_side_door() {
    let table: &[(&[Route], &str, bool)] = &[
        // The one that is not guarded takes the prefix off.
        (
            &[guarded("/v1/charges", &[]), under("/open", passing("/open/{*rest}", &[]))],
            "/open/v1/charges",
            true,
        ),
        (
            &[guarded("/v1/charges", &[]), under("/open", passing("/open/{*rest}", &[]))],
            "/open/V1%2fcharges",
            true,
        ),
        (
            &[guarded("/v1/charges", &[]), under("/open", passing("/open/{*rest}", &[]))],
            "/open/v1/other",
            false,
        ),
        (&[guarded("/v1/{*rest}", &[]), under("/open", passing("/open/v1/{x}", &[]))], "/open/v1/x", false),
        // The guarded one does.
        (&[under("/api", guarded("/api/charges", &[])), passing("/{*rest}", &[])], "/charges", true),
        (&[under("/api", guarded("/api/charges", &[])), passing("/{*rest}", &[])], "/charges/", true),
        (&[under("/api", guarded("/api/charges", &[])), passing("/{*rest}", &[])], "/other", false),
        (&[under("/api", guarded("/api/{*rest}", &[])), passing("/{*rest}", &[])], "/anything", true),
        // Both do, and the more specific one stays open.
        (
            &[under("/api", guarded("/api/{*rest}", &[])), under("/api", passing("/api/open/{*rest}", &[]))],
            "/api/open/x",
            false,
        ),
        (
            &[under("/api", guarded("/api/{*rest}", &[])), under("/api", passing("/api/open/{*rest}", &[]))],
            "/api/open/%2e%2e/x",
            true,
        ),
        // What is written out is meant.
        (&[under("/api", guarded("/api/charges", &[])), passing("/charges", &[])], "/charges", false),
    ];
    for (all, path, shut) in table {
        assert_eq!(is_refused(all, "h", path), *shut, "{path} {all:?}");
    }
    let elsewhere = Route { upstream: 1, ..passing("/{*rest}", &[]) };
    let all = [under("/api", guarded("/api/charges", &[])), elsewhere];
    assert!(!is_refused(&all, "h", "/charges"), "another upstream has charges of its own");
}

#[test]
fn a_path_that_climbs_above_its_root_is_refused_since_it_may_leave_a_base_path() {
    let all = [guarded("/charges", &[]), passing("/{*rest}", &[])];
    for (path, shut) in [
        ("/../api/charges", true),
        ("/a/../../api/charges", true),
        ("/a//../../api/charges", true),
        ("/%2e%2e/api/charges", true),
        ("/..;x/api/charges", true),
        ("/..%2fapi/charges", true),
        ("/\\..\\api", true),
        ("/a/../b", false),
        ("/a/b/../../c", false),
        ("/..a/b", false),
    ] {
        assert_eq!(is_refused(&all, "h", path), shut, "{path}");
    }
}

/// How exactly `hosts` name `host`, in as few words as possible.
fn naming(hosts: &[&str], host: &str) -> Option<usize> {
    let name = host.split(':').next().unwrap_or_default();
    let one = |own: &&str| match own.strip_prefix('*') {
        Some(suffix) => name.ends_with(suffix).then_some(suffix.len()),
        None if *own == host => Some(1_000),
        None => (*own == name).then_some(999),
    };
    if hosts.is_empty() { Some(0) } else { hosts.iter().filter_map(one).max() }
}

const HOSTS: [&str; 6] = ["*.t", "*.b.t", "a.b.t", "a.b.t:81", "b.t", "a.t"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn hosts_are_found_as_the_reference_finds_them(
        all in prop::collection::vec((pattern_text(), prop::collection::vec(prop::sample::select(&HOSTS[..]), 0..3)), 1..10),
        asked in prop::collection::vec(("((a|b|c)\\.){0,3}t(:8[01])?", "(/[ab]{0,2}){1,3}"), 1..16),
    ) {
        let routes: Vec<Route> = all.iter().map(|(path, hosts)| passing(path, hosts)).collect();
        // Those that tie are refused, which is another test.
        let Ok(searched) = Routes::new(&routes) else { return Ok(()) };
        for (host, path) in asked {
            let ranked = all.iter().enumerate().filter_map(|(index, (pattern, hosts))| {
                Some((reference(pattern, &path)?, Reverse(naming(hosts, &host)?), index))
            });
            let best = ranked.min().map(|(_, _, index)| index);
            prop_assert_eq!(searched.find(&host, &path), best, "{} {} in {:?}", host, path, all);
        }
    }

    #[test]
    fn no_spelling_below_a_guarded_wildcard_runs_unguarded(
        rolls in prop::collection::vec(any::<u8>(), 0..16),
        host in "(a\\.|b\\.|c\\.){1,3}t(:8[01])?",
        exact in prop::sample::select(&HOSTS[..]),
    ) {
        let all = [guarded("/v1/charges", &["*.t"]), passing("/{*rest}", &[exact]), passing("/{*rest}", &[])];
        let routes = Routes::new(&all).unwrap();
        let path = mangle(&rolls);
        let is_shut = match routes.find(&host, &path) {
            Some(0) => true,
            Some(found) => routes.side_door(&host, &path, found, &["POST"]),
            None => false,
        };
        prop_assert!(is_shut, "{} {} runs unguarded", host, path);
    }
}

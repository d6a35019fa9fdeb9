mod hosts;

use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::guard::{OnInFlight, Rules};
use crate::idempotency::{BodyRule, FingerprintRule, KeyRules, KeySyntax, OnUnknown};
use crate::proxy::policy::{GuardPolicy, HeaderChanges, OnOtherCaller, OnStoreError, Patience};

fn guard() -> GuardPolicy {
    GuardPolicy {
        observes: false,
        header: Vec::new(),
        methods: vec![Method::POST, Method::PATCH],
        key_required: true,
        key_rules: KeyRules { syntax: KeySyntax::Lenient, max_length_bytes: 255 },
        caller: Vec::new(),
        on_other_caller: OnOtherCaller::Isolate,
        fingerprint: FingerprintRule::new(BodyRule::Raw, &[]),
        fingerprint_headers: Vec::new(),
        rules: Rules {
            ttl: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(1),
            on_in_flight: OnInFlight::Reject,
            on_unknown: OnUnknown::Reject,
            release_status: [].into(),
        },
        on_store_error: OnStoreError::Reject,
        max_request_body_bytes: 0,
        streams: false,
        patience: Patience { min_rate: None, max_silence: Duration::ZERO, max_total: Duration::ZERO },
        max_response_body_bytes: 0,
        retry_after: Duration::ZERO,
        allow_ambiguous_path: false,
        replay_set_cookie: false,
        strip_headers: Vec::new(),
        expires_header: None,
    }
}

fn passing(path: &str, hosts: &[&str]) -> Route {
    Route {
        name: path.into(),
        path: path.into(),
        hosts: hosts.iter().map(|host| (*host).into()).collect(),
        upstream: 0,
        guard: None,
        upgrades: Vec::new(),
        strip_prefix: None,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        cors: None,
    }
}

fn guarded(path: &str, hosts: &[&str]) -> Route {
    Route { guard: Some(guard()), ..passing(path, hosts) }
}

fn routes(patterns: &[&str]) -> Routes {
    let routes: Vec<Route> = patterns.iter().map(|pattern| passing(pattern, &[])).collect();
    Routes::new(&routes).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(routes: &[Route]) -> RouteError {
    Routes::new(routes).expect_err("these routes cannot serve together")
}

/// Whether a POST finds an unguarded route and is taken for another spelling of a guarded one.
fn is_refused(routes: &[Route], host: &str, path: &str) -> bool {
    let searched = Routes::new(routes).unwrap();
    let found = searched.find(host, path).unwrap_or_else(|| panic!("no route for {path:?}"));
    assert!(routes[found].guard.is_none(), "{path:?} is guarded");
    searched.side_door(host, path, found, &["POST"])
}

#[test]
fn the_most_specific_pattern_wins_whatever_the_order() {
    let patterns = [
        "/{*rest}",
        "/v1/{*rest}",
        "/v1/{x}/y",
        "/v1/{x}",
        "/v1/charges",
        "/v1/charges/",
        "/v1/charges/{id}/refund",
        "/files/",
        "/files/{*rest}",
    ];
    let table = [
        ("/", "/{*rest}"),
        ("/v1", "/{*rest}"),
        ("/v1/", "/v1/{*rest}"),
        ("/v1/a", "/v1/{x}"),
        ("/v1/a/y", "/v1/{x}/y"),
        ("/v1/a/z", "/v1/{*rest}"),
        ("/v1/a/y/z", "/v1/{*rest}"),
        ("/v1//y", "/v1/{*rest}"),
        ("/v1/charges", "/v1/charges"),
        ("/v1/charges/", "/v1/charges/"),
        ("/v1/charges/1", "/v1/{*rest}"),
        ("/v1/charges/y", "/v1/{x}/y"),
        ("/v1/charges2", "/v1/{x}"),
        ("/v1/charge", "/v1/{x}"),
        ("/v1/charges/1/refund", "/v1/charges/{id}/refund"),
        ("/v1/charges/1/refund/", "/v1/{*rest}"),
        ("/v1/charges//refund", "/v1/{*rest}"),
        ("/V1/charges", "/{*rest}"),
        ("/files/", "/files/"),
        ("/files/a/b", "/files/{*rest}"),
    ];
    let mut backwards = patterns;
    backwards.reverse();
    for order in [patterns, backwards] {
        let routes = routes(&order);
        for (path, expected) in table {
            assert_eq!(routes.find("h", path).map(|index| order[index]), Some(expected), "{path:?}");
        }
    }
}

#[test]
fn a_path_that_no_pattern_matches_finds_nothing() {
    let routes = routes(&["/v1/{x}", "/v2/{*rest}"]);
    for path in ["", "*", "/", "/v1", "/v1/", "/v1/a/b", "/v2", "v2/a"] {
        assert_eq!(routes.find("h", path), None, "{path:?}");
    }
}

#[test]
fn patterns_that_tie_are_refused_by_name() {
    for (one, other) in [("/a", "/a"), ("/{x}", "/{y}"), ("/a/{x}/b", "/a/{z}/b"), ("/{*a}", "/{*b}")] {
        let error = refused(&[passing(one, &[]), passing("/other", &[]), passing(other, &[])]);
        assert_eq!(error, RouteError::Tie { first: one.into(), second: other.into() });
    }
    let error = refused(&[passing("/a", &["x", "y"]), passing("/{*rest}", &[]), guarded("/a", &["y", "z"])]);
    assert_eq!(error.to_string(), "routes \"/a\" and \"/a\" match the same paths; change one of them");
}

#[test]
fn what_is_no_pattern_is_refused_and_never_panics() {
    for path in [
        "", "a", "/<a>", "/a<", "/a>", "/{}", "/{*}", "/{*a}/b", "/a{b}", "/{a}b", "/{a}{b}", "/{{a}}",
        "/{<}", "/{*<}",
    ] {
        let error = refused(&[passing(path, &[])]);
        assert_eq!(error, RouteError::Pattern { route: path.into(), fault: pattern::NO_PATTERN }, "{path:?}");
    }
}

#[test]
fn a_host_is_served_by_its_own_routes_and_those_for_all() {
    let all = [
        passing("/{*rest}", &["api"]),
        guarded("/v1/charges", &[]),
        passing("/v1/charges", &["free", "free:81"]),
        passing("/v1/{*rest}", &["free:81"]),
        passing("/v1/", &[]),
    ];
    let routes = Routes::new(&all).unwrap();
    let table = [
        ("api", "/", Some(0)),
        ("api", "/v1/charges", Some(1)),
        ("api:8080", "/v1/charges/x", Some(0)),
        ("other", "/", None),
        ("other", "/v1/charges", Some(1)),
        ("free", "/v1/charges", Some(2)),
        ("free:82", "/v1/charges", Some(2)),
        ("free:81", "/v1/charges", Some(2)),
        ("free:81", "/v1/x", Some(3)),
        ("free:82", "/v1/x", None),
        ("free:81", "/v1/", Some(4)),
        ("free:x", "/v1/charges", Some(1)),
        ("[::1]", "/v1/charges", Some(1)),
        ("", "/v1/charges", Some(1)),
    ];
    for (host, path, expected) in table {
        assert_eq!(routes.find(host, path), expected, "{host} {path}");
    }
}

#[test]
fn a_host_s_catch_all_is_a_side_door_to_a_guarded_route_for_all_hosts() {
    let all = [passing("/{*rest}", &["api"]), guarded("/v1/charges", &[])];
    assert!(is_refused(&all, "api", "/v1//charges"));
    let freed =
        [passing("/{*rest}", &["api"]), guarded("/v1/charges", &[]), passing("/v1/charges", &["api"])];
    assert!(!is_refused(&freed, "api", "/v1//charges"), "on this host nobody guards it");
}

#[test]
fn each_side_door_is_shut_and_nothing_else() {
    let shut = true;
    let open = false;
    // The guarded routes, the unguarded ones, and what becomes of a POST.
    let table: &[(&[&str], &[&str], &str, bool)] = &[
        (&["/v1/charges"], &["/{*rest}"], "/v1/charges2", open),
        (&["/v1/charges"], &["/{*rest}"], "/v1/refunds", open),
        (&["/v1/charges"], &["/{*rest}"], "/health", open),
        (&["/v1/charges"], &["/{*rest}"], "/v1/charges/1", open),
        (&["/v1/charges"], &["/{*rest}"], "/files/My%20Doc%20(1).pdf", open),
        (&["/v1/charges"], &["/{*rest}"], "/group%2Fproject/..a", open),
        (&["/v1/charges"], &["/{*rest}"], "/", open),
        (&["/v1/charges"], &["/{*rest}"], "/v1/charges/", shut),
        (&["/v1/charges"], &["/{*rest}"], "/v1/Charges", shut),
        (&["/v1/charges"], &["/{*rest}"], "/v1/%2525252563harges", shut),
        (&["/v1/charges"], &["/{*rest}"], "/v1/charges.json", shut),
        (&["/v1/charges"], &["/{*rest}"], "/v1/refunds.json", open),
        (&["/v1/charges"], &["/v1/charges.json", "/{*rest}"], "/v1/charges.json", open),
        (&["/v1/charges.json"], &["/{*rest}"], "/v1/charges", shut),
        (&["/v1/{id}/refund"], &["/{*rest}"], "/v1/1/refund.xml", shut),
        (&["/v1/charges"], &["/{*rest}"], "/index.php/v1/charges", shut),
        (&["/v1/charges"], &["/{*rest}"], "/index.php/v1/refunds", open),
        (&["/v1/charges.php"], &["/{*rest}"], "/v1/charges.php/x", shut),
        // A catch-all never names a spelling, its own root included.
        (&["/v1/charges"], &["/v1/charges/{*rest}"], "/v1/charges/", shut),
        (&["/v1/charges"], &["/v1/charges/{*rest}"], "/v1/charges/1/..", shut),
        (&["/v1/charges"], &["/v1/charges/{*rest}"], "/v1/charges/1", open),
        // A literal does.
        (&["/v1/charges"], &["/v1/charges/", "/{*rest}"], "/v1/charges/", open),
        (&["/v1/charges"], &["/v1/Charges", "/{*rest}"], "/v1/Charges", open),
        (&["/v1/charges"], &["/v1/Charges", "/{*rest}"], "/v1/CHARGES", shut),
        // What a parameter takes is not named.
        (&["/v1/charges"], &["/v1/{x}"], "/v1/Charges", shut),
        (&["/v1/charges"], &["/v1/{x}"], "/v1/charges.", shut),
        (&["/v1/charges"], &["/v1/charges/{id}"], "/v1/charges/.", shut),
        (&["/v1/charges"], &["/v1/charges/{id}"], "/v1/charges/;x", shut),
        (&["/v1/charges"], &["/v1/charges/{id}"], "/v1/charges/1", open),
        (&["/v1/{a}"], &["/v1/{a}/"], "/v1/x/", open),
        (&["/v1/{a}"], &["/v1/{a}/"], "/v1/x;/", shut),
        (&["/v1/{a}"], &["/V1/{a}"], "/V1/x", open),
        // A more specific unguarded route stays open, but not as a way out.
        (&["/v1/{*rest}"], &["/v1/public/{*rest}", "/{*rest}"], "/v1/public/x", open),
        (&["/v1/{*rest}"], &["/v1/public/{*rest}", "/{*rest}"], "/v1/public/%2e%2e/x", shut),
        (&["/v1/{*rest}"], &["/{*rest}"], "/v1", shut),
        // Folding must not put an unguarded literal before the guarded parameter.
        (&["/v1/{x}"], &["/v1/Health", "/{*rest}"], "//v1/health", shut),
        (&["/v1/{x}"], &["/v1/Health", "/{*rest}"], "/V1/health", shut),
        (&["/v1/{x}"], &["/v1/health/", "/{*rest}"], "//v1/health", shut),
        (&["/v1/{x}"], &["/v1/health/{*rest}", "/{*rest}"], "/v1/health/", shut),
        (&["/v1/{x}"], &["/v1/health", "/{*rest}"], "//v1/health", open),
        // A guarded pattern that is written oddly is read oddly.
        (&["/v1/caf%C3%A9"], &["/{*rest}"], "/v1/CAF%c3%89", shut),
        (&["/v1/caf%C3%A9"], &["/{*rest}"], "/v1/café", shut),
        (&["/v1/charges/"], &["/{*rest}"], "/v1/charges", shut),
        (&["/v1/{id}/refund"], &["/{*rest}"], "/v1/a%2Fb/refund/%2e", shut),
        (&["/"], &["/{*rest}"], "//", shut),
        (&["/"], &["/{*rest}"], "/x", open),
    ];
    for (shut_paths, open_paths, path, expected) in table {
        let mut all: Vec<Route> = shut_paths.iter().map(|path| guarded(path, &[])).collect();
        all.extend(open_paths.iter().map(|path| passing(path, &[])));
        assert_eq!(is_refused(&all, "h", path), *expected, "{shut_paths:?} {open_paths:?} {path:?}");
    }
}

#[test]
fn only_routes_that_guard_the_method_count() {
    let all = [guarded("/v1/charges", &[]), passing("/{*rest}", &[])];
    let routes = Routes::new(&all).unwrap();
    for (methods, expected) in [
        (&["GET"][..], false),
        (&["PUT"], false),
        (&["POST"], true),
        (&["PATCH"], true),
        (&["GET", "post"], true),
        (&[], false),
    ] {
        assert_eq!(routes.side_door("h", "/v1/charges/", 1, methods), expected, "{methods:?}");
    }
    assert!(!routes.side_door("h", "/v1/charges/", 7, &["POST"]), "no such route");
}

#[test]
fn a_route_that_guards_another_method_is_not_reached_through_itself() {
    let patch_only = GuardPolicy { methods: vec![Method::PATCH], ..guard() };
    let all = [guarded("/v1/charges", &[]), Route { guard: Some(patch_only), ..passing("/{*rest}", &[]) }];
    let routes = Routes::new(&all).unwrap();
    assert!(routes.side_door("h", "/v1/charges/", 1, &["POST"]));
    assert!(!routes.side_door("h", "/v1/x//y", 1, &["POST", "PATCH"]));
}

/// Random choices, drawn from a list that proptest shrinks.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[usize::from(self.0.next().copied().unwrap_or(0)) % of.len()]
    }
}

/// `/v1/charges`, as lenient back ends may read it, spelled by `rolls`.
fn mangle(rolls: &[u8]) -> String {
    const BETWEEN: [&str; 24] = [
        "/",
        "/",
        "/",
        "//",
        "/./",
        "/x/../",
        "\\",
        "%2f",
        "%5C",
        "/%2e/",
        "%c0%af",
        "/y/%2e%2E/",
        "%252f",
        "%u002f",
        "/x/..;/",
        "/;a/",
        "/.%20/",
        "/x/%c0%ae%c0%ae/",
        "\\.\\",
        "/%2e%252e/../",
        "%EF%BC%8F",
        "%e2%88%95",
        "%c2%a5",
        "/(S(x))/",
    ];
    const AFTER_SEGMENT: [&str; 19] = [
        "", "", "", "", "", ";", ";x", ";x=1", "%3bx", ".", "%2e", "%20", "%00", "%2500", "..", "%0a", "+",
        "%85", "%c2%a0",
    ];
    const END: [&str; 23] = [
        "", "", "", "/", "//", "/.", "%00", "%00.png", "%20", ".", "%3f", "%3Fa=b", "%23x", ";a/b", "%0a",
        "/x/..", "\\", "%2f", "/%2e", "%253f", ".json", ".json/", "%2exml",
    ];
    let mut dice = Dice(rolls.iter());
    let mut path = String::from(dice.pick(&[
        "/",
        "/",
        "/",
        "//",
        "/./",
        "/x/../",
        "/../",
        "/\\",
        "/%2e/",
        "/%2f",
        "/index.php/",
        "/a/b.cgi%2f",
        "/(S(x))/",
    ]));
    for (index, segment) in ["v1", "charges"].iter().enumerate() {
        if index > 0 {
            path.push_str(dice.pick(&BETWEEN));
        }
        for character in segment.chars() {
            let code = character as u32;
            let upper = character.to_ascii_uppercase();
            let spellings = [
                character.to_string(),
                character.to_string(),
                character.to_string(),
                upper.to_string(),
                format!("%{code:02x}"),
                format!("%{:02X}", upper as u32),
                format!("%25{code:02x}"),
                format!("%25{code:02X}"),
                format!("%{:02x}{:x}", b'%', code),
                format!("%u{code:04x}"),
                format!("%{:02x}%{:02x}", 0xC0 | code >> 6, 0x80 | code & 0x3F),
            ];
            path.push_str(dice.pick(&spellings.each_ref().map(String::as_str)));
        }
        path.push_str(dice.pick(&AFTER_SEGMENT));
    }
    path.push_str(dice.pick(&END));
    path
}

/// What `/{name}` and `/{*rest}` mean, in as few words as possible: the rank of each segment where the pattern matches.
fn reference(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let mut path = path.split('/').skip(1).peekable();
    let mut ranks = Vec::new();
    for segment in pattern.split('/').skip(1) {
        let text = path.next()?;
        match segment {
            "{*r}" => {
                ranks.push(2);
                return Some(ranks);
            }
            "{x}" if !text.is_empty() => ranks.push(1),
            literal if literal == text => ranks.push(0),
            _ => return None,
        }
    }
    path.peek().is_none().then_some(ranks)
}

fn pattern_text() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => "[ab]{1,2}", 2 => Just("{x}".to_owned())];
    let last = prop_oneof![Just(None), Just(Some("{*r}".to_owned())), Just(Some(String::new()))];
    (prop::collection::vec(segment, 0..4), last).prop_map(|(mut segments, last)| {
        segments.extend(last);
        format!("/{}", segments.join("/"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn routes_are_found_as_the_reference_finds_them(
        mut patterns in prop::collection::vec(pattern_text(), 1..12),
        paths in prop::collection::vec("(/[ab]{0,2}){1,4}", 1..20),
    ) {
        patterns.sort();
        patterns.dedup();
        let searched = routes(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
        for path in paths {
            let ranked = patterns.iter().enumerate().filter_map(|(index, pattern)| Some((reference(pattern, &path)?, index)));
            let best = ranked.min().map(|(_, index)| index);
            prop_assert_eq!(searched.find("h", &path), best, "{} in {:?}", path, patterns);
        }
    }

    #[test]
    fn no_spelling_of_a_guarded_path_runs_unguarded(rolls in prop::collection::vec(any::<u8>(), 0..16)) {
        let all = [guarded("/v1/charges", &[]), passing("/{*rest}", &[])];
        let routes = Routes::new(&all).unwrap();
        let path = mangle(&rolls);
        let found = routes.find("h", &path);
        prop_assert!(
            found == Some(0) || routes.side_door("h", &path, 1, &["POST"]),
            "{} runs unguarded", path
        );
    }

    #[test]
    fn no_ordinary_path_is_refused(path in "(/[a-z0-9_]{1,6}(\\.[a-z]{1,3})?(%20[a-z]|%40[a-z]|@[a-z]|%C3%A9)?){1,5}/?") {
        let all = [guarded("/v1/charges", &[]), passing("/{*rest}", &[])];
        prop_assert!(!is_refused(&all, "h", &path), "{}", path);
    }

    #[test]
    fn no_pattern_and_no_path_makes_the_search_panic(
        patterns in prop::collection::vec("/?([a-b{}<>*/]|%2e|é|;){0,8}", 0..6),
        path in any::<String>(),
        host in any::<String>(),
    ) {
        let all: Vec<Route> = patterns.iter().map(|pattern| guarded(pattern, &[])).collect();
        if let Ok(routes) = Routes::new(&all) {
            let _ = (routes.find(&host, &path), routes.side_door(&host, &path, 0, &["POST"]));
        }
    }
}

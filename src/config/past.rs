//! What was enforced and is not any more, while its keys may still be live.
//!
//! Two changes in a row must not do what one may not: a route that is taken out, or stops being enforced, can come back with
//! the scope rules that it had, and with other ones once its keys have run out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use super::fixed::{fixed, is_same_place, may_take_over, scopes};
use crate::guard::OnInFlight;
use crate::proxy::policy::{GuardPolicy, Route};

/// How many earlier settings are remembered. Beyond it what would add to them is refused.
const MAX_EARLIER: usize = 64;

/// Earlier settings, until the keys that were claimed under them have run out.
#[derive(Clone, Debug, Default)]
pub struct Past(Vec<Earlier>);

#[derive(Clone, Debug)]
struct Earlier {
    settings: Arc<Settings>,
    until: Instant,
}

impl Past {
    /// What of `later` takes a restart, each as a sentence; nothing if all of it can come into force after `in_force` and
    /// what was before.
    #[must_use]
    pub fn fixed(&self, in_force: &Settings, later: &Settings) -> Vec<String> {
        let mut reasons = fixed(in_force, later);
        let live = || self.live(Instant::now());
        for earlier in live() {
            for reason in scopes(&earlier.settings, later) {
                let told = format!("{reason} (they were claimed under earlier settings)");
                if !reasons.contains(&reason) && !reasons.contains(&told) {
                    reasons.push(told);
                }
            }
        }
        if live().count() >= MAX_EARLIER && leaves_keys(in_force, later) {
            reasons.push(format!(
                "guarded routes were changed {MAX_EARLIER} times while keys were live, and no more is remembered: wait until \
                 the `ttl` of some has run out, or restart, at a time when live keys do not matter"
            ));
        }
        reasons
    }

    /// `later` comes into force instead of `in_force`.
    pub fn replaced(&mut self, in_force: &Arc<Settings>, later: &Settings) {
        let now = Instant::now();
        self.0 = self.live(now).cloned().collect();
        let enforced = in_force.proxy.routes.iter().filter_map(enforced);
        let longest = enforced.map(|policy| longest_life(policy, in_force)).max();
        if let Some(longest) = longest.filter(|_| leaves_keys(in_force, later)) {
            // What lies too far ahead for the clock is as good as for ever.
            let until = now.checked_add(longest).unwrap_or(now + Duration::from_hours(24 * 365 * 30));
            self.0.push(Earlier { settings: in_force.clone(), until });
        }
    }

    fn live(&self, now: Instant) -> impl Iterator<Item = &Earlier> {
        self.0.iter().filter(move |earlier| earlier.until > now)
    }
}

/// The requests that were guarded by `earlier` and are not by `later`, as a sentence for each route.
#[must_use]
pub fn left_unguarded(earlier: &Settings, later: &Settings) -> Vec<String> {
    let mut sentences = Vec::new();
    for before in &earlier.proxy.routes {
        let Some(policy) = enforced(before) else { continue };
        let successors = later.proxy.routes.iter().filter(|now| may_take_over(before, now, earlier, later));
        for now in successors {
            let methods: Vec<&str> = match enforced(now) {
                Some(rules) => {
                    policy.methods.iter().filter(|m| !rules.methods.contains(m)).map(|m| m.as_str()).collect()
                }
                None => policy.methods.iter().map(|method| method.as_str()).collect(),
            };
            if !methods.is_empty() {
                sentences.push(format!(
                    "keys of the route `{}` are not looked at any more while it is so: `{}` does not enforce them for {}, and \
                     retries that it gets run again",
                    before.name,
                    now.name,
                    methods.join(", ")
                ));
            }
        }
    }
    sentences
}

/// Whether keys that live under `earlier` may outlive what `later` says of their routes.
fn leaves_keys(earlier: &Settings, later: &Settings) -> bool {
    earlier.proxy.routes.iter().any(|before| {
        let Some(policy) = enforced(before) else { return false };
        let life = longest_life(policy, earlier);
        let outlives = |now: &Route| enforced(now).is_none_or(|rules| longest_life(rules, later) < life);
        let mut successors =
            later.proxy.routes.iter().filter(|now| may_take_over(before, now, earlier, later));
        let has_gone = !later.proxy.routes.iter().any(|now| is_same_place(before, now));
        has_gone || successors.any(outlives)
    })
}

fn enforced(route: &Route) -> Option<&GuardPolicy> {
    route.guard.as_ref().filter(|policy| !policy.observes)
}

/// How long a key may live that is claimed by a request that has just begun: the request has to come and to wait, its attempt
/// has to end and to be recorded, and from then on counts its `ttl`.
fn longest_life(policy: &GuardPolicy, settings: &Settings) -> Duration {
    let rules = &policy.rules;
    let wait = match rules.on_in_flight {
        OnInFlight::Reject => Duration::ZERO,
        OnInFlight::Wait { timeout } => timeout,
    };
    let parts = [
        policy.patience.max_total,
        wait,
        rules.attempt_timeout,
        settings.guard.lease,
        settings.guard.settle_retry,
        rules.ttl.max(rules.attempt_timeout),
    ];
    parts.into_iter().fold(Duration::ZERO, Duration::saturating_add)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::config::parse;

    const ENFORCED: &str = "caller = [\"cookie:x\"]";
    const OTHER: &str = "caller = [\"cookie:y\"]";

    /// `/a` by these rules, or without any none at all; and `/{*rest}`.
    fn settings(rules: &str, rest: &str) -> Arc<Settings> {
        let mut text =
            "[idempotency]\nttl = \"1h\"\n[upstreams.u]\nendpoints = [\"http://127.0.0.1:9\"]\n".to_owned();
        for (name, path, rules) in [("a", "/a", rules), ("rest", "/{*rest}", rest)] {
            if !rules.is_empty() {
                text +=
                    &format!("[[routes]]\nname = \"{name}\"\npath = \"{path}\"\nupstream = \"u\"\n{rules}\n");
            }
        }
        Arc::new(parse(&text, "test").unwrap_or_else(|mistakes| panic!("{mistakes}")).settings)
    }

    /// Whether all of these can come into force, one after the other.
    fn can_follow(steps: &[Arc<Settings>]) -> Result<Past, Vec<String>> {
        let mut past = Past::default();
        for step in steps.windows(2) {
            let reasons = past.fixed(&step[0], &step[1]);
            if !reasons.is_empty() {
                return Err(reasons);
            }
            past.replaced(&step[0], &step[1]);
        }
        Ok(past)
    }

    #[tokio::test(start_paused = true)]
    async fn several_changes_do_not_do_what_one_may_not() {
        const OFF: &str = "guarded = false";
        let observed = |rules: &str| format!("mode = \"observe\"\n{rules}");
        let route = |rules: &str| settings(rules, OFF);
        for (steps, can) in [
            (vec![route(ENFORCED), route(OTHER)], false),
            (vec![route(ENFORCED), route(""), route(OTHER)], false),
            (vec![route(ENFORCED), route(""), route(""), route(ENFORCED)], true),
            (vec![route(ENFORCED), route(OFF), route(OTHER)], false),
            (vec![route(ENFORCED), route(OFF), route(ENFORCED), route(OFF), route(OTHER)], false),
            (vec![route(ENFORCED), route(&observed(ENFORCED)), route(&observed(OTHER)), route(OTHER)], false),
            (vec![route(&observed(ENFORCED)), route(&observed(OTHER)), route(OTHER)], true),
            // What another route has served.
            (vec![settings("", ENFORCED), settings(OFF, ENFORCED), settings(OTHER, ENFORCED)], false),
            (vec![settings("", ENFORCED), settings(OFF, ENFORCED), settings(ENFORCED, ENFORCED)], true),
            (vec![settings(OFF, ENFORCED), settings(OTHER, ENFORCED)], true),
        ] {
            let can_now = can_follow(&steps);
            assert_eq!(can_now.is_ok(), can, "{can_now:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_enforced_is_forgotten_when_its_keys_have_run_out() {
        const OFF: &str = "guarded = false";
        let short = settings(&format!("{ENFORCED}\nttl = \"1m\""), OFF);
        let (before, none, after) = (settings(ENFORCED, OFF), settings("", OFF), settings(OTHER, OFF));
        let mut past = can_follow(&[before, short.clone()]).expect("a shorter ttl can come");
        past.replaced(&short, &none);
        assert!(!past.fixed(&none, &after).is_empty());
        advance(Duration::from_mins(59)).await;
        assert!(!past.fixed(&none, &after).is_empty(), "entries keep the ttl that they were made with");
        advance(Duration::from_hours(1)).await;
        assert!(past.fixed(&none, &after).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_remembered_than_there_is_room_for_and_nothing_is_forgotten_instead() {
        let (on, off) = (settings(ENFORCED, "guarded = false"), settings("", "guarded = false"));
        let mut past = Past::default();
        for _ in 0..MAX_EARLIER {
            assert!(past.fixed(&on, &off).is_empty());
            past.replaced(&on, &off);
            past.replaced(&off, &on);
        }
        let reasons = past.fixed(&on, &off);
        assert!(reasons.len() == 1 && reasons[0].contains("no more is remembered"), "{reasons:?}");
        assert!(past.fixed(&on, &on).is_empty(), "what leaves no key is taken");
        advance(Duration::from_hours(2)).await;
        assert!(past.fixed(&on, &off).is_empty());
    }

    #[test]
    fn requests_that_are_guarded_no_more_are_named() {
        const OFF: &str = "guarded = false";
        let post = format!("{ENFORCED}\nmethods = [\"POST\"]");
        for (before, now, named) in [
            (settings(ENFORCED, OFF), settings("", OFF), Some(("rest", "POST, PATCH"))),
            (settings(ENFORCED, OFF), settings(OFF, OFF), Some(("a", "POST, PATCH"))),
            (settings(ENFORCED, OFF), settings("mode = \"observe\"", OFF), Some(("a", "POST, PATCH"))),
            (settings(ENFORCED, OFF), settings(&post, OFF), Some(("a", "PATCH"))),
            (settings("", ENFORCED), settings(OFF, ENFORCED), Some(("a", "POST, PATCH"))),
            (settings(ENFORCED, OFF), settings(ENFORCED, OFF), None),
            (settings(ENFORCED, OFF), settings(ENFORCED, ""), None),
            (settings(OFF, OFF), settings("", OFF), None),
        ] {
            let sentences = left_unguarded(&before, &now);
            let names = |(route, methods): (&str, &str)| {
                sentences.len() == 1
                    && sentences[0].contains(&format!("`{route}` does not enforce them for {methods},"))
            };
            assert!(named.map_or(sentences.is_empty(), names), "{named:?}: {sentences:?}");
        }
    }
}

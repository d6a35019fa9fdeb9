//! Warnings where a choice weakens the promise, or has no effect.
//!
//! Judges the settings that a guarded route ends up with, wherever they were written: what no route uses weakens nothing.

use std::collections::BTreeMap;

use http::header::SET_COOKIE;

use super::idempotency::{Fingerprint, Idempotency, LARGEST_BODY_BYTES};
use super::reader::Setting;
use super::report::Report;
use super::store::AnswerRoom;
use super::wording;
use crate::idempotency::OnUnknown;
use crate::proxy::policy::{CallerSource, OnStoreError};
use crate::server;

const WITHOUT_WAITING: &str =
    "this has no effect unless duplicates wait; write on_in_flight = \"wait\" beside it, or remove it";

/// Warns of what weakens the promise on a guarded route.
pub(super) fn weakened(settings: &Idempotency, report: &Report<'_>) {
    let warn_if = |chosen: bool, at: Option<usize>, message: &str| {
        if let Some(at) = at.filter(|_| chosen) {
            report.warning(at, message);
        }
    };
    warn_if(
        settings.observes.value,
        settings.observes.at(),
        "`mode`: with \"observe\" every request is forwarded, duplicates too, and what would have been refused or replayed is \
         only counted and logged: the promise does not hold here; write \"enforce\" once the figures are as you want them",
    );
    warn_if(
        settings.on_unknown.value == OnUnknown::Retry,
        settings.on_unknown.at(),
        "`on_unknown`: with \"retry\" a request whose outcome is unknown runs again, though the upstream may have acted; \
         keep \"reject\" unless the upstream bears duplicates",
    );
    warn_if(
        settings.on_store_error.value == OnStoreError::Pass,
        settings.on_store_error.at(),
        "`on_store_error`: with \"pass\" requests run without a claim while the store cannot be asked, and their \
         duplicates run too; keep \"reject\" unless the upstream bears duplicates",
    );
    warn_if(
        settings.fingerprint.value == Fingerprint::None,
        settings.fingerprint.at(),
        "`fingerprint`: with \"none\" another payload under a used key gets the first one's answer instead of 422; keep \
         \"body\", or \"json\" with the fields that matter",
    );
    warn_if(
        settings.caller.value.is_empty(),
        settings.caller.at(),
        "`caller`: nothing tells callers apart, so all of them share their keys, and whoever sends another's key and \
         payload gets the other's answer; name what tells them apart, as in [\"header:authorization\"]",
    );
    warn_if(
        settings.allow_ambiguous_path.value,
        settings.allow_ambiguous_path.at(),
        "`allow_ambiguous_path`: every spelling of a path has keys of its own, so a retry under another spelling runs \
         again; keep false unless clients need such paths",
    );
    warn_if(
        settings.expires_header.value == Some(http::header::EXPIRES),
        settings.expires_header.at(),
        "`expires_header`: `Expires` makes answers to POST look cacheable; name a field of its own, as in \
         \"Idempotency-Expires\"",
    );
    released_statuses(settings, report);
}

/// Refuses to tell callers apart by what no listener asks them for, and warns where one of several does not.
pub(super) fn judge_client_certificates(
    settings: &Idempotency,
    server: &server::Params,
    report: &Report<'_>,
) {
    let Some(at) = settings.caller.at() else { return };
    if !settings.caller.value.contains(&CallerSource::ClientCert) {
        return;
    }
    let is_asked_for = server.listeners.iter().any(|listener| listener.tls)
        && server.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    if !is_asked_for {
        report.mistake(
            at,
            "`caller`: no listener asks for client certificates, so \"client-cert\" tells nobody apart; name who vouches for \
             clients in `client_ca` of `tls`, or name another mark",
        );
    } else if let Some(cleartext) = server.listeners.iter().find(|listener| !listener.tls) {
        report.warning(
            at,
            format!(
                "`caller`: at {} there is no TLS, so \"client-cert\" tells none of the clients there apart, and whoever \
                 retries there what was sent with a certificate is another caller; let all listeners speak TLS, or name \
                 another mark",
                cleartext.address
            ),
        );
    }
}

fn released_statuses(settings: &Idempotency, report: &Report<'_>) {
    for status in &settings.release_status.value {
        let Some(at) = status.at else { continue };
        let code = status.code;
        match code {
            425 | 429 => {}
            200..300 => report.warning(
                at,
                format!(
                    "`release_status`: {code} says that the request succeeded, and releasing it runs EVERY retry again: \
                     this voids the promise; remove it"
                ),
            ),
            _ => report.warning(
                at,
                format!(
                    "`release_status`: {code} does not say that nothing was done, and after it a retry runs again; \
                     remove it unless this upstream never acts when it answers {code}"
                ),
            ),
        }
    }
}

/// Warns of each setting that has no effect on any guarded route on which it holds.
pub(super) fn without_effect<'a>(guarded: impl Iterator<Item = &'a Idempotency>, report: &Report<'_>) {
    let mut idle_at = BTreeMap::new();
    for settings in guarded {
        for (name, at, is_idle, reason) in conditional_settings(settings) {
            if let Some(at) = at {
                let (_, idle_everywhere, _) = idle_at.entry(at).or_insert((name, true, reason));
                *idle_everywhere &= is_idle;
            }
        }
    }
    for (at, (name, idle_everywhere, reason)) in idle_at {
        if idle_everywhere {
            report.warning(at, format!("`{name}`: {reason}"));
        }
    }
}

/// Warns of a bound on waiters where no route has any.
pub(super) fn unneeded_waiters<'a>(
    max_waiters: &Setting<usize>,
    mut guarded: impl Iterator<Item = &'a Idempotency>,
    report: &Report<'_>,
) {
    if let Some(at) = max_waiters.at()
        && !guarded.any(|settings| settings.waits.value)
    {
        report.warning(at, format!("`max_waiters`: {WITHOUT_WAITING}"));
    }
}

/// The settings that mean something only beside another one: each with its place, whether it means nothing, and what is said
/// then.
fn conditional_settings(settings: &Idempotency) -> [(&'static str, Option<usize>, bool, &'static str); 6] {
    let is_json = settings.fingerprint.value == Fingerprint::Json;
    let is_none = settings.fingerprint.value == Fingerprint::None;
    let without_json = "this has no effect unless a JSON body is compared; write fingerprint = \"json\" beside it, or remove it";
    [
        ("wait_timeout", settings.wait_timeout.at(), !settings.waits.value, WITHOUT_WAITING),
        ("fingerprint_include", settings.fingerprint_include.at(), !is_json, without_json),
        ("fingerprint_exclude", settings.fingerprint_exclude.at(), !is_json, without_json),
        (
            "fingerprint_headers",
            settings.fingerprint_headers.at(),
            is_none,
            "this has no effect while nothing is compared; write fingerprint = \"body\" beside it, or remove it",
        ),
        (
            "on_other_caller",
            settings.on_other_caller.at(),
            settings.caller.value.is_empty(),
            "this has no effect while nothing tells callers apart; name something in `caller`, or remove it",
        ),
        (
            "strip_headers",
            settings.strip_headers.at(),
            settings.strip_headers.value.contains(&SET_COOKIE) && !settings.replay_set_cookie.value,
            "Set-Cookie is not replayed unless replay_set_cookie = true; remove it from the list",
        ),
    ]
}

/// Warns of answers that may be kept but do not fit into this process, and refuses those that fit into no server.
pub(super) fn oversized_answers(settings: &Idempotency, room: &AnswerRoom, report: &Report<'_>) {
    let max = &settings.max_response_body;
    match room {
        AnswerRoom::Here(max_bytes) => {
            if let Some(at) = max.at().or_else(|| max_bytes.at())
                && max.value > max_bytes.value
            {
                report.warning(
                    at,
                    format!(
                        "`max_response_body`: an answer of {} never fits into the store, which keeps {}, and its retries get \
                         410; lower it, or raise `max_bytes` in [store]",
                        wording::size(max.value),
                        wording::size(max_bytes.value)
                    ),
                );
            }
        }
        AnswerRoom::Server { max_bytes } => {
            if let Some(at) = max.at()
                && max.value > *max_bytes
            {
                let most = wording::size(*max_bytes);
                report.mistake(
                    at,
                    format!(
                        "`max_response_body`: Redis takes no record of that size; write at most \"{most}\""
                    ),
                );
            }
        }
    }
}

/// Refuses request bodies that could not be read as the route wants: a JSON text in pieces, or what could never be held.
pub(super) fn refuse_bodies(settings: &Idempotency, max_buffered: &Setting<u64>, report: &Report<'_>) {
    let (streams, fingerprint, max) = (&settings.streams, &settings.fingerprint, &settings.max_request_body);
    if streams.value {
        if fingerprint.value == Fingerprint::Json
            && let Some(at) = streams.at()
        {
            report.mistake(
                at,
                "`request_body`: with \"stream\" the body is gone before it was read whole, so its JSON cannot be compared; \
                 write fingerprint = \"body\", or request_body = \"buffer\"",
            );
        }
        return;
    }
    if max.is_mistaken() || max_buffered.is_mistaken() {
        return;
    }
    if let Some(at) = max.at().filter(|_| max.value > LARGEST_BODY_BYTES) {
        report.mistake(
            at,
            format!(
                "`max_request_body`: {} is more than is held in one piece; write at most {}, or request_body = \"stream\"",
                wording::size(max.value),
                wording::size(LARGEST_BODY_BYTES)
            ),
        );
    } else if let Some(at) = max.at().or_else(|| max_buffered.at())
        && max.value > max_buffered.value
    {
        report.mistake(
            at,
            format!(
                "`max_request_body`: {} is more than `max_buffered_bytes` in [server] ({}), the room for all bodies \
                 together; lower the one or raise the other",
                wording::size(max.value),
                wording::size(max_buffered.value)
            ),
        );
    }
}

//! What a seed stands for: settings, weather, clients.

use std::num::NonZeroU32;
use std::time::Duration;

use oncegate::guard::{OnInFlight, Params, Rules};
use oncegate::idempotency::{
    CallerHash, Fingerprint, NotSentCause, OnUnknown, Presented, RequestId, UnknownCause,
};
use tokio::time::Instant;

use super::faulty::Weather;
use super::rng::Rng;

/// Longer than any run.
pub(crate) const LONG_TTL: Duration = Duration::from_secs(3_600);

pub(crate) const RELEASE_STATUS: [u16; 2] = [425, 429];

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) params: Params,
    pub(crate) ttl: Duration,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) keys: u64,
    pub(crate) max_entries: u64,
    /// Callers share their keys, and a stranger is refused.
    pub(crate) refuses_others: bool,
    pub(crate) weather: Vec<Weather>,
    pub(crate) clients: Vec<Client>,
    /// Hardly a connection to the upstream can be made.
    pub(crate) upstream_is_dead: bool,
    /// When the upstream and the owners begin to behave.
    pub(crate) calm_from: Instant,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) presented: Presented,
    /// Its body streams: the guard learns the payload only at its end.
    pub(crate) streams: bool,
    pub(crate) guard: usize,
    pub(crate) on_in_flight: OnInFlight,
    pub(crate) starts_after: Duration,
    pub(crate) tries: usize,
    pub(crate) rng: Rng,
}

/// What becomes of the process that holds a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Steady,
    /// Stopped between claim and dispatch, its renewals too.
    Pauses(Duration),
    /// Killed before it sent anything, or while the upstream was at work.
    DiesBefore,
    DiesAfter,
    /// The work is cancelled, and the permit dropped.
    DropsBefore,
    DropsAfter,
    PanicsBefore,
    PanicsAfter,
}

/// What the upstream does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Answers(u16),
    TooBig(u16),
    NeverSent(NotSentCause),
    /// Executed, and nobody learns of it.
    Loses(UnknownCause),
}

/// One attempt: connecting, then what happens, after how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempted {
    pub(crate) fate: Fate,
    pub(crate) connects_in: Duration,
    pub(crate) script: Script,
    /// If the body streams, it does not come to its end.
    pub(crate) upload_breaks: bool,
    pub(crate) takes: Duration,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng, on_unknown: OnUnknown) -> Self {
        let now = Instant::now();
        let params = Params {
            lease: rng.millis(900, 4_000),
            store_timeout: rng.millis(80, 300),
            settle_retry: rng.pick(&[Duration::from_secs(5), Duration::from_secs(600)]),
            max_pending_writes: rng.pick(&[2, 1_000, 1_000]),
            prune_interval: rng.millis(500, 20_000),
            max_entries_per_caller: None,
            max_waiters: usize::try_from(rng.between(1, 8)).unwrap(),
        };
        let upstream_is_dead = rng.percent(15);
        let mut weather = Vec::new();
        let mut until = now;
        let spells = if upstream_is_dead { rng.between(0, 1) } else { rng.between(0, 6) };
        for _ in 0..spells {
            until += rng.millis(200, 8_000);
            let faults_percent = rng.pick(&[0, 10, 30, 60, 100]);
            weather.push(Weather { until, faults_percent, drops_renewals: rng.percent(30) });
        }
        let keys = if upstream_is_dead { 1 } else { rng.between(1, 3) };
        let refuses_others = rng.percent(40);
        let ttl = Duration::from_secs(rng.pick(&[150, LONG_TTL.as_secs()]));
        let mut plan = Self {
            params,
            ttl,
            on_unknown,
            keys,
            max_entries: if rng.percent(90) { 100 } else { 1 },
            refuses_others,
            upstream_is_dead,
            weather,
            clients: Vec::new(),
            calm_from: if upstream_is_dead { until + Duration::from_secs(20) } else { until },
        };
        plan.clients = (0..rng.between(3, 24)).map(|_| plan.client(rng)).collect();
        plan
    }

    pub(crate) fn client(&self, rng: &mut Rng) -> Client {
        let key = rng.below(self.keys);
        let waits = OnInFlight::Wait { timeout: rng.millis(10, 15_000) };
        Client {
            presented: self.presented(rng, key),
            streams: rng.percent(35),
            guard: usize::from(!self.upstream_is_dead && rng.percent(40)),
            on_in_flight: if rng.percent(if self.upstream_is_dead { 90 } else { 50 }) {
                waits
            } else {
                OnInFlight::Reject
            },
            starts_after: match rng.below(20) {
                0..8 => Duration::ZERO,
                8 if self.ttl < LONG_TTL => self.ttl + rng.millis(0, 12_000),
                _ => rng.millis(0, 12_000),
            },
            tries: usize::try_from(rng.between(1, 8)).unwrap(),
            rng: rng.fork(),
        }
    }

    fn presented(&self, rng: &mut Rng, key: u64) -> Presented {
        let mut id = [0; 32];
        id[0] = u8::try_from(key).unwrap();
        let caller = if rng.percent(80) { 1 } else { 2 };
        let payload = if rng.percent(80) { 1 } else { 2 };
        let rule = if rng.percent(97) { NonZeroU32::MIN } else { NonZeroU32::MAX };
        Presented {
            id: RequestId::from_bytes(id),
            caller: self.refuses_others.then(|| CallerHash::from_bytes([caller; 32])),
            fingerprint: Some(Fingerprint::from_parts(rule, [payload; 16])),
            // Where callers are kept apart their ids are, too: whoever shares an id is one caller.
            counted_as: CallerHash::from_bytes([if self.refuses_others { caller } else { 1 }; 32]),
        }
    }

    pub(crate) fn rules(&self, client: &Client) -> Rules {
        Rules {
            ttl: self.ttl,
            attempt_timeout: self.ttl,
            on_in_flight: client.on_in_flight,
            on_unknown: self.on_unknown,
            release_status: RELEASE_STATUS.into(),
        }
    }

    pub(crate) fn attempt(&self, rng: &mut Rng) -> Attempted {
        let takes = if rng.percent(80) { rng.millis(1, 400) } else { rng.millis(400, 20_000) };
        let connects_in = if rng.percent(if self.upstream_is_dead { 20 } else { 90 }) {
            rng.millis(0, 20)
        } else {
            rng.millis(20, 8_000)
        };
        if Instant::now() >= self.calm_from {
            let (fate, script) = (Fate::Steady, Script::Answers(201));
            return Attempted { fate, connects_in, script, upload_breaks: false, takes };
        }
        let dead = self.upstream_is_dead && rng.percent(80);
        let fate = match if dead { 39 } else { rng.below(40) } {
            0..4 => Fate::Pauses(rng.millis(1, 12_000)),
            // So long that the key has been forgotten, and may have run again.
            11 if self.ttl < LONG_TTL => Fate::Pauses(self.ttl + rng.millis(1, 12_000)),
            4 => Fate::DiesBefore,
            5 | 6 => Fate::DiesAfter,
            7 => Fate::DropsBefore,
            8 => Fate::DropsAfter,
            9 => Fate::PanicsBefore,
            10 => Fate::PanicsAfter,
            _ => Fate::Steady,
        };
        let script = match if dead { 14 } else { rng.below(20) } {
            0..9 => Script::Answers(rng.pick(&[200, 201, 204])),
            9 => Script::Answers(rng.pick(&[402, 422])),
            10 => Script::Answers(rng.pick(&[500, 503])),
            11 | 12 => Script::Answers(rng.pick(&RELEASE_STATUS)),
            13 => Script::TooBig(rng.pick(&[200, 429])),
            14..17 => Script::NeverSent(rng.pick(&[NotSentCause::ConnectFailed, NotSentCause::Unwritten])),
            17 | 18 => Script::Loses(rng.pick(&[UnknownCause::ConnectionLost, UnknownCause::InvalidAnswer])),
            _ => Script::Loses(UnknownCause::AttemptTimeout),
        };
        Attempted { fate, connects_in, script, upload_breaks: rng.percent(25), takes }
    }
}

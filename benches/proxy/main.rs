//! `make bench`: what Oncegate costs beside nginx, as CPU time of the proxy per request.
//!
//! One interleaved run: in every round each row starts its server anew on loopback, is warmed up, and is then loaded by
//! wrk. The table has medians over the rounds. CPU time is the server's alone; wrk and the back end are not counted.
//! A row is void if any answer was not 2xx, a connection broke, or the back end was not called as often as the
//! row's name says: a benchmark of errors is none.
//!
//! Settings, from the environment: `BENCH_ROUNDS` (9; 0 measures memory only), `BENCH_SECONDS` (2, for each row in each
//! round), `BENCH_ANSWERS` (100000, stored to measure memory), `BENCH_CONNECTIONS` (10000, left idle to measure theirs),
//! `BENCH_REDIS_ONLY` (0; 1 measures the rows of the Redis store, and the memory store's that they are compared with).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table and the progress are the output")]

mod contenders;
mod hyper_server;
mod load;
#[allow(clippy::panic, unreachable_pub, reason = "it is the tests' own")]
#[path = "../../tests/servers/ports.rs"]
mod ports;
mod process;
mod redis;
mod report;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use contenders::{Backend, Contender, Keys};
use load::{CONNECTIONS, Load, Probe};
use redis::Redis;
use report::{Idle, Memory, Report, Sample};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Everything is over after this time, whatever hangs.
const MAX_RUN: Duration = Duration::from_secs(15 * 60);
const WARM_UP_SECONDS: u64 = 1;
const FILL_STEP_SECONDS: u64 = 1;
const MAX_FILL_STEPS: u64 = 60;
/// Connections are at rest after this time.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["serve", address] => hyper_server::serve(address, None),
        ["serve", address, upstream] => hyper_server::serve(address, Some(upstream)),
        _ if arguments.contains(&"--bench") => bench(),
        _ => {
            println!("a benchmark, not a test: run `make bench`");
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<bool> {
    process::stop_on_signals()?;
    process::stop_after(MAX_RUN);
    let rounds = setting("BENCH_ROUNDS", 9)?;
    let seconds = setting("BENCH_SECONDS", 2)?.max(1);
    let answers = setting("BENCH_ANSWERS", 100_000)?;
    let connections = setting("BENCH_CONNECTIONS", 10_000)?;
    let only_redis = setting("BENCH_REDIS_ONLY", 0)? > 0;

    let files = tempfile::tempdir()?;
    let backend = Backend::start(files.path())?;
    let mut report = Report::new(rounds, seconds);
    for round in 0..rounds {
        for (row, contender) in Contender::in_round(round) {
            if only_redis && !contender.concerns_redis() {
                continue;
            }
            eprint!("round {}/{rounds}: {:<48}\r", round + 1, contender.title());
            let sample = measure(contender, &backend, files.path(), seconds)?;
            report.add(row, sample);
        }
    }
    if only_redis {
        println!("{}", report.table());
        return Ok(!report.has_void_row());
    }
    eprintln!("{:70}", "memory");
    let memory = measure_memory(&backend, files.path(), answers);
    eprintln!("{:70}", "idle connections");
    let idle = measure_idle(&backend, files.path(), connections);
    println!("{}\n{}", report.table(), report::memory_lines(&memory, &idle));
    Ok(memory.is_ok() && idle.is_ok() && !report.has_void_row())
}

fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} must be a whole number, not `{text}`").into()),
        Err(_) => Ok(default),
    }
}

/// One row in one round.
fn measure(contender: Contender, backend: &Backend, files: &Path, seconds: u64) -> Result<Sample> {
    let redis = contender.on_redis().map(|_| Redis::start(files)).transpose()?;
    let round_trips = || redis.as_ref().map(Redis::round_trips).transpose();
    let server = contender.start(backend, redis.as_ref(), files)?;
    let probe = Probe::new(server.address, contender.path());
    if let Err(reason) = contender.check_answers(&probe) {
        return Ok(Sample::Void(reason.to_string()));
    }
    let load = Load {
        address: server.address,
        path: contender.path(),
        keys: contender.keys(),
        wire: contender.wire(),
        files,
    };
    if let Keys::Fixed(count) = contender.keys() {
        probe.post_each_of(count)?;
    }
    load.run("warm-", WARM_UP_SECONDS)?;

    let (executions, asked) = (backend.executions()?, round_trips()?);
    let cpu = server.cpu_time()?;
    let wrk = load.run("run-", seconds)?;
    let cpu = server.cpu_time()?.saturating_sub(cpu);
    let executions = backend.executions()?.saturating_sub(executions);
    let asked = round_trips()?.zip(asked).map(|(after, before)| after.saturating_sub(before));

    let fault = wrk.fault().or_else(|| contender.fault(wrk.requests, executions));
    Ok(match fault {
        Some(reason) => Sample::Void(reason),
        None => {
            let requests = wrk.requests as f64;
            let requests_per_second = requests / wrk.duration.as_secs_f64();
            // Those that wrk did not wait for have been carried out, too.
            let carried_out = wrk.requests.max(executions) as f64;
            Sample::Valid {
                cpu_micros: cpu.as_secs_f64() * 1e6 / requests,
                requests_per_second,
                round_trips: asked.map_or(0.0, |asked| asked as f64 / carried_out),
            }
        }
    })
}

/// By how much the proxy grows for each answer that it keeps.
fn measure_memory(backend: &Backend, files: &Path, answers: u64) -> Result<Memory> {
    let contender = Contender::FirstTime { access_log: false };
    let server = contender.start(backend, None, files)?;
    let load = Load {
        address: server.address,
        path: contender.path(),
        keys: Keys::Unique,
        wire: contender.wire(),
        files,
    };
    // Connections, stacks and pools are there before the first reading: what grows from then on is the store.
    load.run("warm-", WARM_UP_SECONDS)?;
    let (start, before) = (backend.executions()?, server.resident_bytes()?);
    let mut stored = 0;
    for step in 0..MAX_FILL_STEPS {
        if let Some(fault) = load.run(&format!("fill-{step}-"), FILL_STEP_SECONDS)?.fault() {
            return Err(fault.into());
        }
        stored = backend.executions()? - start;
        if stored >= answers {
            break;
        }
    }
    let after = server.resident_bytes()?;
    Ok(Memory {
        answers: stored,
        bytes_per_answer: after.saturating_sub(before) / stored.max(1),
        head_bytes: backend.head_bytes()?,
    })
}

/// By how much the proxy grows for each connection that is kept after a request.
fn measure_idle(backend: &Backend, files: &Path, connections: u64) -> Result<Idle> {
    let contender = Contender::Unguarded { access_log: false };
    let server = contender.start(backend, None, files)?;
    let probe = Probe::new(server.address, contender.path());
    // What the first connections bring along is there before the first reading.
    let mut kept = probe.connect_each(CONNECTIONS)?;
    std::thread::sleep(SETTLED_AFTER);
    let before = server.resident_bytes()?;
    kept.extend(probe.connect_each(connections)?);
    std::thread::sleep(SETTLED_AFTER);
    let grown = server.resident_bytes()?.saturating_sub(before);
    Ok(Idle { connections, bytes_per_connection: grown / connections.max(1) })
}

//! The table: medians over the rounds, ratios within each round, the goals beside.

use std::process::Command;

use crate::Result;
use crate::contenders::{Contender, ROWS};
use crate::hyper_server::BODY_BYTES;

/// What an answer may take in memory beside its body and its head as sent.
const MEMORY_GOAL_BYTES: i64 = 350;

/// What a connection may take that waits for its next request.
const IDLE_GOAL_BYTES: u64 = 10 * 1024;

/// One row in one round.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Valid { cpu_micros: f64, requests_per_second: f64, round_trips: f64 },
    Void(String),
}

/// What a stored answer takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) answers: u64,
    pub(crate) bytes_per_answer: u64,
    pub(crate) head_bytes: u64,
}

/// What an idle connection takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    pub(crate) connections: u64,
    pub(crate) bytes_per_connection: u64,
}

/// Everything measured.
#[derive(Debug)]
pub(crate) struct Report {
    rounds: u64,
    seconds: u64,
    rows: [Vec<Sample>; ROWS.len()],
}

impl Report {
    pub(crate) fn new(rounds: u64, seconds: u64) -> Self {
        Self { rounds, seconds, rows: Default::default() }
    }

    pub(crate) fn add(&mut self, row: usize, sample: Sample) {
        if let Some(samples) = self.rows.get_mut(row) {
            samples.push(sample);
        }
    }

    pub(crate) fn has_void_row(&self) -> bool {
        self.rows.iter().flatten().any(|sample| matches!(sample, Sample::Void(_)))
    }

    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "\n| | CPU per request | ratio to nginx | goal | requests/s |\n|---|---|---|---|---|\n",
        );
        let nginx = self.column(Contender::Nginx, |cpu, _, _| cpu);
        for contender in ROWS.into_iter().filter(|row| self.samples(*row).next().is_some()) {
            let title = contender.title();
            if let Some(reason) = self.void_reason(contender) {
                table.push_str(&format!("| {title} | void: {reason} | | | |\n"));
                continue;
            }
            let cpu = self.column(contender, |cpu, _, _| cpu);
            let rate = median(&self.column(contender, |_, rate, _| rate));
            let ratios: Vec<f64> = cpu.iter().zip(&nginx).map(|(cpu, nginx)| cpu / nginx).collect();
            table.push_str(&format!(
                "| {title} | {:.1} µs | {} | {} | {} |\n",
                median(&cpu),
                spread(&ratios),
                contender.goal().map(|goal| at_most(goal, median(&ratios))).unwrap_or_default(),
                thousands(rate.round() as u64),
            ));
        }
        format!("{table}\n{}\n{}\n", self.redis_table(), self.conditions())
    }

    /// What the rows that use Redis cost beside those that do the same in memory.
    fn redis_table(&self) -> String {
        let mut table = String::from(
            "| | round trips per request | goal | CPU, to the memory store's | goal |\n|---|---|---|---|---|\n",
        );
        for (contender, on_redis) in ROWS.into_iter().filter_map(|row| row.on_redis().map(|on| (row, on))) {
            let round_trips = median(&self.column(contender, |_, _, round_trips| round_trips));
            let cpu = self.column(contender, |cpu, _, _| cpu);
            let memory = self.column(on_redis.like, |cpu, _, _| cpu);
            let ratios: Vec<f64> = cpu.iter().zip(&memory).map(|(cpu, memory)| cpu / memory).collect();
            // What was under way at the edges of a run is not a hundredth.
            let rounded = (round_trips * 100.0).round() / 100.0;
            table.push_str(&format!(
                "| {} | {round_trips:.2} | {} | {} | {} |\n",
                contender.title(),
                at_most(on_redis.round_trips_goal, rounded),
                spread(&ratios),
                on_redis.cpu_goal.map(|goal| at_most(goal, median(&ratios))).unwrap_or_default(),
            ));
        }
        table
    }

    fn samples(&self, contender: Contender) -> impl Iterator<Item = &Sample> {
        ROWS.iter()
            .zip(&self.rows)
            .filter(move |(row, _)| **row == contender)
            .flat_map(|(_, samples)| samples)
    }

    fn void_reason(&self, contender: Contender) -> Option<&str> {
        self.samples(contender).find_map(|sample| match sample {
            Sample::Void(reason) => Some(reason.as_str()),
            Sample::Valid { .. } => None,
        })
    }

    fn column(&self, contender: Contender, pick: impl Fn(f64, f64, f64) -> f64) -> Vec<f64> {
        self.samples(contender)
            .map(|sample| match sample {
                Sample::Valid { cpu_micros, requests_per_second, round_trips } => {
                    pick(*cpu_micros, *requests_per_second, *round_trips)
                }
                Sample::Void(_) => f64::NAN,
            })
            .collect()
    }

    fn conditions(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        format!(
            "{cores} cores, {}; wrk with 64 connections; POST of 256 bytes, answer of {BODY_BYTES} bytes; medians of {} \
             interleaved rounds of {} s, the ratio's range behind it.",
            version_of_nginx(),
            self.rounds,
            self.seconds,
        )
    }
}

/// What answers and connections take.
pub(crate) fn memory_lines(memory: &Result<Memory>, idle: &Result<Idle>) -> String {
    format!("{}\n\n{}\n", memory_line(memory), idle_line(idle))
}

fn memory_line(memory: &Result<Memory>) -> String {
    let Memory { answers, bytes_per_answer, head_bytes } = match memory {
        Ok(memory) => *memory,
        Err(reason) => return format!("Memory per stored answer: void: {reason}"),
    };
    let rest = bytes_per_answer as i64 - head_bytes as i64 - BODY_BYTES as i64;
    let verdict = if rest <= MEMORY_GOAL_BYTES { "reached" } else { "missed" };
    format!(
        "Memory per stored answer: {} bytes = body {BODY_BYTES} + head {head_bytes} + {rest}, over {} answers \
         (goal: body + head + {MEMORY_GOAL_BYTES}: {verdict}).",
        thousands(bytes_per_answer),
        thousands(answers),
    )
}

fn idle_line(idle: &Result<Idle>) -> String {
    let Idle { connections, bytes_per_connection } = match idle {
        Ok(idle) => *idle,
        Err(reason) => return format!("Memory per idle connection: void: {reason}"),
    };
    let verdict = if bytes_per_connection <= IDLE_GOAL_BYTES { "reached" } else { "missed" };
    format!(
        "Memory per idle connection: {} bytes, over {} connections after a request on each (goal: {}: {verdict}).",
        thousands(bytes_per_connection),
        thousands(connections),
        thousands(IDLE_GOAL_BYTES),
    )
}

fn at_most(goal: f64, ratio: f64) -> String {
    // A void yardstick makes the ratio NaN, which reaches nothing.
    let verdict = if ratio <= goal { "reached" } else { "missed" };
    format!("≤ {goal:.2}: {verdict}")
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied().unwrap_or(f64::NAN);
    match sorted.get(middle.wrapping_sub(1)) {
        Some(lower) if sorted.len().is_multiple_of(2) => f64::midpoint(*lower, upper),
        _ => upper,
    }
}

fn spread(ratios: &[f64]) -> String {
    if ratios.is_empty() {
        return String::new();
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({least:.2}–{most:.2})", median(ratios))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn version_of_nginx() -> String {
    let said = Command::new("nginx").arg("-v").output().map(|output| output.stderr).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().trim_start_matches("nginx version: ").to_owned()
}

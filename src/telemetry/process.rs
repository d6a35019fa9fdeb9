//! What the system says of this process, under the names that Prometheus' clients share.

use std::fmt;

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI as _, KernelStats, ProcResult};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::metrics::gauge;

/// Reads `/proc` whenever the page is read. What it does not say is not on the page.
#[derive(Debug)]
pub struct ProcessNow;

struct Facts {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: i64,
    started_at: f64,
    open_files: usize,
    max_files: Option<u64>,
}

impl Collector for ProcessNow {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(facts) = Facts::read() else { return Ok(()) };
        encoder
            .encode_descriptor(
                "process_cpu_seconds",
                "CPU time in user and system.",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, f64, f64>(&facts.cpu_seconds, None)?;
        let encoder = &mut encoder;
        gauge(encoder, "process_resident_memory_bytes", "Memory in use", facts.resident_bytes)?;
        gauge(encoder, "process_virtual_memory_bytes", "Address space in use", facts.virtual_bytes)?;
        gauge(encoder, "process_open_fds", "File descriptors that are open", facts.open_files)?;
        if let Some(max_files) = facts.max_files {
            gauge(encoder, "process_max_fds", "How many file descriptors may be open", max_files)?;
        }
        gauge(encoder, "process_threads", "Threads", facts.threads)?;
        gauge(encoder, "process_start_time_seconds", "When the process started, since 1970", facts.started_at)
    }
}

impl Facts {
    fn read() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks_per_second = procfs::ticks_per_second() as f64;
        let max_files = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(max) => Some(max),
            LimitValue::Unlimited => None,
        };
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            virtual_bytes: stat.vsize,
            threads: stat.num_threads,
            started_at: KernelStats::current()?.btime as f64 + stat.starttime as f64 / ticks_per_second,
            open_files: process.fd_count()?,
            max_files,
        })
    }
}

//! The guard under paused time, over a memory store that can be told to fail.

mod bench;
mod operator;
mod pending;
mod permits;
mod streams;
mod take_over;
mod verdicts;
mod waiting;

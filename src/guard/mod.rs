//! Admission to the upstream: claim, hold, settle.
//!
//! Joins the core and the store. Knows nothing of HTTP, and spawns nothing that shutdown does not wait for.

mod params;

pub use params::{OnInFlight, Params, Rules};

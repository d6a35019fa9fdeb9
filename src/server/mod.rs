//! Listeners.

pub mod framing;
mod params;

pub use params::Params;

//! Listeners.

mod params;

pub use params::Params;

//! The HTTP edge.

pub mod policy;

//! The HTTP edge.

pub mod path;
pub mod policy;
pub mod route;

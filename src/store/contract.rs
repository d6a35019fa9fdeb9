//! A public conformance suite for stores.

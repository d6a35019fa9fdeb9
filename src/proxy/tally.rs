//! What other tasks know of a request that has a line in the access log, or is traced.
//!
//! Owns nothing where it has neither: then each count is a branch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the bytes of one exchange. Clones count as one.
#[derive(Clone, Debug, Default)]
pub struct Tally(Option<Arc<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    endpoint: Mutex<Option<Arc<str>>>,
}

impl Tally {
    /// A tally that counts.
    #[must_use]
    pub fn counting() -> Self {
        Self(Some(Arc::default()))
    }

    /// So many more bytes of the request's body have come.
    pub fn received(&self, bytes: usize) {
        if let Some(counts) = &self.0 {
            counts.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// So many more bytes of the answer's body are on their way to the client.
    pub fn sent(&self, bytes: usize) {
        if let Some(counts) = &self.0 {
            counts.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// The request is handed to a connection to this endpoint.
    pub fn goes_to(&self, endpoint: &Arc<str>) {
        if let Some(counts) = &self.0 {
            *counts.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(endpoint.clone());
        }
    }

    /// How many bytes have come.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |counts| counts.received_bytes.load(Ordering::Relaxed))
    }

    /// How many bytes were sent.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |counts| counts.sent_bytes.load(Ordering::Relaxed))
    }

    /// Where the request was sent last.
    #[must_use]
    pub fn endpoint(&self) -> Option<Arc<str>> {
        let counts = self.0.as_ref()?;
        counts.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Bytes of an answer that are held until a client has taken them.
//!
//! Owns what counts: the bodies of answers, from when they are recorded until the last byte was written, however long the
//! client takes. What was begun is never refused for want of room: it counts beyond the bound, and new work is refused
//! until there is room again.

use bytes::Bytes;

use super::quota::{Quota, Share};

/// Less than this is not counted: each connection has buffers of that size anyway, and small answers are many.
const LEAST_COUNTED_BYTES: usize = 16 * 1024;

/// How much of one answer is held.
#[derive(Debug)]
pub struct Held {
    quota: Quota,
    share: Option<Share>,
}

/// Bytes with their share.
struct Counted<B> {
    bytes: B,
    _share: Share,
}

impl Held {
    /// Nothing yet.
    pub(super) fn of(quota: &Quota) -> Self {
        Self { quota: quota.clone(), share: None }
    }

    /// What it counts in.
    pub(super) const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// So many bytes are held by now, `more` of them new.
    pub(super) fn grow(&mut self, total: usize, more: usize) {
        match &mut self.share {
            Some(share) => share.charge(more as u64),
            None if total < LEAST_COUNTED_BYTES => {}
            None => self.share = Some(self.quota.charge(total as u64)),
        }
    }

    /// `bytes`, which count until the last of them is dropped.
    pub(super) fn until_dropped<B>(self, bytes: B) -> Bytes
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        match self.share {
            Some(share) => Bytes::from_owner(Counted { bytes, _share: share }),
            None => Bytes::from_owner(bytes),
        }
    }

    /// As `until_dropped`, for what is `Bytes` already.
    pub(super) fn until_all_dropped(self, bytes: Bytes) -> Bytes {
        if self.share.is_some() { self.until_dropped(bytes) } else { bytes }
    }
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Counted<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_the_last_of_it_is_dropped() {
        let quota = Quota::new(20_000);
        let mut held = Held::of(&quota);
        held.grow(10_000, 10_000);
        assert_eq!(quota.taken(), 0, "small answers are not counted");
        held.grow(30_000, 20_000);
        held.grow(40_000, 10_000);
        assert_eq!(quota.taken(), 40_000, "what was begun counts beyond the bound");
        assert!(quota.is_full() && quota.take(1).is_none());
        let mut bytes = held.until_dropped(vec![1; 40_000]);
        let rest = bytes.split_off(39_999);
        drop(bytes);
        assert_eq!(quota.taken(), 40_000);
        assert_eq!(rest[..], [1]);
        drop(rest);
        assert_eq!(quota.taken(), 0);
        assert!(!quota.is_full());
    }
}

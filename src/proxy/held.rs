//! Bytes of an answer that are held until a client has taken them.
//!
//! Owns what counts: the bodies of answers, from when they are recorded until the last byte was written, however long the
//! client takes. What was begun is never refused for want of room: it counts beyond the bound, and new work is refused
//! until there is room again.

use bytes::Bytes;

use super::quota::{Quota, Share};
use crate::idempotency::Answer;

/// A recording or a replay of less than this is not counted: each connection has buffers of that size anyway, and small
/// answers are many.
const LEAST_COUNTED_BYTES: usize = 16 * 1024;

/// How much of one answer is held.
#[derive(Debug, Default)]
pub(super) struct Held(Option<Share>);

/// Bytes with their share.
struct Counted<B> {
    bytes: B,
    _share: Share,
}

impl Held {
    /// So many bytes are held by now, `more` of them new. They count in `quota`.
    pub(super) fn grow(&mut self, total: usize, more: usize, quota: &Quota) {
        match &mut self.0 {
            Some(share) => share.charge(more as u64),
            None if total < LEAST_COUNTED_BYTES => {}
            None => self.0 = Some(quota.charge(total as u64)),
        }
    }

    /// `bytes`, which count until the last of them is dropped.
    pub(super) fn until_dropped(self, bytes: Bytes) -> Bytes {
        match self.0 {
            Some(share) => counted(bytes, share),
            None => bytes,
        }
    }
}

/// `bytes`, which count as `share` until the last of them is dropped.
pub(super) fn counted(bytes: impl AsRef<[u8]> + Send + 'static, share: Share) -> Bytes {
    Bytes::from_owner(Counted { bytes, _share: share })
}

/// The bytes of `answer`, which count in `quota` until the last of them is dropped.
pub(super) fn shared(answer: Answer, quota: &Quota) -> Bytes {
    let length = answer.as_bytes().len();
    if length < LEAST_COUNTED_BYTES {
        return Bytes::from_owner(answer);
    }
    counted(answer, quota.charge(length as u64))
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
        let mut held = Held::default();
        held.grow(10_000, 10_000, &quota);
        assert_eq!(quota.taken(), 0, "small answers are not counted");
        held.grow(30_000, 20_000, &quota);
        held.grow(40_000, 10_000, &quota);
        assert_eq!(quota.taken(), 40_000, "what was begun counts beyond the bound");
        assert!(quota.is_full() && quota.take(1).is_none());
        let mut bytes = held.until_dropped(vec![1; 40_000].into());
        let rest = bytes.split_off(39_999);
        drop(bytes);
        assert_eq!(quota.taken(), 40_000);
        assert_eq!(rest[..], [1]);
        drop(rest);
        assert_eq!(quota.taken(), 0);
        assert!(!quota.is_full());
    }
}

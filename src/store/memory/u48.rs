//! A number in six bytes.
//!
//! Owns nothing but the layout: eight bytes that are aligned to eight would make every record larger, and there may be
//! millions. As milliseconds six bytes hold 8,900 years, as a count more answers than a process will ever see.

use std::hash::{Hash, Hasher};

/// A number below 2^48; larger ones are cut down to the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct U48([u8; 6]);

impl U48 {
    const MAX: u64 = (1 << 48) - 1;

    pub(super) const fn new(number: u64) -> Self {
        let [bytes @ .., _, _] = (if number < Self::MAX { number } else { Self::MAX }).to_le_bytes();
        Self(bytes)
    }

    pub(super) const fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

impl Hash for U48 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.get());
    }
}

#[cfg(test)]
mod tests {
    use super::U48;

    #[test]
    fn numbers_are_kept_and_too_large_ones_cut_down() {
        for number in [0, 1, 0x0102_0304_0506, U48::MAX] {
            assert_eq!(U48::new(number).get(), number);
        }
        assert_eq!(U48::new(U48::MAX + 1).get(), U48::MAX);
        assert_eq!(U48::new(u64::MAX).get(), U48::MAX);
    }
}

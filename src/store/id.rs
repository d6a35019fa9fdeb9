//! How an id is written where it is a text: in the keys of shared stores, and for operators.

use data_encoding::HEXLOWER;

use crate::idempotency::RequestId;

impl RequestId {
    /// The id as 64 hex digits, in lower case.
    #[must_use]
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(self.as_bytes())
    }

    /// The id that is written as these 64 hex digits, in lower case.
    #[must_use]
    pub fn from_hex(digits: impl AsRef<[u8]>) -> Option<Self> {
        let (digits, mut bytes) = (digits.as_ref(), [0; 32]);
        if HEXLOWER.decode_len(digits.len()) != Ok(bytes.len()) {
            return None;
        }
        HEXLOWER.decode_mut(digits, &mut bytes).ok()?;
        Some(Self::from_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_digits_in_lower_case_are_an_id() {
        let hex = "0f".repeat(32);
        assert_eq!(RequestId::from_hex(&hex), Some(RequestId::from_bytes([15; 32])));
        for wrong in ["", &hex[1..], &format!("{hex}0"), &hex.to_uppercase(), &hex.replace('f', "g")] {
            assert_eq!(RequestId::from_hex(wrong), None, "{wrong}");
        }
    }
}

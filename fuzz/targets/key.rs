//! The key header: lines of a field, one for each line of the input.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::idempotency::{Key, KeyRules, KeySyntax};

fuzz_target!(|input: &[u8]| {
    let read = |syntax, input: &[u8]| {
        Key::parse(input.split(|byte| *byte == b'\n'), KeyRules { syntax, max_length_bytes: 255 })
    };
    let lenient = read(KeySyntax::Lenient, input);
    if let Ok(strict) = read(KeySyntax::Strict, input) {
        assert!(lenient == Ok(strict), "what is strict is lenient, and the same key");
    }
    let Ok(Some(key)) = lenient else { return };
    let bytes = key.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= 255);
    assert!(bytes.iter().all(|byte| (b' '..=b'~').contains(byte)), "no other byte is in a key");
    let mut quoted = vec![b'"'];
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    assert!(read(KeySyntax::Strict, &quoted) == Ok(Some(key)), "quoted it is the same key");
});

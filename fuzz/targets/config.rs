//! The configuration: every file is taken or refused with sentences, and what is taken can be described.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    match oncegate::config::parse(input, "proxy.toml") {
        Ok(loaded) => {
            assert!(!oncegate::config::describe(&loaded.settings).is_empty());
            for warning in &loaded.warnings {
                assert!(!warning.to_string().is_empty());
            }
        }
        Err(mistakes) => {
            let text = mistakes.to_string();
            assert!(text.contains("proxy.toml"), "every mistake has its place: {text}");
        }
    }
});

//! Where the proxies under test keep their keys: in memory, or where `ONCEGATE_TEST_STORE` says.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::servers::store_section;

/// A proxy's store. Two proxies with the same share their keys, unless they keep them in memory.
#[derive(Clone, Debug, Default)]
pub enum TestStore {
    #[default]
    Memory,
    /// Servers that all tests use, each under a prefix of its own.
    Shared { kind: String, prefix: u64 },
}

impl TestStore {
    /// One that the environment asks for, empty.
    pub fn of_environment() -> Self {
        static PREFIX: AtomicU64 = AtomicU64::new(0);
        match env::var("ONCEGATE_TEST_STORE") {
            Ok(kind) if kind != "memory" => {
                Self::Shared { kind, prefix: PREFIX.fetch_add(1, Ordering::Relaxed) }
            }
            _ => Self::Memory,
        }
    }

    /// `[store]` with these lines, and what belongs to it.
    pub async fn toml(&self, lines: &str) -> String {
        match self {
            Self::Memory => format!("[store]\nkind = \"memory\"\n{lines}\n"),
            Self::Shared { kind, prefix } => {
                let section = store_section(kind, lines).await;
                let section = section.unwrap_or_else(|| panic!("there is no {kind} on this platform"));
                format!("{section}key_prefix = \"test-{prefix}:\"\n")
            }
        }
    }
}

//! Programs of other make that tests run.

use std::process::Command;
use std::sync::Once;

/// Sees to it that they are there; a test that needs them fails with a sentence if they cannot be had.
pub fn tools() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let root = env!("CARGO_MANIFEST_DIR");
        let installed = Command::new("tests/tools.sh").current_dir(root).output().expect("tests/tools.sh");
        let said = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "tests/tools.sh: {}", said.trim());
    });
}

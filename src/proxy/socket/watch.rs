//! Whether any byte of an exchange was written, as a proof.
//!
//! ```text
//! Free ──begin──▶ LookFirst | Unwritten ──first write──▶ Written
//!                     └──────────┴──seal──▶ Sealed: nothing was written, and nothing will be
//! ```
//!
//! Writing and sealing exclude each other in one atomic step, so that a write that comes late fails rather than void the proof.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

/// Not watched, as on the clients' side, or something was written: writes pass.
const FREE: u8 = 0;
/// Nothing was written, and the first write has to look first whether the peer is still there.
const LOOK_FIRST: u8 = 1;
/// Nothing was written.
const UNWRITTEN: u8 = 2;
/// Nothing was written, and no write passes any more.
const SEALED: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Watch(AtomicU8);

impl Watch {
    /// Begins to watch. Nobody may be writing.
    pub(super) fn begin(&self, looks_first: bool) {
        self.0.store(if looks_first { LOOK_FIRST } else { UNWRITTEN }, Ordering::Release);
    }

    /// Whether a write may pass; from then on something counts as written.
    pub(super) fn pass(&self, is_quiet: impl FnOnce() -> bool) -> io::Result<()> {
        let state = self.0.load(Ordering::Acquire);
        if state == FREE {
            return Ok(());
        }
        if state == LOOK_FIRST && !is_quiet() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let passed = state != SEALED
            && self.0.compare_exchange(state, FREE, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if passed { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }

    /// Whether nothing was written since the watch began: then nothing will be.
    pub(super) fn seal(&self) -> bool {
        let seal = |state| (state == LOOK_FIRST || state == UNWRITTEN || state == SEALED).then_some(SEALED);
        self.0.try_update(Ordering::AcqRel, Ordering::Acquire, seal).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(looks_first: bool) -> Watch {
        let watch = Watch::default();
        watch.begin(looks_first);
        watch
    }

    #[test]
    fn what_was_written_cannot_be_sealed() {
        for looks_first in [true, false] {
            let watch = begun(looks_first);
            watch.pass(|| true).unwrap();
            assert!(!watch.seal());
            watch.pass(|| false).expect("only the first write looks");
        }
        let unwatched = Watch::default();
        assert!(!unwatched.seal(), "what nobody watched proves nothing");
    }

    #[test]
    fn what_was_sealed_cannot_be_written() {
        for looks_first in [true, false] {
            let watch = begun(looks_first);
            assert!(watch.seal() && watch.seal());
            watch.pass(|| true).unwrap_err();
        }
    }

    #[test]
    fn a_first_write_that_has_to_look_does_not_pass_where_the_peer_has_left() {
        let watch = begun(true);
        watch.pass(|| false).unwrap_err();
        assert!(watch.seal());
        begun(false).pass(|| false).unwrap();
    }

    #[test]
    fn of_a_write_and_a_seal_at_the_same_time_one_fails() {
        for _ in 0..2_000 {
            let watch = begun(false);
            let (passed, sealed) = std::thread::scope(|scope| {
                let writing = scope.spawn(|| watch.pass(|| true).is_ok());
                let sealed = watch.seal();
                (writing.join().unwrap(), sealed)
            });
            assert!(passed != sealed);
        }
    }
}

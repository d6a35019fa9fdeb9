//! The watch over framing: in whatever pieces a connection's bytes come, the same is found.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oncegate::proxy::request::Framing;
use oncegate::server::framing::FramingWatch;

fuzz_target!(|input: &[u8]| {
    // The first byte says how long the pieces are.
    let Some((length, bytes)) = input.split_first() else { return };
    let pieces = bytes.chunks(usize::from(*length).max(1));
    let (found, read) = watch(pieces);
    let (at_once, read_at_once) = watch([bytes]);
    assert_eq!(found, at_once);
    assert_eq!(read, read_at_once, "as many bytes may be read");
});

/// What is found, and how many bytes may be read.
fn watch<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Framing>, usize) {
    let mut watch = FramingWatch::default();
    let mut read = 0;
    let mut found = Vec::new();
    for piece in pieces {
        let fed = watch.feed(piece);
        read += fed;
        found.extend(std::iter::from_fn(|| watch.next_finding()));
        if fed < piece.len() {
            break;
        }
    }
    (found, read)
}

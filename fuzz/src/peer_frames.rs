//! The frames between nodes, and between agent and child: on any bytes, however they are cut, the decoder does not panic, finds the
//! same frames and the same end, and keeps room for no more than twice what came.
#![no_main]

#[path = "../../lb-user/src/peer/frame.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the library, of which this needs a part")]
mod frame;

use libfuzzer_sys::fuzz_target;

use crate::frame::{Decoder, Frame, FrameError};

fuzz_target!(|input: &[u8]| {
    let [piece, bytes @ ..] = input else { return };
    let whole = frames(bytes, bytes.len().max(1));
    let cut = frames(bytes, usize::from(*piece) + 1);
    assert_eq!(whole, cut);
    let again: Vec<u8> = whole.0.iter().flat_map(Frame::encode).collect();
    assert!(bytes.starts_with(&again));
});

/// The frames in `bytes`, which come in pieces of this length, and why there are no more.
fn frames(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames, mut came) = (Decoder::new(limits), Vec::new(), 0);
    for mut piece in bytes.chunks(piece) {
        came += piece.len();
        loop {
            match decoder.take(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(piece.is_empty() && decoder.room() <= 2 * came);
    }
    (frames, None)
}

/// Kinds with long bodies, short ones and none.
fn limits(kind: u8) -> Option<usize> {
    match kind {
        1 | 2 => Some(17 << 20),
        3 => Some(33),
        4..=6 => Some(0),
        0 | 7.. => None,
    }
}

//! Frames: what goes over a stream of bytes, cut into pieces. What the kinds mean is in `message` and `channel`.
//!
//! ```text
//! length of what follows (u32) | kind (u8) | number (u64) | body          all numbers big endian
//! ```
//! The bytes may be hostile: nothing panics, a body is refused by its announced length before its first byte is kept, and a buffer
//! never has more than twice the bytes that came for it.

use thiserror::Error;

/// A piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Which of its kind.
    pub number: u64,
    /// What it says.
    pub body: Vec<u8>,
}

impl Frame {
    /// What comes before the body. A body is far shorter than 4 GiB: limits of kinds see to it.
    pub fn head(&self) -> [u8; HEAD] {
        let length = u32::try_from(self.body.len() + COUNTED).unwrap_or(u32::MAX);
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4] = self.kind;
        head[5..].copy_from_slice(&self.number.to_be_bytes());
        head
    }

    /// All of it.
    pub fn encode(&self) -> Vec<u8> {
        [&self.head()[..], &self.body].concat()
    }
}

/// Longest body of a kind in bytes; `None`: it may not come.
pub type Limits = fn(u8) -> Option<usize>;

/// Puts frames together from bytes as they come. After an error nothing more can be made of what follows.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    head: [u8; HEAD],
    /// How much of `head` has come.
    headed: usize,
    body: Vec<u8>,
}

impl Decoder {
    /// For frames within these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, head: [0; HEAD], headed: 0, body: Vec::new() }
    }

    /// Takes bytes off `input` up to the end of the frame, or all there are; then `None`.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let (now, rest) = input.split_at(input.len().min(HEAD - self.headed));
        self.head[self.headed..self.headed + now.len()].copy_from_slice(now);
        self.headed += now.len();
        *input = rest;
        let Some(length) = self.announced()? else { return Ok(None) };
        let (now, rest) = input.split_at(input.len().min(length - self.body.len()));
        self.reserve(now.len(), length);
        self.body.extend_from_slice(now);
        *input = rest;
        if self.body.len() < length {
            return Ok(None);
        }
        let [_, _, _, _, kind, number @ ..] = self.head;
        self.headed = 0;
        Ok(Some(Frame { kind, number: u64::from_be_bytes(number), body: std::mem::take(&mut self.body) }))
    }

    /// Length of the body that is coming, once that is known.
    pub fn announced(&self) -> Result<Option<usize>, FrameError> {
        if self.headed < HEAD {
            return Ok(None);
        }
        let [a, b, c, d, kind, ..] = self.head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let length = length.checked_sub(COUNTED).ok_or(FrameError::TooShort { length })?;
        let limit = (self.limits)(kind).ok_or(FrameError::Kind { kind })?;
        if length > limit {
            return Err(FrameError::TooLong { kind, length, limit });
        }
        Ok(Some(length))
    }

    /// Bytes up to the end of the frame, or of its head while that has not come; never zero.
    pub fn missing(&self) -> Result<usize, FrameError> {
        Ok(self.announced()?.map_or(HEAD - self.headed, |length| length - self.body.len()))
    }

    /// Whether part of a frame has come.
    pub fn is_within(&self) -> bool {
        self.headed > 0
    }

    /// Bytes that it holds room for.
    pub fn room(&self) -> usize {
        self.body.capacity()
    }

    /// Room for `more` bytes: twice what is there by then, and never more than the frame has.
    fn reserve(&mut self, more: usize, length: usize) {
        let needed = self.body.len() + more;
        if needed > self.body.capacity() {
            let wanted = needed.saturating_mul(2).min(length);
            self.body.reserve_exact(wanted - self.body.len());
        }
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// It ends within its own head.
    #[error("a frame of {length} bytes is shorter than its head")]
    TooShort {
        /// As announced.
        length: usize,
    },
    /// A kind that may not come here.
    #[error("a frame of kind {kind} may not come here")]
    Kind {
        /// As announced.
        kind: u8,
    },
    /// Over the limit of its kind.
    #[error("a frame of kind {kind} with {length} bytes is over the limit of {limit}")]
    TooLong {
        /// As announced.
        kind: u8,
        /// As announced.
        length: usize,
        /// What its kind may have.
        limit: usize,
    },
}

/// Bytes before a body.
pub const HEAD: usize = 13;

/// Those of the head that the length counts.
const COUNTED: usize = HEAD - 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kinds 1 and 2 exist.
    fn limits(kind: u8) -> Option<usize> {
        match kind {
            1 => Some(100),
            2 => Some(0),
            0 | 3.. => None,
        }
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let body = (1..3_u8).prop_flat_map(|kind| {
            (Just(kind), proptest::collection::vec(any::<u8>(), 0..=limits(kind).unwrap()))
        });
        (body, any::<u64>()).prop_map(|((kind, body), number)| Frame { kind, number, body })
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_bytes_are_cut(
            frames in proptest::collection::vec(frame(), 0..8),
            cuts in proptest::collection::vec(1..40_usize, 0..60),
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            let (mut decoder, mut seen, mut rest) = (Decoder::new(limits), Vec::new(), &wire[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (mut now, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                while let Some(frame) = decoder.take(&mut now).unwrap() {
                    seen.push(frame);
                }
                prop_assert!(now.is_empty());
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(!decoder.is_within());
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_or_not_yet_whole(
            head in (0..120_u32, 0..4_u8),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let wire = [&head.0.to_be_bytes()[..], &[head.1], &bytes].concat();
            let (mut decoder, mut input) = (Decoder::new(limits), &wire[..]);
            let mut again = Vec::new();
            while let Ok(Some(frame)) = decoder.take(&mut input) {
                again.extend(frame.encode());
            }
            prop_assert!(wire.starts_with(&again));
        }
    }

    #[test]
    fn what_is_announced_wrongly_is_refused_before_anything_is_kept() {
        let head = |length: u32, kind: u8| [&length.to_be_bytes()[..], &[kind], &[0; 8]].concat();
        for (head, error) in [
            (head(8, 1), FrameError::TooShort { length: 0 }),
            (head(0, 1), FrameError::TooShort { length: 0 }),
            (head(9, 0), FrameError::Kind { kind: 0 }),
            (head(9, 3), FrameError::Kind { kind: 3 }),
            (head(110, 1), FrameError::TooLong { kind: 1, length: 101, limit: 100 }),
            (head(10, 2), FrameError::TooLong { kind: 2, length: 1, limit: 0 }),
            (head(u32::MAX, 1), FrameError::TooLong { kind: 1, length: 0xffff_fff6, limit: 100 }),
        ] {
            let mut decoder = Decoder::new(limits);
            let found = decoder.take(&mut &head[..]).unwrap_err();
            let same_kind = match (found, error) {
                (FrameError::TooShort { .. }, FrameError::TooShort { .. }) => true,
                (found, error) => found == error,
            };
            assert!(same_kind, "{found:?} {error:?}");
            assert_eq!(decoder.room(), 0);
        }
    }

    #[test]
    fn room_is_made_as_bytes_come_and_not_as_they_are_announced() {
        let long = |_: u8| Some(17 << 20);
        let frame = Frame { kind: 1, number: 7, body: vec![5; 17 << 20] };
        let (mut decoder, wire) = (Decoder::new(long), frame.encode());
        let mut came = 0;
        for mut piece in wire.chunks(16 << 10) {
            came += piece.len();
            if let Some(done) = decoder.take(&mut piece).unwrap() {
                assert_eq!((done.body.capacity(), done), (17 << 20, frame));
                return;
            }
            assert!(decoder.room() <= 2 * came, "{} for {came}", decoder.room());
        }
        panic!("the frame never ended");
    }
}

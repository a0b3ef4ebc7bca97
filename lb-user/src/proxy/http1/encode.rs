//! Bodies as they are written: the framing is ours, whatever it was on the other side.

use super::body::Length;
use super::chunked::Trailers;

/// A body that is being written.
///
/// The shell writes `before`, then content, then `after`, as one. Content of which only a part could be written goes on with
/// the rest of it.
#[derive(Debug)]
pub struct Encoder {
    length: Length,
    /// Content that the chunk under way still owes.
    chunk_left: usize,
}

impl Encoder {
    /// A body of this length. `Exact` is the word of who sends the content: it is checked.
    pub fn new(length: Length) -> Self {
        Self { length, chunk_left: 0 }
    }

    /// How much of `content` may be written now, and, into `before`, what has to be written before it. `None`: it is more than was
    /// announced.
    pub fn begin(&mut self, content: usize, before: &mut Vec<u8>) -> Option<usize> {
        match self.length {
            Length::Chunked => {
                if self.chunk_left == 0 {
                    write_hex(content, before);
                    before.extend_from_slice(b"\r\n");
                    self.chunk_left = content;
                }
                Some(self.chunk_left.min(content))
            }
            Length::Exact(left) => {
                usize::try_from(left).unwrap_or(usize::MAX).checked_sub(content).map(|_| content)
            }
            Length::UntilClose => Some(content),
            Length::None => (content == 0).then_some(0),
        }
    }

    /// What follows once all that `begin` allowed is written.
    pub fn after(&self) -> &'static [u8] {
        if self.length == Length::Chunked { b"\r\n" } else { b"" }
    }

    /// So much content was written.
    pub fn wrote(&mut self, content: usize) {
        match &mut self.length {
            Length::Chunked => self.chunk_left = self.chunk_left.saturating_sub(content),
            Length::Exact(left) => *left = left.saturating_sub(u64::try_from(content).unwrap_or(u64::MAX)),
            Length::UntilClose | Length::None => {}
        }
    }

    /// Whether content is owed to a chunk whose size is written.
    pub fn is_within_chunk(&self) -> bool {
        self.chunk_left > 0
    }

    /// What ends the body. `false`: it is shorter than was announced, and nothing can end it but the connection.
    pub fn finish(&mut self, trailers: Option<&Trailers>, into: &mut Vec<u8>) -> bool {
        let whole = match self.length {
            Length::Exact(left) => left == 0,
            Length::Chunked => self.chunk_left == 0,
            Length::UntilClose | Length::None => true,
        };
        if whole && self.length == Length::Chunked {
            into.extend_from_slice(b"0\r\n");
            for field in trailers.into_iter().flat_map(Trailers::fields) {
                write_field(into, field.name, field.value);
            }
            into.extend_from_slice(b"\r\n");
        }
        if whole {
            self.length = Length::None;
        }
        whole
    }
}

/// Writes one header field.
pub fn write_field(into: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    into.extend_from_slice(name);
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}

fn write_hex(number: usize, into: &mut Vec<u8>) {
    let mut shift = usize::BITS.saturating_sub(number.leading_zeros()).div_ceil(4).max(1) * 4;
    while shift > 0 {
        shift -= 4;
        into.push(b"0123456789abcdef"[number >> shift & 15]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::body::{Body, Piece};
    use super::*;

    #[test]
    fn chunk_sizes_are_plain_hexadecimal() {
        for (number, wanted) in [(1, "1"), (15, "f"), (16, "10"), (16384, "4000"), (0x12ab, "12ab")] {
            let mut text = Vec::new();
            write_hex(number, &mut text);
            assert_eq!(text, wanted.as_bytes());
        }
    }

    #[test]
    fn more_or_less_than_was_announced_is_no_body() {
        let mut into = Vec::new();
        let mut short = Encoder::new(Length::Exact(5));
        assert_eq!(short.begin(6, &mut into), None);
        assert_eq!(short.begin(4, &mut into), Some(4));
        short.wrote(4);
        assert!(!short.finish(None, &mut into));
        short.wrote(1);
        assert!(short.finish(None, &mut into));
        assert_eq!(Encoder::new(Length::None).begin(1, &mut into), None);
        assert!(into.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_in_chunks_is_read_as_the_same(pieces in proptest::collection::vec("[a-z]{1,40}", 0..6), accepts in 1..50usize) {
            let (mut wire, mut encoder) = (Vec::new(), Encoder::new(Length::Chunked));
            for piece in &pieces {
                let mut content = piece.as_bytes();
                while !content.is_empty() {
                    let allowed = encoder.begin(content.len(), &mut wire).unwrap();
                    let written = allowed.min(accepts);
                    wire.extend_from_slice(&content[..written]);
                    encoder.wrote(written);
                    content = &content[written..];
                    if !encoder.is_within_chunk() {
                        wire.extend_from_slice(encoder.after());
                    }
                }
            }
            prop_assert!(encoder.finish(None, &mut wire));
            let (mut body, mut at, mut read) = (Body::new(Length::Chunked), 0, Vec::new());
            while let Piece::Data { skip, data } = body.next(&wire[at..]).unwrap() {
                read.extend_from_slice(&wire[at + skip..at + skip + data]);
                at += skip + data;
            }
            prop_assert!(body.has_ended());
            prop_assert_eq!(read, pieces.concat().into_bytes());
        }
    }
}

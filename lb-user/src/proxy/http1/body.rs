//! A message's body: bytes in, pieces of content out, and the end.

use super::Violation;
use super::chunked::{Chunked, Trailers};
use super::field::Known;
use super::head::Head;

/// How long a body is (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    None,
    /// So many bytes, at least one.
    Exact(u64),
    /// Comes in chunks.
    Chunked,
    /// Ends with the connection; responses alone.
    UntilClose,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Body(State);

#[derive(Debug)]
enum State {
    Ended,
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
}

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `skip` bytes of framing, then so many of content.
    Data {
        /// Bytes of framing.
        skip: usize,
        /// Bytes of content, at least one.
        data: usize,
    },
    /// `skip` bytes of framing; then more is needed.
    More {
        /// Bytes of framing.
        skip: usize,
    },
    /// `skip` bytes of framing; then the body has ended.
    End {
        /// Bytes of framing.
        skip: usize,
    },
}

impl Body {
    /// A body of this length, of which nothing was read yet.
    pub fn new(length: Length) -> Self {
        Self(match length {
            Length::None => State::Ended,
            Length::Exact(length) => State::Exact(length),
            Length::Chunked => State::Chunked(Chunked::default()),
            Length::UntilClose => State::UntilClose,
        })
    }

    /// What `input`, the bytes that follow, begins with. They are then to be taken as read.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, Violation> {
        match &mut self.0 {
            State::Ended => Ok(Piece::End { skip: 0 }),
            State::Exact(_) | State::UntilClose if input.is_empty() => Ok(Piece::More { skip: 0 }),
            State::UntilClose => Ok(Piece::Data { skip: 0, data: input.len() }),
            State::Exact(left) => {
                let data = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= u64::try_from(data).unwrap_or(u64::MAX);
                if *left == 0 {
                    self.0 = State::Ended;
                }
                Ok(Piece::Data { skip: 0, data })
            }
            State::Chunked(chunks) => chunks.next(input),
        }
    }

    /// Whether all of it has been read.
    pub fn has_ended(&self) -> bool {
        match &self.0 {
            State::Ended => true,
            State::Chunked(chunks) => chunks.has_ended(),
            State::Exact(_) | State::UntilClose => false,
        }
    }

    /// The connection has ended, `cleanly` if the other side said so: whether the body is whole by that.
    pub fn end(&mut self, cleanly: bool) -> bool {
        if cleanly && matches!(self.0, State::UntilClose) {
            self.0 = State::Ended;
        }
        self.has_ended()
    }

    /// The trailer fields of a chunked body that has ended, if it has any.
    pub fn trailers(&self) -> Option<&Trailers> {
        match &self.0 {
            State::Chunked(chunks) => chunks.trailers(),
            State::Ended | State::Exact(_) | State::UntilClose => None,
        }
    }
}

/// The one `Content-Length`, if any: digits and nothing else.
pub(super) fn content_length(head: &Head) -> Result<Option<u64>, Violation> {
    let mut lengths = head.values(Known::ContentLength);
    let Some(length) = lengths.next() else {
        return Ok(None);
    };
    let plain = !length.is_empty() && length.len() <= 18 && length.iter().all(u8::is_ascii_digit);
    if !plain || lengths.next().is_some() {
        return Err(Violation::ContentLength);
    }
    Ok(Some(length.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_a_length_ends_with_its_last_byte() {
        let mut body = Body::new(Length::Exact(5));
        assert_eq!(body.next(b""), Ok(Piece::More { skip: 0 }));
        assert_eq!(body.next(b"abc"), Ok(Piece::Data { skip: 0, data: 3 }));
        assert!(!body.has_ended() && !body.end(true));
        assert_eq!(body.next(b"deGET /"), Ok(Piece::Data { skip: 0, data: 2 }));
        assert!(body.has_ended());
        assert_eq!(body.next(b"GET /"), Ok(Piece::End { skip: 0 }));
    }

    #[test]
    fn a_body_until_the_close_is_whole_by_it() {
        let mut body = Body::new(Length::UntilClose);
        assert_eq!(body.next(b"abc"), Ok(Piece::Data { skip: 0, data: 3 }));
        assert!(!body.has_ended());
        assert!(!body.end(false), "what was cut off is not whole");
        assert!(body.end(true));
    }
}

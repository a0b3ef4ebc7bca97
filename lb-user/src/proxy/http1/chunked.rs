//! Chunks, as they are read (RFC 9112, 7.1).
//!
//! Their sizes are hexadecimal digits and nothing else; their extensions are checked, bounded and dropped; their ends are CR LF.

use super::Violation;
use super::body::Piece;
use super::field::{Field, Known};
use super::head::{Head, HeadLimits, Scanner};

/// A chunked body that is being read.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    trailers: Option<Box<Trailers>>,
}

#[derive(Debug, Default)]
enum State {
    /// Before, or in, the digits of a size.
    #[default]
    Start,
    Size {
        digits: u32,
        size: u64,
    },
    Extension {
        size: u64,
        left: u32,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// After the last chunk: trailer fields, kept until they are whole.
    Trailer {
        kept: Vec<u8>,
    },
    Ended,
}

impl Chunked {
    /// See [`super::Body::next`].
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Piece, Violation> {
        let mut skip = 0;
        loop {
            match &mut self.state {
                State::Ended => return Ok(Piece::End { skip }),
                State::Data { left } => {
                    let rest = input.len() - skip;
                    if rest == 0 {
                        return Ok(Piece::More { skip });
                    }
                    let data = usize::try_from(*left).unwrap_or(usize::MAX).min(rest);
                    *left -= u64::try_from(data).unwrap_or(u64::MAX);
                    if *left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Piece::Data { skip, data });
                }
                State::Trailer { .. } => {
                    let taken = self.trailer(&input[skip..])?;
                    skip += taken;
                    if !self.has_ended() {
                        return Ok(Piece::More { skip });
                    }
                }
                State::Start
                | State::Size { .. }
                | State::Extension { .. }
                | State::SizeLf { .. }
                | State::DataCr
                | State::DataLf => {
                    let Some(byte) = input.get(skip) else {
                        return Ok(Piece::More { skip });
                    };
                    self.state = self.state.after(*byte)?;
                    skip += 1;
                }
            }
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(super) fn trailers(&self) -> Option<&Trailers> {
        self.trailers.as_deref()
    }

    /// Takes bytes of the trailer; how many.
    fn trailer(&mut self, input: &[u8]) -> Result<usize, Violation> {
        let State::Trailer { kept } = &mut self.state else {
            return Ok(0);
        };
        let before = kept.len();
        kept.extend_from_slice(&input[..input.len().min(LONGEST_TRAILER + 4 - before)]);
        // As of a head whose first line is the last chunk's.
        let mut scanner = Scanner::default();
        let end = match scanner.scan(kept, &LIMITS) {
            Ok(None) => return Ok(kept.len() - before),
            Ok(Some(end)) => end,
            Err(Violation::HeadTooLong) => return Err(Violation::TrailerTooLong),
            Err(violation) => return Err(violation),
        };
        let trailers = Trailers::read(&kept[LAST_CHUNK.len()..end])?;
        if trailers.0.fields().next().is_some() {
            self.trailers = Some(Box::new(trailers));
        }
        self.state = State::Ended;
        Ok(end - before)
    }
}

impl State {
    /// The state after one more byte of framing.
    fn after(&self, byte: u8) -> Result<Self, Violation> {
        let (digits, size) = match self {
            Self::Start => (0, 0),
            Self::Size { digits, size } => (*digits, *size),
            Self::Extension { size, left } => return extension(byte, *size, *left),
            Self::SizeLf { size: 0 } if byte == b'\n' => {
                return Ok(Self::Trailer { kept: LAST_CHUNK.to_vec() });
            }
            Self::SizeLf { size } if byte == b'\n' => return Ok(Self::Data { left: *size }),
            Self::DataCr if byte == b'\r' => return Ok(Self::DataLf),
            Self::DataLf if byte == b'\n' => return Ok(Self::Start),
            Self::SizeLf { .. }
            | Self::DataCr
            | Self::DataLf
            | Self::Data { .. }
            | Self::Trailer { .. }
            | Self::Ended => return Err(Violation::Chunk),
        };
        match (byte, char::from(byte).to_digit(16)) {
            (_, Some(digit)) if digits < MOST_DIGITS => {
                Ok(Self::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
            }
            (b'\r', _) if digits > 0 => Ok(Self::SizeLf { size }),
            (b';', _) if digits > 0 => Ok(Self::Extension { size, left: LONGEST_EXTENSION }),
            _ => Err(Violation::Chunk),
        }
    }
}

/// Within an extension: visible or blank, up to CR.
fn extension(byte: u8, size: u64, left: u32) -> Result<State, Violation> {
    match (byte, left.checked_sub(1)) {
        (b'\r', _) => Ok(State::SizeLf { size }),
        (b'\t' | b' '..=b'~', Some(left)) => Ok(State::Extension { size, left }),
        _ => Err(Violation::Chunk),
    }
}

/// The fields after a chunked body.
#[derive(Debug)]
pub struct Trailers(Head);

impl Trailers {
    /// Reads fields, each a line, and the empty line after them.
    pub fn read(fields: &[u8]) -> Result<Self, Violation> {
        if fields.len() > LONGEST_TRAILER {
            return Err(Violation::TrailerTooLong);
        }
        let mut head = Head::default();
        head.read_trailers(fields, &LIMITS)?;
        Ok(Self(head))
    }

    /// Those that may cross a proxy: none that frames, routes or authenticates (RFC 9110, 6.5.1).
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.0.fields().filter(|field| field.known == Known::Other)
    }
}

/// 60 bits: no size overflows.
const MOST_DIGITS: u32 = 15;

/// Bytes of an extension of one chunk.
const LONGEST_EXTENSION: u32 = 256;

/// Bytes of all trailer fields.
const LONGEST_TRAILER: usize = 8 << 10;

/// Trailer fields.
const MOST_TRAILERS: usize = 32;

const LIMITS: HeadLimits = HeadLimits { bytes: LONGEST_TRAILER, target: 0, fields: MOST_TRAILERS };

/// A line for the scanner of heads to begin with.
const LAST_CHUNK: &[u8] = b"0\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Content, what is left behind it if it has ended, and how many trailer fields there are.
    type Read = (Vec<u8>, Option<Vec<u8>>, usize);

    /// The input comes in pieces of `step` bytes.
    fn read(input: &[u8], step: usize) -> Result<Read, Violation> {
        let mut chunks = Chunked::default();
        let (mut content, mut at, mut came) = (Vec::new(), 0, 0);
        loop {
            match chunks.next(&input[at..came])? {
                Piece::Data { skip, data } => {
                    content.extend_from_slice(&input[at + skip..at + skip + data]);
                    at += skip + data;
                }
                Piece::More { skip } => {
                    at += skip;
                    if came == input.len() {
                        return Ok((content, None, chunks.trailers().map_or(0, |it| it.fields().count())));
                    }
                    came = (came + step).min(input.len());
                }
                Piece::End { skip } => {
                    let trailers = chunks.trailers().map_or(0, |trailers| trailers.fields().count());
                    return Ok((content, Some(input[at + skip..].to_vec()), trailers));
                }
            }
        }
    }

    #[test]
    fn chunks_have_one_reading_or_none() {
        let whole = |content: &str, rest: &str, trailers| {
            Ok((content.as_bytes().to_vec(), Some(rest.as_bytes().to_vec()), trailers))
        };
        for (input, wanted) in [
            ("3\r\nabc\r\n0\r\n\r\n", whole("abc", "", 0)),
            ("1\r\na\r\n02\r\nbc\r\n000\r\n\r\nGET /", whole("abc", "GET /", 0)),
            ("A\r\n0123456789\r\n0\r\n\r\n", whole("0123456789", "", 0)),
            ("3;ext=1;q=\"x\"\r\nabc\r\n0;last\r\n\r\n", whole("abc", "", 0)),
            ("0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\nGET /", whole("", "GET /", 1)),
            ("3\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("3\r\nabc\n0\r\n\r\n", Err(Violation::Chunk)),
            ("3\r\nabcd\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("3\r\nab\r\n0\r\n\r\n", Err(Violation::Chunk)),
            (" 3\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("3 \r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("0x3\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("-3\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("+3\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            (";a\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("3;a\nb\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("1000000000000003\r\nabc\r\n0\r\n\r\n", Err(Violation::Chunk)),
            ("0\r\n\n", Err(Violation::BareLf)),
            ("0\r\nA: b\n\r\n", Err(Violation::BareLf)),
            ("0\r\nGET / HTTP/1.1\r\n\r\n", Err(Violation::FieldName)),
            ("0\r\n A: b\r\n\r\n", Err(Violation::Fold)),
        ] {
            for step in [1, 2, 7, 1000] {
                assert_eq!(read(input.as_bytes(), step), wanted, "{input:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = |start: &str, part: &str| [start, &part.repeat(10_000)].concat();
        assert_eq!(read(long("3;", "a").as_bytes(), 100), Err(Violation::Chunk));
        assert_eq!(read(long("0\r\nA: ", "a").as_bytes(), 100), Err(Violation::TrailerTooLong));
        let many = [&long("0\r\n", "A:\r\n")[..4 * 40], "\r\n\r\n"].concat();
        assert!(read(many.as_bytes(), 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_however_they_come(
            input in "([0-3]{1,2}(;a)?\r?\n?[a-c]{0,4}\r?\n?){0,6}(0\r\n\r\n)?.{0,5}",
            step in 1..9usize,
        ) {
            prop_assert_eq!(read(input.as_bytes(), step), read(input.as_bytes(), usize::MAX >> 1));
        }
    }
}

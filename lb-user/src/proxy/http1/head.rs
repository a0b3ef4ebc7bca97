//! The head of a message: its first line and its fields.

use super::field::{Field, Known, Place, Span};
use super::{Version, Violation};

/// How big a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a whole head.
    pub bytes: usize,
    /// Bytes of a request target.
    pub target: usize,
    /// Fields.
    pub fields: usize,
}

impl Default for HeadLimits {
    /// 64 KiB, for the Kerberos tickets of members of many groups; 16 KiB of target, as http.sys takes at most; 200 fields.
    fn default() -> Self {
        Self { bytes: 64 << 10, target: 16 << 10, fields: 200 }
    }
}

/// Finds the end of a head in bytes that come bit by bit; looks at each of them once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    /// Where the line that is being read begins.
    line: usize,
    /// What has been looked at.
    seen: usize,
}

impl Scanner {
    /// The length of the head that `input` begins with; `None` while it is not whole. `input` is all that has come, so that it
    /// has grown since the last call and is otherwise the same.
    pub fn scan(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Violation> {
        while let Some(found) = memchr::memchr(b'\n', input.get(self.seen..).unwrap_or_default()) {
            let end = self.seen + found;
            if end == self.line || input[end - 1] != b'\r' {
                return Err(Violation::BareLf);
            }
            let empty = end == self.line + 1;
            self.seen = end + 1;
            if self.seen > limits.bytes {
                return Err(Violation::HeadTooLong);
            }
            match self.line {
                // One empty line before a message is nothing (RFC 9112, 2.2), two are not one.
                2 if empty => return Err(Violation::StartLine),
                3.. if empty => return Ok(Some(self.seen)),
                0.. => self.line = self.seen,
            }
        }
        self.seen = input.len();
        if self.seen > limits.bytes { Err(Violation::HeadTooLong) } else { Ok(None) }
    }
}

/// A head. Its storage can be used again.
#[derive(Clone, Debug)]
pub struct Head {
    bytes: Vec<u8>,
    /// Method, target and the rest, or version, status and reason.
    line: [Span; 3],
    version: Version,
    fields: Vec<Place>,
}

impl Default for Head {
    fn default() -> Self {
        Self { bytes: Vec::new(), line: [Span::default(); 3], version: Version::Http11, fields: Vec::new() }
    }
}

impl Head {
    /// Reads a request's head: the bytes up to and with the empty line, as [`Scanner`] finds it.
    pub fn read_request(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        let lines = self.begin(bytes)?;
        let line = lines.first;
        let mut parts = parts(&self.bytes, line);
        let (method, target, version) = (parts.next(), parts.next(), parts.next());
        let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next())
        else {
            return Err(Violation::StartLine);
        };
        if !is_token(method.of(&self.bytes)) || target.of(&self.bytes).is_empty() {
            return Err(Violation::StartLine);
        }
        if target.of(&self.bytes).len() > limits.target {
            return Err(Violation::TargetTooLong);
        }
        if !target.of(&self.bytes).iter().all(|byte| (b'!'..=b'~').contains(byte) && *byte != b'#') {
            return Err(Violation::Target);
        }
        self.version = read_version(version.of(&self.bytes))?;
        self.line = [method, target, version];
        self.read_fields(lines.rest, limits)
    }

    /// Reads the head of a request that came over HTTP/2 and was written in the form of HTTP/1.1, so that it is held to the same rules.
    pub fn read_translated(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        if bytes.len() > limits.bytes {
            return Err(Violation::HeadTooLong);
        }
        self.read_request(bytes, limits)?;
        self.version = Version::Http2;
        Ok(())
    }

    /// Reads a response's head. No empty line may stand before it: it is where a body before it was longer than it was said to be.
    pub fn read_response(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        if bytes.starts_with(b"\r\n") {
            return Err(Violation::StartLine);
        }
        let lines = self.begin(bytes)?;
        let line = lines.first.of(&self.bytes);
        let start = usize::try_from(lines.first.start).unwrap_or(usize::MAX);
        let (Some(version), Some(status)) = (line.get(..8), line.get(9..12)) else {
            return Err(Violation::StartLine);
        };
        let spaced = line[8] == b' ' && line.get(12).is_none_or(|byte| *byte == b' ');
        if !spaced || !status.iter().all(u8::is_ascii_digit) || !matches!(status[0], b'1'..=b'9') {
            return Err(Violation::StartLine);
        }
        let reason = line.get(13..).unwrap_or_default();
        if !reason.iter().all(|byte| is_value_byte(*byte)) {
            return Err(Violation::StartLine);
        }
        self.version = read_version(version)?;
        let at = |from, to| Span::new(start + from, start + to);
        self.line = [at(0, 8), at(9, 12), at(line.len() - reason.len(), line.len())];
        self.read_fields(lines.rest, limits)
    }

    /// Trailers, or fields from elsewhere, as a head without a first line.
    pub(super) fn read_trailers(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        self.bytes.clear();
        self.fields.clear();
        self.bytes.extend_from_slice(bytes);
        self.read_fields(0, limits)
    }

    /// A request's method.
    pub fn method(&self) -> &[u8] {
        self.line[0].of(&self.bytes)
    }

    /// A request's target, as it was sent.
    pub fn target(&self) -> &[u8] {
        self.line[1].of(&self.bytes)
    }

    /// A response's status, 100..=999.
    pub fn status(&self) -> u16 {
        let digits = self.line[1].of(&self.bytes);
        digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit.wrapping_sub(b'0')))
    }

    /// A response's reason; may be empty.
    pub fn reason(&self) -> &[u8] {
        self.line[2].of(&self.bytes)
    }

    /// The protocol's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// All fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(|place| Field {
            name: place.name.of(&self.bytes),
            value: place.value.of(&self.bytes),
            known: place.known,
        })
    }

    /// The values of one known field, in their order.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |place| place.known == known).map(|place| place.value.of(&self.bytes))
    }

    /// The first value of the field `name`, in any case.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
    }

    /// Bytes of the whole head.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Gives the storage back.
    pub fn release(&mut self) {
        *self = Self::default();
    }

    /// A request for `target` with these fields.
    #[cfg(test)]
    pub(crate) fn of_request(target: &str, fields: &[(&str, &str)]) -> Self {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut head = Self::default();
        let text = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
        head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
        head
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<Lines, Violation> {
        self.bytes.clear();
        self.fields.clear();
        let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        self.bytes.extend_from_slice(bytes);
        let end = memchr::memchr(b'\n', bytes).ok_or(Violation::StartLine)?;
        let line = bytes[..end].strip_suffix(b"\r").ok_or(Violation::BareLf)?;
        Ok(Lines { first: Span::new(0, line.len()), rest: end + 1 })
    }

    /// Reads fields from `at` to the empty line that ends the bytes.
    fn read_fields(&mut self, mut at: usize, limits: &HeadLimits) -> Result<(), Violation> {
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let length = memchr::memchr(b'\n', rest).ok_or(Violation::FieldName)?;
            let line = rest[..length].strip_suffix(b"\r").ok_or(Violation::BareLf)?;
            if line.is_empty() {
                let last = at + length + 1 == self.bytes.len();
                return if last { Ok(()) } else { Err(Violation::FieldName) };
            }
            if self.fields.len() == limits.fields {
                return Err(Violation::TooManyFields);
            }
            let place = read_field(line, at)?;
            self.fields.push(place);
            at += length + 1;
        }
    }
}

struct Lines {
    first: Span,
    /// Where the fields begin.
    rest: usize,
}

/// The parts of a first line, one space apart.
fn parts(bytes: &[u8], line: Span) -> impl Iterator<Item = Span> + use<> {
    let start = usize::try_from(line.start).unwrap_or(usize::MAX);
    let mut spans = Vec::with_capacity(3);
    let mut from = 0;
    for (at, byte) in line.of(bytes).iter().chain(b" ").enumerate() {
        // A fourth part is enough to be refused.
        if *byte == b' ' && spans.len() < 4 {
            spans.push(Span::new(start + from, start + at));
            from = at + 1;
        }
    }
    spans.into_iter()
}

fn read_version(text: &[u8]) -> Result<Version, Violation> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ if text.starts_with(b"HTTP/") => Err(Violation::Version),
        _ => Err(Violation::StartLine),
    }
}

/// A field line without its end, which begins at `at`.
fn read_field(line: &[u8], at: usize) -> Result<Place, Violation> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Violation::Fold);
    }
    let colon = memchr::memchr(b':', line).ok_or(Violation::FieldName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(Violation::FieldName);
    }
    if !value.iter().all(|byte| is_value_byte(*byte)) {
        return Err(Violation::FieldValue);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    let value = at + colon + 1;
    Ok(Place {
        name: Span::new(at, at + colon),
        value: Span::new(value + start, value + end),
        known: Known::of(name),
    })
}

/// Whether `text` is a token, as methods and the names of fields are (RFC 9110, 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// RFC 9110, 5.5: visible, blank, or beyond ASCII.
fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let letter = (byte as u8).is_ascii_alphanumeric();
        let mark = matches!(
            byte as u8,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        table[byte] = letter || mark;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &str) -> Result<Head, Violation> {
        let limits = HeadLimits { bytes: 400, target: 20, fields: 4 };
        let mut scanner = Scanner::default();
        let length = scanner.scan(text.as_bytes(), &limits)?.ok_or(Violation::StartLine)?;
        let mut head = Head::default();
        head.read_request(&text.as_bytes()[..length], &limits)?;
        Ok(head)
    }

    #[test]
    fn a_request_head_has_one_reading_or_none() {
        for (text, wanted) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("RPC_IN_DATA / HTTP/1.1\r\n\r\n", None),
            ("GET / HTTP/1.0\r\nA:\r\nB:  b \t\r\n\r\n", None),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(Violation::StartLine)),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(Violation::BareLf)),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Some(Violation::BareLf)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(Violation::BareLf)),
            ("\nGET / HTTP/1.1\r\n\r\n", Some(Violation::BareLf)),
            ("GET  / HTTP/1.1\r\n\r\n", Some(Violation::StartLine)),
            ("GET / HTTP/1.1 \r\n\r\n", Some(Violation::StartLine)),
            (" GET / HTTP/1.1\r\n\r\n", Some(Violation::StartLine)),
            ("GET /\r\n\r\n", Some(Violation::StartLine)),
            ("G\tT / HTTP/1.1\r\n\r\n", Some(Violation::StartLine)),
            ("GET / HTTP/2.0\r\n\r\n", Some(Violation::Version)),
            ("GET / http/1.1\r\n\r\n", Some(Violation::StartLine)),
            ("GET /\u{e4} HTTP/1.1\r\n\r\n", Some(Violation::Target)),
            ("GET /a#b HTTP/1.1\r\n\r\n", Some(Violation::Target)),
            ("GET /a\u{0}b HTTP/1.1\r\n\r\n", Some(Violation::Target)),
            ("GET /aaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n", Some(Violation::TargetTooLong)),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Some(Violation::Fold)),
            ("GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n", Some(Violation::Fold)),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Some(Violation::FieldName)),
            ("GET / HTTP/1.1\r\nHost\r\n\r\n", Some(Violation::FieldName)),
            ("GET / HTTP/1.1\r\n: a\r\n\r\n", Some(Violation::FieldName)),
            ("GET / HTTP/1.1\r\nA\u{e4}: a\r\n\r\n", Some(Violation::FieldName)),
            ("GET / HTTP/1.1\r\nA: a\rb\r\n\r\n", Some(Violation::FieldValue)),
            ("GET / HTTP/1.1\r\nA: a\u{0}\r\n\r\n", Some(Violation::FieldValue)),
            ("GET / HTTP/1.1\r\nA: a\u{7f}\r\n\r\n", Some(Violation::FieldValue)),
            ("GET / HTTP/1.1\r\nA:1\r\nB:2\r\nC:3\r\nD:4\r\nE:5\r\n\r\n", Some(Violation::TooManyFields)),
        ] {
            assert_eq!(request(text).err(), wanted, "{text:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(400));
        assert_eq!(request(&long).err(), Some(Violation::HeadTooLong));
    }

    #[test]
    fn fields_are_what_stands_between_colon_and_line_end() {
        let head = request("GET /owa HTTP/1.1\r\nHOST:  a \t\r\nX-Empty:\r\nx-b: 1: 2\r\n\r\n").unwrap();
        let fields: Vec<_> = head.fields().map(|field| (field.name, field.value)).collect();
        let wanted: [(&[u8], &[u8]); 3] = [(b"HOST", b"a"), (b"X-Empty", b""), (b"x-b", b"1: 2")];
        assert_eq!(fields, wanted);
        assert_eq!((head.method(), head.target()), (&b"GET"[..], &b"/owa"[..]));
        assert_eq!(head.value("X-B"), Some(&b"1: 2"[..]));
        assert_eq!(head.values(Known::Host).count(), 1);
    }

    #[test]
    fn a_status_line_has_one_reading_or_none() {
        let limits = HeadLimits::default();
        for (line, wanted) in [
            ("HTTP/1.1 200 OK", Ok((200, "OK"))),
            ("HTTP/1.1 401 Not\u{e4} authorised", Ok((401, "Not\u{e4} authorised"))),
            ("HTTP/1.0 304 ", Ok((304, ""))),
            ("HTTP/1.1 200", Ok((200, ""))),
            ("HTTP/1.1  200 OK", Err(Violation::StartLine)),
            ("HTTP/1.1 2000 OK", Err(Violation::StartLine)),
            ("HTTP/1.1 20x OK", Err(Violation::StartLine)),
            ("HTTP/1.1 099 OK", Err(Violation::StartLine)),
            ("HTTP/2.0 200 OK", Err(Violation::Version)),
            ("ICY 200 OK", Err(Violation::StartLine)),
            ("HTTP/1.1 200 O\u{0}K", Err(Violation::StartLine)),
            ("HTTP/1.1", Err(Violation::StartLine)),
            ("\r\nHTTP/1.1 200 OK", Err(Violation::StartLine)),
        ] {
            let mut head = Head::default();
            let read = head.read_response(format!("{line}\r\nA: b\r\n\r\n").as_bytes(), &limits);
            let read = read.map(|()| (head.status(), std::str::from_utf8(head.reason()).unwrap()));
            assert_eq!(read, wanted, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut head = Head::default();
            let limits = HeadLimits::default();
            head.read_request(&bytes, &limits).ok();
            head.read_response(&bytes, &limits).ok();
            head.read_trailers(&bytes, &limits).ok();
        }

        #[test]
        fn the_end_is_the_same_however_the_bytes_come(
            text in "(\r\n)?G / HTTP/1.1\r?\n(A: b\r?\n){0,3}\r?\n(rest)?",
            cuts in proptest::collection::vec(0..40usize, 0..6),
        ) {
            let limits = HeadLimits::default();
            let whole = Scanner::default().scan(text.as_bytes(), &limits);
            let mut scanner = Scanner::default();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut found = Ok(None);
            for cut in cuts.into_iter().chain([text.len()]) {
                found = scanner.scan(&text.as_bytes()[..cut], &limits);
                if found != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(found, whole);
        }
    }
}

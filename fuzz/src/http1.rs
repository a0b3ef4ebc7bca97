//! Whatever comes over a connection as HTTP/1 is refused, or has one reading, however it is cut; and what the proxy writes of it is
//! never refused, reads the same, and is written the same once more.
//!
//! An input is a byte of flags, a byte for the length of the pieces that it comes in, and what comes.
#![no_main]

#[path = "../../lb-user/src/proxy/edits.rs"]
#[allow(dead_code, unreachable_pub, reason = "the proxy's own module")]
mod edits;
#[path = "../../lb-user/src/proxy/fields.rs"]
#[allow(dead_code, unreachable_pub, reason = "the proxy's own module")]
mod fields;
#[path = "../../lb-user/src/proxy/http1/mod.rs"]
#[allow(
    dead_code,
    unfulfilled_lint_expectations,
    unreachable_pub,
    unused_imports,
    reason = "the proxy's own module"
)]
mod http1;
#[path = "../../lb-user/src/proxy/number.rs"]
#[allow(dead_code, unreachable_pub, reason = "the proxy's own module")]
mod number;
#[path = "../../lb-user/src/proxy/pin.rs"]
#[allow(dead_code, unreachable_pub, reason = "the proxy's own module")]
mod pin;

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;

use crate::edits::Edits;
use crate::fields::{Delivery, Origin, Says};
use crate::http1::{
    Body, Encoder, Head, HeadLimits, Length, Piece, Scanner, Trailers, Version, Violation, request, response,
};
use crate::number::RequestId;

fuzz_target!(|input: &[u8]| {
    let [flags, step, stream @ ..] = input else { return };
    let way = match flags & 3 {
        0 | 1 => Way::Up,
        2 => Way::Down { method: b"GET" },
        _ => Way::Down { method: b"HEAD" },
    };
    let step = usize::from(*step).max(1);
    let (whole, cut) = (way.read(stream, usize::MAX, &LIMITS), way.read(stream, step, &LIMITS));
    assert_eq!(whole, cut, "it depends on how it is cut");
    for message in whole.messages {
        let written = message.written;
        let again = way.read(&written, step, &HeadLimits::default());
        assert_eq!(again.end, End::Clean, "what is written is refused: {}", written.escape_ascii());
        let [once] = &again.messages[..] else { panic!("not one message: {}", written.escape_ascii()) };
        let (line, content) = (&once.line, &once.content);
        assert_eq!((line, content), (&message.line, &message.content), "{}", written.escape_ascii());
        assert_eq!(once.written.escape_ascii().to_string(), written.escape_ascii().to_string());
    }
});

/// Small ones, which short inputs reach.
const LIMITS: HeadLimits = HeadLimits { bytes: 600, target: 100, fields: 12 };

/// Which way messages go, and so what they are.
#[derive(Clone, Copy)]
enum Way {
    Up,
    Down { method: &'static [u8] },
}

/// All of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Stream {
    messages: Vec<Message>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Clean,
    Within,
    Refused,
}

/// A message as it was read, and as it is written for the other side.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    /// Method and target, or status and reason.
    line: [Vec<u8>; 2],
    content: Vec<u8>,
    written: Vec<u8>,
}

/// Bytes that come in pieces.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    came: usize,
    step: usize,
}

impl<'a> Input<'a> {
    fn there(&self) -> &'a [u8] {
        &self.bytes[self.at..self.came]
    }

    /// Whether there was more.
    fn more(&mut self) -> bool {
        let before = self.came;
        self.came = self.came.saturating_add(self.step).min(self.bytes.len());
        self.came > before
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let taken = &self.there()[..length];
        self.at += length;
        taken
    }
}

impl Way {
    fn read(self, bytes: &[u8], step: usize, limits: &HeadLimits) -> Stream {
        let mut input = Input { bytes, at: 0, came: step.min(bytes.len()), step };
        let mut messages = Vec::new();
        let end = loop {
            if input.at == bytes.len() {
                break End::Clean;
            }
            match self.message(&mut input, limits) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break End::Within,
                Err(_) => break End::Refused,
            }
        };
        Stream { messages, end }
    }

    /// As a link reads it, and an exchange passes it on.
    fn message(self, input: &mut Input<'_>, limits: &HeadLimits) -> Result<Option<Message>, Violation> {
        let mut scanner = Scanner::default();
        let length = loop {
            if let Some(length) = scanner.scan(input.there(), limits)? {
                break length;
            }
            if !input.more() {
                return Ok(None);
            }
        };
        let mut head = Head::default();
        let bytes = input.take(length);
        match self {
            Self::Up => head.read_request(bytes, limits)?,
            Self::Down { .. } => head.read_response(bytes, limits)?,
        }
        let mut written = Vec::new();
        let (line, length, encoder) = self.begin(&head, &mut written)?;
        let mut body = Body::new(length);
        let Some(content) = content(&mut body, input)? else { return Ok(None) };
        write(encoder, &content, body.trailers(), input.step, &mut written);
        Ok(Some(Message { line, content, written }))
    }

    /// Writes the head; the body's length, and what writes the body.
    fn begin(self, head: &Head, written: &mut Vec<u8>) -> Result<([Vec<u8>; 2], Length, Encoder), Violation> {
        match self {
            Self::Up => {
                let framing = request::framing(head)?;
                fields::to_server(written, head, framing.target, framing.body, framing.websocket, ORIGIN);
                let line = [head.method(), framing.target.as_bytes()].map(<[u8]>::to_vec);
                Ok((line, framing.body, Encoder::new(framing.body)))
            }
            Self::Down { method } => {
                let framing = response::framing(head, method)?;
                let body = if framing.body == Length::UntilClose { Length::Chunked } else { framing.body };
                let delivery = Delivery {
                    body,
                    version: Version::Http11,
                    keep_alive: true,
                    websocket: false,
                    shared: false,
                };
                fields::to_client(written, head, delivery, Says::default());
                let line = [framing.status.to_string().as_bytes(), head.reason()].map(<[u8]>::to_vec);
                Ok((line, framing.body, Encoder::new(body)))
            }
        }
    }
}

const ORIGIN: Origin<'_> =
    Origin { client: IpAddr::V4(Ipv4Addr::LOCALHOST), request: RequestId::new(0x7f, 1), edits: &Edits::NONE };

/// All content of a body; `None`: it does not end.
fn content(body: &mut Body, input: &mut Input<'_>) -> Result<Option<Vec<u8>>, Violation> {
    let mut content = Vec::new();
    loop {
        match body.next(input.there())? {
            Piece::Data { skip, data } => {
                input.take(skip);
                content.extend_from_slice(input.take(data));
            }
            Piece::End { skip } => {
                input.take(skip);
                assert!(body.has_ended());
                return Ok(Some(content));
            }
            Piece::More { skip } => {
                input.take(skip);
                if !input.more() {
                    return Ok(body.end(true).then_some(content));
                }
            }
        }
    }
}

/// As a link writes it to a stream that takes so many bytes at once.
fn write(
    mut encoder: Encoder,
    mut content: &[u8],
    trailers: Option<&Trailers>,
    step: usize,
    into: &mut Vec<u8>,
) {
    while !content.is_empty() {
        let allowed = encoder.begin(content.len(), into).expect("as long as it was said to be");
        let written = allowed.min(step);
        into.extend_from_slice(&content[..written]);
        encoder.wrote(written);
        content = &content[written..];
        if !encoder.is_within_chunk() {
            into.extend_from_slice(encoder.after());
        }
    }
    assert!(encoder.finish(trailers, into), "shorter than it was said to be");
}

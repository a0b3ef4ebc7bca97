//! A reader of HTTP/1 for the judge: what RFC 9112 has one reading for, and the oddities on the way. None of the proxy's own code,
//! so that a fault in that code is not invisible to both.

use std::fmt;

/// The field in which a server's answer tells what it read.
pub(crate) const READ: &str = "x-read";

/// A message as it stands in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The parts of its first line.
    pub(crate) line: [String; 3],
    /// Names in lower case, and values.
    pub(crate) fields: Vec<(String, String)>,
    /// Bytes of content.
    pub(crate) body: usize,
    /// Bytes of all of it.
    pub(crate) length: usize,
    /// What a careless reader might read otherwise.
    pub(crate) oddities: Vec<&'static str>,
}

/// What a stream begins with.
#[derive(Debug)]
pub(crate) enum Read {
    Whole(Message),
    /// The stream ends before the message does; its first line, if that is there.
    Part(Option<[String; 3]>),
    Fault(&'static str),
}

/// A request as readers count it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: usize,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, self.target, self.body)
    }
}

impl Request {
    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (rest, body) = text.rsplit_once(' ')?;
        let (method, target) = rest.split_once(' ')?;
        Some(Self { method: method.to_owned(), target: target.to_owned(), body: body.parse().ok()? })
    }
}

impl Message {
    pub(crate) fn request(&self) -> Request {
        let [method, target, _] = self.line.clone();
        Request { method, target, body: self.body }
    }

    /// A response's status.
    pub(crate) fn status(&self) -> &str {
        &self.line[1]
    }

    /// Whether it is a response that another one follows.
    pub(crate) fn is_interim(&self) -> bool {
        self.status().starts_with('1')
    }

    /// What a response says that its server read.
    pub(crate) fn read(&self) -> Option<Request> {
        Request::parse(self.value(READ)?)
    }

    /// The first value of a field.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of a field.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// All that a stream has: whole messages, and how it goes on.
pub(crate) struct Stream {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: End,
}

/// How a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a message's end.
    Clean,
    /// Within a message; its method and target if they are known.
    Within(Option<[String; 3]>),
    Fault(&'static str),
}

/// All requests of a stream.
pub(crate) fn requests(stream: &[u8]) -> Stream {
    messages(stream, |rest, _| request(rest))
}

/// All responses of a stream that has ended. The first of them is to a HEAD request if `to_head`; others say themselves whether
/// they are.
pub(crate) fn responses(stream: &[u8], to_head: bool) -> Stream {
    messages(stream, |rest, before| {
        let first = before.iter().all(Message::is_interim);
        response(rest, to_head && first)
    })
}

fn messages(stream: &[u8], read: impl Fn(&[u8], &[Message]) -> Read) -> Stream {
    let (mut messages, mut at) = (Vec::new(), 0);
    let end = loop {
        if at == stream.len() {
            break End::Clean;
        }
        match read(&stream[at..], &messages) {
            Read::Whole(message) => {
                at += message.length;
                messages.push(message);
            }
            Read::Part(line) => break End::Within(line),
            Read::Fault(fault) => break End::Fault(fault),
        }
    };
    Stream { messages, end }
}

/// The request that a stream begins with.
pub(crate) fn request(stream: &[u8]) -> Read {
    let mut message = match head(stream) {
        Read::Whole(head) => head,
        other @ (Read::Part(_) | Read::Fault(_)) => return other,
    };
    let [method, target, version] = &message.line;
    if !is_token(method) || target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Read::Fault("the request line is malformed");
    }
    let hosts = message.values("host").count();
    let odd = [
        (version != "HTTP/1.1", "not HTTP/1.1"),
        (!target.starts_with('/'), "the target is no path"),
        (hosts != 1, "not exactly one Host"),
    ];
    let odd = odd.into_iter().filter(|(odd, _)| *odd).map(|(_, what)| what);
    message.oddities.extend(odd.collect::<Vec<_>>());
    with_body(message, stream, false)
}

fn response(stream: &[u8], to_head: bool) -> Read {
    let mut message = match head(stream) {
        Read::Whole(head) => head,
        other @ (Read::Part(_) | Read::Fault(_)) => return other,
    };
    let [version, status, _] = message.line.clone();
    if !version.starts_with("HTTP/1.") || status.len() != 3 || status.parse::<u16>().is_err() {
        return Read::Fault("the status line is malformed");
    }
    let to_head = to_head || message.value(READ).is_some_and(|read| read.starts_with("HEAD "));
    let is_empty = message.is_interim() || status == "204";
    if to_head || is_empty || status == "304" {
        if is_empty
            && ["content-length", "transfer-encoding"].iter().any(|name| message.value(name).is_some())
        {
            // RFC 9110, 8.6 and RFC 9112, 6.1: it must not have one.
            message.oddities.push("a length where there is no content");
        }
        return Read::Whole(message);
    }
    with_body(message, stream, true)
}

/// A message without its body.
fn head(stream: &[u8]) -> Read {
    let end = stream.windows(4).position(|four| four == b"\r\n\r\n");
    let text = &stream[..end.unwrap_or(stream.len())];
    let stray = |at: usize, byte: u8| match byte {
        b'\n' => at == 0 || text[at - 1] != b'\r',
        b'\r' => text.get(at + 1).is_some_and(|next| *next != b'\n'),
        _ => false,
    };
    if text.iter().enumerate().any(|(at, byte)| stray(at, *byte)) {
        return Read::Fault("a bare CR or LF");
    }
    let text: String = text.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let mut parts = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
    let line = [(); 3].map(|()| parts.next().unwrap_or_default());
    let Some(end) = end else {
        return Read::Part(line.iter().all(|part| !part.is_empty()).then_some(line));
    };
    let mut fields = Vec::new();
    for field in lines {
        match field.split_once(':') {
            Some((name, value)) if is_token(name) && value.chars().all(is_value) => {
                fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
            }
            Some(_) | None => return Read::Fault("a field is malformed"),
        }
    }
    let length = end + 4;
    Read::Whole(Message { line, fields, body: 0, length, oddities: Vec::new() })
}

fn with_body(mut message: Message, stream: &[u8], until_close: bool) -> Read {
    let codings: Vec<_> = message.values("transfer-encoding").map(str::to_ascii_lowercase).collect();
    let lengths: Vec<_> = message.values("content-length").map(str::to_owned).collect();
    let rest = &stream[message.length..];
    let read = match (&codings[..], &lengths[..]) {
        ([], []) if until_close => Ok(Some((rest.len(), rest.len()))),
        ([], []) => Ok(Some((0, 0))),
        ([coding], _) if coding == "chunked" => chunks(rest),
        ([_, ..], _) => Err("a transfer coding that is not chunked"),
        ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().unwrap_or(usize::MAX);
            Ok((rest.len() >= length).then_some((length, length)))
        }
        ([], _) => Err("not one plain Content-Length"),
    };
    if !codings.is_empty() && !lengths.is_empty() {
        message.oddities.push("both lengths");
    }
    match read {
        Ok(Some((content, length))) => {
            message.body = content;
            message.length += length;
            Read::Whole(message)
        }
        Ok(None) => Read::Part(Some(message.line)),
        Err(fault) => Read::Fault(fault),
    }
}

/// Bytes of content, and of all of it.
fn chunks(stream: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let (mut content, mut at) = (0, 0);
    loop {
        let Some(line) = line(&stream[at..])? else { return Ok(None) };
        at += line.len() + 2;
        let size =
            std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size =
            size.and_then(|text| usize::from_str_radix(text, 16).ok()).ok_or("a chunk size is malformed")?;
        if size == 0 {
            break;
        }
        let Some(end) = stream.get(at.saturating_add(size)..).filter(|end| end.len() >= 2) else {
            return Ok(None);
        };
        if !end.starts_with(b"\r\n") {
            return Err("a chunk is longer or shorter than it says");
        }
        content += size;
        at += size + 2;
    }
    loop {
        let Some(line) = line(&stream[at..])? else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((content, at)));
        }
        if line.iter().position(|byte| *byte == b':').is_none_or(|colon| colon == 0) {
            return Err("a trailer field is malformed");
        }
    }
}

/// The line that a stream begins with, if it is whole.
fn line(stream: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    match stream.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if stream[end..].starts_with(b"\r\n") => Ok(Some(&stream[..end])),
        Some(end) if end + 1 < stream.len() || stream[end] == b'\n' => Err("a bare CR or LF"),
        Some(_) | None => Ok(None),
    }
}

fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

fn is_value(c: char) -> bool {
    c == '\t' || !c.is_control() || ('\u{80}'..='\u{9f}').contains(&c)
}

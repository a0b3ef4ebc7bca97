//! HTTP/2 in front: cases and canaries are sent as frames, and what reached the server behind is HTTP/1 as in all these tests.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use lb_user::proxy::snapshot::Verify;
use lb_user::proxy::tls::{self, Alpn, ClientAuth, SiteTls};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::backend::Backend;
use crate::corpus::http2::{Case, fields};
use crate::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, literal,
};
use crate::judge;
use crate::lane::Seen;
use crate::program::{self, Program};
use crate::setup::{Identity, NAME, Running, eventually, to_farm};
use crate::strict::{self, End};

/// A proxy, and the server behind it.
pub(crate) struct Subject {
    address: SocketAddrV4,
    backend: Backend,
    ours: Option<Running>,
    _program: Option<Program>,
}

/// What was seen of a case.
pub(crate) struct Outcome {
    pub(crate) seen: Seen,
    /// What became of its stream, in a few words.
    pub(crate) told: String,
    /// Whether the canary on the next stream was answered with 200.
    pub(crate) canary: bool,
    /// Whether the connection was ended for it.
    pub(crate) ended: bool,
}

impl Outcome {
    /// Without parts of requests, of which there may be more or less by the time that a stream is reset.
    pub(crate) fn verdict(&self) -> String {
        let whole = |stream: &&Vec<u8>| !matches!(strict::requests(stream).end, End::Within(_));
        let mut server: Vec<_> = self.seen.server.iter().filter(whole).cloned().collect();
        // Streams have their server connections for themselves, and in no order.
        server.sort_by_key(|stream| stream.starts_with(b"GET /canary "));
        judge::verdict(self.told.clone(), &Seen { server, ..self.seen.clone() })
    }
}

impl Subject {
    pub(crate) async fn ours() -> Self {
        let identity = Identity::new(&[NAME]);
        let backend = Backend::start(Some(identity.acceptor()), BTreeMap::new()).await;
        let running = Running::start(&identity, &[backend.address], |snapshot| {
            snapshot.farms[0].tests[0].interval = Duration::from_secs(3600);
            snapshot.sites[0].service = to_farm(1);
            snapshot.sites[0].tls = SiteTls { alpn: vec![Alpn::H2], client_auth: ClientAuth::Off };
        })
        .await;
        Self { address: running.address, backend, ours: Some(running), _program: None }
    }

    pub(crate) async fn nginx() -> Self {
        let (backend, route) = plain().await;
        let program = program::nginx(&[route], true).await;
        Self { address: route.0, backend, ours: None, _program: Some(program) }
    }

    pub(crate) async fn haproxy() -> Self {
        let (backend, route) = plain().await;
        let program = program::haproxy(&[route], true).await;
        Self { address: route.0, backend, ours: None, _program: Some(program) }
    }

    pub(crate) async fn send_all(&self, cases: &[Case]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for case in cases {
            outcomes.push(self.send(case).await);
        }
        outcomes
    }

    async fn send(&self, case: &Case) -> Outcome {
        let before = self.log().len();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let answers =
            if self.ours.is_some() { ask(tls(stream).await, case).await } else { ask(stream, case).await };
        let answered = usize::from(answers.of(1).is_some()) + usize::from(answers.of(3).is_some());
        if self.ours.is_some() {
            eventually("requests are logged", || self.log()[before..].lines().count() >= answered).await;
        }
        let log = self.log()[before..].lines().map(str::to_owned).collect();
        let seen = Seen { client: Vec::new(), server: self.backend.take().await, log };
        Outcome {
            told: answers.told(&seen),
            canary: answers.of(3) == Some(200),
            ended: answers.goaway.is_some(),
            seen,
        }
    }

    fn log(&self) -> String {
        self.ours.as_ref().map(|running| running.log.text()).unwrap_or_default()
    }
}

async fn plain() -> (Backend, (SocketAddrV4, SocketAddrV4)) {
    let [address] = program::free_doors::<1>();
    let backend = Backend::start(None, BTreeMap::new()).await;
    let route = (address, backend.address);
    (backend, route)
}

async fn tls(stream: TcpStream) -> impl AsyncRead + AsyncWrite + Unpin {
    let mut config = (*tls::client_config(&Verify::Nothing, Vec::new()).unwrap()).clone();
    config.alpn_protocols = vec![Alpn::H2.id().to_vec()];
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    connector.connect(tls::server_name(NAME).unwrap(), stream).await.unwrap()
}

/// What came back.
#[derive(Default)]
struct Answers {
    /// Of each stream: its final status, whether it has ended, and the code that it was reset with.
    streams: BTreeMap<u32, (Option<u16>, bool, Option<u32>)>,
    goaway: Option<u32>,
}

impl Answers {
    fn of(&self, stream: u32) -> Option<u16> {
        self.streams.get(&stream)?.0
    }

    fn are_over(&self) -> bool {
        let over =
            |stream| self.streams.get(&stream).is_some_and(|(_, ended, reset)| *ended || reset.is_some());
        over(1) && over(3)
    }

    fn told(&self, seen: &Seen) -> String {
        let (status, _, reset) = self.streams.get(&1).copied().unwrap_or_default();
        let word = |key: &str| {
            let of = |line: &String| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                Some(line.get(key)?.as_str()?.to_owned())
            };
            seen.log.iter().find_map(of)
        };
        let why = word("violation").or_else(|| word("cause"));
        let mut told = Vec::new();
        if let Some(status) = status {
            told.push(format!("{status}{}", why.map(|why| format!(" {why}")).unwrap_or_default()));
        }
        // After a whole answer: no more of the request is wanted.
        if let Some(code) = reset.filter(|code| *code != 0) {
            told.push(format!("reset {code}"));
        }
        if let Some(code) = self.goaway.filter(|code| *code != 0) {
            told.push(format!("GOAWAY {code}"));
        }
        if told.is_empty() { "nothing".to_owned() } else { told.join(" ") }
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let entry = self.streams.entry(stream).or_default();
        match kind {
            HEADERS if entry.0.is_none_or(|status| status < 200) => entry.0 = status(payload),
            RST_STREAM => entry.2 = Some(code(0)),
            GOAWAY => self.goaway = Some(code(4)),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            self.streams.entry(stream).or_default().1 = true;
        }
    }
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, case: &Case) -> Answers {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut answers = Answers::default();
    // Whoever refuses the beginning need not read the rest.
    writer.write_all(&frames(case)).await.ok();
    let read = async {
        while !answers.are_over() {
            let mut header = [0; 9];
            if reader.read_exact(&mut header).await.is_err() {
                break;
            }
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let mut payload = vec![0; length];
            if reader.read_exact(&mut payload).await.is_err() {
                break;
            }
            let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
            answers.take(header[3], header[4], stream, &payload);
        }
    };
    // What is not answered by then is part of the verdict.
    tokio::time::timeout(PATIENCE, read).await.ok();
    answers
}

fn frames(case: &Case) -> Vec<u8> {
    let block = |fields: &[(Vec<u8>, Vec<u8>)]| -> Vec<u8> {
        fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
    };
    let last = |is: bool| if is { END_STREAM } else { 0 };
    let mut sent = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    sent.extend(frame(HEADERS, END_HEADERS | last(case.body.is_none()), 1, &block(&case.fields)));
    if let Some(body) = &case.body {
        sent.extend(frame(DATA, last(case.trailers.is_empty()), 1, body));
        if !case.trailers.is_empty() {
            sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&case.trailers)));
        }
    }
    sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&fields("GET", "/canary"))));
    sent
}

/// The status with which a header block begins, as the proxies here write it: from the static table, or its name from there and its
/// digits plain or by Huffman's code (RFC 7541, appendices A and B).
fn status(block: &[u8]) -> Option<u16> {
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A size of the dynamic table may come first.
    let block = match block {
        [0x20..=0x3f, rest @ ..] => rest,
        block => block,
    };
    match *block {
        [first @ 0x88..=0x8e, ..] => Some(KNOWN[usize::from(first - 0x88)]),
        [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
        [0x08 | 0x18 | 0x48, length, ref rest @ ..] if length & 0x80 != 0 => {
            let coded = rest.get(..usize::from(length & 0x7f))?;
            let mut bits =
                coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
            let mut digit = || {
                let five = (0..5).try_fold(0, |code, _| Some(code << 1 | bits.next()?))?;
                if five < 3 { Some(five) } else { (five << 1 | bits.next()?).checked_sub(22) }
            };
            Some(digit()? * 100 + digit()? * 10 + digit()?)
        }
        _ => None,
    }
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

//! A connection that goes out: to a listed node, kept as long as it is listed, or to whoever has a key that a token names, kept while
//! it is used.
//!
//! ```text
//! connect -> TLS -> first Pong -> questions and answers, Ping every 15 s
//!    ^                                       |
//!    +------ pause 0.1 .. 5 s <------- broken, silent       a call cuts the pause short
//! ```
//! Only the first `Pong` shows that the other end has let this node in: it checks keys after this end has.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::ClientConnection;
use rustls_pki_types::ServerName;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::channel::{Trouble, Up, Why};
use super::inbound::{HANDSHAKE, Upward, WHOLE};
use super::message::{Message, of_asked};
use super::prepare;
use super::talk::{Kept, Patience, Reader, Room, Writer};
use super::tls::{Identity, Proven, why_of};
use crate::config::model::PEER_PORT;
use crate::shared::keys::VerifyingKey;

/// Something to be asked.
#[derive(Debug)]
pub struct Call {
    /// What.
    pub bytes: Vec<u8>,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// Where the answer goes.
    pub owed: Owed,
}

/// An answer that the agent waits for. Dropped, it says that the node is not listed any more.
#[derive(Debug)]
pub struct Owed {
    number: u64,
    up: mpsc::UnboundedSender<Upward>,
    paid: bool,
}

impl Owed {
    /// To the agent's call of this number.
    pub fn new(number: u64, up: mpsc::UnboundedSender<Upward>) -> Self {
        Self { number, up, paid: false }
    }

    /// There is none.
    pub fn fail(mut self, why: Why) {
        self.pay(Err(why), None);
    }

    fn answer(mut self, binding: [u8; 32], bytes: Vec<u8>, kept: Kept) {
        self.pay(Ok((binding, bytes)), kept);
    }

    fn pay(&mut self, result: Result<([u8; 32], Vec<u8>), Why>, kept: Kept) {
        self.paid = true;
        // The channel to the agent ends with this process.
        drop(self.up.send(Upward { up: Up::Returned { number: self.number, result }, kept }));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.paid {
            self.pay(Err(Why::Unreachable(Trouble::Removed)), None);
        }
    }
}

/// Where a connection goes to, and how.
pub struct Link {
    /// Where.
    pub address: Ipv4Addr,
    /// The key that is expected there.
    pub key: VerifyingKey,
    /// What this node proves itself by.
    pub identity: Identity,
    /// For long answers.
    pub room: Room,
    /// What to ask. The agent bounds how much waits here.
    pub calls: mpsc::UnboundedReceiver<Call>,
    /// Whether it is connected, and if not why, whenever that changes.
    pub report: Report,
}

/// Hears whether a link is connected.
pub type Report = Box<dyn Fn(Option<Why>) + Send + Sync>;

/// A connection that stands.
struct Line {
    reader: Reader<ReadHalf<TlsStream<TcpStream>>>,
    writer: Writer<WriteHalf<TlsStream<TcpStream>>, ()>,
    binding: [u8; 32],
}

impl Link {
    /// Keeps the connection until nobody has the other end of `calls`.
    pub async fn keep(mut self) {
        let (mut attempt, mut first) = (0, None);
        loop {
            let why = match self.connect().await {
                Ok(line) => {
                    (self.report)(None);
                    attempt = 0;
                    match self.converse(line, first.take(), None).await {
                        Some(why) => why,
                        None => return,
                    }
                }
                Err(why) => {
                    self.fail_waiting(first.take(), why);
                    why
                }
            };
            (self.report)(Some(why));
            tokio::select! {
                () = tokio::time::sleep(pause(attempt, random())) => {}
                call = self.calls.recv() => match call {
                    Some(call) => first = Some(call),
                    None => return,
                },
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// Connects once, asks what there is, and ends when it was not used for a minute.
    pub async fn greet(mut self) {
        match self.connect().await {
            Ok(line) => {
                self.converse(line, None, Some(UNUSED)).await;
            }
            Err(why) => {
                self.calls.close();
                self.fail_waiting(None, why);
            }
        }
    }

    fn fail_waiting(&mut self, first: Option<Call>, why: Why) {
        let waiting = std::iter::from_fn(|| self.calls.try_recv().ok());
        for call in first.into_iter().chain(waiting) {
            call.owed.fail(why);
        }
    }

    async fn connect(&self) -> Result<Line, Why> {
        let silent = Why::Unreachable(Trouble::Silent);
        let presented = Arc::default();
        let connecting = timeout(HANDSHAKE, self.handshake(Arc::clone(&presented)));
        let line = connecting.await.unwrap_or(Err(silent));
        // What the other end is tells more than what came of it.
        match presented.get() {
            Some(presented) if *presented != self.key => Err(Why::OtherKey(*presented)),
            Some(_) | None => line,
        }
    }

    async fn handshake(&self, presented: Arc<OnceLock<VerifyingKey>>) -> Result<Line, Why> {
        let no_peer = Why::Unreachable(Trouble::NoPeer);
        let address = SocketAddr::from((self.address, PEER_PORT));
        let stream = TcpStream::connect(address).await.map_err(|error| why_of(&error))?;
        prepare(&stream);
        let config = self.identity.client(self.key, presented).map_err(|_| no_peer)?;
        let name = ServerName::IpAddress(self.address.into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| why_of(&error))?;
        let connection: &ClientConnection = stream.get_ref().1;
        let export = |to, label: &[u8]| connection.export_keying_material(to, label, None);
        let binding = Proven::of(connection, export).ok_or(no_peer)?.binding;
        let (from, to) = tokio::io::split(stream);
        let patience = Patience { idle: SILENCE, whole: WHOLE };
        let mut reader = Reader::new(from, of_asked, patience, self.room.clone());
        let mut writer = Writer::new(to);
        writer.put(Message::Ping { number: 0 }, None);
        while !writer.is_idle() {
            // Where it cannot be written, what was read says why.
            if writer.step().await.is_err() {
                break;
            }
        }
        let (first, _) = reader.next().await?;
        if first == (Message::Pong { number: 0 }) {
            Ok(Line { reader, writer, binding })
        } else {
            Err(Why::Unreachable(Trouble::Garbled))
        }
    }

    /// Until the connection breaks, which is told, or nobody asks any more; with `unused`, for so long.
    async fn converse(&mut self, line: Line, first: Option<Call>, unused: Option<Duration>) -> Option<Why> {
        let Line { mut reader, mut writer, binding } = line;
        let mut desk = Desk::default();
        if let Some(call) = first {
            desk.ask(call, &mut writer);
        }
        let mut ping = interval_at(Instant::now() + PING, PING);
        let (mut used, mut over) = (Instant::now(), false);
        let why = loop {
            let wake =
                unused.map_or_else(far, |unused| used + unused).min(desk.deadline().unwrap_or_else(far));
            tokio::select! {
                came = reader.next() => match came {
                    Ok((message, kept)) => desk.answered(message, binding, kept),
                    Err(why) => break why,
                },
                call = self.calls.recv(), if !over => match call {
                    Some(call) => desk.ask(call, &mut writer),
                    None => over = true,
                },
                step = writer.step() => match step {
                    Ok(()) => reader.touch(),
                    Err(why) => break last_word(&mut reader).await.unwrap_or(why),
                },
                _ = ping.tick() => if writer.is_idle() {
                    writer.put(Message::Ping { number: 1 }, None);
                },
                () = sleep_until(wake) => desk.expire(Instant::now()),
            }
            if !desk.is_empty() {
                used = Instant::now();
            } else if over {
                writer.close().await;
                return None;
            } else if unused.is_some_and(|unused| used.elapsed() >= unused) {
                // What came at the last moment is still asked.
                self.calls.close();
            }
        };
        desk.fail(why);
        Some(why)
    }
}

/// Questions that are open on a connection: as many as the agent asks, which bounds them. Those that it has given up stay until their
/// deadline, and count at the other end.
#[derive(Debug, Default)]
struct Desk {
    open: BTreeMap<u64, (Instant, Owed)>,
    last: u64,
}

impl Desk {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|(deadline, _)| *deadline).min()
    }

    fn ask<W: tokio::io::AsyncWrite + Unpin>(&mut self, call: Call, writer: &mut Writer<W, ()>) {
        let Call { bytes, deadline, owed } = call;
        if deadline <= Instant::now() {
            return owed.fail(Why::TimedOut);
        }
        self.last += 1;
        self.open.insert(self.last, (deadline, owed));
        writer.put(Message::Question { number: self.last, bytes }, None);
    }

    /// What came. An answer that nobody waits for any more is let go.
    fn answered(&mut self, message: Message, binding: [u8; 32], kept: Kept) {
        match message {
            Message::Answer { number, bytes } => {
                if let Some((_, owed)) = self.open.remove(&number) {
                    owed.answer(binding, bytes, kept);
                }
            }
            Message::Refused { number } => self.refused(number, Why::Refused),
            Message::Busy { number } => self.refused(number, Why::Busy),
            Message::Pong { .. } => {}
            // The reader's limits let none through.
            Message::Question { .. } | Message::Ping { .. } => {}
        }
    }

    fn refused(&mut self, number: u64, why: Why) {
        if let Some((_, owed)) = self.open.remove(&number) {
            owed.fail(why);
        }
    }

    fn expire(&mut self, now: Instant) {
        for (_, (_, owed)) in self.open.extract_if(.., |_, (deadline, _)| *deadline <= now) {
            owed.fail(Why::TimedOut);
        }
    }

    fn fail(self, why: Why) {
        for (_, owed) in self.open.into_values() {
            owed.fail(why);
        }
    }
}

/// Why the other end closed, if it has said so.
async fn last_word<R: tokio::io::AsyncRead + Unpin>(reader: &mut Reader<R>) -> Option<Why> {
    match timeout(Duration::from_secs(1), reader.next()).await {
        Ok(Err(why)) => Some(why),
        Ok(Ok(_)) | Err(_) => None,
    }
}

/// How long to wait after so many failures, with some of the `random` bits: nodes that lost each other at once do not all come back
/// at once.
fn pause(attempt: u32, random: u32) -> Duration {
    let most = SHORTEST_PAUSE.saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE);
    most / 2 + most.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without any, all wait for as long.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Time between signs of life.
const PING: Duration = Duration::from_secs(15);

/// So long without one, and there is no connection.
const SILENCE: Duration = Duration::from_secs(25);

/// How long a connection for joining is kept without a question.
const UNUSED: Duration = Duration::from_secs(60);

/// First pause between attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_differ() {
        let millis = |attempt, random| pause(attempt, random).as_millis();
        for (attempt, least, most) in
            [(0, 50, 100), (1, 100, 200), (3, 400, 800), (6, 2500, 5000), (u32::MAX, 2500, 5000)]
        {
            assert_eq!((millis(attempt, 0), millis(attempt, u32::MAX)), (least, most), "{attempt}");
        }
    }
}

//! A connection that came in: its handshake, what is asked over it, and the answers.
//!
//! One task, which ends with the connection; `Hall` is what all of them share. Cut off by aborting it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::server::ServerConnection;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::channel::Up;
use super::doors::{Doors, Turned, Who};
use super::frame::Limits;
use super::message::{Message, of_node, of_stranger};
use super::prepare;
use super::supervisor::Asker;
use super::talk::{Kept, Patience, Reader, Room, Writer};
use super::tls::{Identity, Proven};
use crate::shared::keys::VerifyingKey;

/// What goes to the agent, and the room that it is kept in until then.
#[derive(Debug)]
pub struct Upward {
    /// What.
    pub up: Up,
    /// Its room.
    pub kept: Kept,
}

/// What the connections that came in share.
#[derive(Debug)]
pub struct Hall {
    doors: Mutex<Doors>,
    /// Questions that the agent has, by its numbers.
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    /// The tasks, by seat.
    tasks: Mutex<BTreeMap<u64, AbortHandle>>,
    complaints: Mutex<Complaints>,
    up: mpsc::UnboundedSender<Upward>,
    room: Room,
}

/// A question that the agent has.
#[derive(Debug)]
struct Waiting {
    /// The asker's own number.
    number: u64,
    answers: mpsc::UnboundedSender<(Message, Open)>,
    open: Open,
}

/// A question that counts as open until this is dropped.
#[derive(Debug)]
struct Open(Arc<Hall>, u64);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.doors().answered(self.1);
    }
}

/// A connection's seat, until it ends.
struct Seat(Arc<Hall>, u64);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.doors().leave(self.1);
        lock(&self.0.tasks).remove(&self.1);
    }
}

/// Who was turned away and is not told of yet.
#[derive(Debug, Default)]
struct Complaints {
    told: Option<Instant>,
    untold: u64,
}

impl Hall {
    /// With nobody in it. What is asked goes to `up`.
    pub fn new(up: mpsc::UnboundedSender<Upward>, room: Room) -> Self {
        let (waiting, tasks) = (Mutex::default(), Mutex::default());
        Self { doors: Mutex::default(), waiting, tasks, complaints: Mutex::default(), up, room }
    }

    /// Who may come in.
    pub fn doors(&self) -> MutexGuard<'_, Doors> {
        lock(&self.doors)
    }

    /// Takes a connection in. Within a Tokio runtime that runs tasks on this thread alone.
    pub fn receive(self: &Arc<Self>, stream: TcpStream, from: SocketAddr, identity: &Identity) {
        let address = from.ip().to_canonical();
        let knocked = self.doors().knock(address);
        match knocked {
            Err(turned) => self.complain(address, None, turned),
            Ok(number) => {
                let seat = Seat(Arc::clone(self), number);
                let task = tokio::spawn(serve(seat, stream, address, identity.clone()));
                // It cannot have ended: it runs on this thread, and has not begun.
                lock(&self.tasks).insert(number, task.abort_handle());
            }
        }
    }

    /// How TLS is spoken to who comes in from `address`.
    fn acceptor(
        self: &Arc<Self>,
        identity: &Identity,
        address: IpAddr,
    ) -> Result<TlsAcceptor, rustls::Error> {
        let hall = Arc::clone(self);
        let may_enter = move |key| {
            let may = hall.doors().may_enter(key);
            if !may {
                hall.complain(address, Some(key), Turned::Stranger);
            }
            may
        };
        Ok(TlsAcceptor::from(Arc::new(identity.server(may_enter)?)))
    }

    /// Cuts these off.
    pub fn cut(&self, seats: &[u64]) {
        for seat in seats {
            let task = lock(&self.tasks).remove(seat);
            task.inspect(AbortHandle::abort);
        }
    }

    /// Passes the agent's answer on. Who asked may be gone.
    pub fn answer(&self, question: u64, bytes: Option<Vec<u8>>) {
        let Some(Waiting { number, answers, open }) = lock(&self.waiting).remove(&question) else { return };
        let message = match bytes {
            Some(bytes) => Message::Answer { number, bytes },
            None => Message::Refused { number },
        };
        // Undelivered, it drops `open` here.
        drop(answers.send((message, open)));
    }

    /// Says who was turned away, every ten seconds at most: whoever knocks must not fill the log.
    fn complain(&self, address: IpAddr, key: Option<VerifyingKey>, why: Turned) {
        let mut complaints = lock(&self.complaints);
        let now = Instant::now();
        if complaints.told.is_some_and(|told| now - told < COMPLAINTS) {
            complaints.untold += 1;
            return;
        }
        let others = std::mem::take(&mut complaints.untold);
        complaints.told = Some(now);
        tracing::warn!(%address, key = key.map(tracing::field::display), others, "turned away: {why}");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(seat: Seat, stream: TcpStream, address: IpAddr, identity: Identity) {
    prepare(&stream);
    let Ok(acceptor) = seat.0.acceptor(&identity, address) else { return };
    let Ok(Some(stream)) = timeout(HANDSHAKE, handshake(stream, &acceptor)).await else { return };
    let connection: &ServerConnection = stream.get_ref().1;
    let export = |to, label: &[u8]| connection.export_keying_material(to, label, None);
    let Some(proven) = Proven::of(connection, export) else { return };
    let entered = seat.0.doors().enter(seat.1, proven.key);
    match entered {
        Ok(before) => seat.0.cut(before.as_slice()),
        Err(turned) => {
            seat.0.complain(address, Some(proven.key), turned);
            return;
        }
    }
    converse(seat, stream, address, proven).await;
}

/// `None`: it failed. Who was refused has read why by then: closed at once, with words of theirs unread, the connection would be reset,
/// and the alert lost.
async fn handshake(stream: TcpStream, acceptor: &TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => Some(stream),
        Err((_, mut stream)) => {
            let mut left = [0; 1024];
            let mut drained = 0;
            while drained < MOST_DRAINED {
                match timeout(LINGER, stream.read(&mut left)).await {
                    Ok(Ok(length)) if length > 0 => drained += length,
                    Ok(_) | Err(_) => break,
                }
            }
            None
        }
    }
}

async fn converse(seat: Seat, stream: TlsStream<TcpStream>, address: IpAddr, proven: Proven) {
    let is_node = seat.0.doors().is_node(proven.key);
    let (limits, whole) =
        if is_node { (of_node as Limits, WHOLE) } else { (of_stranger as Limits, WHOLE_OF_STRANGER) };
    let (from, to) = tokio::io::split(stream);
    let patience = Patience { idle: IDLE, whole };
    let mut reader = Reader::new(from, limits, patience, seat.0.room.clone());
    let mut writer = Writer::new(to);
    // Bounded by how many questions may be open.
    let (answers, mut answered) = mpsc::unbounded_channel();
    let guest = Guest { seat, address, proven, answers };
    loop {
        tokio::select! {
            came = reader.next(), if writer.backlog() < MOST_BACKLOG => {
                let said = came.ok().and_then(|(message, kept)| guest.says(message, kept).ok());
                match said {
                    Some(reply) => reply.into_iter().for_each(|reply| writer.put(reply, None)),
                    None => return,
                }
            }
            Some((message, open)) = answered.recv() => writer.put(message, Some(open)),
            step = writer.step() => if step.is_err() { return },
        }
    }
}

/// Somebody who was let in.
struct Guest {
    seat: Seat,
    address: IpAddr,
    proven: Proven,
    answers: mpsc::UnboundedSender<(Message, Open)>,
}

impl Guest {
    /// What is said to that at once, if anything. An error ends the connection.
    fn says(&self, message: Message, kept: Kept) -> Result<Option<Message>, Turned> {
        match message {
            Message::Ping { number } => Ok(Some(Message::Pong { number })),
            Message::Question { number, bytes } => match self.ask(number, bytes, kept) {
                Err(Turned::Busy) => Ok(Some(Message::Busy { number })),
                asked => asked.map(|()| None),
            },
            // The reader's limits let none through.
            Message::Answer { .. }
            | Message::Refused { .. }
            | Message::Busy { .. }
            | Message::Pong { .. } => Err(Turned::Gone),
        }
    }

    /// Passes a question on to the agent.
    fn ask(&self, number: u64, bytes: Vec<u8>, kept: Kept) -> Result<(), Turned> {
        let Seat(hall, seat) = &self.seat;
        let (question, who) = hall.doors().ask(*seat)?;
        let (open, answers) = (Open(Arc::clone(hall), question), self.answers.clone());
        lock(&hall.waiting).insert(question, Waiting { number, answers, open });
        let Self { address, proven: Proven { key, binding }, .. } = *self;
        let from = match who {
            Who::Node(name) => Asker::Node(name),
            Who::Stranger => Asker::Stranger { key, address, binding },
        };
        // The channel to the agent ends with this process.
        drop(hall.up.send(Upward { up: Up::Asked { number: question, from, bytes }, kept }));
        Ok(())
    }
}

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long who came in may say nothing; nodes ask for a sign of life far more often.
const IDLE: Duration = Duration::from_secs(60);

/// From the first to the last byte of a node's question: 17 MiB at 150 KB/s.
pub const WHOLE: Duration = Duration::from_secs(120);

/// The same of a stranger's, at most 64 KiB.
const WHOLE_OF_STRANGER: Duration = Duration::from_secs(10);

/// Pieces that may wait to be written before nothing more is read.
const MOST_BACKLOG: usize = 16;

/// How long who was refused may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of theirs that are thrown away meanwhile.
const MOST_DRAINED: usize = 16 << 10;

/// Time between complaints.
const COMPLAINTS: Duration = Duration::from_secs(10);

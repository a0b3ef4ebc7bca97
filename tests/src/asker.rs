//! A UDP client of the small service (`responder`), as a name server's: every question has a port of its own, and its port goes
//! on listening for a while after the answer, because there must be no second one.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use lb_user::clock::Time;

use crate::caller::client_address;
use crate::lab::Lab;
use crate::responder::{LONGEST, NAME, parse_answer};
use crate::sys::{Namespace, allow_many_files};

/// How long a port listens for answers.
pub const PATIENCE: Duration = Duration::from_millis(300);

/// Time from one question to the next.
const PERIOD: Duration = Duration::from_millis(2);

/// How many questions there are at most: the ports of one address.
const MOST: u16 = 60_000;

/// A client at work.
#[derive(Debug)]
pub struct Asker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Question>>>,
}

/// One question and its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The client's end.
    pub client: SocketAddr,
    /// When it was asked.
    pub asked: Time,
    /// Who answered, or what came in place of an answer.
    pub answers: Vec<String>,
}

impl Asker {
    /// Asks `target` every 2 ms, from an address of its own, at most 2 minutes.
    pub fn start(lab: &Lab, target: SocketAddr) -> Result<Self> {
        allow_many_files()?;
        let (namespace, source) = (lab.client.clone(), client_address(lab, target)?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || ask_again(&namespace, source, target, &stopped));
        Ok(Self { stop, thread })
    }

    /// Asks no more, waits for the last answers, and gives all questions in the order they were asked.
    pub fn finish(self) -> Result<Vec<Question>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("an asker panicked"))?
    }
}

fn ask_again(
    namespace: &Namespace,
    source: IpAddr,
    target: SocketAddr,
    stop: &AtomicBool,
) -> Result<Vec<Question>> {
    namespace.move_into()?;
    let (mut done, mut waiting) = (Vec::new(), VecDeque::new());
    for number in 0..MOST {
        if stop.load(Ordering::Acquire) {
            break;
        }
        waiting.push_back(Waiting::ask(SocketAddr::new(source, 1024 + number), target)?);
        while waiting.front().is_some_and(|oldest: &Waiting| oldest.asked + PATIENCE < Time::now()) {
            done.extend(waiting.pop_front().map(Waiting::collect));
        }
        thread::sleep(PERIOD);
    }
    thread::sleep(PATIENCE);
    done.extend(waiting.into_iter().map(Waiting::collect));
    Ok(done)
}

/// A question that may still be answered.
struct Waiting {
    client: SocketAddr,
    asked: Time,
    socket: UdpSocket,
}

impl Waiting {
    fn ask(client: SocketAddr, target: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(client).with_context(|| format!("cannot bind {client}"))?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        let asked = Time::now();
        socket.send(&client.port().to_be_bytes()).context("cannot ask")?;
        Ok(Self { client, asked, socket })
    }

    fn collect(self) -> Question {
        let Self { client, asked, socket } = self;
        let mut answers = Vec::new();
        let mut buffer = [0; NAME + LONGEST];
        // A bound: an endless stream of answers is no reason to listen for ever.
        for _ in 0..100 {
            match socket.recv(&mut buffer) {
                Ok(length) => answers.push(name_in(&buffer[..length], client.port())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => answers.push(error.to_string()),
            }
        }
        Question { client, asked, answers }
    }
}

fn name_in(answer: &[u8], port: u16) -> String {
    match parse_answer(answer) {
        Some((name, question)) if question == port.to_be_bytes() => name.to_owned(),
        Some(_) | None => format!("a wrong answer: {answer:?}"),
    }
}

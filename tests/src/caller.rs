//! TCP clients of the small service (`responder`): calls, which connect, ask one question and hang up, one after the other; and
//! lines, which stay open. What they saw is data; the judgement is the caller's.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lb_user::clock::Time;
use socket2::{Domain, Socket, Type};

use crate::lab::Lab;
use crate::responder::{NAME, parse_answer};
use crate::sys::Namespace;

/// How long a client waits for a connection, and for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Time from one question on a line to the next.
const BEAT: Duration = Duration::from_millis(100);

/// A client with an address of its own, every port of which it uses once.
#[derive(Clone, Debug)]
pub struct Caller {
    namespace: Namespace,
    source: IpAddr,
    target: SocketAddr,
    next_port: u16,
    patience: Duration,
    hold: Duration,
}

/// One call and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The client's end.
    pub client: SocketAddr,
    /// When the connection was begun.
    pub begun: Time,
    /// When it was answered or given up.
    pub ended: Time,
    /// Who answered, or why nobody did.
    pub answer: Result<String, String>,
}

impl Caller {
    /// A client on the lab's internet that calls `target`.
    pub fn new(lab: &Lab, target: SocketAddr) -> Result<Self> {
        let source = client_address(lab, target)?;
        Ok(Self {
            namespace: lab.client.clone(),
            source,
            target,
            next_port: 1024,
            patience: PATIENCE,
            hold: Duration::ZERO,
        })
    }

    /// The same, but it holds every call for this long, and then asks again.
    pub fn holding(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// The same with another patience.
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where it calls from.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// A connection from the next port. The calling thread is in the client's namespace.
    fn connect(&mut self) -> (SocketAddr, Result<TcpStream>) {
        let client = SocketAddr::new(self.source, self.next_port);
        self.next_port = self.next_port.saturating_add(1);
        let connect = || -> Result<TcpStream> {
            ensure!(client.port() < u16::MAX, "this client has used every port once");
            let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, None)?;
            socket.bind(&client.into())?;
            socket.connect_timeout(&self.target.into(), self.patience).context("connect")?;
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_write_timeout(Some(self.patience))?;
            Ok(stream)
        };
        (client, connect())
    }

    /// Connects, asks, perhaps holds on and asks again, hangs up.
    fn call(&mut self) -> Call {
        let begun = Time::now();
        let (client, stream) = self.connect();
        let answer = stream.and_then(|stream| self.talk(stream));
        Call { client, begun, ended: Time::now(), answer: answer.map_err(|error| format!("{error:#}")) }
    }

    fn talk(&self, mut stream: TcpStream) -> Result<String> {
        let name = ask(&mut stream, 1)?;
        if !self.hold.is_zero() {
            thread::sleep(self.hold);
            let again = ask(&mut stream, 2)?;
            ensure!(name == again, "{name} answered first, {again} second");
        }
        Ok(name)
    }
}

/// An address of the client's that nobody else in the lab uses, for talking to `target`.
pub(crate) fn client_address(lab: &Lab, target: SocketAddr) -> Result<IpAddr> {
    match target {
        SocketAddr::V4(_) => lab.client_address().map(IpAddr::from),
        SocketAddr::V6(_) => Ok(lab.client_address6().into()),
    }
}

/// Asks one question on a connection, and says who answered.
fn ask(stream: &mut TcpStream, number: u64) -> Result<String> {
    let question = number.to_be_bytes();
    stream.write_all(&question).context("ask")?;
    let mut answer = [0; NAME + 8];
    stream.read_exact(&mut answer).context("no answer")?;
    match parse_answer(&answer) {
        Some((name, echoed)) if echoed == question => Ok(name.to_owned()),
        Some(_) | None => Err(anyhow!("a wrong answer: {answer:?}")),
    }
}

/// Callers at work.
#[derive(Debug)]
pub struct Callers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result<Vec<Call>>>>,
}

impl Callers {
    /// Each of these clients calls again and again, with a pause after each call, until all of them together have called `most`
    /// times.
    pub fn start(callers: Vec<Caller>, pause: Duration, most: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let threads = callers.into_iter().map(|caller| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || call_again(caller, pause, most, &stop, &done))
        });
        Self { threads: threads.collect(), stop, done }
    }

    /// How many calls have begun so far.
    pub fn begun(&self) -> usize {
        self.done.load(Ordering::Acquire)
    }

    /// Lets each end its call and gives all, in the order they were begun.
    pub fn finish(self) -> Result<Vec<Call>> {
        self.stop.store(true, Ordering::Release);
        self.finish_all()
    }

    /// Waits until all the calls are made, and gives them.
    pub fn finish_all(self) -> Result<Vec<Call>> {
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| anyhow!("a caller panicked"))??);
        }
        all.sort_by_key(|call: &Call| call.begun);
        Ok(all)
    }
}

fn call_again(
    mut caller: Caller,
    pause: Duration,
    most: usize,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Result<Vec<Call>> {
    caller.namespace.move_into()?;
    let mut calls = Vec::new();
    while !stop.load(Ordering::Acquire) && done.fetch_add(1, Ordering::AcqRel) < most {
        calls.push(caller.call());
        thread::sleep(pause);
    }
    Ok(calls)
}

/// A connection that stays open, with a question every 100 ms.
#[derive(Debug)]
pub struct Line {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<LineReport>>,
}

/// What a [`Line`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineReport {
    /// The client's end.
    pub client: SocketAddr,
    /// When each question was answered.
    pub exchanges: Vec<Time>,
    /// Who answered.
    pub by: BTreeSet<String>,
    /// Why it broke, if it did.
    pub broken: Option<String>,
}

impl Line {
    /// Opens it, with a first answer; for 2 minutes at most.
    pub fn open(mut caller: Caller) -> Result<Self> {
        let namespace = caller.namespace.clone();
        let (client, stream) = namespace.enter(|| caller.connect())?;
        let mut stream = stream?;
        let first = ask(&mut stream, 0)?;
        let report = LineReport { client, exchanges: vec![Time::now()], by: [first].into(), broken: None };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || Ok(talk(stream, report, &stopped)));
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn finish(self) -> Result<LineReport> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("a line panicked"))?
    }
}

fn talk(mut stream: TcpStream, mut report: LineReport, stop: &AtomicBool) -> LineReport {
    for number in 1..1200 {
        if stop.load(Ordering::Acquire) {
            break;
        }
        match ask(&mut stream, number) {
            Ok(name) => {
                report.by.insert(name);
                report.exchanges.push(Time::now());
            }
            Err(error) => {
                report.broken = Some(format!("{error:#}"));
                break;
            }
        }
        thread::sleep(BEAT);
    }
    report
}

//! Clients of mail that ask again and again, and count: each of OWA, ActiveSync and EWS keeps a connection for a few requests, each of SMTP
//! hands a message over. What became of each request is data; which may fail is for the recipe to say.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_user::clock::Time;
use rollcall_tests::capture::{Flow, Kind as Protocol};
use rollcall_tests::client::{Connection, Https};
use rollcall_tests::node::PATIENCE;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Owa,
    ActiveSync,
    Ews,
    Smtp,
}

impl Speaks {
    const ALL: [Self; 4] = [Self::Owa, Self::ActiveSync, Self::Ews, Self::Smtp];

    fn port(self) -> u16 {
        match self {
            Self::Owa | Self::ActiveSync | Self::Ews => 443,
            Self::Smtp => 25,
        }
    }

    /// A request that Exchange answers before anybody has logged on, and how.
    fn request(self) -> Option<(&'static str, &'static str, u16)> {
        match self {
            Self::Owa => Some(("GET", "/owa/auth/logon.aspx", 200)),
            Self::ActiveSync => Some(("OPTIONS", "/Microsoft-Server-ActiveSync", 200)),
            Self::Ews => Some(("GET", "/EWS/Exchange.asmx", 401)),
            Self::Smtp => None,
        }
    }
}

/// A request and what became of it. Nothing is tried again behind its back.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Which client it is of.
    pub(super) client: usize,
    pub(super) speaks: Speaks,
    /// When the connection that it went over was begun.
    pub(super) begun: Time,
    /// When it was answered, or given up.
    pub(super) ended: Time,
    /// The client's end, where there was a connection.
    address: Option<SocketAddr>,
    /// Why it failed, if it did.
    pub(super) trouble: Option<String>,
}

impl Asked {
    /// Its connection, as a capture knows it.
    pub(super) fn flow(&self) -> Option<Flow> {
        self.address.map(|client| Flow { kind: Protocol::Tcp, client, port: self.speaks.port() })
    }
}

/// Clients at work.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
    threads: Vec<JoinHandle<()>>,
}

/// Clients of each kind.
const OF_A_KIND: usize = 2;

/// All of them.
const ALL: usize = OF_A_KIND * Speaks::ALL.len();

/// Requests over one connection.
const PER_CONNECTION: usize = 5;

const PAUSE: Duration = Duration::from_millis(40);

impl Clients {
    pub(super) fn start(https: &Https) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..ALL).map(|client| {
            let speaks = Speaks::ALL[client % Speaks::ALL.len()];
            let mut https = https.clone();
            https.target.set_port(speaks.port());
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || ask_again(&https, client, speaks, &stop, &asked))
        });
        let threads = threads.collect();
        Self { stop, asked, threads }
    }

    /// Waits until every client has been answered so many times more.
    pub(super) fn wait_for(&self, answers: usize) {
        let before = self.answered();
        let deadline = Time::now() + PATIENCE;
        loop {
            let now = self.answered();
            if now.iter().zip(before).all(|(now, before)| *now >= before + answers) {
                return;
            }
            assert!(Time::now() < deadline, "not all are answered: {before:?}, then {now:?}");
            thread::sleep(PAUSE);
        }
    }

    fn answered(&self) -> [usize; ALL] {
        let mut answered = [0; ALL];
        for asked in self.asked.lock().unwrap().iter().filter(|asked| asked.trouble.is_none()) {
            answered[asked.client] += 1;
        }
        answered
    }

    /// Lets each end what it is at, and gives all.
    pub(super) fn finish(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn ask_again(https: &Https, client: usize, speaks: Speaks, stop: &AtomicBool, all: &Mutex<Vec<Asked>>) {
    let mut open = None;
    while !stop.load(Ordering::Acquire) {
        let begun = Time::now();
        let mut asked = Asked { client, speaks, begun, ended: begun, address: None, trouble: None };
        let answered = match speaks.request() {
            Some(request) => ask(https, &mut open, request, &mut asked),
            None => hand_over(https, &mut asked),
        };
        asked.ended = Time::now();
        asked.trouble = answered.err().map(|error| format!("{error:#}"));
        all.lock().unwrap().push(asked);
        thread::sleep(PAUSE);
    }
}

/// A connection, since when it is, and how often it was used.
type Open = Option<(Connection, Time, usize)>;

/// One request, over the connection that is open or a new one.
fn ask(https: &Https, open: &mut Open, request: (&str, &str, u16), asked: &mut Asked) -> Result<()> {
    let (mut connection, begun, used) = match open.take() {
        Some(open) => open,
        None => (https.connect()?, asked.begun, 0),
    };
    asked.begun = begun;
    asked.address = Some(SocketAddr::new(https.source, connection.port));
    let (method, path, wanted) = request;
    let answer = connection.request(method, path, &[])?;
    if !connection.closing && used + 1 < PER_CONNECTION {
        *open = Some((connection, begun, used + 1));
    }
    ensure!(answer.status == wanted, "status {}", answer.status);
    Ok(())
}

/// One message to the edge host, up to its word that it has it.
fn hand_over(https: &Https, asked: &mut Asked) -> Result<()> {
    let mut stream = https.connect_tcp()?;
    asked.address = Some(stream.local_addr()?);
    let mut lines = BufReader::new(stream.try_clone()?);
    expect(&mut lines, "220 ")?;
    for (said, wanted) in [
        ("EHLO sender.test", "250 "),
        ("MAIL FROM:<a@sender.test>", "250 "),
        ("RCPT TO:<user@example.test>", "250 "),
        ("DATA", "354 "),
        ("Subject: counted\r\n\r\none more\r\n.", "250 "),
    ] {
        say(&mut stream, said)?;
        expect(&mut lines, wanted)?;
    }
    // It is the edge host's now: what becomes of the connection costs nothing.
    let _ = say(&mut stream, "QUIT");
    Ok(())
}

fn say(stream: &mut TcpStream, line: &str) -> Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).with_context(|| format!("say {line}"))
}

fn expect(lines: &mut BufReader<TcpStream>, wanted: &str) -> Result<()> {
    loop {
        let mut line = String::new();
        ensure!(lines.read_line(&mut line)? > 0, "closed before {wanted:?}");
        if line.starts_with(wanted) {
            return Ok(());
        }
        // Of an answer of several lines all but the last have a hyphen there.
        if line.as_bytes().get(3) != Some(&b'-') {
            bail!("{line:?} in place of {wanted:?}");
        }
    }
}

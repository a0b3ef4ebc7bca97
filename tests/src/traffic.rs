//! People at work: browsers that ask again and again, and connections that stay open. What they saw is data; the judgement is
//! the caller's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use lb_user::clock::Time;

use crate::client::{Connection, Https};

/// One request of a browser and what became of it. Nothing is tried again behind its back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was begun: where it needed a new connection, with the connection.
    pub begun: Time,
    /// When the connection it went over was begun.
    pub connection_begun: Time,
    /// When it was answered or given up.
    pub ended: Time,
    /// The client's end of the connection, where there was one.
    pub client: Option<SocketAddr>,
    /// The server that answered.
    pub server: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Browsers at work: each asks for a page of Exchange every few milliseconds, several times over one connection, then over a
/// new one.
#[derive(Debug)]
pub struct Browsers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<Request>>>,
}

/// How a browser behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Time between an answer and the next request.
    pub pause: Duration,
    /// Requests over one connection.
    pub per_connection: usize,
    /// Requests in all; a bound.
    pub most: usize,
}

impl Default for Habit {
    fn default() -> Self {
        Self { pause: Duration::from_millis(20), per_connection: 5, most: 10_000 }
    }
}

impl Browsers {
    /// `count` browsers.
    pub fn start(https: &Https, count: usize, habit: Habit) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let threads = (0..count).map(|number| {
            let (https, stop, done) = (https.clone(), Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || browse(&https, number, habit, &stop, &done))
        });
        let threads = threads.collect();
        Self { stop, count: done, threads }
    }

    /// How many requests have ended so far.
    pub fn done(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Lets each end its request in flight and gives all, in the order they ended.
    pub fn finish(self) -> Result<Vec<Request>> {
        self.stop.store(true, Ordering::Release);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| anyhow!("a browser panicked"))?);
        }
        all.sort_by_key(|request| request.ended);
        Ok(all)
    }
}

const PAGES: [&str; 5] = ["/owa/", "/OAB/", "/EWS/Exchange.asmx", "/mapi/emsmdb", "/Autodiscover/"];

fn browse(https: &Https, number: usize, habit: Habit, stop: &AtomicBool, done: &AtomicUsize) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut connection: Option<(Connection, Time)> = None;
    let mut used = 0;
    while !stop.load(Ordering::Acquire) && requests.len() < habit.most {
        let begun = Time::now();
        let page = PAGES[(number + requests.len()) % PAGES.len()];
        let (mut open, connection_begun) = match connection.take() {
            Some(known) => known,
            None => match https.connect() {
                Ok(new) => {
                    used = 0;
                    (new, begun)
                }
                Err(error) => {
                    requests.push(failed(begun, &error));
                    done.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(habit.pause);
                    continue;
                }
            },
        };
        let answer = open.get(page);
        requests.push(judged(https, begun, connection_begun, &open, &answer));
        done.fetch_add(1, Ordering::Relaxed);
        used += 1;
        if answer.is_ok() && !open.closing && used < habit.per_connection {
            connection = Some((open, connection_begun));
        }
        thread::sleep(habit.pause);
    }
    requests
}

fn failed(begun: Time, error: &anyhow::Error) -> Request {
    Request {
        begun,
        connection_begun: begun,
        ended: Time::now(),
        client: None,
        server: String::new(),
        error: Some(format!("{error:#}")),
    }
}

fn judged(
    https: &Https,
    begun: Time,
    connection_begun: Time,
    connection: &Connection,
    answer: &Result<crate::client::Answer>,
) -> Request {
    let (server, error) = match answer {
        Ok(answer) if answer.status == 200 => (answer.server.clone(), None),
        Ok(answer) => (answer.server.clone(), Some(format!("status {}", answer.status))),
        Err(error) => (String::new(), Some(format!("{error:#}"))),
    };
    Request {
        begun,
        connection_begun,
        ended: Time::now(),
        client: Some(SocketAddr::new(https.source, connection.port)),
        server,
        error,
    }
}

/// A connection that stays open and exchanges a little every 100 ms, as a mail program does.
#[derive(Debug)]
pub struct Pulse {
    /// The client's end.
    pub client: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<PulseReport>,
}

/// What a [`Pulse`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulseReport {
    /// When each exchange ended well.
    pub exchanges: Vec<Time>,
    /// Why the connection broke, if it did.
    pub broken: Option<String>,
    /// The node ended it as HTTP provides (`Connection: close`), which breaks nothing.
    pub closed: bool,
}

impl PulseReport {
    /// The longest time between two exchanges.
    pub fn longest_gap(&self) -> Duration {
        let pairs = self.exchanges.iter().zip(self.exchanges.iter().skip(1));
        pairs.map(|(earlier, later)| later.since(*earlier)).max().unwrap_or_default()
    }

    /// Whether there was an exchange in every whole second between `from` and `to`.
    pub fn alive_in_every_second(&self, from: Time, to: Time) -> bool {
        let mut second = from;
        while second + Duration::from_secs(1) <= to {
            let end = second + Duration::from_secs(1);
            if !self.exchanges.iter().any(|&at| at >= second && at < end) {
                return false;
            }
            second = end;
        }
        true
    }
}

impl Pulse {
    /// Opens a connection and begins; for 10 minutes at most.
    pub fn start(https: &Https) -> Result<Self> {
        let connection = https.connect()?;
        let client = SocketAddr::new(https.source, connection.port);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || beat(connection, &stopped));
        Ok(Self { client, stop, thread })
    }

    /// Ends it.
    pub fn finish(self) -> Result<PulseReport> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("a pulse panicked"))
    }
}

fn beat(mut connection: Connection, stop: &AtomicBool) -> PulseReport {
    let mut report = PulseReport { exchanges: Vec::new(), broken: None, closed: false };
    for _ in 0..6000 {
        if stop.load(Ordering::Acquire) {
            break;
        }
        match connection.get("/mapi/emsmdb") {
            Ok(answer) if answer.status == 200 => report.exchanges.push(Time::now()),
            Ok(answer) => {
                report.broken = Some(format!("status {}", answer.status));
                break;
            }
            Err(error) => {
                report.broken = Some(format!("{error:#}"));
                break;
            }
        }
        if connection.closing {
            report.closed = true;
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_an_exchange_is_noticed() {
        let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
        let report =
            PulseReport { exchanges: vec![at(100), at(1100), at(3100)], broken: None, closed: false };
        assert!(report.alive_in_every_second(at(0), at(2000)));
        assert!(!report.alive_in_every_second(at(0), at(3000)));
        assert_eq!(report.longest_gap(), Duration::from_secs(2));
    }
}

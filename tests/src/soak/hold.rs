//! Phones and Outlooks that wait for an hour through one node of a cluster, while another joins it and a third is drained: the client is
//! tests/python/holds.py.
//!
//! All of them come through arr1. In the first third of the time it shares with arr2, then arr3 joins and takes a share of both, with buckets
//! in which some of them are, and in the last third arr2 is drained, whose share these two take.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_user::clock::Time;
use serde::Deserialize;

use crate::exchange::Exchange;
use crate::exchange::background::Background;
use crate::lab::{CLIENT, Plan};
use crate::node::{Held, table_of};
use crate::report::line;

/// Phones that wait.
const PINGS: usize = 16;
/// Outlooks that wait, over two connections each.
const OUTLOOKS: usize = 4;
/// The client's ports that are nobody else's.
const PORTS: Range<u16> = 20_000..30_000;
/// What opening and ending take beyond the silence.
const PATIENCE: Duration = Duration::from_secs(90);

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waited {
    /// `ping` or `rpc`.
    kind: String,
    /// The client's.
    ports: Vec<u16>,
    /// Of the answer; a ping's comes at the end, an OUT channel's at the beginning.
    status: u16,
    /// `status 1`: nothing has happened, says the server to a phone. `echoed`: an Outlook's second call was answered.
    answer: String,
    /// For how long nothing was said, in seconds.
    silent: f64,
    /// Why it failed; empty: it did not.
    trouble: String,
}

/// All of them, waiting.
#[derive(Debug)]
struct Waiters {
    clients: Background,
    ports: Vec<u16>,
    begun: Time,
    silence: Duration,
}

impl Waiters {
    /// Has them wait for so long, connected from these ports; when it returns, all wait.
    fn start(exchange: &Exchange, ports: Vec<u16>, silence: Duration) -> Result<Self> {
        let begun = Time::now();
        let mut command = exchange.client("holds.py")?;
        command.args(["--source", &CLIENT.to_string(), "--seconds", &silence.as_secs().to_string()]);
        let (pings, outlooks) = ports.split_at(PINGS);
        for port in pings {
            command.args(["--ping", &port.to_string()]);
        }
        for pair in outlooks.chunks(2) {
            command.arg("--rpc").args(pair.iter().map(u16::to_string));
        }
        let mut clients = Background::start(exchange, "the clients", &mut command)?;
        clients.wait_for("all wait", PATIENCE)?;
        Ok(Self { clients, ports, begun, silence })
    }

    /// Waits until all are back, and gives what became of each. An error is also whoever waited in vain.
    fn finish(self) -> Result<Vec<Waited>> {
        let Self { clients, begun, silence, .. } = self;
        let all: Vec<Waited> = clients.finish((begun + silence + PATIENCE).since(Time::now()))?;
        let failed: Vec<_> = all.iter().filter(|waited| !waited.was_answered(silence)).collect();
        ensure!(failed.is_empty(), "{} of {} waited in vain: {failed:#?}", failed.len(), all.len());
        ensure!(all.len() == PINGS + OUTLOOKS, "{} waited", all.len());
        Ok(all)
    }
}

impl Waited {
    fn was_answered(&self, silence: Duration) -> bool {
        let answer = if self.kind == "ping" { "status 1" } else { "echoed" };
        self.trouble.is_empty()
            && self.status == 200
            && self.answer == answer
            && self.silent >= silence.as_secs_f64()
    }
}

/// Has them wait for so long. An error is whatever is not as it must be.
pub fn run(silence: Duration) -> Result<()> {
    let mut exchange = Exchange::raise_on(&Plan::light(3), 0)?;
    exchange.start_standins(&["sbex1"])?;
    for node in ["arr1", "arr2"] {
        exchange.cluster.node(node).start()?;
    }
    exchange.cluster.converge()?;
    let ports = ports_through(&exchange.cluster.node("arr1").holds()?, exchange.cluster.seed)?;
    let waiters = Waiters::start(&exchange, ports, silence)?;
    let begun = waiters.begun;
    line(format!(
        "{PINGS} pings and {OUTLOOKS} Outlooks wait through arr1 for {:.1} minutes",
        silence.as_secs_f64() / 60.0
    ));

    sleep_until(begun + silence / 3);
    exchange.cluster.node("arr3").start()?;
    exchange.cluster.converge()?;
    // Now, not at the end: a node that loses its share meanwhile, on a machine that is busy, may get other buckets when it comes back.
    let moved = moved(&mut exchange, &waiters.ports)?;
    line(format!("{}: arr3 has joined; {moved} of their connections are in its buckets", after(begun)));
    ensure!(moved > 0, "no connection's bucket moved, so that nothing is shown");

    sleep_until(begun + silence * 2 / 3);
    exchange.cluster.node("arr2").drain()?;
    exchange.cluster.node("arr2").wait_until("it has given its share up", |status| {
        table_of(status, "443").is_ok_and(|table| table.mine + table.arriving == 0)
    })?;
    line(format!("{}: arr2 is drained", after(begun)));

    let waited = waiters.finish()?;
    line(format!("{}: all {} were answered", after(begun), waited.len()));
    let left = exchange.tear_down();
    ensure!(left.is_empty(), "left behind by the lab: {left:?}");
    Ok(())
}

/// How many of the connections from these ports are in buckets that are not arr1's.
fn moved(exchange: &mut Exchange, ports: &[u16]) -> Result<usize> {
    let (held, seed) = (exchange.cluster.node("arr1").holds()?, exchange.cluster.seed);
    Ok(ports.iter().filter(|port| !held.has_client((CLIENT, **port).into(), seed)).count())
}

/// Ports of the client whose connections the holder of `held` answers, enough for all.
fn ports_through(held: &Held, seed: [u64; 2]) -> Result<Vec<u16>> {
    let wanted = PINGS + 2 * OUTLOOKS;
    let through = PORTS.filter(|port| held.has_client((CLIENT, *port).into(), seed));
    let ports: Vec<_> = through.take(wanted).collect();
    ensure!(ports.len() == wanted, "arr1 holds next to nothing");
    Ok(ports)
}

fn sleep_until(at: Time) {
    thread::sleep(at.since(Time::now()));
}

fn after(begun: Time) -> String {
    format!("after {:.1} min", Time::now().since(begun).as_secs_f64() / 60.0)
}

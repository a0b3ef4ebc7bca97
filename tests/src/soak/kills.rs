//! Agents that are killed at random moments while the configuration changes: of three nodes one after the other, each now and then the one
//! that makes the change, while others ask for pages all the time.
//!
//! After each kill the agent starts again, and all nodes must come to one generation: the one that was confirmed, or where its author was
//! killed before it could say so, that one or the one before, whole. What was ever confirmed stays known to all. No request may fail:
//! the proxy of a killed agent goes on, and new connections go to the others.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lb_user::clock::Time;
use rustix::process::Signal;

use crate::lab::Plan;
use crate::node::{Cluster, Node};
use crate::report::{Progress, line};
use crate::shared::{agreed, apply, log, shown};
use crate::sys::signal;
use crate::traffic::{Browsers, Habit, Request};

/// So many agents are killed.
pub const TIMES: usize = 500;

/// What `--seed` is where nobody says another.
pub const SEED: u64 = 0x0a11;

/// A change takes so long at first sight; later kills go by how long the last one took.
const FIRST: Duration = Duration::from_millis(150);

/// Kills so many agents. An error is whatever is not as it must be.
pub fn run(times: usize, seed: u64) -> Result<()> {
    let mut cluster = Cluster::raise(&Plan::light(3))?;
    cluster.share()?;
    let habit = Habit { most: usize::MAX, pause: Duration::from_millis(100), ..Habit::default() };
    let browsers = Browsers::start(&cluster.https()?, 3, habit);
    let mut soak = Soak::of(cluster, seed)?;
    let progress = Progress::of(times);
    for number in 0..times {
        soak.kill_once(number).with_context(|| format!("kill {number} with seed {seed}"))?;
        progress.advance();
    }
    drop(progress);
    nothing_is_damaged(&soak.cluster)?;
    let requests = browsers.finish()?;
    let failed: Vec<&Request> = requests.iter().filter(|request| request.error.is_some()).collect();
    ensure!(failed.is_empty(), "{} of {} requests failed: {failed:#?}", failed.len(), requests.len());
    let Soak { confirmed, cut, taken, .. } = &soak;
    line(format!(
        "{times} agents killed: {} generations came into force, {cut} changes were cut short, of which {taken} are among them; {} requests, none failed",
        confirmed.len(),
        requests.len()
    ));
    let left = soak.cluster.tear_down();
    ensure!(left.is_empty(), "left behind by the lab: {left:?}");
    Ok(())
}

/// Under way.
struct Soak {
    cluster: Cluster,
    random: Random,
    /// How long a change takes.
    usual: Duration,
    /// Every generation whose author said that it is in force, or that all nodes came to work with.
    confirmed: BTreeSet<String>,
    /// Whose change was cut short: the others keep a place for it, which nobody else's change may take for some seconds.
    owed: Option<usize>,
    /// Changes whose author was killed before it could say anything.
    cut: usize,
    /// Of these: all nodes came to work with it.
    taken: usize,
}

impl Soak {
    fn of(cluster: Cluster, seed: u64) -> Result<Self> {
        let confirmed = [shown(&cluster.nodes[0])?.0].into();
        let random = Random(seed.max(1));
        Ok(Self { cluster, random, usual: FIRST, confirmed, owed: None, cut: 0, taken: 0 })
    }

    fn kill_once(&mut self, number: usize) -> Result<()> {
        let (victim, author) = (self.random.below(3), self.random.below(3));
        let author = self.owed.take().unwrap_or(author);
        let (before, text) = shown(&self.cluster.nodes[author])?;
        let wanted = with_head_fields(&text, 100 + number % 100);
        let confirmed = self.change_and_kill(author, victim, &wanted)?;
        self.cluster.nodes[victim].start()?;
        self.cluster.converge()?;
        let nodes: Vec<&Node> = self.cluster.nodes.iter().collect();
        let now = agreed(&nodes)?;
        for node in nodes {
            let text_now = shown(node)?.1;
            let whole = text_now == if now == before { text.as_str() } else { wanted.as_str() };
            ensure!(whole, "{} shows neither what was nor what came: {text_now}", node.name());
        }
        match confirmed {
            Some(id) => ensure!(now == id, "{id} was confirmed, and {now} is at work"),
            None => {
                self.cut += 1;
                self.taken += usize::from(now != before);
                self.owed = (now == before).then_some(author);
            }
        }
        self.confirmed.insert(now);
        self.nothing_confirmed_is_lost()
    }

    /// Has `author` change the configuration to `wanted`, and kills the agent of `victim` some time after that was begun. The generation,
    /// where the author said that it is in force.
    fn change_and_kill(&mut self, author: usize, victim: usize, wanted: &str) -> Result<Option<String>> {
        let delay = self.usual.mul_f64(self.random.fraction() * 1.2);
        let (begun, nodes) = (Time::now(), &self.cluster.nodes);
        let pid = nodes[victim].agent.as_ref().context("an agent does not run")?.pid();
        let (said, ended) = thread::scope(|scope| {
            let change = scope.spawn(|| (apply(&nodes[author], wanted), Time::now()));
            thread::sleep(delay);
            signal(pid, Signal::KILL);
            change.join().map_err(|_| anyhow!("a change panicked"))
        })?;
        self.cluster.nodes[victim].kill_agent();
        match said {
            Ok(applied) => {
                self.usual = ended.since(begun);
                let id = applied["generation"].as_str().context("a change told no generation")?;
                Ok(Some(id.to_owned()))
            }
            Err(_) if author == victim => Ok(None),
            Err(error) => Err(error.context("a change failed though its author lives")),
        }
    }

    /// Every node knows every generation that was confirmed.
    fn nothing_confirmed_is_lost(&self) -> Result<()> {
        for node in &self.cluster.nodes {
            let log = log(node)?;
            let known: BTreeSet<&str> = log.iter().filter_map(|entry| entry["id"].as_str()).collect();
            let lost: Vec<_> = self.confirmed.iter().filter(|id| !known.contains(id.as_str())).collect();
            ensure!(lost.is_empty(), "{} has lost what was confirmed: {lost:?}", node.name());
        }
        Ok(())
    }
}

/// No agent found its store damaged when it started.
fn nothing_is_damaged(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        let text = fs::read_to_string(node.log()).context("cannot read an agent's log")?;
        let told = text.lines().find(|line| line.contains("of the configuration's store is damaged"));
        ensure!(told.is_none(), "{}: {told:?}", node.name());
    }
    Ok(())
}

/// A change that every node takes up while it runs.
fn with_head_fields(text: &str, fields: usize) -> String {
    let line = format!("head_fields = {fields}");
    match text.lines().find(|line| line.starts_with("head_fields = ")) {
        Some(before) => text.replace(before, &line),
        None => format!("[limits]\n{line}\n\n{text}"),
    }
}

/// Numbers from a seed (xorshift64; Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.fraction() * end as f64) as usize
    }

    /// From 0 on and below 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

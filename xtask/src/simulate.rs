//! `cargo xtask simulate`: the cluster's core on simulated time and network, from many seeds, on all processors. The simulation
//! is among lb-user's unit tests; this builds them with few buckets, and reads the line that each seed prints.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use xtask::{exec, lines, workspace_root};

/// Which seeds.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// This seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Print what happened in every seed that fails.
    #[arg(long)]
    trace: bool,
    /// So many nodes instead of the number that a seed stands for.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=64))]
    nodes: Option<u8>,
    /// Print convergence times and the cost of heartbeats by the number of nodes instead.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "first", "trace", "nodes"])]
    report: bool,
}

impl Options {
    /// The first `seeds` seeds.
    pub(crate) fn first(seeds: u64) -> Self {
        Self { seeds, first: 0, seed: None, trace: false, nodes: None, report: false }
    }
}

const SEEDS: &str = "cluster::node::sim::seeds::no_seed_breaks_what_must_hold";
const REPORT: &str =
    "cluster::node::sim::report::what_heartbeats_and_convergence_cost_by_the_number_of_nodes";

/// Runs the seeds; fails if one does.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    exec(tests().arg("--no-run"))?;
    if options.report {
        return report();
    }
    let (first, count) = options.seed.map_or((options.first, options.seeds), |seed| (seed, 1));
    let mut simulation = tests();
    simulation.args(["--", "--exact", SEEDS, "--nocapture"]);
    simulation.env("ROLLCALL_SIM_FIRST", first.to_string()).env("ROLLCALL_SIM_SEEDS", count.to_string());
    simulation.env("RUST_BACKTRACE", "0");
    if let Some(nodes) = options.nodes {
        simulation.env("ROLLCALL_SIM_NODES", nodes.to_string());
    }
    if options.trace {
        simulation.env("ROLLCALL_SIM_TRACE", "1");
    } else {
        // What a failing seed has to say is asked for by --trace.
        simulation.stderr(Stdio::null());
    }
    let mut summary = Summary::default();
    let bar = ProgressBar::new(count).with_style(ProgressStyle::with_template(
        "{wide_bar} {pos} of {len} seeds, {elapsed} so far, {eta} to go {msg}",
    )?);
    let ended = lines(simulation, |line| {
        if summary.add(line) {
            bar.inc(1);
            if !summary.failed.is_empty() {
                bar.set_message(format!("{} failed", summary.failed.len()));
            }
        }
    })?;
    bar.finish_and_clear();
    summary.print();
    if !summary.failed.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if !ended || summary.count() != count {
        bail!("the simulation ended after {} of {count} seeds", summary.count());
    }
    Ok(ExitCode::SUCCESS)
}

fn tests() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command.args([
        "test",
        "--quiet",
        // A release build takes longer than all seeds of a test run: it optimises every dependency together with the library.
        "--config",
        "profile.dev.package.lb-user.opt-level=2",
        "--package",
        "lb-user",
        "--lib",
        "--features",
        "simulation",
    ]);
    command
}

/// What the seeds of so many nodes came to.
#[derive(Default)]
struct Class {
    seeds: u64,
    simulated_ms: u64,
    steps: u64,
    checks: u64,
    converged_us: u64,
    gap_us: u64,
}

#[derive(Default)]
struct Summary {
    started: Option<Instant>,
    classes: BTreeMap<&'static str, Class>,
    failed: Vec<u64>,
}

impl Summary {
    /// Takes a line in: `seed N failed`, or `seed N ok` and pairs of words and numbers. True if it is one.
    fn add(&mut self, line: &str) -> bool {
        self.started.get_or_insert_with(now);
        let Some((seed, rest)) = line.strip_prefix("seed ").and_then(|rest| rest.split_once(' ')) else {
            return false;
        };
        match (seed.parse(), rest.strip_prefix("ok ")) {
            (Ok(_), Some(pairs)) => self.add_figures(&figures(pairs)),
            (Ok(seed), None) => self.failed.push(seed),
            (Err(_), _) => return false,
        }
        true
    }

    fn add_figures(&mut self, figures: &BTreeMap<&str, u64>) {
        let figure = |name: &str| figures.get(name).copied().unwrap_or(0);
        let class = match figure("nodes") {
            0..6 => " 2 to 5 nodes",
            6..17 => " 6 to 16 nodes",
            17.. => "17 to 64 nodes",
        };
        let class = self.classes.entry(class).or_default();
        class.seeds += 1;
        class.simulated_ms += figure("simulated_ms");
        class.steps += figure("steps");
        class.checks += figure("checks");
        class.converged_us = class.converged_us.max(figure("converged_us"));
        class.gap_us = class.gap_us.max(figure("gap_us"));
    }

    fn count(&self) -> u64 {
        self.classes.values().map(|class| class.seeds).sum::<u64>() + self.failed.len() as u64
    }

    #[expect(clippy::print_stdout, reason = "its figures are what the task is run for")]
    fn print(&self) {
        println!(
            "{:15} {:>7} {:>10} {:>12} {:>11} {:>18} {:>12}",
            "", "seeds", "simulated", "steps", "checks", "slowest convergence", "longest gap"
        );
        for (name, class) in &self.classes {
            println!(
                "{name:15} {:>7} {:>8.1} h {:>12} {:>11} {:>16} ms {:>9} ms",
                class.seeds,
                class.simulated_ms as f64 / 3.6e6,
                class.steps,
                class.checks,
                class.converged_us / 1000,
                class.gap_us / 1000,
            );
        }
        let took = self.started.map_or(Duration::ZERO, |started| now().duration_since(started));
        println!("{} seeds in {:.0} s, {} failed", self.count(), took.as_secs_f64(), self.failed.len());
        for seed in &self.failed {
            println!("  to see what happened: cargo xtask simulate --seed {seed} --trace");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a task tells how long it took")]
fn now() -> Instant {
    Instant::now()
}

/// `a 1 b 2` as pairs.
fn figures(pairs: &str) -> BTreeMap<&str, u64> {
    let words: Vec<&str> = pairs.split_whitespace().collect();
    words.chunks_exact(2).filter_map(|pair| Some((pair[0], pair[1].parse().ok()?))).collect()
}

#[expect(clippy::print_stdout, reason = "its figures are what the task is run for")]
fn report() -> Result<ExitCode> {
    let mut simulation = tests();
    simulation.args(["--", "--ignored", "--exact", REPORT, "--nocapture"]);
    println!(
        "heartbeats every 20 ms, suspicion after 100 ms, frames take up to 1 ms, one owner table for all and one for one"
    );
    println!(
        "{:>5} {:>12} {:>12} {:>10} {:>28}",
        "nodes", "cold start", "take-over", "join", "heartbeats of each node"
    );
    let ended = lines(simulation, |line| {
        let Some(line) = line.strip_prefix("report ") else { return };
        let figures = figures(line);
        let figure = |name: &str| figures.get(name).copied().unwrap_or(0);
        println!(
            "{:>5} {:>9} ms {:>9} ms {:>7} ms {:>9}/s {:>10} kbit/s",
            figure("nodes"),
            figure("start_us") / 1000,
            figure("takeover_us") / 1000,
            figure("join_us") / 1000,
            figure("datagrams"),
            figure("kbit")
        );
    })?;
    Ok(if ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! The lab's program, which `cargo xtask demo` and `cargo xtask bench` build and run: command line and exit status, no more.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rollcall_tests::bench;
use rollcall_tests::demo::{self, Options};
use rollcall_tests::estate;
use rollcall_tests::lab::{Lab, Plan};

#[derive(Parser)]
#[command(name = "rollcall-lab", about = "Rollcall's lab: a whole network between network namespaces")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show how two nodes share an address, a failover and a drain; about a minute.
    Demo {
        /// Leave the lab standing and say how to enter it.
        #[arg(long)]
        keep: bool,
        /// End with the results as one JSON object on one line.
        #[arg(long)]
        json: bool,
    },
    /// Measure, ours and others alternating.
    Bench {
        /// What to measure.
        what: Bench,
        /// Fewer and shorter runs.
        #[arg(long)]
        quick: bool,
        /// Print the figures as JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Of `idle`: another build of rollcall, to be measured beside this one in the same clusters.
        #[arg(long, value_name = "FILE")]
        beside: Option<PathBuf>,
    },
    /// Raise the bare network, without servers and agents, until ctrl-C.
    Raise {
        /// How many nodes.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// Do not wait for other labs.
        #[arg(long)]
        light: bool,
    },
    /// Remove labs that were kept, and what killed ones left.
    Clean,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    /// Nanoseconds for one packet through the XDP program.
    Packet,
    /// How long service is away when a node dies.
    Failover,
    /// What an agent costs while nothing happens; a part of `failover`.
    Idle,
    /// Requests a second through the reverse proxy.
    Proxy,
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo { keep, json } => return demo::run(Options { keep, json }),
        Command::Bench { what, quick, json, beside } => match what {
            Bench::Packet => bench::publish("packet", &bench::packet::run()?, json)?,
            Bench::Failover => bench::failover::run(quick, json)?,
            Bench::Idle => bench::failover::idle::run(quick, beside.as_deref(), json)?,
            Bench::Proxy => bench::proxy::run(quick, json)?,
        },
        Command::Raise { nodes, light } => raise(&Plan { load: !light, ..Plan::nodes(nodes) })?,
        Command::Clean => {
            for lab in estate::clean() {
                eprintln!("removed {lab}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn raise(plan: &Plan) -> Result<()> {
    let lab = Lab::raise(plan)?;
    demo::how_to_enter(&lab);
    fs::write(lab.folder().join("ready"), "")?;
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

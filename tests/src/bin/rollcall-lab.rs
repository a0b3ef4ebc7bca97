//! The lab's program, which `cargo xtask demo`, `bench` and `soak` build and run: command line and exit status, no more.
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
use rollcall_tests::soak;

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
        /// Of `idle` and `proxy`: another build of rollcall, to be measured beside this one in the same runs.
        #[arg(long, value_name = "FILE")]
        beside: Option<PathBuf>,
        /// Of `proxy`: this profile alone.
        #[arg(long)]
        profile: Option<bench::proxy::Profile>,
        /// Of `proxy`: the cases alone whose names begin so, such as `small`, `HTTP/2` or `download`.
        #[arg(long, value_name = "NAME")]
        case: Option<String>,
        /// Of `proxy`: how often each case is measured. Default: 7, with --quick once.
        #[arg(long, value_name = "N")]
        rounds: Option<u32>,
    },
    /// Run what lasts, and fail where anything of it breaks.
    Soak {
        /// What to run.
        #[arg(default_value = "hold")]
        what: Soak,
        /// For how long a hold waits: an hour of ActiveSync has 59.
        #[arg(long, default_value_t = 59.0)]
        minutes: f64,
        /// How long each RPC channel is, in MiB.
        #[arg(long, default_value_t = soak::rpc::CHANNEL >> 20)]
        mib: u64,
        /// Of `kills`: how many agents.
        #[arg(long, default_value_t = soak::kills::TIMES)]
        times: usize,
        /// Of `kills`: whom, whose change, and when.
        #[arg(long, default_value_t = soak::kills::SEED)]
        seed: u64,
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
    /// What requests, downloads, handshakes and connections at rest cost the reverse proxy.
    Proxy,
    /// What a change of the configuration costs that three nodes share.
    Reload,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Soak {
    /// Phones and Outlooks that wait through one node, while another joins and a third is drained.
    Hold,
    /// Two RPC channels, both ways at once.
    Rpc,
    /// Agents that are killed at random moments while the configuration changes.
    Kills,
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
        Command::Bench { what, quick, json, beside, profile, case, rounds } => match what {
            Bench::Packet => bench::publish("packet", &bench::packet::run()?, json)?,
            Bench::Failover => bench::failover::run(quick, json)?,
            Bench::Reload => bench::reload::run(quick, json)?,
            Bench::Idle => bench::failover::idle::run(quick, beside.as_deref(), json)?,
            Bench::Proxy => {
                bench::proxy::run(&bench::proxy::Options { quick, json, profile, case, rounds, beside })?;
            }
        },
        Command::Soak { what, minutes, mib, times, seed } => match what {
            Soak::Hold => soak::hold::run(Duration::from_secs_f64(60.0 * minutes))?,
            Soak::Rpc => soak::rpc::run(mib << 20)?,
            Soak::Kills => soak::kills::run(times, seed)?,
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

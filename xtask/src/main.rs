//! `cargo xtask TASK`: everything that is done to this project, one file a task.
#![forbid(unsafe_code)]

mod fuzz;
mod old_kernel;
mod python;
mod run;
mod setup;
mod simulate;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Rollcall's tasks")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find, and as root on Debian install, what builds and tests need.
    Setup,
    /// Build the `rollcall` binary with the XDP program inside it (target/release/rollcall).
    Build,
    /// Build, raise the lab, and show a failover and a drain on it.
    Demo {
        /// Handed to the demo: --keep, --json.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every test: unit, property, verdicts in the kernel, scenarios between network namespaces.
    Test {
        /// Handed to `cargo test`, such as a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Simulate clusters with faults from many seeds, and check what must hold at every step.
    Simulate(simulate::Options),
    /// Fuzz, on the host, code that reads strangers' bytes, and fail on a crash.
    Fuzz {
        /// For how long, each.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Attach the XDP program alone to an interface, observing unless --enforce, and print its counters until ctrl-C.
    Load {
        /// IFACE --config FILE [--node NAME] [--enforce]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure: packet, failover, idle or proxy, with peers in the same run; or reload.
    Bench {
        /// packet | failover | idle | proxy | reload, and its options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run what lasts: 59-minute holds while nodes come and go, RPC channels of 1 GiB, or 500 kills of agents while the configuration changes.
    Soak {
        /// hold [--minutes N] | rpc [--mib N] | kills [--times N] [--seed N]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Show that the XDP program loads on the oldest kernel supported: Debian's Linux 6.1, booted in qemu.
    OldKernel,
}

fn main() -> ExitCode {
    match run_task(Args::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_task(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup => setup::run(setup::For::Everything)?,
        Task::Build => {
            setup::run(setup::For::Build)?;
            run::build()?;
        }
        Task::Demo { args } => {
            setup::run(setup::For::Tests)?;
            return run::demo(&args);
        }
        Task::Test { args } => {
            setup::run(setup::For::Tests)?;
            return test::run(&args);
        }
        Task::Simulate(options) => {
            setup::run(setup::For::Build)?;
            return simulate::run(&options);
        }
        Task::Fuzz { seconds } => {
            setup::run(setup::For::Fuzz)?;
            fuzz::run(seconds)?;
        }
        Task::Load { args } => {
            setup::run(setup::For::Build)?;
            return run::load(&args);
        }
        Task::Bench { args } => {
            setup::run(setup::For::Everything)?;
            return run::bench(&args);
        }
        Task::Soak { args } => {
            setup::run(setup::For::Tests)?;
            return run::soak(&args);
        }
        Task::OldKernel => {
            setup::run(setup::For::OldKernel)?;
            return old_kernel::run();
        }
    }
    Ok(ExitCode::SUCCESS)
}

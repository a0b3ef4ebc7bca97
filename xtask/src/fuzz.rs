//! `cargo xtask fuzz`: coverage-guided fuzzing of the data path's code on the host (fuzz/), with libFuzzer.
//!
//! libFuzzer wants to know which branches a run took, and rustc's own LLVM can say so with a stable toolchain: the flags below
//! are those of cargo-fuzz without a sanitizer, of which the code, without `unsafe`, has no need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::{capture, exec, workspace_root};

const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Builds the fuzzer and its seeds, and runs it for `seconds`. What it finds worth keeping stays in target/fuzz/corpus.
#[expect(clippy::print_stdout, reason = "its figures are what the task is run for")]
pub(crate) fn run(seconds: u64) -> Result<()> {
    let folder = workspace_root().join("target/fuzz");
    for name in ["corpus", "crashes"] {
        fs::create_dir_all(folder.join(name)).context("cannot make target/fuzz")?;
    }
    let seeds = folder.join("seeds");
    exec(cargo(&folder).args(["run", "--quiet", "--release", "--bin", "seeds", "--"]).arg(&seeds))?;
    let fuzzer = build(&folder)?;
    println!("fuzzing for {seconds} s");
    let mut fuzzer = Command::new(fuzzer);
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=700", "-timeout=5", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", folder.join("crashes").display()))
        .args([folder.join("corpus"), seeds]);
    let output = fuzzer.output().context("could not start the fuzzer")?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    fs::write(folder.join("log"), &log).context("cannot write target/fuzz/log")?;
    if !output.status.success() {
        bail!("the fuzzer found something; target/fuzz/log ends with\n{}", tail(&log));
    }
    println!("{}", Summary::of(&log)?);
    Ok(())
}

/// The program that fuzzes. With a target of its own, so that build scripts do not get the flags.
fn build(folder: &Path) -> Result<PathBuf> {
    let version = capture(Command::new("rustc").arg("-vV"))?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    exec(
        cargo(folder)
            .args([
                "build",
                "--quiet",
                "--release",
                "--features",
                "fuzz",
                "--bin",
                "packet",
                "--target",
                host,
            ])
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")),
    )?;
    Ok(folder.join(host).join("release/packet"))
}

fn cargo(target: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace_root().join("fuzz")).env("CARGO_TARGET_DIR", target);
    command
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// What a run of libFuzzer came to, from what it wrote.
struct Summary<'a> {
    executions: &'a str,
    /// How many branches there are, and how many were taken.
    branches: &'a str,
    taken: &'a str,
    corpus: &'a str,
}

impl<'a> Summary<'a> {
    fn of(log: &'a str) -> Result<Self> {
        let behind = |line: &'a str, word: &str| line.split(word).nth(1)?.split_whitespace().next();
        let find = |word: &str| log.lines().rev().find_map(|line| behind(line, word));
        let modules = log.lines().find_map(|line| behind(line, "INFO: Loaded 1 modules   ("));
        let found = (|| {
            Some(Self {
                executions: find("stat::number_of_executed_units:")?,
                branches: modules?,
                taken: find("cov:")?,
                corpus: find("corp:")?,
            })
        })();
        found.context("the fuzzer wrote no figures; see target/fuzz/log")
    }
}

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executions, branches, taken, corpus } = self;
        write!(f, "{executions} executions, {taken} of {branches} branches taken, corpus {corpus}, no crash")
    }
}

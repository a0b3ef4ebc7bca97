//! `cargo xtask fuzz`: coverage-guided fuzzing, on the host, of code that reads strangers' bytes (fuzz/), with libFuzzer.
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

/// A program that fuzzes, and the longest input it is given.
struct Fuzzer {
    name: &'static str,
    max_len: u32,
}

const FUZZERS: [Fuzzer; 14] = [
    Fuzzer { name: "packet", max_len: 700 },
    Fuzzer { name: "credentials", max_len: 2000 },
    Fuzzer { name: "path", max_len: 200 },
    Fuzzer { name: "rules", max_len: 600 },
    Fuzzer { name: "http1", max_len: 800 },
    Fuzzer { name: "sni", max_len: 400 },
    Fuzzer { name: "peer_frames", max_len: 300 },
    Fuzzer { name: "iis_xml", max_len: 3000 },
    Fuzzer { name: "config_toml", max_len: 1200 },
    Fuzzer { name: "generation", max_len: 1500 },
    Fuzzer { name: "record", max_len: 600 },
    Fuzzer { name: "message", max_len: 1500 },
    Fuzzer { name: "token", max_len: 200 },
    Fuzzer { name: "portable", max_len: 800 },
];

/// Builds the fuzzers and their seeds, and runs each for `seconds`. What one finds worth keeping stays in target/fuzz/corpus.
#[expect(clippy::print_stdout, reason = "its figures are what the task is run for")]
pub(crate) fn run(seconds: u64) -> Result<()> {
    let folder = workspace_root().join("target/fuzz");
    let seeds = folder.join("seeds");
    exec(cargo(&folder).args(["run", "--quiet", "--release", "--bin", "seeds", "--"]).arg(&seeds))?;
    let programs = build(&folder)?;
    for fuzzer in &FUZZERS {
        println!("fuzzing {} for {seconds} s", fuzzer.name);
        let log = fuzzer.run(&folder, &programs, seconds)?;
        println!("{}", Summary::of(&log)?);
    }
    Ok(())
}

impl Fuzzer {
    /// What libFuzzer wrote.
    fn run(&self, folder: &Path, programs: &Path, seconds: u64) -> Result<String> {
        let Self { name, max_len } = self;
        let [corpus, crashes, seeds] =
            ["corpus", "crashes", "seeds"].map(|kind| folder.join(kind).join(name));
        for made in [&corpus, &crashes] {
            fs::create_dir_all(made).context("cannot make target/fuzz")?;
        }
        let mut command = Command::new(programs.join(name));
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={max_len}"))
            .args(["-timeout=5", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .args([corpus, seeds]);
        let output = command.output().context("could not start the fuzzer")?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        fs::write(folder.join(format!("{name}.log")), &log).context("cannot write target/fuzz")?;
        if !output.status.success() {
            bail!("the fuzzer found something; target/fuzz/{name}.log ends with\n{}", tail(&log));
        }
        Ok(log)
    }
}

/// The folder with the programs that fuzz. With a target of its own, so that build scripts do not get the flags.
fn build(folder: &Path) -> Result<PathBuf> {
    let version = capture(Command::new("rustc").arg("-vV"))?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let mut command = cargo(folder);
    command.args(["build", "--quiet", "--release", "--features", "fuzz", "--target", host]);
    for fuzzer in &FUZZERS {
        command.args(["--bin", fuzzer.name]);
    }
    exec(command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")))?;
    Ok(folder.join(host).join("release"))
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
        found.context("the fuzzer wrote no figures; see its log in target/fuzz")
    }
}

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executions, branches, taken, corpus } = self;
        write!(f, "{executions} executions, {taken} of {branches} branches taken, corpus {corpus}, no crash")
    }
}

//! `cargo xtask test`: every test of the workspace.
//!
//! Scenarios need a machine that runs: on one whose hypervisor gives its processors to others for a tenth of a second, or for half of
//! the time, clusters do what they have to do then, and the scenario fails. Such a test says so as it fails (rollcall-tests,
//! `stalls`), and is run again, alone and with half the load; nothing else is.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use xtask::{exec, find_program, lines, workspace_root};

use crate::run::{as_root, build_for_tests, cargo};
use crate::simulate;

/// How many simulations belong to a run of all tests; `cargo xtask simulate` runs as many as wanted.
const SIMULATIONS: u64 = 300;

/// How often a test is run again.
const AGAIN: u32 = 2;

/// Then with so many hundredths of the load.
const LOAD: (&str, &str) = ("ROLLCALL_LOAD_PERCENT", "50");

/// More than so many tests are not run again: that machine does not become quieter.
const AT_MOST: usize = 15;

/// How a test begins to say that the machine stood still.
const STOOD_STILL: &str = "the machine stood still: ";

/// Runs every test of the workspace.
///
/// The release build of the agent comes first: the scenarios run it, as an operator would.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    build_for_tests()?;
    exec(cargo().args(["test", "--workspace", "--no-run"]))?;
    if args.is_empty() && simulate::run(&simulate::Options::first(SIMULATIONS))? != ExitCode::SUCCESS {
        return Ok(ExitCode::FAILURE);
    }
    let args = args.iter().map(String::as_str);
    let mut log = Log::default();
    let mut passed = tests(["--workspace"].into_iter().chain(args), None, &mut log)?;
    for _ in 0..AGAIN {
        if passed || !log.is_the_machines_fault() {
            break;
        }
        let again = std::mem::take(&mut log.failed);
        say(&format!(
            "\n{} failed while the machine stood still, and run again, alone and with half the load: {}",
            again.len(),
            list(&again)
        ));
        log = Log::default();
        // Another choice of packages would have other features, and all be built anew.
        let exact = ["--workspace", "--", "--exact", "--test-threads=1"];
        let args = exact.into_iter().chain(again.iter().map(String::as_str));
        passed = tests(args, Some(LOAD), &mut log)?;
        passed &= log.passed.is_superset(&again);
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tests<'a>(
    args: impl Iterator<Item = &'a str>,
    variable: Option<(&str, &str)>,
    log: &mut Log,
) -> Result<bool> {
    let cargo = find_program("cargo").context("cargo is not on PATH")?;
    let mut command: Command = as_root(cargo)?;
    command.envs(variable);
    command.current_dir(workspace_root()).stdin(Stdio::null());
    command.args(["test", "--no-fail-fast"]).args(args);
    lines(command, |line| {
        say(line);
        log.take(line);
    })
}

#[expect(clippy::print_stdout, reason = "what the tests print is what the task is run for")]
fn say(line: &str) {
    println!("{line}");
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What `cargo test` has printed.
#[derive(Debug, Default)]
struct Log {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// Those that failed and said that the machine stood still.
    excused: BTreeSet<String>,
    /// Whose output these lines are.
    of: Option<String>,
    /// Test programs that were started, and have not said how they ended.
    open: u32,
}

impl Log {
    fn take(&mut self, line: &str) {
        if line.starts_with("running ") && line.contains(" test") {
            self.open += 1;
        } else if line.starts_with("test result: ") {
            self.open = self.open.saturating_sub(1);
            self.of = None;
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"))
        {
            self.of = Some(name.to_owned());
        } else if line == "failures:" {
            self.of = None;
        } else if let Some(name) = &self.of {
            if line.starts_with(STOOD_STILL) {
                self.excused.insert(name.clone());
            }
        } else if let Some((name, result)) =
            line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... "))
        {
            let _ = match result {
                "ok" => self.passed.insert(name.to_owned()),
                "FAILED" => self.failed.insert(name.to_owned()),
                _ => false,
            };
        }
    }

    /// Tests failed, each of them said that the machine stood still, and nothing else went wrong.
    fn is_the_machines_fault(&self) -> bool {
        let failed = 1..=AT_MOST;
        self.open == 0 && failed.contains(&self.failed.len()) && self.excused.is_superset(&self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Log {
        let mut log = Log::default();
        text.lines().for_each(|line| log.take(line));
        log
    }

    const EXCUSED: &str = "running 3 tests
test a::good ... ok
test a::bad ... FAILED
test a::left_out ... ignored

failures:

---- a::bad stdout ----
some words
test b::good ... ok
the machine stood still: 3 times for 25ms or longer


failures:
    a::bad

test result: FAILED. 1 passed; 1 failed; 1 ignored
";

    #[test]
    fn a_test_that_says_that_the_machine_stood_still_is_run_again() {
        let log = log(EXCUSED);
        assert!(log.is_the_machines_fault(), "{log:?}");
        assert_eq!((list(&log.passed), list(&log.failed)), ("a::good".to_owned(), "a::bad".to_owned()));
    }

    #[test]
    fn nothing_else_is_run_again() {
        let second = "running 1 test
test c::bad ... FAILED
failures:
---- c::bad stdout ----
assertion failed
failures:
    c::bad
test result: FAILED. 0 passed; 1 failed
";
        assert!(
            !log(&format!("{EXCUSED}{second}")).is_the_machines_fault(),
            "one that says nothing of the kind"
        );
        let killed = format!("{EXCUSED}running 4 tests\ntest d ... ok\n");
        assert!(!log(&killed).is_the_machines_fault(), "a test program that never said how it ended");
        let compiler = "error: could not compile";
        assert!(!log(compiler).is_the_machines_fault(), "no test failed");
    }
}

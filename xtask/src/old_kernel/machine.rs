//! The virtual machine: qemu, with the kernel's console going to a file and the guest's report coming over a second port.

use std::fs;
use std::io::{self, BufRead as _, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;

use super::kernel::Kernel;
use super::report::Report;
use crate::setup;

/// How qemu may run the guest, and for how many seconds until that is given up.
///
/// KVM comes first, but its device file proves little: inside other virtual machines it may refuse to start, stop in the
/// middle of the boot, or hang. Two seconds are enough where it works, so it is not waited for long. Emulation works
/// everywhere, without any privilege, and takes about four.
const WAYS: [(&str, u32); 2] = [("kvm", 10), ("tcg", 540)];

/// As many lines are kept, and shown, of what went wrong.
const SHOWN: usize = 15;

/// What is to be booted.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) initrd: &'a Path,
    /// The file for the kernel's console.
    pub(super) console: PathBuf,
}

impl Machine<'_> {
    /// Runs the machine until it switches itself off, and gives what its guest reported.
    pub(super) fn boot(&self) -> Result<Report> {
        let mut failures = String::new();
        for (way, patience) in WAYS {
            let what = format!("booting {} in qemu ({way})", self.kernel.release());
            let run = setup::with_spinner(&what, |spinner| self.run(way, patience, spinner))?;
            if run.report.is_complete() {
                return Ok(run.report);
            }
            failures += &self.describe(way, patience, &run);
        }
        bail!(
            "Linux did not come to the end of its report\n{failures}\
             hint: {} has the whole console of the last try; remove {} to fetch the kernel anew",
            self.console.display(),
            self.kernel.folder().display()
        )
    }

    fn run(&self, way: &str, patience: u32, spinner: &ProgressBar) -> Result<Run> {
        let (output, input) = io::pipe().context("could not make a pipe")?;
        // A console of an earlier run must not explain this one.
        fs::write(&self.console, "")
            .with_context(|| format!("could not write {}", self.console.display()))?;
        let mut qemu = self.qemu(way, patience);
        qemu.stdin(Stdio::null()).stderr(input.try_clone().context("could not make a pipe")?).stdout(input);
        let mut child = qemu.spawn().with_context(|| format!("could not start {qemu:?}"))?;
        // It holds the pipe's other end, and the reader would never see that end closed.
        drop(qemu);
        let heard = listen(output, spinner);
        let status = child.wait().context("lost qemu")?;
        let (report, said) = heard?;
        Ok(Run { report, said, status })
    }

    /// qemu under a time limit, which holds even when this task is killed. A kernel that panics ends it.
    fn qemu(&self, way: &str, patience: u32) -> Command {
        let mut command = Command::new("timeout");
        // In the foreground, so that ctrl-C reaches it.
        command.args(["--foreground", "--kill-after=5", &patience.to_string(), "qemu-system-x86_64"]);
        command
            .args(["-accel", way, "-m", "512", "-smp", "1"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(self.initrd)
            .args(["-append", "console=ttyS0 panic=-1"])
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args(["-serial", "stdio"]);
        command
    }

    fn describe(&self, way: &str, patience: u32, run: &Run) -> String {
        let end = match run.status.code() {
            Some(124) => format!("was not done in {patience} seconds"),
            _ => format!("stopped early: {}", run.status),
        };
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().map(str::trim_end).collect();
        let last = &lines[lines.len().saturating_sub(SHOWN)..];
        let indented = |lines: &str| lines.lines().map(|line| format!("    {line}\n")).collect::<String>();
        format!(
            "with {way} it {end}\n  reported:\n{}  qemu said:\n{}  the kernel said last:\n{}",
            indented(&run.report.table()),
            indented(&run.said.join("\n")),
            indented(&last.join("\n"))
        )
    }
}

/// What came of one try.
struct Run {
    report: Report,
    said: Vec<String>,
    status: ExitStatus,
}

/// Reads the guest's report, and what qemu says between its lines, until qemu ends.
fn listen(output: PipeReader, spinner: &ProgressBar) -> Result<(Report, Vec<String>)> {
    let (mut report, mut said) = (Report::default(), Vec::new());
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("lost the machine's serial port")?;
        let line = String::from_utf8_lossy(&line);
        // A terminal ends its lines with two characters; a tab at the end belongs to the line.
        let line = line.trim_end_matches('\r');
        if let Some(step) = report.take(line) {
            spinner.set_message(step.to_owned());
        } else if !Report::speaks(line) && said.len() < SHOWN {
            said.push(line.to_owned());
        }
    }
    Ok((report, said))
}

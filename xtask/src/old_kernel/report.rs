//! What the guest reports over its serial port, line by line, and what that is worth. The other side of this small
//! protocol is tests/src/bin/rollcall-guest.rs:
//!
//! ```text
//! step <TAB> NAME <TAB> ok|failed <TAB> DETAIL
//! log  <TAB> a line of the verifier's log
//! kernel <TAB> RELEASE
//! end  <TAB> how many steps there were
//! ```

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};

/// Everything that was reported so far.
#[derive(Default)]
pub(super) struct Report {
    kernel: String,
    steps: Vec<Step>,
    promised: Option<usize>,
}

struct Step {
    name: String,
    ok: bool,
    detail: String,
    log: Vec<String>,
}

impl Report {
    /// Whether the guest wrote this line; qemu's words come between them.
    pub(super) fn speaks(line: &str) -> bool {
        let (kind, rest) = line.split_once('\t').unwrap_or_default();
        ["step", "log", "kernel", "end"].contains(&kind) && !rest.is_empty()
    }

    /// Takes a line; gives the step's name if it was one. A line that is not the guest's is passed over.
    pub(super) fn take(&mut self, line: &str) -> Option<&str> {
        let fields: Vec<&str> = line.splitn(4, '\t').collect();
        match fields.as_slice() {
            ["step", name, result, detail] => {
                let (name, detail) = ((*name).to_owned(), (*detail).to_owned());
                self.steps.push(Step { name, ok: *result == "ok", detail, log: Vec::new() });
                return self.steps.last().map(|step| step.name.as_str());
            }
            ["log", ..] => {
                let text = line.trim_start_matches("log\t").to_owned();
                self.steps.last_mut().into_iter().for_each(|step| step.log.push(text.clone()));
            }
            ["kernel", release] => (*release).clone_into(&mut self.kernel),
            ["end", count] => self.promised = count.parse().ok(),
            _ => {}
        }
        None
    }

    /// Whether the guest came to its end and nothing of its report was lost.
    pub(super) fn is_complete(&self) -> bool {
        self.promised == Some(self.steps.len())
    }

    /// A line per step, and below a failed one what the verifier said.
    pub(super) fn table(&self) -> String {
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or_default();
        let mut table = format!("{:width$}  Linux {}\n", "kernel", self.kernel);
        for Step { name, ok, detail, log } in &self.steps {
            let result = if *ok { "ok" } else { "FAILED" };
            let line = format!("{name:width$}  {result}  {detail}");
            let _ = writeln!(table, "{}", line.trim_end());
            for line in log {
                let _ = writeln!(table, "    {line}");
            }
        }
        table
    }

    /// An error unless every step went well, on a kernel of version `wanted`.
    pub(super) fn verdict(&self, wanted: &str) -> Result<()> {
        ensure!(self.is_complete() && !self.steps.is_empty(), "the report is incomplete");
        if !self.kernel.starts_with(&format!("{wanted}.")) {
            bail!(
                "this was Linux {}, not {wanted}, so it proves nothing; hint: remove target/old-kernel",
                self.kernel
            );
        }
        let failed: Vec<&str> =
            self.steps.iter().filter(|step| !step.ok).map(|step| step.name.as_str()).collect();
        ensure!(
            failed.is_empty(),
            "Linux {} refuses: {}\nhint: the reasons are above; lb-ebpf may use only what Linux {wanted} has",
            self.kernel,
            failed.join(", ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_report_of_good_steps_on_the_right_kernel_will_do() {
        let (kernel, good, end) = ("kernel\t6.1.0-1", "step\tload\tok\tfine", "end\t1");
        let rows: [(&[&str], bool); 7] = [
            (&[kernel, good, end], true),
            (&[kernel, "noise", good, "noise", end], true),
            (&["kernel\t6.12.1", good, end], false),
            (&[good, end], false),
            (&[kernel, "step\tload\tfailed\tno", "log\twhy", end], false),
            (&[kernel, good], false),
            (&[kernel, "end\t0"], false),
        ];
        for (lines, good) in rows {
            let mut report = Report::default();
            for line in lines {
                report.take(line);
            }
            assert_eq!(report.verdict("6.1").is_ok(), good, "{lines:?}");
        }
    }

    #[test]
    fn the_verifiers_log_is_shown_below_the_step_that_it_is_about() {
        let mut report = Report::default();
        for line in ["step\tload\tfailed\tno", "log\tR1\tinvalid", "step\tpass\tok\t"] {
            report.take(line);
        }
        let table = report.table();
        assert!(table.contains("load  FAILED  no\n    R1\tinvalid\npass  ok\n"), "{table}");
    }
}

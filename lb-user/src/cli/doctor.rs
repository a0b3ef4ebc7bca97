//! `rollcall doctor`: why the cluster does not work on this network, and what to type so that it does.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Files;
use super::events::{WIDTH, wrapped};
use super::host::Me;
use super::output::{self, Column, Table};
use crate::config::model::{Config, Mode};
use crate::dataplane::link::Interface;
use crate::doctor::{self, Finding, Scope, Severity, Subject, responder};
use crate::shared::origin::Origin;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: Files,
    /// Look at this host alone: send nothing, connect to nobody
    #[arg(long, conflicts_with = "listen")]
    no_network: bool,
    /// Answer the doctor of another node for so many minutes, where no agent runs on this one
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u64).range(1..=1440), conflicts_with = "json")]
    listen: Option<u64>,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

/// The room for what was found, beside the two columns before it.
const FOUND: usize = 40;

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let config = args.files.origin().load()?;
    if let Some(minutes) = args.listen {
        return listen(&config, minutes);
    }
    let scope = if args.no_network { Scope::Local } else { Scope::Whole };
    let findings = find(&config, scope);
    if args.json {
        output::line(&as_json(&config, &findings).to_string());
    } else {
        show(&findings);
    }
    verdict(&findings)
}

/// What the doctor finds.
pub(super) fn find(config: &Config, scope: Scope) -> Vec<Finding> {
    doctor::examine(&Subject::of(config), &doctor::observe(config, scope))
}

/// An error that says how many problems there are, if there are some.
pub(super) fn verdict(findings: &[Finding]) -> anyhow::Result<()> {
    match findings.iter().filter(|finding| finding.severity == Severity::Problem).count() {
        0 => Ok(()),
        1 => bail!("the doctor found a problem; hint: its cause and cure are above"),
        count => bail!("the doctor found {count} problems; hint: their causes and cures are above"),
    }
}

/// A table of all, then what is wrong or was not tested, each with what helps.
pub(super) fn show(findings: &[Finding]) {
    table(findings).print();
    for finding in findings.iter().filter(|finding| finding.severity > Severity::NotTested) {
        show_wrong(finding);
    }
}

/// After `init` and `join`: what is wrong with this host, and nothing else.
pub(super) fn afterwards(origin: &Origin) {
    let Ok(config) = origin.load() else { return };
    let findings = find(&config, Scope::Local);
    findings.iter().filter(|finding| finding.severity > Severity::NotTested).for_each(show_wrong);
}

/// Before `init` asks for the mode: the one in which what the gateway sends to the cluster IP arrives here, as far as that can be told.
pub(super) fn proposed_mode(me: &Me, ip: &str) -> &'static str {
    const SAFEST: Mode = Mode::Unicast;
    let told = works_here(me, ip);
    let (mode, remark) = match &told {
        Err(why) => (SAFEST, format!("which mode works here was not tested: {why}")),
        Ok(works) => match works.first() {
            None => (SAFEST, "in no mode does anything come back from the gateway to the cluster IP; `rollcall doctor` says more once this is done".to_owned()),
            Some(first) => {
                let names: Vec<&str> = works.iter().map(|mode| doctor::mode_name(*mode)).collect();
                (*first, format!("what the gateway sends to the cluster IP arrives here in mode {}; whether it also arrives at the other nodes a host alone cannot tell: `rollcall doctor` can, once they have joined", names.join(", ")))
            }
        },
    };
    output::remark(&remark);
    doctor::mode_name(mode)
}

fn works_here(me: &Me, ip: &str) -> anyhow::Result<Vec<Mode>> {
    let address = ip.split_once('/').map_or(ip, |(address, _)| address);
    let cluster_ip: Ipv4Addr = address.parse().context("the cluster IP is none of IPv4")?;
    let nic = Interface::inspect(&me.interface)?;
    let Some(IpAddr::V4(gateway)) = nic.gateway else { bail!("no gateway of IPv4 is known") };
    output::remark("looking which modes the network carries, for some seconds");
    doctor::modes_that_come_back(&nic, me.address, gateway, cluster_ip).context("frames cannot be sent")
}

/// As `rollcall doctor --json` prints it.
pub(super) fn as_json(config: &Config, findings: &[Finding]) -> Value {
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem).count();
    json!({ "node": config.me().name, "problems": problems, "findings": findings })
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&[
        Column::text("looked at", 24),
        Column::text("it is", 10),
        Column::text("what was found", FOUND),
    ]);
    for finding in findings {
        for (index, text) in wrapped(&finding.what, FOUND).into_iter().enumerate() {
            let first = |text: &str| if index == 0 { text.to_owned() } else { String::new() };
            table.row(vec![first(&finding.check), first(finding.severity.as_str()), text]);
        }
    }
    table
}

fn show_wrong(finding: &Finding) {
    let title = format!("{}: {}: {}", finding.severity.as_str(), finding.check, finding.what);
    output::line("");
    wrapped(&title, WIDTH).iter().for_each(|line| output::alarm(line));
    for (what, text) in [("cause", &finding.cause), ("cure", &finding.cure)] {
        let mut lines = wrapped(text, WIDTH - 9).into_iter();
        output::line(&format!("  {what:<5}  {}", lines.next().unwrap_or_default()));
        lines.for_each(|line| output::line(&format!("         {line}")));
    }
    for line in &finding.lines {
        output::line(&format!("  {}:", line.place));
        // Whole, so that it can be copied.
        output::line(&format!("    {}", line.text));
    }
}

fn listen(config: &Config, minutes: u64) -> anyhow::Result<()> {
    let nic = Interface::inspect(&config.local.interface)?;
    let place = responder::Place::of(config, &nic, &config.secret()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    output::remark(&format!(
        "answers the doctors of other nodes for {minutes} min; type there: rollcall doctor"
    ));
    runtime.block_on(async {
        let served = tokio::time::timeout(Duration::from_secs(minutes * 60), responder::serve(place)).await;
        // The time that was asked for is over.
        served.unwrap_or(Ok(())).context("cannot listen; hint: this needs to be root, and the interface up")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_loses_no_word() {
        let what = "nobody answers there; run the agent, or: rollcall doctor --listen, on arr2";
        let finding = Finding {
            check: "frames to arr2".into(),
            severity: Severity::NotTested,
            what: what.into(),
            cause: String::new(),
            cure: String::new(),
            lines: Vec::new(),
        };
        let lines = table(&[finding]).lines();
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        let told: Vec<&str> = lines.iter().skip(1).flat_map(|line| line.split_whitespace()).collect();
        assert!(what.split_whitespace().all(|word| told.contains(&word)), "{lines:#?}");
    }
}

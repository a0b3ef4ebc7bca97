//! `rollcall plan`: what to do, in which order, to get somewhere. It changes nothing.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;

use super::events::{WIDTH, wrapped};
use super::output::{self, Column, Table};
use crate::config;
use crate::iis::cutover::{self, Cutover};

/// What is planned.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Plan {
    /// From a Windows NLB cluster to this one: beside it on a spare cluster IP, over by NAT, and the way back; with the firewall's table
    Cutover {
        /// The cluster file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The cluster IP of the new pair, while the cluster file has that of Windows NLB [default: the cluster file's]
        #[arg(long, value_name = "IP")]
        spare_ip: Option<IpAddr>,
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(plan: Plan) -> anyhow::Result<()> {
    let Plan::Cutover { config, spare_ip, json } = plan;
    let config = config::load_for(&config, None)?;
    let cutover = cutover::plan(&config.cluster, spare_ip)?;
    if json {
        output::line(&serde_json::to_string(&cutover).context("the plan cannot be printed")?);
    } else {
        show(&cutover);
    }
    Ok(())
}

fn show(Cutover { cluster_ip, windows_ip, steps, firewall }: &Cutover) {
    let from = windows_ip.as_ref().map_or("Windows NLB".to_owned(), |ip| format!("Windows NLB at {ip}"));
    output::line(&format!("from {from} to the new pair at {cluster_ip}"));
    for (number, step) in steps.iter().enumerate() {
        output::heading(&format!("{}. {}", number + 1, step.title));
        wrapped(&step.text, WIDTH - 2).iter().for_each(|line| output::line(&format!("  {line}")));
        if !step.commands.is_empty() {
            output::line("");
        }
        // To be copied, so never broken.
        step.commands.iter().for_each(|command| output::line(&format!("    {command}")));
    }
    output::heading("firewall");
    let columns = [
        Column::text("from", 30),
        Column::text("to", 30),
        Column::text("", 4),
        Column::number("port"),
        Column::text("for", 60),
    ];
    let mut table = Table::new(&columns);
    for flow in firewall {
        let (from, to, why) = (flow.from.clone(), flow.to.clone(), flow.why.clone());
        table.row(vec![from, to, flow.protocol.to_owned(), flow.port.to_string(), why]);
    }
    table.print();
}

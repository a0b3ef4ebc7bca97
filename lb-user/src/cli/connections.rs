//! `rollcall connections`: the TCP connections to the cluster IPs on this node, with their buckets, each as
//! table/bucket.

use std::path::Path;

use anyhow::Context as _;

use super::ask::unexpected;
use super::output::{self, Column, Table, grouped};
use crate::control::api::{Answer, Connections, Request};
use crate::control::client;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those in this bucket, 0 to 4095
    #[arg(long, value_name = "B")]
    bucket: Option<u16>,
    /// Only those in buckets that this node holds now: what another than this one holds is what it waits for
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// How many to list at most, up to 10,000
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(run_dir: &Path, args: Args) -> anyhow::Result<()> {
    let Args { bucket, node, limit, json } = args;
    let answer = client::ask(run_dir, &Request::Connections { bucket, node, limit })?;
    let Answer::Connections(found) = answer else {
        return Err(unexpected(answer));
    };
    if json {
        output::line(&serde_json::to_string(&found).context("the connections cannot be printed")?);
    } else {
        show(&found);
    }
    Ok(())
}

fn show(found: &Connections) {
    let count = |count: usize| grouped(count as u64);
    let connections = if found.total == 1 { "connection" } else { "connections" };
    output::line(&format!("{} {connections}, {} established", count(found.total), count(found.established)));
    if found.connections.is_empty() {
        return;
    }
    output::line("");
    table(found).print();
    let more = found.total - found.connections.len().min(found.total);
    if more > 0 {
        output::line(&format!("  and {} more: see --limit", count(more)));
    }
}

fn table(found: &Connections) -> Table {
    let mut table = Table::new(&[
        Column::text("client", 47),
        Column::text("service", 47),
        Column::text("state", 11),
        Column::number("bucket"),
        Column::text("here", 9),
        Column::text("holder", 14),
    ]);
    for connection in &found.connections {
        table.row(vec![
            connection.client.to_string(),
            connection.service.to_string(),
            connection.state.clone(),
            format!("{}/{}", connection.table, connection.bucket),
            connection.bucket_state.clone(),
            connection.holder.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

//! `rollcall explain`: what becomes of a packet on each node, or of a request on this one, and why.

mod request;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;

use super::ask::unexpected;
use super::output::{self, Column, Table};
use crate::control::api::{Answer, Asked, Explanation, Flag, Packet, Protocol, Request};
use crate::control::client;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the packet comes from, as 203.0.113.10:40000 or [2001:db8::10]:40000; for icmp the address alone will do. Or the URL of a
    /// request: https://HOST/PATH
    #[arg(value_name = "SOURCE|URL", value_parser = subject, required_unless_present = "request")]
    subject: Option<Subject>,
    /// Where the packet goes
    #[arg(value_name = "DESTINATION", value_parser = end)]
    destination: Option<SocketAddr>,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: String,
    /// A header field of the request, as `Name: value`; may be given several times
    #[arg(long = "header", value_name = "FIELD", value_parser = field)]
    headers: Vec<(String, String)>,
    /// The client that the request comes from
    #[arg(long, value_name = "ADDRESS", default_value = "203.0.113.1")]
    from: IpAddr,
    /// What became of one of the last requests, by its number in the access log, and what would become of it now
    #[arg(long, value_name = "ID", conflicts_with_all = ["subject", "destination", "method", "headers", "from"])]
    request: Option<String>,
    /// What it is; icmp is an echo request
    #[arg(long, value_enum, default_value = "tcp")]
    proto: Protocol,
    /// TCP flags; syn alone opens a connection
    #[arg(long, value_enum, value_delimiter = ',', default_value = "syn")]
    flags: Vec<Flag>,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Packet(SocketAddr),
    Request(String),
}

fn subject(text: &str) -> Result<Subject, String> {
    if text.contains("://") { Ok(Subject::Request(text.to_owned())) } else { end(text).map(Subject::Packet) }
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write Name: value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// An address with a port, or without, which is port 0.
fn end(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().map(|address: IpAddr| SocketAddr::new(address, 0));
    text.parse().or(address).map_err(|_| "write ADDRESS:PORT, or [ADDRESS]:PORT for IPv6".to_owned())
}

pub(super) fn run(run_dir: &Path, args: Args) -> anyhow::Result<()> {
    let Args { subject, destination, method, headers, from, request, proto, flags, json } = args;
    let (source, destination) = match (subject, destination) {
        (None, _) => return request::recall(run_dir, request.unwrap_or_default(), json),
        (Some(Subject::Request(url)), None) => {
            return request::run(run_dir, Asked { url, method, headers, from }, json);
        }
        (Some(Subject::Packet(source)), Some(destination)) => (source, destination),
        (Some(Subject::Request(url)), Some(_)) => {
            anyhow::bail!("{url} is a request, which has no DESTINATION")
        }
        (Some(Subject::Packet(source)), None) => {
            anyhow::bail!("a packet from {source} needs a DESTINATION; hint: 192.168.50.8:443")
        }
    };
    for end in [source, destination] {
        anyhow::ensure!(
            proto == Protocol::Icmp || end.port() != 0,
            "{} needs a port; hint: {}",
            end.ip(),
            SocketAddr::new(end.ip(), 443)
        );
    }
    let flags = if proto == Protocol::Tcp { flags } else { Vec::new() };
    let packet = Packet { source, destination, protocol: proto, flags };
    let answer = client::ask(run_dir, &Request::Explain(packet.clone()))?;
    let Answer::Explanation(explanation) = answer else {
        return Err(unexpected(answer));
    };
    if json {
        output::line(&serde_json::to_string(&explanation).context("the explanation cannot be printed")?);
    } else {
        show(&packet, &explanation);
    }
    Ok(())
}

fn show(packet: &Packet, explanation: &Explanation) {
    output::line(&explanation.summary);
    output::line("");
    output::line(&format!("  packet    {}", describe(packet)));
    if !explanation.for_cluster {
        return;
    }
    output::line(&format!("  rule      {}", explanation.rule.as_deref().unwrap_or("none")));
    if let Some(affinity) = &explanation.affinity {
        output::line(&format!("  affinity  {affinity}"));
    }
    if let (Some(bucket), Some(table)) = (explanation.bucket, explanation.table) {
        output::line(&format!("  bucket    {bucket} of table {table}"));
    }
    output::heading("nodes");
    nodes(explanation).print();
    for node in &explanation.nodes {
        if let Some(unsure) = &node.unsure {
            output::line(&format!("  {}: {unsure}", node.name));
        }
    }
}

fn describe(packet: &Packet) -> String {
    let Packet { source, destination, protocol, flags } = packet;
    match protocol {
        Protocol::Tcp => {
            let word = |flag: &Flag| match flag {
                Flag::Syn => "syn",
                Flag::Ack => "ack",
                Flag::Fin => "fin",
                Flag::Rst => "rst",
            };
            let flags: Vec<&str> = flags.iter().map(word).collect();
            format!("tcp {source} > {destination}, {}", flags.join(" and "))
        }
        Protocol::Udp => format!("udp {source} > {destination}"),
        Protocol::Icmp => format!("echo request {} > {}", source.ip(), destination.ip()),
    }
}

fn nodes(explanation: &Explanation) -> Table {
    let mut table = Table::new(&[
        Column::text("name", 16),
        Column::text("does", 15),
        Column::text("bucket", 9),
        Column::text("lease", 5),
        Column::text("socket", 9),
        Column::text("reason", 70),
    ]);
    for node in &explanation.nodes {
        let reason = match (node.reason.as_str(), node.meaning.as_str()) {
            ("", "") => String::new(),
            ("", meaning) => meaning.to_owned(),
            (reason, meaning) => format!("{reason}: {meaning}"),
        };
        table.row(vec![
            node.name.clone(),
            node.action.clone(),
            node.state.clone().unwrap_or_else(|| "-".to_owned()),
            if node.lease { "yes" } else { "no" }.to_owned(),
            node.socket.clone().unwrap_or_else(|| "-".to_owned()),
            reason,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_an_address_with_or_without_a_port() {
        for (text, expected) in [
            ("203.0.113.10:40000", "203.0.113.10:40000"),
            ("203.0.113.10", "203.0.113.10:0"),
            ("[2001:db8::10]:443", "[2001:db8::10]:443"),
            ("[2001:db8::10]", "[2001:db8::10]:0"),
            ("2001:db8::10", "[2001:db8::10]:0"),
        ] {
            assert_eq!(end(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "mail.example.test:443", "203.0.113.10:", "203.0.113.10:70000", ":443"] {
            assert!(end(text).is_err(), "{text}");
        }
    }
}

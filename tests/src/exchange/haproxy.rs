//! haproxy in the node's place: the same servers, published at the same address with the same certificate.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use super::Exchange;
use crate::backend::{start_haproxy, wait_for_port};
use crate::lab::{CLUSTER_IP, NODE_DMZ, SERVERS};
use crate::sys::Process;

/// haproxy's `http-reuse`: who may use a server connection once it is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// The client connection that it was made for, alone.
    Never,
    /// Whoever comes.
    Always,
}

/// Starts it on the node's machine, where no agent must run.
pub fn start(exchange: &Exchange, reuse: Reuse) -> Result<Process> {
    let lab = &exchange.cluster.lab;
    let node = &lab.places.first().context("the lab has no node")?.namespace;
    node.ip(&format!("addr add {CLUSTER_IP}/24 dev {NODE_DMZ}"))?;
    let both = lab.folder().join("both.pem");
    let text = configuration(&both.to_string_lossy(), reuse)?;
    let process = start_haproxy(node, "haproxy", &lab.folder().join("haproxy.cfg"), &text)?;
    wait_for_port(node, Ipv4Addr::LOCALHOST, 443, &process)?;
    Ok(process)
}

fn configuration(certificate: &str, reuse: Reuse) -> Result<String> {
    let mut text = settings(reuse);
    writeln!(text, "listen site\n  bind :443 ssl crt {certificate} alpn http/1.1")?;
    for (name, address) in SERVERS {
        writeln!(text, "  server {name} {address}:443 ssl")?;
    }
    Ok(text)
}

/// What is the same wherever the lab has a haproxy.
pub(super) fn settings(reuse: Reuse) -> String {
    let reuse = match reuse {
        Reuse::Never => "never",
        Reuse::Always => "always",
    };
    format!(
        "global\n  maxconn 4000\n  ssl-server-verify none\ndefaults\n  mode http\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n  http-reuse {reuse}\n"
    )
}

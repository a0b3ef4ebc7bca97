//! nginx in the node's place, as it is where nobody asks it for anything else: it keeps what comes until it has enough of it.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use super::Exchange;
use crate::backend::{start_nginx, wait_for_port};
use crate::lab::{CLUSTER_IP, NODE_DMZ, SERVERS};
use crate::sys::Process;

/// Starts it on the node's machine, where no agent must run.
pub fn start(exchange: &Exchange) -> Result<Process> {
    let lab = &exchange.cluster.lab;
    let node = &lab.places.first().context("the lab has no node")?.namespace;
    node.ip(&format!("addr add {CLUSTER_IP}/24 dev {NODE_DMZ}"))?;
    let folder = lab.folder().join("nginx-node");
    fs::create_dir_all(&folder).context("cannot make nginx's folder")?;
    let mut servers = String::new();
    for (_, address) in SERVERS {
        writeln!(servers, "server {address}:443;")?;
    }
    let certificates = &exchange.cluster.certificates;
    let text = format!(
        "upstream servers {{\n{servers}}}\nserver {{\nlisten 443 ssl;\nssl_certificate {};\nssl_certificate_key {};\nlocation / {{ proxy_pass https://servers; proxy_http_version 1.1; }}\n}}\n",
        certificates.certificate.display(),
        certificates.key.display(),
    );
    let process = start_nginx(node, "the node", &folder, &text)?;
    wait_for_port(node, Ipv4Addr::LOCALHOST, 443, &process)?;
    Ok(process)
}

//! haproxy in front of the node: the clients' machine asks it in place of the site, and it asks the site for all of them.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::Exchange;
use super::haproxy::{Reuse, settings};
use crate::backend::{start_haproxy, wait_for_port};
use crate::lab::{PUBLIC, PUBLIC_NAME};
use crate::sys::Process;

/// Where it listens on the clients' machine.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The port there.
pub const PORT: u16 = 8443;

/// How it tells the node whom it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduces {
    /// In `X-Forwarded-For`.
    InFields,
    /// By a PROXY header, of version 2.
    ByHeader,
}

/// Starts it.
pub fn start(exchange: &Exchange, reuse: Reuse, introduces: Introduces) -> Result<Process> {
    let lab = &exchange.cluster.lab;
    let both = lab.folder().join("both.pem");
    let text = configuration(&both.to_string_lossy(), reuse, introduces);
    let process = start_haproxy(&lab.client, "the proxy in front", &lab.folder().join("front.cfg"), &text)?;
    wait_for_port(&lab.client, ADDRESS, PORT, &process)?;
    Ok(process)
}

fn configuration(certificate: &str, reuse: Reuse, introduces: Introduces) -> String {
    let settings = settings(reuse);
    let (option, server) = match introduces {
        Introduces::InFields => ("option forwardfor", ""),
        Introduces::ByHeader => ("", "send-proxy-v2"),
    };
    format!(
        "{settings}  {option}\nlisten front\n  bind {ADDRESS}:{PORT} ssl crt {certificate} alpn http/1.1\n  \
         server node {PUBLIC}:443 ssl alpn http/1.1 sni str({PUBLIC_NAME}) {server}\n"
    )
}

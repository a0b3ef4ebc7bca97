//! A server that logs connections on by NTLM: tests/python/acceptor.py on a server's machine. What its answers mean is written there.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Exchange, python};
use crate::backend::{Certificates, wait_for_port};
use crate::sys::Process;

/// What an acceptor demands of who logs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Name and password.
    Logon,
    /// And Extended Protection: bindings to the certificate that the acceptor itself presents.
    Bindings,
}

/// A running acceptor.
#[derive(Debug)]
pub struct Acceptor {
    /// On which server it runs.
    pub server: String,
    /// Its process.
    pub process: Process,
}

impl Acceptor {
    /// Starts one on port 443 of `server`. What it calls itself begins the names of its connections, and so must be another one
    /// at each start.
    pub fn start(
        exchange: &Exchange,
        server: &str,
        called: &str,
        certificates: &Certificates,
        demand: Demand,
    ) -> Result<Self> {
        let namespace = exchange.server(server)?;
        let mut command = python(namespace, "acceptor.py")?;
        command.env("NTLM_USER_FILE", &exchange.accounts);
        command.args(["--name", called, "--certificate"]).arg(&certificates.certificate);
        command.arg("--key").arg(&certificates.key);
        if demand == Demand::Bindings {
            command.arg("--extended-protection");
        }
        let log = exchange.cluster.lab.folder().join(format!("acceptor-{called}.log"));
        let process = Process::start(&format!("the acceptor {called}"), namespace, &mut command, &log)?;
        wait_for_port(namespace, Ipv4Addr::LOCALHOST, 443, &process)?;
        Ok(Self { server: server.to_owned(), process })
    }
}

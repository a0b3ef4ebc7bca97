//! A server that speaks Exchange's protocols as far as the tests' clients go: tests/python/standin.py on a server's machine. What it
//! follows is written there.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Exchange, python};
use crate::backend::wait_for_port;
use crate::sys::Process;

/// A running stand-in.
#[derive(Debug)]
pub struct Standin {
    /// On which server it runs.
    pub server: String,
    /// Its process.
    pub process: Process,
}

impl Standin {
    /// Starts one on port 443 of `server`, with the site's own certificate.
    pub fn start(exchange: &Exchange, server: &str) -> Result<Self> {
        let namespace = exchange.server(server)?;
        let (certificates, store) = (&exchange.cluster.certificates, store(exchange));
        fs::create_dir_all(&store).context("cannot make the mailboxes' folder")?;
        let mut command = python(namespace, "standin.py")?;
        command.env("NTLM_USER_FILE", &exchange.accounts).args(["--name", server]);
        command.arg("--certificate").arg(&certificates.certificate).arg("--key").arg(&certificates.key);
        command.arg("--store").arg(&store);
        let log = exchange.cluster.lab.folder().join(format!("standin-{server}.log"));
        let process = Process::start(&format!("the stand-in on {server}"), namespace, &mut command, &log)?;
        wait_for_port(namespace, Ipv4Addr::LOCALHOST, 443, &process)?;
        Ok(Self { server: server.to_owned(), process })
    }
}

/// What all stand-ins of a lab share: a folder.
pub fn store(exchange: &Exchange) -> PathBuf {
    exchange.cluster.lab.folder().join("store")
}

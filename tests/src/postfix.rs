//! Postfix as the edge host of DESIGN's network: takes mail from the internet through the nodes, and says in its log whom from.
//! It relays for the DMZ, as such hosts do, and keeps no mail.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::backend::wait_for_port;
use crate::lab::Lab;
use crate::sys::{Process, find_program};

/// Where it listens, on port 25.
pub const EDGE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 3);

/// Whether it expects PROXY protocol headers (postconf(5), smtpd_upstream_proxy_protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// No.
    Nobody,
    /// On every connection.
    ProxyProtocol,
}

/// Postfix at work.
#[derive(Debug)]
pub struct Postfix {
    _process: Process,
    log: PathBuf,
}

impl Postfix {
    /// Starts it in a machine of its own in the DMZ.
    pub fn start(lab: &Lab, upstream: Upstream) -> Result<Self> {
        let namespace = lab.stranger("edge", EDGE)?;
        let folder = lab.folder().join("postfix");
        // It makes the one for its data itself, which must be its user's.
        fs::create_dir_all(folder.join("queue")).context("cannot make postfix's folders")?;
        fs::write(folder.join("main.cf"), main_cf(&folder.to_string_lossy(), upstream))
            .context("cannot write main.cf")?;
        fs::write(folder.join("master.cf"), MASTER_CF).context("cannot write master.cf")?;
        let mut command = Command::new(find_program("postfix")?);
        command.arg("-c").arg(&folder).arg("start-fg");
        let log = folder.join("log");
        let process = Process::start("postfix", &namespace, &mut command, &log)?;
        wait_for_port(&namespace, EDGE, 25, &process)?;
        Ok(Self { _process: process, log })
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).context("cannot read postfix's log")
    }
}

fn main_cf(folder: &str, upstream: Upstream) -> String {
    let upstream = match upstream {
        Upstream::Nobody => "",
        Upstream::ProxyProtocol => "haproxy",
    };
    format!(
        "compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = /dev/stdout
myhostname = edge.example.test
mydestination = example.test
local_recipient_maps =
mynetworks = 192.168.50.0/24
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtpd_upstream_proxy_protocol = {upstream}
local_transport = discard
default_transport = discard
alias_maps =
alias_database =
inet_protocols = ipv4
"
    )
}

/// What takes part until a message is accepted.
const MASTER_CF: &str = "\
smtp      inet  n       -       n       -       -       smtpd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
postlog   unix-dgram n  -       n       -       1       postlogd
";

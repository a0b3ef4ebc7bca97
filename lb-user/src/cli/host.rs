//! What `rollcall init` and `rollcall join` have in common: this host's place in the network, and its own files.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::output;
use crate::config::NODE_FILE;
use crate::dataplane::link::Interface;
use crate::proxy::spawn::Account;
use crate::shared::keys::{NodeKeys, Seed};
use crate::shared::origin::{self, Origin};
use crate::shared::store::Store;

/// What was typed of this host.
#[derive(Debug, clap::Args)]
pub(super) struct Host {
    /// This node's name [default: the host's]
    #[arg(long)]
    name: Option<String>,
    /// Its interface in the cluster IP's network
    #[arg(long)]
    interface: Option<String>,
    /// Its own address there [default: the interface's]
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// User that the proxy runs as
    #[arg(long, value_name = "USER", default_value = "rollcall-proxy")]
    proxy_user: String,
    /// User that the child runs as which talks to the other nodes
    #[arg(long, value_name = "USER", default_value = "rollcall-peer")]
    pub(super) peer_user: String,
    /// Where this node's file and keys go
    #[arg(long, value_name = "DIR", default_value = "/etc/rollcall")]
    dir: PathBuf,
    /// Where the configuration is kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/rollcall")]
    pub(super) state_dir: PathBuf,
    /// Folder for the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/rollcall")]
    run_dir: PathBuf,
}

/// This node's place in the network.
pub(super) struct Me {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// The prefix length of its network.
    pub(super) prefix: u8,
    pub(super) interface: String,
}

impl Host {
    /// Nothing of another node, or of another cluster, is overwritten.
    pub(super) fn is_free(&self) -> anyhow::Result<()> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "this writes root's files and needs to be root; hint: sudo rollcall .."
        );
        ensure!(
            !Store::exists(&self.state_dir),
            "this host belongs to a cluster already: {} is not empty; hint: rollcall config show prints its configuration",
            self.state_dir.join("generations").display()
        );
        for path in [self.node_file(), self.key_file()] {
            ensure!(
                !path.exists(),
                "{} is there already; hint: move it away if it is of no use any more",
                path.display()
            );
        }
        for user in [&self.proxy_user, &self.peer_user] {
            Account::find(user)?;
        }
        Ok(())
    }

    /// Where it is, by what was typed or what the interface has.
    pub(super) fn whoami(&self) -> anyhow::Result<Me> {
        self.whoami_as(self.name.clone().unwrap_or_else(host_name), None)
    }

    /// What it is set up as, for `--json`.
    pub(super) fn as_json(&self, me: &Me) -> serde_json::Value {
        serde_json::json!({
            "node": me.name,
            "address": me.address,
            "interface": me.interface,
            "node_file": self.node_file(),
            "key_file": self.key_file(),
            "state_dir": self.state_dir,
        })
    }

    /// The name that was typed.
    pub(super) fn typed_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The same for a node of this name, which has that address if the interface has it and no other was typed.
    pub(super) fn whoami_as(&self, name: String, usual: Option<Ipv4Addr>) -> anyhow::Result<Me> {
        let interface = asked(
            self.interface.as_deref(),
            "--interface",
            "the interface in the cluster IP's network",
            "eth0",
        )?;
        let found = Interface::inspect(&interface)?;
        let own = match self.address {
            Some(address) => found.addresses.iter().find(|(own, _)| *own == address),
            None => {
                let is_usual = |(own, _): &&(Ipv4Addr, u8)| Some(*own) == usual;
                found.addresses.iter().find(is_usual).or_else(|| found.addresses.first())
            }
        };
        let (address, prefix) = *own.with_context(|| match self.address {
            Some(address) => format!("{interface} does not have the address {address}"),
            None => format!(
                "{interface} has no IPv4 address; hint: give it one, by which the other nodes reach this one"
            ),
        })?;
        Ok(Me { name, address, prefix, interface })
    }

    pub(super) fn node_file(&self) -> PathBuf {
        self.dir.join(NODE_FILE)
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.dir.join("node.key")
    }

    /// What a command needs to find this node's file.
    pub(super) fn arguments(&self) -> String {
        let node_file = self.node_file();
        if node_file == Path::new(origin::NODE_FILE) {
            return String::new();
        }
        format!(" --node-file {}", node_file.display())
    }

    /// Where this node's configuration is, once it is settled.
    pub(super) fn origin(&self) -> Origin {
        Origin::Store { node: self.node_file() }
    }

    /// Writes this node's own files, has `keep` fill the store, and looks whether all of it makes a configuration. After an error
    /// nothing is left.
    pub(super) fn settle(
        &self,
        me: &Me,
        keys: &NodeKeys,
        keep: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let settled = self.write(me, keys).and_then(|()| keep()).and_then(|()| {
            self.origin().load()?;
            Ok(())
        });
        if settled.is_err() {
            for path in [self.node_file(), self.key_file()] {
                // It may not have come to be.
                let _ = fs::remove_file(path);
            }
            let _ = fs::remove_dir_all(self.state_dir.join("generations"));
        }
        settled
    }

    fn write(&self, me: &Me, keys: &NodeKeys) -> anyhow::Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&self.dir);
        made.with_context(|| format!("cannot make {}", self.dir.display()))?;
        write(&self.key_file(), &keys.text(), 0o600)?;
        write(&self.node_file(), &self.text(me), 0o644)
    }

    /// The text of this node's file: what is as by default is left out.
    fn text(&self, me: &Me) -> String {
        let Me { name, interface, .. } = me;
        let mut text = format!(
            "# This node's own facts. What all nodes share: rollcall config show\nname = {name:?}\ninterface = {interface:?}\n"
        );
        let path = |path: &Path| path.display().to_string();
        for (key, value, default) in [
            ("key_file", path(&self.key_file()), "/etc/rollcall/node.key"),
            ("state_dir", path(&self.state_dir), "/var/lib/rollcall"),
            ("run_dir", path(&self.run_dir), "/run/rollcall"),
            ("proxy_user", self.proxy_user.clone(), "rollcall-proxy"),
            ("peer_user", self.peer_user.clone(), "rollcall-peer"),
        ] {
            if value != default {
                text.push_str(&format!("{key} = {value:?}\n"));
            }
        }
        text
    }
}

/// This host's name, without its domain.
pub(super) fn host_name() -> String {
    let uname = rustix::system::uname();
    let whole = uname.nodename().to_string_lossy().into_owned();
    whole.split('.').next().unwrap_or_default().to_owned()
}

/// Fresh keys.
pub(super) fn new_keys() -> anyhow::Result<NodeKeys> {
    Ok(NodeKeys::new(Seed(random()?), Seed(random()?)))
}

/// Bytes that nobody can guess.
pub(super) fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

/// What was typed, or what is answered.
pub(super) fn asked(typed: Option<&str>, flag: &str, what: &str, example: &str) -> anyhow::Result<String> {
    if let Some(typed) = typed {
        return Ok(typed.to_owned());
    }
    if !answers() {
        bail!("{flag} is missing: {what}; hint: {flag} {example}");
    }
    output::remark(&format!("{what} [{example}]:"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    let answer = answer.trim();
    Ok(if answer.is_empty() { example.to_owned() } else { answer.to_owned() })
}

/// Whether somebody can answer.
pub(super) fn answers() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("cannot write {}", path.display()))
}

//! What a cluster IP needs of this host, and its undoing. The XDP program is attached before `setup` and detached after
//! `teardown`: between the two no kernel answers for the cluster IP on its own.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use thiserror::Error;

use changes::Wanted;
use host::Record;
pub use host::SettingError;
pub use interface::{AttachedXdp, InspectError, Interface};
pub use lock::{Lock, RunDir};
use netlink::Netlink;

use crate::config::model::Config;

mod changes;
mod host;
mod interface;
mod lock;
mod netlink;
#[cfg(test)]
mod tests;

/// A host that is set up for the cluster IPs. Dropping it changes nothing: a killed agent's successor goes on with it.
#[derive(Debug)]
pub struct Link {
    run_dir: PathBuf,
    /// What the operator should know of this host; a sentence each.
    pub warnings: Vec<String>,
    /// How frames for the cluster MAC come in: `a filter entry`, or `promiscuous mode` and why.
    pub filter: String,
}

impl Link {
    /// Makes the cluster IPs this host's, its kernel silent about them, and the interface hear `cluster_mac`. Call it with
    /// XDP attached and the lock held. Done twice it changes nothing more. With `observe` it changes nothing,
    /// but puts back what an earlier agent changed.
    ///
    /// After an error, `teardown` of the run folder puts back what was changed.
    pub fn setup(config: &Config, interface: &Interface, cluster_mac: [u8; 6]) -> Result<Self, LinkError> {
        let run_dir = config.local.run_dir.clone();
        let mut link = Self {
            run_dir,
            warnings: host::warnings(&config.local),
            filter: "what was there: observing".into(),
        };
        if config.cluster.observe {
            // An agent that did more than observe may have left something.
            teardown(&link.run_dir)?;
            return Ok(link);
        }
        let mut netlink = Netlink::open().map_err(change("opening a netlink socket"))?;
        let mut record = link.record(config, interface)?;
        let wanted = Wanted::of(config, cluster_mac);
        changes::plan(&mut record, &mut netlink, &wanted)?;
        let write = |record: &Record| record.write(&link.run_dir).map_err(record_error(&link.run_dir));
        write(&record)?;
        record.apply_settings()?;
        link.filter = changes::let_in(&mut record, &mut netlink, cluster_mac, write)?;
        changes::add(&record, &mut netlink)?;
        Ok(link)
    }

    /// Puts back what was before the first `setup`.
    pub fn teardown(self) -> Result<(), LinkError> {
        teardown(&self.run_dir)
    }

    /// The record to go on with: the earlier agent's if it is of this very interface, else a fresh one.
    fn record(&self, config: &Config, interface: &Interface) -> Result<Record, LinkError> {
        let beneath = config.local.xdp_interface.as_deref().map(Interface::inspect).transpose()?;
        let xdp_index = beneath.map(|beneath| beneath.index);
        let fresh = Record { netns: interface.netns, index: interface.index, xdp_index, ..Record::default() };
        match Record::read(&self.run_dir).map_err(record_error(&self.run_dir))? {
            Some(record) if (record.netns, record.index) == (fresh.netns, fresh.index) => {
                Ok(Record { xdp_index, ..record })
            }
            Some(_) => {
                teardown(&self.run_dir)?;
                Ok(fresh)
            }
            None => Ok(fresh),
        }
    }
}

/// Puts back what agents with this run folder changed and left; nothing to do is success. The cluster IPs go first: without
/// them nobody can be answered. Goes on after a failure, keeps the record then, and reports the first.
pub fn teardown(run_dir: &Path) -> Result<(), LinkError> {
    let Some(record) = Record::read(run_dir).map_err(record_error(run_dir))? else {
        return Ok(());
    };
    let mut result = Ok(());
    if interface::network_namespace().is_ok_and(|netns| netns == record.netns) {
        result = changes::undo(&record).and(record.restore_settings().map_err(LinkError::from));
    }
    result?;
    Record::remove(run_dir).map_err(record_error(run_dir))
}

/// Adds again what the kernel dropped of a set-up host: an interface that was down has left its solicited-node groups.
pub fn refresh(run_dir: &Path) -> Result<(), LinkError> {
    let Some(record) = Record::read(run_dir).map_err(record_error(run_dir))? else {
        return Ok(());
    };
    let mut netlink = Netlink::open().map_err(change("opening a netlink socket"))?;
    changes::add(&record, &mut netlink)
}

/// On which interface (`Interface::key`) agents with this run folder had the XDP program, if one left a record.
pub fn recorded(run_dir: &Path) -> Option<String> {
    let record = Record::read(run_dir).ok()??;
    Some(format!("{}-{}", record.netns, record.xdp_index.unwrap_or(record.index)))
}

/// Why the host cannot be set up or put back.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The interface cannot be used. Nothing was changed.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// Another agent runs on this interface. Nothing was changed.
    #[error(
        "an agent is running on interface {interface} already (pid {pid}); hint: stop it first; `rollcall status` shows how it does"
    )]
    Locked {
        /// The interface.
        interface: String,
        /// The other agent.
        pid: String,
    },
    /// Another agent has this run folder. Nothing was changed.
    #[error("an agent is running with the run folder {path} already; hint: stop it, or give this one its own `run_dir` in node.toml", path = path.display())]
    RunDirTaken {
        /// The folder.
        path: PathBuf,
    },
    /// The run folder cannot be made. Nothing was changed.
    #[error("cannot make the run folder {path}; hint: `run_dir` in node.toml must be a folder that root can make and write", path = path.display())]
    RunDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock cannot be made. Nothing was changed.
    #[error("cannot make the lock {path}; hint: the agent needs to be root", path = path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cluster IP is an ordinary address here. Nothing was changed.
    #[error(
        "cluster IP {address} is an address of interface {interface}; hint: ip address del {address}/{prefix} dev {interface}, and take it from this host's network configuration; the agent sets it by itself"
    )]
    Ordinary {
        /// The cluster IP.
        address: IpAddr,
        /// Its prefix length there.
        prefix: u8,
        /// The interface.
        interface: String,
    },
    /// An IPv6 cluster IP, and an interface without IPv6. Nothing was changed.
    #[error(
        "cluster IP {address} needs IPv6, which is off on interface {interface}; hint: sysctl -w net.ipv6.conf.{interface}.disable_ipv6=0, and in this host's network configuration; a kernel started with ipv6.disable=1 has none at all"
    )]
    NoIpv6 {
        /// The cluster IP.
        address: Ipv6Addr,
        /// The interface.
        interface: String,
    },
    /// The record of the host's former state cannot be read or written. Nothing was changed.
    #[error("cannot read or write host-state.json in {run_dir}; hint: `run_dir` in node.toml must be a folder that root can write", run_dir = run_dir.display())]
    Record {
        /// The folder.
        run_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A setting cannot be changed.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The kernel refuses a change.
    #[error("the kernel refuses {what}; hint: the agent needs to be root, or to have CAP_NET_ADMIN")]
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn change(what: &'static str) -> impl Fn(io::Error) -> LinkError {
    move |source| LinkError::Refused { what, source }
}

fn record_error(run_dir: &Path) -> impl Fn(io::Error) -> LinkError {
    move |source| LinkError::Record { run_dir: run_dir.to_owned(), source }
}

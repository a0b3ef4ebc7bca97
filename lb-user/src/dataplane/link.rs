//! What a cluster IP needs of this host, and its undoing. The XDP program is attached before `setup` and detached after
//! `teardown`: between the two no kernel answers for the cluster IP on its own.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use thiserror::Error;

use host::Record;
pub use host::SettingError;
pub use interface::{AttachedXdp, InspectError, Interface};
use netlink::{HostAddress, Netlink};

use crate::config::model::Config;

mod host;
mod interface;
mod netlink;
#[cfg(test)]
mod tests;

/// Where locks lie, whatever the run folder is: two agents with different run folders must still find each other's.
const LOCKS: &str = "/run/rollcall";

/// A host that is set up for the cluster IPs. Dropping it changes nothing: a killed agent's successor goes on with it.
#[derive(Debug)]
pub struct Link {
    run_dir: PathBuf,
    /// What the operator should know of this host; a sentence each.
    pub warnings: Vec<String>,
}

impl Link {
    /// Makes the cluster IPs this host's, its kernel silent about them, and the interface hear `cluster_mac`. Call it with
    /// XDP attached and the lock held. Done twice it changes nothing more. With `observe` it changes nothing,
    /// but puts back what an earlier agent changed.
    ///
    /// After an error, `teardown` of the run folder puts back what was changed.
    pub fn setup(config: &Config, interface: &Interface, cluster_mac: [u8; 6]) -> Result<Self, LinkError> {
        let run_dir = config.local.run_dir.clone();
        let link = Self { run_dir, warnings: host::warnings(&interface.name) };
        if config.cluster.observe {
            // An agent that did more than observe may have left something.
            teardown(&link.run_dir)?;
            return Ok(link);
        }
        let mut netlink = Netlink::open().map_err(change("opening a netlink socket"))?;
        let mut record = link.record(interface)?;
        plan(&mut record, &mut netlink, config, interface, cluster_mac)?;
        forget_former(&mut record, &mut netlink, config)?;
        record.write(&link.run_dir).map_err(link.record_error())?;
        record.apply_settings()?;
        netlink.hear(interface.index, cluster_mac).map_err(change("letting the cluster MAC in"))?;
        for address in &record.addresses {
            netlink.add_to_loopback(*address).map_err(change("adding the cluster IP to lo"))?;
        }
        Ok(link)
    }

    /// Puts back what was before the first `setup`.
    pub fn teardown(self) -> Result<(), LinkError> {
        teardown(&self.run_dir)
    }

    /// The record to go on with: the earlier agent's if it is of this very interface, else a fresh one.
    fn record(&self, interface: &Interface) -> Result<Record, LinkError> {
        let fresh = Record { netns: interface.netns, index: interface.index, ..Record::default() };
        match Record::read(&self.run_dir).map_err(self.record_error())? {
            Some(record) if (record.netns, record.index) == (fresh.netns, fresh.index) => Ok(record),
            Some(_) => {
                teardown(&self.run_dir)?;
                Ok(fresh)
            }
            None => Ok(fresh),
        }
    }

    fn record_error(&self) -> impl Fn(io::Error) -> LinkError {
        let run_dir = self.run_dir.clone();
        move |source| LinkError::Record { run_dir: run_dir.clone(), source }
    }
}

/// Puts back what agents with this run folder changed and left; nothing to do is success. The cluster IPs go first: without
/// them nobody can be answered. Goes on after a failure, keeps the record then, and reports the first.
pub fn teardown(run_dir: &Path) -> Result<(), LinkError> {
    let record_error = |source| LinkError::Record { run_dir: run_dir.to_owned(), source };
    let Some(record) = Record::read(run_dir).map_err(record_error)? else {
        return Ok(());
    };
    let mut result = Ok(());
    if interface::network_namespace().is_ok_and(|netns| netns == record.netns) {
        result = remove(&record).and(record.restore_settings().map_err(LinkError::from));
    }
    result?;
    Record::remove(run_dir).map_err(record_error)
}

/// Which interface (`Interface::key`) agents with this run folder set up, if one left a record.
pub fn recorded(run_dir: &Path) -> Option<String> {
    let record = Record::read(run_dir).ok()??;
    Some(format!("{}-{}", record.netns, record.index))
}

/// The right to be the agent of an interface; held until dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes it, unless another agent has it.
    pub fn take(interface: &Interface) -> Result<Self, LinkError> {
        Self::take_in(Path::new(LOCKS), &interface.key(), &interface.name)
    }

    fn take_in(folder: &Path, key: &str, interface: &str) -> Result<Self, LinkError> {
        let path = folder.join(format!("lock-{key}"));
        let failed = |source| LinkError::Lock { path: path.clone(), source };
        loop {
            fs::create_dir_all(folder).map_err(failed)?;
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = match options.open(&path) {
                Ok(file) => file,
                // An agent that ended meanwhile took the folder, which was empty.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(interface, &mut file)),
                Err(error) => return Err(failed(error.into())),
            }
            // The former holder may have removed the file between the two calls: then this lock locks nothing.
            let current = fs::metadata(&path).map(|now| now.ino());
            if current.ok() == Some(file.metadata().map_err(failed)?.ino()) {
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody's new lock is. A folder that others use stays.
        let _ = fs::remove_file(&self.path);
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

/// The right to use a run folder; held until dropped. The folder goes with it if it was made for it and is empty.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    made: bool,
    _folder: File,
}

impl RunDir {
    /// Takes it, unless another agent has it: two would undo each other's settings.
    pub fn take(path: &Path) -> Result<Self, LinkError> {
        let failed = |source| LinkError::RunDir { path: path.to_owned(), source };
        loop {
            let made = !path.exists();
            let opened = fs::create_dir_all(path).and_then(|()| File::open(path));
            let folder = opened.map_err(failed)?;
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(LinkError::RunDirTaken { path: path.to_owned() });
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The former holder may have removed it between the two calls.
            let current = fs::metadata(path).map(|now| now.ino());
            if current.ok() == Some(folder.metadata().map_err(failed)?.ino()) {
                return Ok(Self { path: path.to_owned(), made, _folder: folder });
            }
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.made {
            // One that something else uses by now stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
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
        address: Ipv4Addr,
        /// Its prefix length there.
        prefix: u8,
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

/// Adds to the record what is missing on this host.
fn plan(
    record: &mut Record,
    netlink: &mut Netlink,
    config: &Config,
    interface: &Interface,
    cluster_mac: [u8; 6],
) -> Result<(), LinkError> {
    let present = netlink.addresses().map_err(change("telling its addresses"))?;
    let mut foreign = false;
    for ip in &config.cluster.cluster_ips {
        let std::net::IpAddr::V4(address) = ip.address else { continue };
        match present.iter().find(|present| present.address == address) {
            Some(found) if !found.on_loopback() => return Err(ordinary(found, netlink)),
            Some(found) => foreign |= !found.host_scope,
            None if record.addresses.contains(&address) => {}
            None => record.addresses.push(address),
        }
    }
    if record.mac != Some(cluster_mac) {
        if let Some(former) = record.mac.take() {
            netlink.unhear(record.index, former).map_err(change("forgetting the former cluster MAC"))?;
        }
        let hears = netlink.hears(interface.index, cluster_mac).map_err(change("telling its MAC filter"))?;
        record.mac = (!hears).then_some(cluster_mac);
    }
    Ok(record.plan_settings(foreign)?)
}

/// Takes the addresses away that an earlier agent added and the configuration no longer has: with them this host would
/// reach itself where others reach somebody else.
fn forget_former(record: &mut Record, netlink: &mut Netlink, config: &Config) -> Result<(), LinkError> {
    let wanted = |address: &Ipv4Addr| config.cluster.cluster_ips.iter().any(|ip| ip.address == *address);
    for address in record.addresses.extract_if(.., |address| !wanted(address)) {
        netlink.remove_from_loopback(address).map_err(change("removing the former cluster IP from lo"))?;
    }
    Ok(())
}

fn ordinary(found: &HostAddress, netlink: &mut Netlink) -> LinkError {
    LinkError::Ordinary {
        address: found.address,
        prefix: found.prefix,
        interface: interface::name(netlink, found.interface),
    }
}

/// Takes the addresses and the filter entry away.
fn remove(record: &Record) -> Result<(), LinkError> {
    let mut netlink = Netlink::open().map_err(change("opening a netlink socket"))?;
    let addresses: Vec<io::Result<()>> =
        record.addresses.iter().map(|address| netlink.remove_from_loopback(*address)).collect();
    let mac = record.mac.map_or(Ok(()), |mac| netlink.unhear(record.index, mac));
    let gone =
        |error: &io::Error| error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(19);
    addresses.into_iter().collect::<io::Result<()>>().map_err(change("removing the cluster IP from lo"))?;
    match mac {
        // The interface went, and its filter with it (ENODEV).
        Err(error) if gone(&error) => Ok(()),
        mac => mac.map_err(change("removing the cluster MAC")),
    }
}

fn taken(interface: &str, file: &mut File) -> LinkError {
    let mut pid = String::new();
    let _ = file.take(32).read_to_string(&mut pid);
    let pid = match pid.trim() {
        // It has the lock, and is about to write its number.
        "" => "still unknown".to_owned(),
        pid => pid.to_owned(),
    };
    LinkError::Locked { interface: interface.to_owned(), pid }
}

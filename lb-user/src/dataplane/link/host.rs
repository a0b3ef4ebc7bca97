//! This host's settings that a cluster IP needs, and the record from which they are put back. The record is written before
//! anything is changed, lives in the run folder (gone after a reboot, as the changes are), and keeps what was there before
//! the *first* agent, however many were killed since.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, iter};

use serde::{Deserialize, Serialize};

use crate::config::model::Local;
use crate::sys::strips_vlan_tags;

/// Settings of the interfaces of the calling thread's network namespace.
const SETTINGS: &str = "/proc/sys/net/ipv4/conf";

/// The same for IPv6.
const SETTINGS_V6: &str = "/proc/sys/net/ipv6/conf";

/// The record's name in the run folder.
const RECORD: &str = "host-state.json";

/// What an agent changed, or was about to. Fields that came later default, so that the record of an older agent is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The network namespace and the interface; see `Interface`.
    pub(super) netns: u64,
    pub(super) index: u32,
    /// Settings, in the order in which they were changed.
    pub(super) settings: Vec<Setting>,
    /// The cluster MAC, if the interface did not hear it before.
    pub(super) mac: Option<[u8; 6]>,
    /// The cluster IPs that were not on the loopback interface before.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether the interface was made promiscuous, and was not before.
    #[serde(default)]
    pub(super) promiscuous: bool,
    /// The multicast group, if the interface did not have its address before.
    #[serde(default)]
    pub(super) group: Option<Ipv4Addr>,
    /// The cluster IPs whose solicited-node groups the interface was not in as a proxy before.
    #[serde(default)]
    pub(super) solicited: Vec<Ipv6Addr>,
    /// The interface with the XDP program, if it is another.
    #[serde(default)]
    pub(super) xdp_index: Option<u32>,
}

/// A changed setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    /// The interface, or `default`.
    interface: String,
    /// Such as `arp_ignore`.
    name: String,
    /// Before.
    was: u32,
    /// Since.
    set: u32,
}

impl Record {
    /// What an earlier agent left, if one did.
    pub(super) fn read(run_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(run_dir.join(RECORD)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, run_dir: &Path) -> io::Result<()> {
        fs::create_dir_all(run_dir)?;
        let (path, draft) = (run_dir.join(RECORD), run_dir.join(format!("{RECORD}.new")));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(draft, path)
    }

    /// Removes it.
    pub(super) fn remove(run_dir: &Path) -> io::Result<()> {
        match fs::remove_file(run_dir.join(RECORD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Adds what must change so that no interface answers ARP for a cluster IP, or names it as the sender of a request.
    ///
    /// `foreign`: a cluster IP is on the loopback interface with a wider scope than this agent would give it.
    pub(super) fn plan_settings(&mut self, foreign: bool) -> Result<(), SettingError> {
        let quiet = quiet(foreign)?;
        for interface in interfaces()? {
            self.plan(&interface, "arp_announce", 2, |value| value >= 2)?;
            self.plan(&interface, "arp_ignore", quiet, |value| matches!(value, 1 | 2 | 8) || value == quiet)?;
        }
        Ok(())
    }

    fn plan(
        &mut self,
        interface: &str,
        name: &str,
        set: u32,
        enough: impl Fn(u32) -> bool,
    ) -> Result<(), SettingError> {
        let mine = |known: &&mut Setting| known.interface == interface && known.name == name;
        if let Some(known) = self.settings.iter_mut().find(mine) {
            known.set = set;
            return Ok(());
        }
        let Some(was) = read(interface, name)? else {
            return Ok(());
        };
        // The kernel goes by the larger of the interface's own value and that of `all`.
        let effective = was.max(read("all", name)?.unwrap_or(0));
        if !enough(effective) {
            self.settings.push(Setting { interface: interface.to_owned(), name: name.to_owned(), was, set });
        }
        Ok(())
    }

    /// Makes the planned changes.
    pub(super) fn apply_settings(&self) -> Result<(), SettingError> {
        self.settings.iter().try_for_each(|setting| write(&setting.interface, &setting.name, setting.set))
    }

    /// Puts back what is still as this record set it; what somebody else changed since is theirs. Goes on after a failure
    /// and reports the first.
    pub(super) fn restore_settings(&self) -> Result<(), SettingError> {
        let inherited = self.inherited();
        let results = self.settings.iter().chain(&inherited).rev().map(|setting| {
            if read(&setting.interface, &setting.name)? == Some(setting.set) {
                write(&setting.interface, &setting.name, setting.was)?;
            }
            Ok(())
        });
        let results: Vec<Result<(), SettingError>> = results.collect();
        results.into_iter().collect()
    }

    /// Interfaces that came while `default` was changed were born with the changed value.
    fn inherited(&self) -> Vec<Setting> {
        let defaults = self.settings.iter().filter(|setting| setting.interface == "default");
        let heirs = defaults.flat_map(|default| {
            let known = |interface: &String| {
                self.settings.iter().any(|known| known.name == default.name && known.interface == *interface)
            };
            let names = interfaces().unwrap_or_default().into_iter().filter(move |name| !known(name));
            names.map(|interface| Setting { interface, ..default.clone() })
        });
        heirs.collect()
    }
}

/// Why a setting cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read or change {path}; hint: the agent needs to be root with a writable /proc/sys", path = path.display())]
pub struct SettingError {
    path: PathBuf,
    source: io::Error,
}

/// The value of `arp_ignore` that keeps the kernel from answering for cluster IPs: 3 is silent about addresses of scope host
/// alone, so that every other address goes on being answered for as before. Where `route_localnet` makes such addresses
/// count as ordinary ones (confirm_addr_indev), or a cluster IP has a wider scope, only 1 helps: it answers on each interface
/// for that interface's own addresses.
fn quiet(foreign: bool) -> Result<u32, SettingError> {
    let exposed = ["all", "lo"].into_iter().map(|interface| read(interface, "route_localnet"));
    let exposed = exposed.collect::<Result<Vec<_>, _>>()?.contains(&Some(1));
    Ok(if exposed || foreign { 1 } else { 3 })
}

/// Every interface with settings, and `default`; not `all`, whose change could not be told apart from theirs, nor `lo`, on
/// which nobody asks.
fn interfaces() -> Result<Vec<String>, SettingError> {
    let failed = |source| SettingError { path: SETTINGS.into(), source };
    let mut names: Vec<String> = fs::read_dir(SETTINGS)
        .map_err(failed)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !["all", "lo", "default"].contains(&name.as_str()))
        .collect();
    names.sort_unstable();
    // First of all `default`, or an interface that comes meanwhile would be missed.
    Ok(iter::once("default".to_owned()).chain(names).collect())
}

/// `None`: the interface is gone.
fn read(interface: &str, name: &str) -> Result<Option<u32>, SettingError> {
    let path = Path::new(SETTINGS).join(interface).join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingError { path, source }),
    }
}

fn write(interface: &str, name: &str, value: u32) -> Result<(), SettingError> {
    let path = Path::new(SETTINGS).join(interface).join(name);
    // Not `fs::write`, which would make a missing file.
    let written = fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| write!(file, "{value}"));
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.map_err(|source| SettingError { path, source }),
    }
}

/// Whether no IPv6 address can be on the interface.
pub(super) fn lacks_ipv6(interface: &str) -> bool {
    // Without the file the kernel has no IPv6 (ipv6.disable=1).
    fs::read_to_string(Path::new(SETTINGS_V6).join(interface).join("disable_ipv6"))
        .map_or(true, |text| text.trim() != "0")
}

/// What of this host's settings would keep frames for the cluster MAC from the service; a sentence each.
pub(super) fn warnings(local: &Local) -> Vec<String> {
    const NAME: &str = "drop_unicast_in_l2_multicast";
    let mut warnings = Vec::new();
    for (family, settings) in [("ipv4", SETTINGS), ("ipv6", SETTINGS_V6)] {
        for place in ["all", &local.interface] {
            let value = fs::read_to_string(Path::new(settings).join(place).join(NAME));
            if value.is_ok_and(|value| value.trim() == "1") {
                warnings.push(format!(
                    "net.{family}.conf.{place}.{NAME} is 1: the kernel may drop what clients send in multicast mode; set it to 0"
                ));
            }
        }
    }
    let beneath = local.beneath();
    if !local.vlans.is_empty() && strips_vlan_tags(beneath).unwrap_or(false) {
        warnings.push(format!(
            "{beneath} takes VLAN tags out of the frames before the XDP program sees them, so that none is for a cluster IP: \
             ethtool -K {beneath} rxvlan off"
        ));
    }
    warnings
}

//! What files of this host say. Each is read as far as 64 KiB; one that is not there says nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::super::host::{self, Manager};
use super::super::machine::{Dmi, Machine};
use super::super::seen::{Bridge, Managed};

/// How much of a file is read.
const MAX_FILE: u64 = 64 << 10;

const INTERFACES: &str = "/sys/class/net";

/// The loopback interface, which carries the cluster IPs.
const LOOPBACK: (&str, u32) = ("lo", 1);

/// What this host runs on.
pub(super) fn machine() -> Machine {
    let dmi =
        |name: &str| text(Path::new("/sys/class/dmi/id").join(name)).unwrap_or_default().trim().to_owned();
    let dmi = Dmi {
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        chassis_tag: dmi("chassis_asset_tag"),
    };
    Machine::of(&dmi, &text("/proc/cpuinfo").unwrap_or_default())
}

/// The bridge that `interface` is, or is a port of.
pub(super) fn bridge(interface: &str) -> Option<Bridge> {
    let own = Path::new(INTERFACES).join(interface);
    let number = |path: std::path::PathBuf| text(path)?.trim().parse::<u8>().ok();
    if own.join("bridge").exists() {
        let router = number(own.join("bridge/multicast_router")).unwrap_or(1);
        let snooping = number(own.join("bridge/multicast_snooping"))? != 0;
        return Some(Bridge { name: interface.to_owned(), itself: true, snooping, router });
    }
    let name = std::fs::read_link(own.join("brport/bridge")).ok()?;
    let name = name.file_name()?.to_str()?.to_owned();
    let snooping = number(own.join("brport/bridge/bridge/multicast_snooping"))? != 0;
    let router = number(own.join("brport/multicast_router")).unwrap_or(1);
    Some(Bridge { name, itself: false, snooping, router })
}

/// Who manages the cluster interface and the loopback interface.
pub(super) fn managers(interface: &str, index: u32) -> Vec<Managed> {
    let mut found = Vec::new();
    for (name, index) in [(interface, index), LOOPBACK] {
        for by in [Manager::NetworkManager, Manager::Networkd] {
            let managed = match by {
                Manager::NetworkManager => text(format!("/run/NetworkManager/devices/{index}"))
                    .and_then(|text| host::network_manager(&text)),
                Manager::Networkd => {
                    text(format!("/run/systemd/netif/links/{index}")).and_then(|text| host::networkd(&text))
                }
            };
            if managed == Some(true) {
                found.push(Managed { interface: name.to_owned(), by });
            }
        }
    }
    found
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

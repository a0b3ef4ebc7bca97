//! What this host runs on, by what its firmware says of itself (DMI) and what its CPU does, and what each hypervisor has to be told
//! so that frames for a MAC address reach a guest that it did not give the guest.

use super::finding::{Line, line};
use crate::config::model::Mode;

/// What a host runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Itself.
    Hardware,
    /// Microsoft Hyper-V.
    HyperV,
    /// VMware.
    Vmware,
    /// KVM: Proxmox, libvirt and others.
    Kvm,
    /// Xen.
    Xen,
    /// VirtualBox.
    VirtualBox,
    /// A cloud, whose network carries frames for addresses alone that it gave out itself.
    Cloud(&'static str),
    /// A hypervisor that says no name which is known here.
    Other(String),
}

/// What the firmware says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dmi {
    pub(super) vendor: String,
    pub(super) product: String,
    pub(super) chassis_tag: String,
}

impl Machine {
    /// What `dmi` and the flags of the CPU (`/proc/cpuinfo`) tell.
    pub(super) fn of(dmi: &Dmi, cpuinfo: &str) -> Self {
        let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
        let virtual_cpu =
            flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
        let says = |word: &str| dmi.vendor.contains(word) || dmi.product.contains(word);
        // Azure's hosts are Hyper-V, and are told apart by their tag (cloud-init and systemd go by it, too).
        if dmi.chassis_tag == "7783-7084-3265-9085-8269-3286-77" {
            Self::Cloud("Microsoft Azure")
        } else if says("Amazon EC2") {
            Self::Cloud("Amazon EC2")
        } else if says("Google") {
            Self::Cloud("Google Compute Engine")
        } else if dmi.vendor == "Microsoft Corporation" && dmi.product.starts_with("Virtual Machine") {
            Self::HyperV
        } else if says("VMware") {
            Self::Vmware
        } else if says("VirtualBox") || says("innotek") {
            Self::VirtualBox
        } else if says("QEMU") || says("KVM") || says("Proxmox") || says("OpenStack") || says("oVirt") {
            Self::Kvm
        } else if says("Xen") {
            Self::Xen
        } else if virtual_cpu {
            Self::Other(dmi.product.clone())
        } else {
            Self::Hardware
        }
    }

    /// As it is printed.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Hardware => "no hypervisor".to_owned(),
            Self::HyperV => "Hyper-V".to_owned(),
            Self::Vmware => "VMware".to_owned(),
            Self::Kvm => "KVM (Proxmox, libvirt, ..)".to_owned(),
            Self::Xen => "Xen".to_owned(),
            Self::VirtualBox => "VirtualBox".to_owned(),
            Self::Cloud(name) => (*name).to_owned(),
            Self::Other(name) if name.is_empty() => "an unknown hypervisor".to_owned(),
            Self::Other(name) => format!("an unknown hypervisor ({name})"),
        }
    }

    /// What has to be set there in `mode`, and how; `None`: nothing that is known.
    pub(super) fn setting(&self, mode: Mode) -> Option<(&'static str, Vec<Line>)> {
        match self {
            Self::HyperV => Some((
                "Hyper-V gives a guest frames for its own MAC address alone, unless the network adapter has \"Enable MAC address spoofing\"",
                vec![line(
                    "PowerShell on the Hyper-V host, for each node",
                    "Set-VMNetworkAdapter -VMName NAME -MacAddressSpoofing On",
                )],
            )),
            Self::Vmware => vmware(mode),
            Self::Kvm => kvm(mode),
            Self::VirtualBox => Some((
                "VirtualBox gives a guest frames for its own MAC address alone, unless the adapter is promiscuous",
                vec![line(
                    "VirtualBox host, for each node",
                    "VBoxManage modifyvm NAME --nicpromisc1 allow-all",
                )],
            )),
            Self::Cloud(_) => Some((
                "a cloud's network carries no frames for a MAC or IP address that it did not give to this host itself, in no mode",
                Vec::new(),
            )),
            Self::Xen => match mode {
                Mode::Unicast => None,
                Mode::Multicast | Mode::Igmp => kvm(mode),
            },
            Self::Hardware | Self::Other(_) => None,
        }
    }
}

fn vmware(mode: Mode) -> Option<(&'static str, Vec<Line>)> {
    match mode {
        Mode::Unicast => Some((
            "a VMware port group gives a guest frames for its own MAC address alone, unless it allows promiscuous mode; MAC changes and forged transmits belong to it",
            vec![line(
                "PowerCLI, for the nodes' port group",
                "Get-VirtualPortGroup -Name NAME | Get-SecurityPolicy | Set-SecurityPolicy -AllowPromiscuous $true -MacChanges $true -ForgedTransmits $true",
            )],
        )),
        Mode::Multicast => None,
        Mode::Igmp => Some((
            "a distributed switch of VMware with \"IGMP/MLD snooping\" drops frames that carry a unicast address to a multicast MAC address",
            vec![line(
                "vSphere Client, Distributed Switch > Settings > Advanced",
                "Multicast filtering mode: Basic",
            )],
        )),
    }
}

/// Its guests are ports of a Linux bridge.
fn kvm(mode: Mode) -> Option<(&'static str, Vec<Line>)> {
    match mode {
        // A bridge floods what it has not learnt.
        Mode::Unicast => Some((
            "a bridge of a Linux host floods frames for the cluster MAC, unless a firewall or `flood off` at the guest's port keeps them away",
            vec![line(
                "Proxmox or KVM host, for each node's port (tapNNNi0)",
                "ip link set PORT type bridge_slave flood on",
            )],
        )),
        Mode::Multicast | Mode::Igmp => Some((
            "a bridge of a Linux host that snoops, with a querier in the network, gives frames which carry a unicast address to a multicast MAC address to routers' ports alone",
            vec![
                line(
                    "Proxmox or KVM host, for each node's port (tapNNNi0)",
                    "ip link set PORT type bridge_slave mcast_router 2",
                ),
                line("the same for the whole bridge", "ip link set vmbr0 type bridge mcast_snooping 0"),
            ],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dmi(vendor: &str, product: &str) -> Dmi {
        Dmi { vendor: vendor.into(), product: product.into(), chassis_tag: String::new() }
    }

    #[test]
    fn a_hypervisor_is_known_by_its_firmware() {
        for (vendor, product, machine) in [
            ("Microsoft Corporation", "Virtual Machine", Machine::HyperV),
            ("VMware, Inc.", "VMware7,1", Machine::Vmware),
            ("QEMU", "Standard PC (i440FX + PIIX, 1996)", Machine::Kvm),
            ("Red Hat", "KVM", Machine::Kvm),
            ("Xen", "HVM domU", Machine::Xen),
            ("innotek GmbH", "VirtualBox", Machine::VirtualBox),
            ("Amazon EC2", "t3.large", Machine::Cloud("Amazon EC2")),
            ("Google", "Google Compute Engine", Machine::Cloud("Google Compute Engine")),
        ] {
            assert_eq!(Machine::of(&dmi(vendor, product), "flags\t\t: fpu hypervisor\n"), machine);
        }
    }

    #[test]
    fn a_host_of_microsofts_own_is_hardware_and_azure_is_a_cloud() {
        let surface = dmi("Microsoft Corporation", "Surface Pro 7");
        assert_eq!(Machine::of(&surface, "flags\t\t: fpu vme\n"), Machine::Hardware);
        let azure = Dmi {
            chassis_tag: "7783-7084-3265-9085-8269-3286-77".into(),
            ..dmi("Microsoft Corporation", "Virtual Machine")
        };
        assert_eq!(Machine::of(&azure, ""), Machine::Cloud("Microsoft Azure"));
    }

    #[test]
    fn a_cpu_that_says_hypervisor_is_no_hardware() {
        let unknown = Machine::of(&dmi("ACME", "Box"), "processor : 0\nflags\t\t: fpu hypervisor sse\n");
        assert_eq!(unknown, Machine::Other("Box".into()));
        assert_eq!(
            Machine::of(&dmi("ACME", "Box"), "model name : hypervisor\nflags : fpu\n"),
            Machine::Hardware
        );
    }
}

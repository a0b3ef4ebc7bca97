//! What a NIC does to frames before anybody sees them.

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Whether the NIC takes VLAN tags out of the frames that it receives (`ethtool -k`: rx-vlan-offload); an XDP program then
/// never sees them. In the calling thread's network namespace.
pub fn strips_vlan_tags(interface: &str) -> io::Result<bool> {
    /// linux/ethtool.h
    const ETHTOOL_GFLAGS: u32 = 0x25;
    const ETH_FLAG_RXVLAN: u32 = 1 << 8;
    /// `struct ethtool_value`
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut value = Value { command: ETHTOOL_GFLAGS, data: 0 };
    let mut name = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    for (to, from) in name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    let data = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() };
    let mut request = libc::ifreq { ifr_name: name, ifr_ifru: data };
    // SAFETY: SIOCETHTOOL reads one `ifreq`, whose data points to an `ethtool_value`, the type of this command, and writes
    // that; both live until the call returns, and nobody else refers to them.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } {
        0 => Ok(value.data & ETH_FLAG_RXVLAN != 0),
        _ => Err(io::Error::last_os_error()),
    }
}

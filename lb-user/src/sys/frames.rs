//! A socket for Ethernet frames of one interface. What they say is for its users.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use socket2::{SockFilter, SockRef};

/// Which frames a socket receives: their EtherType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// None; the socket only sends.
    Nothing,
    /// ARP.
    Arp,
    /// IPv6.
    Ipv6,
    /// Of IPv6, neighbour advertisements alone, which no router has forwarded: the kernel drops the others before they take room in the
    /// queue, or this process's time.
    Advertisements,
    /// Of IPv4, ICMP alone, filtered by the kernel likewise.
    Icmp,
    /// Of IPv4, UDP to this port alone, filtered likewise; without IP options.
    Udp(u16),
    /// This EtherType.
    EtherType(u16),
}

/// Sends Ethernet frames on one interface and receives those of one kind; never blocks. Needs CAP_NET_RAW.
///
/// It also receives, as the kernel hands them over, frames of that kind that this host sends and that are for others.
#[derive(Debug)]
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// On the interface with index `interface`, in the calling thread's network namespace.
    pub fn open(interface: u32, received: Received) -> io::Result<Self> {
        // Without a protocol nothing arrives before the socket is bound to its interface.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None::<Protocol>)?;
        let interface = i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
        let ethertype = match received {
            Received::Nothing => 0,
            Received::Arp => 0x0806,
            Received::Ipv6 | Received::Advertisements => 0x86dd,
            Received::Icmp | Received::Udp(_) => 0x0800,
            Received::EtherType(ethertype) => ethertype,
        };
        let filter = match received {
            Received::Nothing | Received::Arp | Received::Ipv6 | Received::EtherType(_) => Vec::new(),
            Received::Advertisements => Vec::from(advertisements()),
            Received::Icmp => Vec::from(icmp()),
            Received::Udp(port) => Vec::from(udp(port)),
        };
        if !filter.is_empty() {
            SockRef::from(&socket).attach_filter(&filter)?;
        }
        rustix::net::bind(&socket, &LinkAddress::of(interface, ethertype))?;
        Ok(Self(socket))
    }

    /// Lets frames for `mac` into the interface for as long as this socket is open (packet(7)); what it receives of them is as before.
    pub fn let_in(&self, interface: u32, mac: [u8; 6]) -> io::Result<()> {
        // A group address has the lowest bit of its first byte set (IEEE 802).
        let group = mac[0] & 1 == 1;
        let mut address = [0; 8];
        address[..6].copy_from_slice(&mac);
        let request = libc::packet_mreq {
            mr_ifindex: i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?,
            mr_type: if group { PACKET_MR_MULTICAST } else { PACKET_MR_UNICAST },
            mr_alen: 6,
            mr_address: address,
        };
        let (value, length) = (std::ptr::from_ref(&request).cast(), size_of_val(&request) as libc::socklen_t);
        // SAFETY: the call reads `length` bytes, the size of `request`, which lives until it returns.
        let set = unsafe {
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value, length)
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a whole frame, Ethernet header included.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = rustix::net::send(&self.0, frame, SendFlags::empty())?;
        if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives a frame, Ethernet header included; what does not fit into `frame` is cut off. Its length.
    /// `WouldBlock`: there is none.
    pub fn recv(&self, frame: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(&self.0, frame, RecvFlags::empty())?;
        Ok(length)
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// linux/if_packet.h; libc has no name for the second.
const PACKET_MR_MULTICAST: u16 = 0;
const PACKET_MR_UNICAST: u16 = 3;

// linux/filter.h
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Lets ICMP pass (offsets from the Ethernet header).
fn icmp() -> [SockFilter; 4] {
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 1),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Lets UDP to `port` pass, behind an IPv4 header of 20 bytes.
fn udp(port: u16) -> [SockFilter; 8] {
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 14),
        SockFilter::new(JUMP_IF_EQUAL, 0, 5, 0x45),
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, 17),
        SockFilter::new(LOAD_HALF, 0, 0, 36),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, port.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Lets neighbour advertisements pass.
fn advertisements() -> [SockFilter; 6] {
    // ICMPv6 is next header 58; hop limit 255; message type 136.
    [
        SockFilter::new(LOAD_HALF, 0, 0, 20),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, 58 << 8 | 255),
        SockFilter::new(LOAD_BYTE, 0, 0, 54),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// `struct sockaddr_ll`.
#[repr(C)]
struct LinkAddress {
    family: u16,
    /// In network order.
    protocol: u16,
    interface: i32,
    hardware_type: u16,
    packet_type: u8,
    length: u8,
    address: [u8; 8],
}

const _: () = assert!(size_of::<LinkAddress>() == 20);

impl LinkAddress {
    fn of(interface: i32, ethertype: u16) -> Self {
        Self {
            family: AddressFamily::PACKET.as_raw(),
            protocol: ethertype.to_be(),
            interface,
            hardware_type: 0,
            packet_type: 0,
            length: 0,
            address: [0; 8],
        }
    }
}

// SAFETY: `LinkAddress` has the layout of the kernel's `struct sockaddr_ll` (the assert above holds its size, and so that it
// has no padding), its family says so, and the pointer handed out is to `self` with exactly that size, alive during the call.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f(std::ptr::from_ref(self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}

//! The few system calls for which no crate here has a safe wrapper. Nothing is decided in this file.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Longest ARP frame: Ethernet's least, without its checksum.
pub const ARP_FRAME: usize = 60;

/// A raw socket for ARP on one interface, not blocking.
#[derive(Debug)]
pub struct ArpSocket {
    socket: Socket,
}

impl ArpSocket {
    /// Opens a socket on the interface with this index. Needs `CAP_NET_RAW`.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let arp = u16::try_from(libc::ETH_P_ARP).map_err(io::Error::other)?.to_be();
        // Protocol 0 first: nothing arrives before the socket is bound to its interface.
        let socket = Socket::new(
            Domain::PACKET,
            Type::RAW.nonblocking().cloexec(),
            Some(Protocol::from(0)),
        )?;
        socket.bind(&link_address(ifindex, arp)?)?;
        Ok(Self { socket })
    }

    /// Sends a whole Ethernet frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }

    /// Receives one frame and gives its length; `WouldBlock` if there is none. What is longer than `buffer` is cut.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        rustix::io::read(&self.socket, buffer).map_err(io::Error::from)
    }
}

impl AsFd for ArpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn link_address(ifindex: u32, protocol: u16) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is a plain C structure of integers for which all zeroes are valid, and the storage, a
    // `sockaddr_storage`, is at least as large and as aligned as every socket address type.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the storage holds a `sockaddr_ll` of that length, whose family says so.
    Ok(unsafe { SockAddr::new(storage, length) })
}

/// Gives the calling thread a real-time priority, so that no ordinary load delays it. Needs `CAP_SYS_NICE`, and a kernel
/// whose control group grants real-time run time; the error says that it has neither.
pub fn run_in_real_time(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the call reads one `sched_param`, which lives until it returns; thread 0 is the calling one.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor from 3 on: all but standard input, output and error.
///
/// For the first line of a program only: whoever owns one of those descriptors would lose it.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: close_range touches no memory. Called before the program opened anything, so no `OwnedFd` names one of these
    // descriptors; what they are was left behind by whoever started it.
    let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if closed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

//! UDP datagrams with the time at which the kernel received them, and the choice between sockets of one address.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};
use socket2::SockFilter;

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its length in the caller's buffer; what did not fit is cut off.
    pub length: usize,
    /// Its source, which can be forged.
    pub from: Ipv4Addr,
    /// When the kernel received it, by the wall clock, since 1970.
    pub stamp: Option<Duration>,
}

/// Lets the kernel stamp what this socket receives from now on.
pub fn stamp_arrivals(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket, libc::SO_TIMESTAMPNS, &1)
}

/// Lets a classic BPF program say which of the sockets that share this one's address and port gets a datagram: it returns the
/// socket's index, in the order in which they were bound.
pub fn choose_socket_by(socket: &UdpSocket, program: &mut [SockFilter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // `SockFilter` is a transparent `sock_filter`.
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr().cast() };
    set_option(socket, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn set_option<T>(socket: &UdpSocket, option: c_int, value: &T) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(value).cast::<c_void>(), size_of::<T>() as socklen_t);
    // SAFETY: the call reads `length` bytes, the size of `value`, which lives until it returns; what a `sock_fprog` points to
    // is borrowed by its maker for as long, and the kernel copies it.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives the next datagram of an IPv4 socket. `WouldBlock`: there is none.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    // SAFETY: both structs are made of numbers and pointers that may be null, so zeros are valid.
    let (mut from, mut message): (libc::sockaddr_in, libc::msghdr) =
        unsafe { (MaybeUninit::zeroed().assume_init(), MaybeUninit::zeroed().assume_init()) };
    // Words, because control messages are aligned to them; room for a stamp and more.
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of_val(&from) as socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `message` points to variables that live until the call returns, nobody else refers to them, and the lengths in it are
    // theirs.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let from = Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr));
    Ok(Datagram { length, from, stamp: stamp_in(&message) })
}

/// The stamp among a message's control messages; nothing else is asked for, so it is the first.
fn stamp_in(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the kernel wrote the control messages and their length into the buffer that `message` still points to; the macro
    // gives null unless a whole header is there.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    // SAFETY: it only computes.
    let whole = unsafe { libc::CMSG_LEN(size_of::<libc::timespec>() as u32) } as usize;
    let is_stamp = header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_TIMESTAMPNS;
    if !is_stamp || (header.cmsg_len as usize) < whole {
        return None;
    }
    // SAFETY: by its length, checked above, a `timespec` follows the header; it is read whatever its alignment.
    let stamp = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
    Some(Duration::new(u64::try_from(stamp.tv_sec).ok()?, u32::try_from(stamp.tv_nsec).ok()?))
}

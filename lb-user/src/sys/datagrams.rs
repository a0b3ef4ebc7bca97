//! UDP datagrams with the time at which the kernel received them, and the choice between sockets of one address.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};
use socket2::SockFilter;

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where its bytes are: `Room::bytes`.
    place: usize,
    /// Its length; what did not fit is cut off.
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

/// How many datagrams one system call receives or sends at most.
pub const BATCH: usize = 16;

/// The longest datagram that is received whole.
const LONGEST: usize = 2048;

/// Room for datagrams that are received by one call.
#[derive(Debug)]
pub struct Room {
    buffers: Box<[[u8; LONGEST]; BATCH]>,
    received: Vec<Datagram>,
}

impl Default for Room {
    fn default() -> Self {
        Self { buffers: Box::new([[0; LONGEST]; BATCH]), received: Vec::with_capacity(BATCH) }
    }
}

impl Room {
    /// Receives the next datagrams of an IPv4 socket, at most `most` and `BATCH`, in the place of those that were here. Fewer: for a moment
    /// there were no more. `WouldBlock`: there is none.
    pub fn receive(&mut self, socket: &UdpSocket, most: usize) -> io::Result<&[Datagram]> {
        self.received.clear();
        let mut from = [NO_ADDRESS; BATCH];
        // Words, because control messages are aligned to them; room for a stamp and more.
        let mut control = [[0u64; 8]; BATCH];
        let mut parts = self.buffers.each_mut().map(|buffer| part(buffer.as_mut_ptr(), buffer.len()));
        let mut headers = [NO_MESSAGE; BATCH];
        let pieces = from.iter_mut().zip(&mut control).zip(&mut parts);
        for (header, ((from, control), part)) in headers.iter_mut().zip(pieces) {
            address(header, from, part);
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of_val(control) as _;
        }
        let most = most.min(BATCH) as libc::c_uint;
        // SAFETY: at least `most` headers follow the pointer; each points to variables of its own that live, and that nobody else refers
        // to, until the call returns, and the lengths in it are theirs. No time limit is given.
        let count = unsafe {
            let (flags, forever) = (libc::MSG_DONTWAIT as _, std::ptr::null_mut());
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), most, flags, forever)
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let datagram = |(place, (header, from)): (usize, (&libc::mmsghdr, &libc::sockaddr_in))| Datagram {
            place,
            length: header.msg_len as usize,
            from: Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)),
            stamp: stamp_in(&header.msg_hdr),
        };
        self.received.extend(headers.iter().zip(&from).take(count).enumerate().map(datagram));
        Ok(&self.received)
    }

    /// The bytes of a datagram of the latest call.
    pub fn bytes(&self, datagram: &Datagram) -> &[u8] {
        let buffer = self.buffers.get(datagram.place).map_or(&[][..], |buffer| buffer);
        &buffer[..datagram.length.min(buffer.len())]
    }
}

/// Sends these datagrams of an IPv4 socket in their order, at most `BATCH` of them, and gives how many went out. Fewer: why the next
/// one did not, the next call says. An error: the first did not.
pub fn send<'a>(
    socket: &UdpSocket,
    datagrams: impl Iterator<Item = (SocketAddrV4, &'a [u8])>,
) -> io::Result<usize> {
    let mut to = [NO_ADDRESS; BATCH];
    let mut parts = [part(std::ptr::null_mut(), 0); BATCH];
    let mut headers = [NO_MESSAGE; BATCH];
    let mut count = 0;
    let pieces = to.iter_mut().zip(&mut parts).zip(&mut headers);
    for ((receiver, bytes), ((to, piece), header)) in datagrams.zip(pieces) {
        to.sin_family = libc::AF_INET as _;
        to.sin_port = receiver.port().to_be();
        to.sin_addr.s_addr = u32::from(*receiver.ip()).to_be();
        *piece = part(bytes.as_ptr().cast_mut(), bytes.len());
        address(header, to, piece);
        count += 1;
    }
    // SAFETY: `count` headers are filled; each points to an address of its own and to bytes that the caller lends for `'a`, all of
    // which outlive the call; the kernel only reads the bytes, so that they may be lent for reading.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

// SAFETY: both structs are made of numbers and of pointers that may be null, so zeros are valid.
const NO_ADDRESS: libc::sockaddr_in = unsafe { MaybeUninit::zeroed().assume_init() };
// SAFETY: as above.
const NO_MESSAGE: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };

const fn part(bytes: *mut u8, length: usize) -> libc::iovec {
    libc::iovec { iov_base: bytes.cast(), iov_len: length }
}

/// Points a message's header to its one part and to the other end's address.
fn address(header: &mut libc::mmsghdr, other: &mut libc::sockaddr_in, part: &mut libc::iovec) {
    header.msg_hdr.msg_name = std::ptr::from_mut(other).cast();
    header.msg_hdr.msg_namelen = size_of_val(other) as socklen_t;
    header.msg_hdr.msg_iov = std::ptr::from_mut(part);
    header.msg_hdr.msg_iovlen = 1;
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

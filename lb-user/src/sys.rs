//! The few system calls for which no crate here has a safe wrapper. Nothing is decided in this file.

pub mod datagrams;
pub mod frames;
pub mod image;
pub mod local_time;
pub mod offload;
pub mod signals;

use std::io;
use std::os::fd::OwnedFd;

pub use frames::{FrameSocket, Received};
pub use local_time::{local_time, unix_time};
pub use offload::strips_vlan_tags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// For waiting until there is something to read from `descriptor`. Within a Tokio runtime.
pub fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    with_interest(descriptor, Interest::READABLE)
}

/// For waiting for what `interest` says of `descriptor`. Within a Tokio runtime.
pub fn with_interest(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open, and under the same number, as long as it lives, and here it is given away.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Gives the calling thread a real-time priority, so that no ordinary load delays it. Needs `CAP_SYS_NICE`, and a kernel
/// whose control group grants real-time run time; the error says that it has neither.
pub fn run_in_real_time(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
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
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

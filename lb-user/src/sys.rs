//! System calls that have no safe wrapper in rustix or socket2; each with the fact that makes it safe.

use std::io;

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

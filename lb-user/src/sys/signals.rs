//! The signals that ask an agent to stop, or to read its configuration again. They are blocked and read from a descriptor, not caught: one that nobody has read stays
//! pending, also while another program takes this one's place in the process.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use tokio::io::unix::AsyncFd;

use super::readable;

/// SIGTERM and SIGINT, and SIGHUP.
#[derive(Debug)]
pub struct StopSignals(OwnedFd);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: an end.
    Stop,
    /// SIGHUP: another look at the configuration.
    Reload,
}

/// The same, within a Tokio runtime.
#[derive(Debug)]
pub struct StopSignalStream(AsyncFd<OwnedFd>);

impl StopSignals {
    /// Blocks them in this thread and in all that it starts from now on, as each must have them; so this is for a main thread that
    /// has started none. Children need [`unblock_in`].
    pub fn block() -> io::Result<Self> {
        let set = stop_signals();
        // SAFETY: both calls only read `set`, which is initialized and lives until they return; the old mask is not asked for.
        let descriptor = unsafe {
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK),
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd made this descriptor just now, so nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// For waiting, within a Tokio runtime.
    pub fn stream(self) -> io::Result<StopSignalStream> {
        readable(self.0).map(StopSignalStream)
    }
}

impl StopSignalStream {
    /// Waits for one that asks for an end; others are for naught. Where none can be read any more, it ends, too.
    pub async fn stop(&self) {
        while let Ok(Signal::Reload) = self.next().await {}
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&self) -> io::Result<Signal> {
        // `struct signalfd_siginfo`, which begins with the signal's number
        let mut record = [0; 128];
        loop {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(self.0.get_ref(), &mut record) {
                Ok(_) => {
                    let [a, b, c, d, ..] = record;
                    let hangup = u32::from_ne_bytes([a, b, c, d]) == libc::SIGHUP.unsigned_abs();
                    return Ok(if hangup { Signal::Reload } else { Signal::Stop });
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Lets the signals that are blocked here reach the child that `command` starts: a mask is inherited.
pub fn unblock_in(command: &mut Command) -> &mut Command {
    let set = stop_signals();
    // SAFETY: between fork and exec the closure makes one call that is async-signal-safe (signal-safety(7)), and which reads
    // `set`, a copy of its own.
    unsafe {
        command.pre_exec(move || {
            match libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        })
    }
}

fn stop_signals() -> libc::sigset_t {
    // SAFETY: a `sigset_t` is plain bits, of which all zeros are a value; the calls write to it alone, while it lives, and the
    // numbers are signals, so that they cannot fail.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGHUP);
        set
    }
}

//! A child process, known by a pidfd: one that this program started, or that the program started which this process ran before
//! an upgrade. tokio's own type knows only the former.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::unix::AsyncFd;

use crate::sys::readable;

/// A child that nobody else waits for. Dropping it does nothing to the process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Readable once the process has ended.
    handle: AsyncFd<OwnedFd>,
}

impl Child {
    /// The child with the number `pid`, alive or not waited for yet: only so long is the number its own. Within a Tokio runtime.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let child = Self { pid, handle: readable(handle)? };
        // Another process than a child cannot be waited for: the kernel says so here.
        child.look(WaitIdOptions::NOWAIT)?;
        Ok(child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end. Cancel safe; to be waited for once.
    pub async fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            let mut ready = self.handle.readable().await?;
            if let Some(status) = self.look(WaitIdOptions::empty())? {
                return Ok(exit_status(&status));
            }
            ready.clear_ready();
        }
    }

    /// Kills it and waits for its end.
    pub async fn kill(&self) -> io::Result<ExitStatus> {
        match pidfd_send_signal(self.handle.get_ref(), Signal::KILL) {
            // It has ended by itself.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        self.wait().await
    }

    /// Kills it, and leaves it to whoever waits for this program's children.
    pub fn end(&self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(self.handle.get_ref(), Signal::KILL);
    }

    fn look(&self, options: WaitIdOptions) -> io::Result<Option<WaitIdStatus>> {
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::PidFd(self.handle.get_ref().as_fd()), options)?)
    }
}

/// The status in the form of wait(2): the code in the second byte, or the signal in the first.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let code = status.exit_status().map(|code| code << 8);
    ExitStatus::from_raw(code.or(status.terminating_signal()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[expect(clippy::zombie_processes, reason = "`Child` waits for it")]
    fn shell(script: &str) -> Child {
        let started = Command::new("sh").args(["-c", script]).spawn().unwrap();
        Child::of(started.id()).unwrap()
    }

    #[tokio::test]
    async fn a_child_that_another_type_started_is_waited_for_with_its_status() {
        assert_eq!(shell("exit 7").wait().await.unwrap().code(), Some(7));
        assert_eq!(shell("kill -TERM $$").wait().await.unwrap().signal(), Some(15));
        assert_eq!(shell("exec sleep 1000").kill().await.unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn a_child_that_ended_unseen_is_still_known() {
        let child = shell("exit 3");
        while !std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z ") {
            tokio::task::yield_now().await;
        }
        let again = Child::of(child.id()).unwrap();
        assert_eq!(again.kill().await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn a_process_that_is_no_child_is_not_taken_for_one() {
        for pid in [0, 1, u32::MAX] {
            assert!(Child::of(pid).is_err(), "{pid}");
        }
    }
}

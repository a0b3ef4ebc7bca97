//! verdict -> sample: what becomes of single packets, while a program that samples them is attached in place of the usual one.
//! The usual one has no code for it: capturing costs nothing while nobody does. Who asks for it, and how much is shown, is
//! the agent's (`agent/capture.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use std::{array, io};

use aya::maps::{MapData, RingBuf};
use lb_common::table::Sample;
use lb_common::verdict::Reason;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::loader::{Attached, Error};

/// The door to captures, of which there is one at a time.
#[derive(Clone)]
pub struct Captures(Arc<Door>);

struct Door {
    /// Locked as long as a capture lasts; `None` once the program is detached.
    attached: Mutex<Option<Attached>>,
    closing: AtomicBool,
}

/// Why there is no capture. The usual program stays attached.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// One is under way.
    #[error("a capture is running on this node already; hint: end it, there can be one at a time")]
    Busy,
    /// The agent stops.
    #[error("the agent is stopping; hint: capture on a node that serves")]
    Closing,
    /// The other program could not be put in.
    #[error(transparent)]
    Load(#[from] Error),
}

impl Captures {
    pub(super) fn new(attached: Attached) -> Self {
        Self(Arc::new(Door { attached: Mutex::new(Some(attached)), closing: AtomicBool::new(false) }))
    }

    /// Begins to sample one of `every` packets that meet their fate for one of `reasons`. Takes as long as the kernel needs to
    /// verify a program, some tens of milliseconds. Calls `just_before` when all is ready, before the first sample.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn begin(
        &self,
        reasons: &[Reason],
        every: u32,
        just_before: impl FnOnce(),
    ) -> Result<Capture<'_>, CaptureError> {
        let attached = match self.0.attached.try_lock() {
            Ok(attached) => attached,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(CaptureError::Busy),
        };
        let program = attached.as_ref().ok_or(CaptureError::Closing)?;
        let bits = reasons.iter().fold(0, |bits, &reason| bits | 1 << reason as u8);
        let ring = program.sample(bits, every, just_before)?;
        Ok(Capture { attached, ring, closing: &self.0.closing })
    }

    /// Whether there is one.
    pub fn is_running(&self) -> bool {
        matches!(self.0.attached.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Waits until a running capture has ended, which is soon, and lets none begin any more.
    pub(super) fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
        *self.0.attached.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A capture under way. Dropping it puts the usual program back.
pub struct Capture<'a> {
    attached: MutexGuard<'a, Option<Attached>>,
    ring: RingBuf<MapData>,
    closing: &'a AtomicBool,
}

impl Capture<'_> {
    /// The next sample, if one is there. What came while the ring buffer was full is lost.
    pub fn next_sample(&mut self) -> Option<Sample> {
        self.ring.next().and_then(|bytes| parse(&bytes))
    }

    /// Waits until there may be a sample, or for `longest`.
    ///
    /// # Errors
    /// The kernel cannot wait.
    pub fn wait(&self, longest: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(longest).map_err(io::Error::other)?;
        let mut ring = [PollFd::new(&self.ring, PollFlags::IN)];
        match poll(&mut ring, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the agent stops, and waits for the capture's end.
    pub fn must_end(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let restored = self.attached.as_mut().map(Attached::restore);
        if let Some(Err(error)) = restored {
            tracing::warn!(%error, "the program that samples stays attached: it decides as the usual one does, but costs more");
        }
    }
}

/// Reads a record of the ring buffer; `None`: it is none of this version.
fn parse(bytes: &[u8]) -> Option<Sample> {
    let bytes: &[u8; size_of::<Sample>()] = bytes.try_into().ok()?;
    let word = |at: usize| u64::from_ne_bytes(array::from_fn(|byte| bytes[at + byte]));
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    Some(Sample {
        time: word(0),
        source: [word(8), word(16)],
        destination: [word(24), word(32)],
        length: u32::from_ne_bytes(array::from_fn(|byte| bytes[40 + byte])),
        source_port: half(44),
        destination_port: half(46),
        family: bytes[48],
        protocol: bytes[49],
        flags: bytes[50],
        reason: bytes[51],
        rule: bytes[52],
        reserved: [0; 3],
    })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_is_laid_out() {
        let mut bytes = [0; size_of::<Sample>()];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(offset_of!(Sample, time), &1u64.to_ne_bytes());
        put(offset_of!(Sample, source), &2u64.to_ne_bytes());
        put(offset_of!(Sample, source) + 8, &3u64.to_ne_bytes());
        put(offset_of!(Sample, destination), &4u64.to_ne_bytes());
        put(offset_of!(Sample, destination) + 8, &5u64.to_ne_bytes());
        put(offset_of!(Sample, length), &6u32.to_ne_bytes());
        put(offset_of!(Sample, source_port), &7u16.to_ne_bytes());
        put(offset_of!(Sample, destination_port), &8u16.to_ne_bytes());
        for (at, value) in [
            (offset_of!(Sample, family), 4),
            (offset_of!(Sample, protocol), 6),
            (offset_of!(Sample, flags), 2),
            (offset_of!(Sample, reason), 9),
            (offset_of!(Sample, rule), 10),
        ] {
            put(at, &[value]);
        }
        let expected = Sample {
            time: 1,
            source: [2, 3],
            destination: [4, 5],
            length: 6,
            source_port: 7,
            destination_port: 8,
            family: 4,
            protocol: 6,
            flags: 2,
            reason: 9,
            rule: 10,
            reserved: [0; 3],
        };
        assert_eq!(parse(&bytes), Some(expected));
        assert_eq!(parse(&bytes[1..]), None);
        assert_eq!(parse(&[]), None);
    }
}

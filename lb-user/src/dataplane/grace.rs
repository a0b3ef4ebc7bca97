//! When may a retired generation of the owner tables be rewritten? Once every packet that may still read it is done: after a
//! grace period of the kernel. Waited for on a thread of its own, since it takes up to tens of milliseconds.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::thread::{MembarrierCommand, membarrier};

use crate::sys::run_in_real_time;

/// Gives generations back once no packet reads them.
pub(crate) struct Grace {
    retired: Sender<u32>,
    clean: Receiver<u32>,
}

impl Grace {
    /// Starts the waiting thread; it ends when this value is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        let (retired, to_wait_for) = channel();
        let (done, clean) = channel();
        thread::Builder::new().name("grace".to_owned()).spawn(move || {
            // The cluster thread, which has such a priority, waits for this one when many changes come at once. Without
            // it, both have an ordinary one.
            let _ = run_in_real_time(20);
            wait_for_each(&to_wait_for, &done);
        })?;
        Ok(Self { retired, clean })
    }

    /// Hands over a generation that no new packet will read.
    pub(crate) fn retire(&self, generation: u32) {
        let sent = self.retired.send(generation);
        sent.expect("invariant: the thread lives as long as this end of its channel");
    }

    /// A generation that no packet reads; waits until there is one.
    pub(crate) fn clean(&self) -> u32 {
        let generation = self.clean.recv();
        generation.expect("invariant: the thread lives as long as this end of its channel")
    }
}

fn wait_for_each(retired: &Receiver<u32>, clean: &Sender<u32>) {
    while let Ok(first) = retired.recv() {
        // One period is enough for all that were retired before it began.
        let batch: Vec<u32> = std::iter::once(first).chain(retired.try_iter()).collect();
        wait_for_packets();
        for generation in batch {
            if clean.send(generation).is_err() {
                return;
            }
        }
    }
}

/// Returns when every packet that was being judged at the call is done.
///
/// `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu` (kernel/sched/membarrier.c), and XDP programs run inside RCU read sections.
/// Kernels with isolated full-tickless CPUs refuse it; there 20 ms is far longer than any packet takes.
fn wait_for_packets() {
    if membarrier(MembarrierCommand::Global).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
}

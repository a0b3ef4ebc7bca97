//! Waiting for whatever arrives first. The sockets are made known to the kernel once (epoll), not at each turn.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::{FIRST, QUEUES, SECOND, STRANGERS};

/// What is waited for beside ARP, link messages and what is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Datagrams of nodes.
    pub(crate) nodes: bool,
    /// Datagrams of strangers.
    pub(crate) strangers: bool,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// Every queue.
    all: OwnedFd,
    /// Every queue but those of the nodes' datagrams.
    others: OwnedFd,
    /// Whether datagrams of strangers are waited for.
    strangers: bool,
}

/// What is watched beside the queues.
const WAKE: u64 = QUEUES as u64;

impl Waiting {
    /// For these queues, in the order of their numbers; `None`: there is none.
    pub(super) fn new(queues: [Option<BorrowedFd<'_>>; QUEUES]) -> io::Result<Self> {
        let (all, others) = (epoll::create(CreateFlags::CLOEXEC)?, epoll::create(CreateFlags::CLOEXEC)?);
        for (number, queue) in queues.into_iter().enumerate() {
            let Some(queue) = queue else { continue };
            let data = EventData::new_u64(number as u64);
            epoll::add(&all, queue, data, EventFlags::IN)?;
            if !matches!(number, FIRST | SECOND) {
                epoll::add(&others, queue, data, EventFlags::IN)?;
            }
        }
        Ok(Self { all, others, strangers: true })
    }

    /// Waits for this queue as well, which is not one of the nodes' datagrams.
    pub(super) fn add(&self, number: usize, queue: BorrowedFd<'_>) -> io::Result<()> {
        for epoll in [&self.all, &self.others] {
            epoll::add(epoll, queue, EventData::new_u64(number as u64), EventFlags::IN)?;
        }
        Ok(())
    }

    /// Watches this, too.
    pub(super) fn watch(&self, wake: BorrowedFd<'_>) -> io::Result<()> {
        for epoll in [&self.all, &self.others] {
            epoll::add(epoll, wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        }
        Ok(())
    }

    /// Waits until something that is wanted comes or `timeout` is over: in which queues something may wait, and whether what is watched is
    /// readable. `strangers` is the queue of that number.
    pub(super) fn wait(
        &mut self,
        timeout: Duration,
        wanted: Wanted,
        strangers: BorrowedFd<'_>,
    ) -> io::Result<([bool; QUEUES], bool)> {
        if wanted.strangers != self.strangers {
            self.want_strangers(strangers, wanted.strangers)?;
        }
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; QUEUES + 1];
        let epoll = if wanted.nodes { &self.all } else { &self.others };
        let found = match epoll::wait(epoll, &mut events[..], Some(&timeout)) {
            Ok(found) => found,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut ready = [false; QUEUES];
        let mut woken = false;
        for event in &events[..found] {
            match usize::try_from(event.data.u64()).ok().and_then(|number| ready.get_mut(number)) {
                Some(queue) => *queue = true,
                None => woken = true,
            }
        }
        Ok((ready, woken))
    }

    fn want_strangers(&mut self, queue: impl AsFd, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EventFlags::IN } else { EventFlags::empty() };
        for epoll in [&self.all, &self.others] {
            epoll::modify(epoll, &queue, EventData::new_u64(STRANGERS as u64), flags)?;
        }
        self.strangers = wanted;
        Ok(())
    }
}

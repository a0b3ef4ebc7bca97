//! The events log: what an operator cares about, in memory for whoever asks, and from there to disk, syslog and the operator's own
//! command.
//!
//! ```text
//! note -> fold, number -> memory -> rollcall events, status
//!                           |-> a bounded queue -> writer: file, syslog
//!                           '-> a bounded queue -> on_event, one at a time
//! ```
//!
//! Noting an event takes a lock for some microseconds and waits for nothing else: a disk that hangs or a command that never ends costs
//! what finds no room in its queue, and that is counted.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use self::command::Commands;
use self::file::EventFile;
use self::memory::{Memory, Moment};
use self::syslog::Syslog;
use self::writer::Writer;
use crate::clock::Time;
use crate::control::api::{Answer, EventRecord};

pub(crate) use self::file::{path, read};
pub(super) use self::memory::Note;
pub(super) use self::note::note_of;

mod command;
mod file;
mod memory;
mod note;
mod syslog;
#[cfg(test)]
mod tests;
mod writer;

/// How many events `rollcall status` is told of.
const IN_STATUS: usize = 50;

/// How long a stopping agent waits for its command, and then for its disk.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The kind of event that is a failure of the operator's command, for which that command is not run.
const COMMAND_FAILED: &str = "on-event-failed";

/// Where events go beside memory.
#[derive(Clone, Debug)]
pub(super) struct Destinations {
    /// The folder of the file.
    pub(super) state_dir: PathBuf,
    /// The socket of the host's syslog, if it is to have them.
    pub(super) syslog: Option<PathBuf>,
    /// The command that is run for each.
    pub(super) on_event: Option<PathBuf>,
    /// How long that command may run.
    pub(super) patience: Duration,
}

impl Destinations {
    /// The usual ones.
    pub(super) fn new(state_dir: PathBuf, syslog: bool, on_event: Option<PathBuf>) -> Self {
        let syslog = syslog.then(|| syslog::SOCKET.into());
        Self { state_dir, syslog, on_event, patience: command::PATIENCE }
    }
}

/// The log of a running agent.
#[derive(Debug)]
pub(super) struct EventLog {
    memory: Mutex<Memory>,
    /// The latest record's number, for who follows.
    latest: watch::Sender<u64>,
    /// `None` once the log is closed.
    writer: Mutex<Option<SyncSender<EventRecord>>>,
    lost: Arc<AtomicU64>,
    commands: Option<Arc<Commands>>,
    /// Each comes to its end when its thread does.
    threads: Mutex<Threads>,
}

#[derive(Debug)]
struct Threads {
    writer: Receiver<()>,
    commands: Receiver<()>,
}

impl EventLog {
    /// Goes on with what earlier runs of this node's agent left. Only a thread that cannot be started is an error; without its file
    /// the log is kept in memory.
    pub(super) fn open(node: &str, to: Destinations) -> io::Result<Arc<Self>> {
        let left = match read(&to.state_dir) {
            Ok(left) => left,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = path(&to.state_dir);
                warn!(%error, path = %path.display(), "cannot read the events of before; they count from 1 again");
                Vec::new()
            }
        };
        let memory = Memory::new(node.to_owned(), left);
        let (sender, records) = sync_channel(writer::WAITING);
        let ((writer_ends, writer_ended), (commands_end, commands_ended)) = (channel(), channel());
        let log = Arc::new(Self {
            latest: watch::Sender::new(memory.latest()),
            memory: Mutex::new(memory),
            writer: Mutex::new(Some(sender)),
            lost: Arc::default(),
            commands: to.on_event.map(|program| Arc::new(Commands::new(program, to.patience))),
            threads: Mutex::new(Threads { writer: writer_ended, commands: commands_ended }),
        });
        let writer = Writer {
            file: EventFile::new(to.state_dir),
            syslog: to.syslog.map(Syslog::new),
            lost: Arc::clone(&log.lost),
            missed: 0,
            troubled: false,
        };
        spawn("events", writer_ends, move || writer.run(&records))?;
        log.start_commands(commands_end)?;
        Ok(log)
    }

    fn start_commands(self: &Arc<Self>, ends: Sender<()>) -> io::Result<()> {
        let Some(commands) = self.commands.clone() else { return Ok(()) };
        let log = Arc::downgrade(self);
        let failed = move |text: String| {
            warn!("{text}");
            if let Some(log) = log.upgrade() {
                log.push(Note::new(COMMAND_FAILED, true, text));
            }
        };
        spawn("on-event", ends, move || commands.run(failed))
    }

    /// Notes what happened.
    pub(super) fn push(&self, note: Note) {
        let mut memory = self.memory();
        let records = memory.note(note, Moment::now());
        self.hand_on(&memory, records);
    }

    /// Records what was folded for long enough. To be called each second or so.
    pub(super) fn settle(&self) {
        let mut memory = self.memory();
        let records = memory.settle(Moment::now());
        self.hand_on(&memory, records);
    }

    /// The memory is locked meanwhile, so that records arrive everywhere in their order.
    fn hand_on(&self, memory: &Memory, records: Vec<EventRecord>) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            if let Some(commands) = &self.commands
                && record.kind != COMMAND_FAILED
            {
                commands.push(record.clone());
            }
            // A closed log is kept in memory alone.
            if let Some(writer) = writer.as_ref()
                && let Err(TrySendError::Full(_)) = writer.try_send(record)
            {
                self.lost.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.latest.send_replace(memory.latest());
    }

    /// The latest sentences since the agent started, oldest first.
    pub(super) fn sentences(&self) -> Vec<String> {
        self.memory().sentences(IN_STATUS)
    }

    /// All that is kept, oldest first.
    pub(super) fn records(&self) -> Vec<EventRecord> {
        self.memory().after(0)
    }

    /// Sends all that is kept, then what comes, until the receiver is gone or `enough` is true. Who reads slowly misses records.
    pub(super) async fn follow(&self, answers: &mpsc::Sender<Answer>, mut enough: watch::Receiver<bool>) {
        let mut latest = self.latest.subscribe();
        let mut records = self.records();
        let mut seen = 0;
        loop {
            seen = records.last().map_or(seen, |record| record.seq);
            if answers.send(Answer::Events { records }).await.is_err() {
                return;
            }
            tokio::select! {
                news = latest.wait_for(|&latest| latest > seen) => if news.is_err() { return },
                () = answers.closed() => return,
                _ = enough.wait_for(|&enough| enough) => return,
            }
            records = self.memory().after(seen);
        }
    }

    /// Records what is still folded, and waits some seconds for command and disk. What is noted later is in memory alone.
    pub(super) fn close(&self) {
        let mut memory = self.memory();
        let records = memory.unfold(Time::now());
        self.hand_on(&memory, records);
        drop(memory);
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commands) = &self.commands {
            commands.end(Time::now() + LAST_WORDS);
            // It ends its command then, and itself a moment later.
            wait(&threads.commands, LAST_WORDS * 2);
        }
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        if !wait(&threads.writer, LAST_WORDS) {
            warn!("the disk takes too long: the last events may be missing from the file");
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` on a thread of its own, and drops `ends` after it.
fn spawn(name: &str, ends: Sender<()>, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        work();
        drop(ends);
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Whether the thread has ended before so long.
fn wait(ended: &Receiver<()>, patience: Duration) -> bool {
    matches!(ended.recv_timeout(patience), Err(RecvTimeoutError::Disconnected) | Ok(()))
}

//! Where lines go: a buffer, and a thread that empties it. A reader that is too slow costs lines, never requests.

use std::cell::RefCell;
use std::io::Write;
use std::mem::take;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Format;
use crate::wall::WallTime;

/// The access log. Whoever has a clone of it may write; the thread behind it ends with the last one.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: Arc<Queue>,
    _open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    something: Condvar,
    lost: AtomicU64,
    /// Those that a line has told of already.
    told: AtomicU64,
    /// Whether lines are W3C's.
    w3c: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    flushes: Vec<SyncSender<()>>,
    closed: bool,
}

/// Closes the queue when the last writer is gone.
#[derive(Debug)]
struct Open(Arc<Queue>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.something.notify_one();
    }
}

thread_local! {
    /// A line is made here, so that the lock is held for a copy alone.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl AccessLog {
    /// Starts the thread that writes to `output`.
    pub fn start(output: impl Write + Send + 'static) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let writer = Writer { queue: Arc::clone(&queue), output, lines: Vec::new(), headed: None };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(Self { _open: Arc::new(Open(Arc::clone(&queue))), queue })
    }

    /// In which format lines come from here on.
    pub fn set_format(&self, format: Format) {
        self.queue.w3c.store(format == Format::W3c, Ordering::Relaxed);
    }

    /// Queues the line that `write` makes, without its end; if the queue is full, counts it as lost.
    pub(in crate::proxy) fn log(&self, write: impl FnOnce(&mut Vec<u8>)) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            write(line);
            line.push(b'\n');
            self.queue.push(line);
        });
    }

    /// Lines that the reader of the log was too slow for.
    pub fn lost(&self) -> u64 {
        self.queue.lost.load(Ordering::Relaxed) + self.queue.told.load(Ordering::Relaxed)
    }

    /// Waits until what was logged is written, at most a second.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).flushes.push(done);
        self.queue.something.notify_one();
        // Past the second the lines are lost, which is what a stuck reader costs.
        wait.recv_timeout(Duration::from_secs(1)).ok();
    }
}

impl Queue {
    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.len() + line.len() > MOST_WAITING {
            drop(waiting);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if first {
            self.something.notify_one();
        }
    }

    /// Waits for lines, which come into `lines`; `None`: there will be no more.
    fn take(&self, lines: &mut Vec<u8>) -> Option<Vec<SyncSender<()>>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle =
            |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.flushes.is_empty() && !waiting.closed;
        let waiting = self.something.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
        // What comes with the first line is written with it: a system call, and a wake-up of this thread, for each would cost more
        // than the lines.
        let gather = |waiting: &mut Waiting| waiting.flushes.is_empty() && !waiting.closed;
        let gathered = self.something.wait_timeout_while(waiting, GATHER, gather);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.lines, lines);
        let flushes = take(&mut waiting.flushes);
        (!waiting.closed || !lines.is_empty() || !flushes.is_empty()).then_some(flushes)
    }
}

struct Writer<O> {
    queue: Arc<Queue>,
    output: O,
    /// Empty between two turns.
    lines: Vec<u8>,
    /// The day on which W3C's header was written last.
    headed: Option<[u32; 3]>,
}

impl<O: Write> Writer<O> {
    /// Until every `AccessLog` is gone. Failures to write are nobody's to hear: the log itself is what is broken.
    fn run(mut self) {
        while let Some(flushes) = self.queue.take(&mut self.lines) {
            if let Some(remarks) = self.remarks(WallTime::now()) {
                self.output.write_all(&remarks).ok();
            }
            self.output.write_all(&self.lines).and_then(|()| self.output.flush()).ok();
            self.lines.clear();
            self.lines.shrink_to(KEPT);
            for done in flushes {
                done.try_send(()).ok();
            }
        }
    }

    /// What is to be said before the lines: W3C's header, as IIS at the beginning and each day anew, and how many lines are lost.
    fn remarks(&mut self, now: WallTime) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let format = if self.queue.w3c.load(Ordering::Relaxed) { Format::W3c } else { Format::Json };
        let [year, month, day, ..] = now.utc();
        match format {
            Format::Json => self.headed = None,
            Format::W3c if self.headed == Some([year, month, day]) || self.lines.is_empty() => {}
            Format::W3c => {
                super::w3c::header(now, &mut text);
                self.headed = Some([year, month, day]);
            }
        }
        let lost = self.queue.lost.swap(0, Ordering::Relaxed);
        self.queue.told.fetch_add(lost, Ordering::Relaxed);
        match (lost, format) {
            (0, _) => {}
            (lost, Format::Json) => super::json::lost(now, lost, &mut text),
            (lost, Format::W3c) => super::w3c::lost(lost, &mut text),
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Bytes of lines that wait for the writer; what comes beyond is lost.
const MOST_WAITING: usize = 2 << 20;

/// How long the writer gathers lines. Who reads the log sees a line that much later.
const GATHER: Duration = Duration::from_millis(20);

/// Bytes of a buffer that is kept after a burst.
const KEPT: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_never_reads_costs_lines_and_nothing_else() {
        let (reader, writer) = std::io::pipe().unwrap();
        let log = AccessLog::start(writer).unwrap();
        let long = vec![b'a'; 4096];
        for _ in 0..3 * MOST_WAITING / long.len() {
            log.log(|line| line.extend_from_slice(&long));
        }
        assert!(log.lost() > 0);
        drop(reader);
    }

    #[test]
    fn lost_lines_are_told_and_every_line_is_written_once() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let log = AccessLog::start(writer).unwrap();
        log.queue.lost.store(3, Ordering::Relaxed);
        for number in 0..100 {
            log.log(|line| write!(line, "{number}").unwrap());
        }
        drop(log);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.ends_with("\"lost\":3}"), "{first}");
        let numbers: Vec<u32> = rest.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_header_stands_before_the_first_line_of_each_day() {
        let queue = Arc::new(Queue::default());
        queue.w3c.store(true, Ordering::Relaxed);
        let mut writer = Writer { queue, output: Vec::new(), lines: vec![b'x'], headed: None };
        let mut headers = |day: u64| {
            let text = writer.remarks(WallTime::from_unix_ms(day * 86_400_000)).unwrap_or_default();
            String::from_utf8(text).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(headers(1)[2], "#Date: 1970-01-02 00:00:00");
        assert!(headers(1).is_empty());
        assert_eq!(headers(2)[2], "#Date: 1970-01-03 00:00:00");
    }
}

//! The access log: one line a request on standard output. A reader that is too slow costs lines, never requests.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// A request and how it ended.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The client's address.
    pub client: IpAddr,
    /// Its method.
    pub method: String,
    /// The name it asked for; empty if it was not to be understood.
    pub host: String,
    /// The path, without the query, which may hold secrets.
    pub path: String,
    /// The response's status; 499: the client left before there was one.
    pub status: u16,
    /// Bytes of the response's body that went to the client.
    pub bytes: u64,
    /// The server that answered; `None`: the proxy itself.
    pub server: Option<String>,
    /// From the request head to the end of the response.
    pub took: Duration,
    /// Whether the response's body came to its end.
    pub whole: bool,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "access client={} method={} host={} path={} status={} bytes={} server={} ms={}{}",
            self.client,
            Plain(&self.method),
            Plain(&self.host),
            Plain(&self.path),
            self.status,
            self.bytes,
            Plain(self.server.as_deref().unwrap_or("-")),
            self.took.as_millis(),
            if self.whole { "" } else { " cut" },
        )
    }
}

/// Text from a client, of which no byte can end the line or the field, cut at [`LONGEST`] bytes.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_char('-');
        }
        for byte in self.0.bytes().take(LONGEST) {
            match byte {
                b'\\' | b'"' | 0..=b' ' | 0x7f.. => write!(f, "\\x{byte:02x}")?,
                plain => f.write_char(char::from(plain))?,
            }
        }
        if self.0.len() > LONGEST { f.write_str("...") } else { Ok(()) }
    }
}

/// Where entries go.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Entry(Box<Entry>),
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// Starts the thread that writes to `output`.
    pub fn start(output: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, queue) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&queue, &count, output))?;
        Ok(Self { lines, lost })
    }

    /// Queues an entry; if the queue is full, counts it as lost.
    pub fn log(&self, entry: Entry) {
        if self.lines.try_send(Line::Entry(Box::new(entry))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was logged is written, at most a second.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            // Past the second the lines are lost, which is what a stuck reader costs.
            wait.recv_timeout(Duration::from_secs(1)).ok();
        }
    }
}

/// Runs until every `AccessLog` is gone. Failures to write are nobody's to hear: the log itself is what is broken.
fn write_lines(queue: &Receiver<Line>, lost: &AtomicU64, mut output: impl Write) {
    let mut text = String::new();
    while let Ok(first) = queue.recv() {
        text.clear();
        let mut flushed = Vec::new();
        for line in std::iter::once(first).chain(queue.try_iter().take(BATCH)) {
            match line {
                Line::Entry(entry) => drop(writeln!(text, "{entry}")),
                Line::Flush(done) => flushed.push(done),
            }
        }
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => drop(writeln!(text, "access lost={lines} (the reader of this log was too slow)")),
        }
        drop(output.write_all(text.as_bytes()).and_then(|()| output.flush()));
        for done in flushed {
            done.try_send(()).ok();
        }
    }
}

/// Entries that wait for the writer; more are lost.
const QUEUE: usize = 4096;

/// Most entries written by one system call.
const BATCH: usize = 64;

/// Longest text of a field, in bytes before escaping.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            client: "203.0.113.5".parse().unwrap(),
            method: "GET".to_owned(),
            host: "mail.example.test".to_owned(),
            path: path.to_owned(),
            status: 200,
            bytes: 12,
            server: Some("sbex1".to_owned()),
            took: Duration::from_millis(3),
            whole: true,
        }
    }

    #[test]
    fn a_line_says_who_asked_for_what_and_what_came_of_it() {
        assert_eq!(
            entry("/owa/").to_string(),
            "access client=203.0.113.5 method=GET host=mail.example.test path=/owa/ status=200 bytes=12 server=sbex1 ms=3"
        );
        let own = Entry { server: None, host: String::new(), whole: false, ..entry("/\u{1b}[2J a\\") };
        assert_eq!(
            own.to_string(),
            "access client=203.0.113.5 method=GET host=- path=/\\x1b[2J\\x20a\\x5c status=200 bytes=12 server=- ms=3 cut"
        );
    }

    #[test]
    fn a_reader_that_never_reads_costs_lines_and_nothing_else() {
        let (reader, writer) = std::io::pipe().unwrap();
        let log = AccessLog::start(writer).unwrap();
        for _ in 0..3 * QUEUE {
            log.log(entry(&"/a".repeat(500)));
        }
        assert!(log.lost.load(Ordering::Relaxed) > 0);
        drop(reader);
    }

    proptest! {
        #[test]
        fn nothing_in_a_request_breaks_its_line(path in any::<String>(), host in any::<String>()) {
            let line = Entry { host, ..entry(&path) }.to_string();
            prop_assert!(line.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
            prop_assert_eq!(line.split(' ').count(), 9);
        }
    }
}

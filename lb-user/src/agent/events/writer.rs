//! The thread that takes records to disk and syslog, which may be slow, full or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use tracing::{info, warn};

use super::file::EventFile;
use super::syslog::Syslog;
use crate::control::api::EventRecord;

/// How many records wait for the disk; what comes then is only in memory, and counted.
pub(super) const WAITING: usize = 1024;

/// How many records are written before the disk is waited for.
const BATCH: usize = 64;

/// Where records go.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) file: EventFile,
    pub(super) syslog: Option<Syslog>,
    /// How many records found no room on the way here.
    pub(super) lost: Arc<AtomicU64>,
    /// How many records before the next one are not in the file.
    pub(super) missed: u64,
    /// The file could not be written lately.
    pub(super) troubled: bool,
}

impl Writer {
    /// Writes until the sender is dropped.
    pub(super) fn run(mut self, records: &Receiver<EventRecord>) {
        while let Ok(first) = records.recv() {
            let batch: Vec<EventRecord> =
                std::iter::once(first).chain(records.try_iter().take(BATCH - 1)).collect();
            if let Some(syslog) = &mut self.syslog {
                batch.iter().for_each(|record| syslog.send(record));
            }
            self.keep(batch);
        }
    }

    fn keep(&mut self, batch: Vec<EventRecord>) {
        let mut kept = Ok(());
        for mut record in batch {
            self.missed += self.lost.swap(0, Ordering::AcqRel);
            record.missed = self.missed;
            match self.file.append(&record) {
                Ok(()) => self.missed = 0,
                Err(error) => {
                    self.missed += 1;
                    kept = Err(error);
                }
            }
        }
        let kept = kept.and_then(|()| self.file.sync());
        let troubled = std::mem::replace(&mut self.troubled, kept.is_err());
        match (kept, troubled) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => info!("events are written to disk again"),
            (Err(error), false) => warn!(
                %error,
                path = %self.file.path().display(),
                "events cannot be written to disk and are kept in memory alone; make room there, or set `state_dir` in node.toml"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;

    use super::super::memory::{Memory, Moment, Note};
    use super::super::read;
    use super::*;

    fn records(memory: &mut Memory, texts: [&str; 2]) -> Vec<EventRecord> {
        let note = |text: &str| memory.note(Note::new("test", false, text), Moment::now());
        texts.into_iter().flat_map(note).collect()
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rollcall-writer-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn after_a_time_without_a_disk_the_file_says_what_it_lacks() {
        let folder = folder("disk");
        let state_dir = folder.join("state");
        // In the folder's place, so that not even root can write there.
        fs::write(&state_dir, "").unwrap();
        let file = EventFile::new(state_dir.clone());
        let mut writer = Writer { file, syslog: None, lost: Arc::default(), missed: 0, troubled: false };
        let mut memory = Memory::new("arr1".into(), Vec::new());
        writer.keep(records(&mut memory, ["one", "two"]));
        assert!(writer.troubled);
        writer.lost.store(5, Ordering::Release);
        fs::remove_file(&state_dir).unwrap();
        writer.keep(records(&mut memory, ["three", "four"]));
        assert!(!writer.troubled);
        let left: Vec<(u64, u64)> =
            read(&state_dir).unwrap().iter().map(|record| (record.seq, record.missed)).collect();
        assert_eq!(left, [(3, 7), (4, 0)]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_syslog_that_comes_later_gets_what_is_noted_then() {
        let folder = folder("syslog");
        let path = folder.join("log");
        let mut syslog = Syslog::new(path.clone());
        let records = records(&mut Memory::new("arr1".into(), Vec::new()), ["one", "two"]);
        syslog.send(&records[0]);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        syslog.send(&records[1]);
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        assert!(bytes[..length].ends_with(b" two"));
        assert!(socket.recv(&mut bytes).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}

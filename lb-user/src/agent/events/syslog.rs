//! Records as syslog messages (RFC 5424), to the host's own socket.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tracing::{info, warn};

use crate::control::api::EventRecord;

/// Where the C library sends them, too.
pub(super) const SOCKET: &str = "/dev/log";

/// Facility `daemon`, eight times.
const DAEMON: u8 = 3 << 3;

/// Severity of what could wake someone.
const WARNING: u8 = 4;

/// Severity of a change of state.
const NOTICE: u8 = 5;

/// The way to the host's syslog. Never waits: what the socket does not take at once is lost to syslog, which is said once.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    host: String,
    pid: u32,
    socket: Option<UnixDatagram>,
    troubled: bool,
}

impl Syslog {
    pub(super) fn new(path: PathBuf) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { path, host, pid: std::process::id(), socket: None, troubled: false }
    }

    /// Sends a record, or says that it cannot.
    pub(super) fn send(&mut self, record: &EventRecord) {
        let sent = self.try_send(record);
        let troubled = std::mem::replace(&mut self.troubled, sent.is_err());
        match (sent, troubled) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => info!("events reach syslog again"),
            (Err(error), false) => warn!(
                %error,
                path = %self.path.display(),
                "events do not reach syslog, which is tried again at each; start it, or set `syslog = false` in node.toml"
            ),
        }
    }

    fn try_send(&mut self, record: &EventRecord) -> io::Result<()> {
        let message = message(record, &self.host, self.pid);
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => UnixDatagram::unbound()?,
        };
        let socket = self.socket.insert(socket);
        socket.set_nonblocking(true)?;
        socket.send_to(message.as_bytes(), &self.path).map(drop)
    }
}

/// RFC 5424, section 6: priority, version, time, host, program, process, kind, no structured data, text.
fn message(record: &EventRecord, host: &str, pid: u32) -> String {
    let severity = if record.warning { WARNING } else { NOTICE };
    let printable = |text: &str, most: usize| {
        let text: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
        if text.is_empty() { "-".to_owned() } else { text }
    };
    let (host, kind) = (printable(host, 255), printable(&record.kind, 32));
    let text: String = record.sentence().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("<{}>1 {} {host} rollcall {pid} {kind} - {text}", DAEMON | severity, record.time)
}

//! Hears that something changed in etcd. What it was is not read here: the values in the stream may be long, and whoever wants them asks.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::json::{self, Heard};
use super::session::{Session, Trouble};
use super::work::Place;

/// A connection that tells of changes.
#[derive(Debug)]
pub struct Watch {
    _session: Session,
    body: Incoming,
    lines: Lines,
}

impl Watch {
    /// Begins, and waits until etcd says that it tells.
    pub async fn begin(mut session: Session, place: &Place) -> Result<Self, Trouble> {
        let body = session.listen(json::WATCH, &json::watch(&place.prefix.all())).await?;
        let mut watch = Self { _session: session, body, lines: Lines::default() };
        let first = tokio::time::timeout(FIRST, watch.next()).await;
        first.unwrap_or(Err(Trouble::Silent))?;
        Ok(watch)
    }

    /// Waits for a change; an error: it tells no more. Cancel safe.
    pub async fn next(&mut self) -> Result<(), Trouble> {
        loop {
            let frame = self.body.frame().await;
            let frame = frame.ok_or_else(|| Trouble::Deaf("it ended the answer".to_owned()))?;
            let Ok(bytes) = frame.map_err(Trouble::of)?.into_data() else { continue };
            match self.lines.take(&bytes) {
                None => {}
                Some(Heard::News) => return Ok(()),
                Some(Heard::Ended(why)) => return Err(Trouble::Deaf(why)),
            }
        }
    }
}

/// The stream as lines, of which no more than [`LONGEST`] bytes are kept.
#[derive(Debug, Default)]
struct Lines {
    kept: Vec<u8>,
}

impl Lines {
    /// What these bytes say; `None`: not yet anything. That there is an end counts for more than what came before it.
    fn take(&mut self, bytes: &[u8]) -> Option<Heard> {
        let mut heard = None;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.kept);
                if !matches!(heard, Some(Heard::Ended(_))) {
                    heard = Some(json::read_watch(&line));
                }
            }
        }
        heard
    }
}

/// How long until the first word: etcd says at once that it tells.
const FIRST: std::time::Duration = std::time::Duration::from_secs(10);

/// Most bytes of a line that are kept. What is longer has values in it, and is a change.
const LONGEST: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_heard_however_its_bytes_are_cut() {
        let text = b"{\"result\":{\"created\":true}}\n";
        for cut in 1..text.len() {
            let mut lines = Lines::default();
            assert_eq!(lines.take(&text[..cut]), None, "{cut}");
            assert_eq!(lines.take(&text[cut..]), Some(Heard::News), "{cut}");
        }
    }

    #[test]
    fn an_endless_line_costs_no_memory_and_its_end_is_a_change() {
        let mut lines = Lines::default();
        for _ in 0..10_000 {
            assert_eq!(lines.take(&[b'x'; 16 << 10]), None);
            assert!(lines.kept.capacity() <= 2 * LONGEST);
        }
        assert_eq!(lines.take(b"\n"), Some(Heard::News));
    }

    #[test]
    fn an_end_is_heard_among_changes() {
        let ended = "{\"result\":{\"canceled\":true,\"cancel_reason\":\"no\"}}\n";
        let change = "{\"result\":{\"events\":[]}}\n";
        for text in [format!("{change}{ended}"), format!("{ended}{change}")] {
            assert_eq!(Lines::default().take(text.as_bytes()), Some(Heard::Ended("no".to_owned())), "{text}");
        }
    }
}

//! Frames as bytes, for clients that do what none should.

use tokio::io::AsyncWriteExt as _;

use super::frames::{
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, literal,
};
use super::*;

/// A client that writes frames.
pub(super) struct Raw {
    pub(super) stream: DuplexStream,
    pub(super) servers: mpsc::UnboundedReceiver<DuplexStream>,
    pub(super) proxy: JoinHandle<()>,
}

/// A connection on which both sides have greeted.
pub(super) async fn raw() -> Raw {
    raw_within(room()).await
}

pub(super) async fn raw_within(room: Arc<Room>) -> Raw {
    let Stage { shared, served, peer, servers, .. } = stage();
    let (stream, ours) = duplex(64 << 10);
    let proxy = tokio::spawn(connection::serve(ours, Owner::new(Arc::new(shared), served, peer), room));
    let mut raw = Raw { stream, servers, proxy };
    raw.stream.write_all(PREFACE).await.unwrap();
    raw.send(SETTINGS, 0, 0, &[]).await;
    raw
}

impl Raw {
    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    /// The next frame of one kind: its stream and payload. `None`: the connection ended before.
    pub(super) async fn next(&mut self, kind: u8) -> Option<(u32, Vec<u8>)> {
        loop {
            let (found, stream, payload) = self.frame().await?;
            if found == kind {
                return Some((stream, payload));
            }
        }
    }

    /// The code with which the stream, or the connection, is ended.
    async fn refusal(&mut self, stream: u32) -> Option<u32> {
        loop {
            match self.frame().await? {
                (RST_STREAM, of, payload) if of == stream => return Some(code(&payload)),
                (GOAWAY, _, payload) => return Some(code(&payload[4..])),
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await.ok()?;
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        Some((header[3], stream, payload))
    }

    /// The code with which the connection is ended.
    pub(super) async fn goaway(&mut self) -> Option<u32> {
        let (_, payload) = self.next(GOAWAY).await?;
        Some(code(&payload[4..]))
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// A GET's header block, with more fields.
pub(super) fn block(more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/")];
    pseudo.iter().chain(more).flat_map(|(name, value)| literal(name, value)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_http2_does_not_allow_in_a_head_ends_its_stream_or_the_connection() {
    let more: [&[(&str, &str)]; 18] = [
        &[("transfer-encoding", "chunked")],
        &[("connection", "close")],
        &[("upgrade", "h2c")],
        &[("keep-alive", "5")],
        &[("proxy-connection", "keep-alive")],
        &[("te", "gzip")],
        &[("X-Upper", "1")],
        &[("x", "a\r\nContent-Length: 5")],
        &[("x", "a\nb")],
        &[("x", "a\0b")],
        &[("x\r\nb", "a")],
        &[("", "a")],
        &[("x:y", "a")],
        &[(":path", "/again")],
        &[("x", "y"), (":authority", "late")],
        &[(":unknown", "a")],
        &[("content-length", "5")],
        &[("content-length", "+0")],
    ];
    for more in more {
        let mut raw = raw().await;
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(more)).await;
        let refused = timeout(SECOND, raw.refusal(1)).await.unwrap_or_else(|_| panic!("{more:?} is served"));
        assert!(matches!(refused, Some(1 | 9)), "{more:?}: {refused:?}");
        assert!(raw.servers.try_recv().is_err(), "{more:?}");
    }
}

//! Bytes from a client to a server and back, each direction by itself, until both have ended or nothing moves: TCP that is passed on
//! as it comes, and a connection that has become a WebSocket's.
//!
//! One task polls both streams. What one read brought is written before more is read, so that a slow reader slows its writer
//! down and nothing else; a direction at rest has no buffer. An end travels on by itself: a client that has said all it has to
//! say still hears the answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::proxy::buffer::Buffer;
use crate::proxy::timer::Timer;

/// How much went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the client to the server.
    pub up: u64,
    /// From the server to the client.
    pub down: u64,
}

/// One side of a connection.
pub struct Side<'a, S> {
    /// Its stream.
    pub stream: &'a mut S,
    /// What it has said already.
    pub came: Buffer,
}

/// How long a connection may last.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Longest time in which nothing moves.
    pub idle: Duration,
    /// By when all must be over, if ever.
    pub end_by: Option<Instant>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have said their last.
    Whole,
    /// Nothing moved for too long, or all of it took too long.
    Idle,
    /// The client broke it off.
    ClientGone,
    /// The server broke it off.
    ServerGone,
}

/// Moves bytes between `client` and `server` until both have ended their streams, one breaks off, or time is up. Dropped, it has
/// counted what it moved.
pub async fn splice<C, S>(client: Side<'_, C>, server: Side<'_, S>, times: Times, bytes: &mut Bytes) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Half::new(client.came), Half::new(server.came));
    let (client, server) = (client.stream, server.stream);
    let (mut timer, mut moved) = (Timer::default(), Instant::now());
    poll_fn(|cx| {
        let before = *bytes;
        let upward = up.poll(cx, client, server, &mut bytes.up);
        let downward = down.poll(cx, server, client, &mut bytes.down);
        match (upward, downward) {
            (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Sink))) => {
                return Poll::Ready(Ended::ClientGone);
            }
            (Poll::Ready(Err(Broken::Sink)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                return Poll::Ready(Ended::ServerGone);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ended::Whole),
            (Poll::Pending, _) | (_, Poll::Pending) => {}
        }
        if *bytes != before {
            moved = Instant::now();
        }
        let deadline = times.end_by.into_iter().fold(moved + times.idle, Instant::min);
        timer.poll(cx, deadline).map(|()| Ended::Idle)
    })
    .await
}

/// One direction.
struct Half {
    buffer: Buffer,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended, the sink does not know yet.
    Closing,
    Closed,
}

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Source,
    Sink,
}

impl Half {
    fn new(buffer: Buffer) -> Self {
        Self { buffer, state: State::Open }
    }

    fn poll<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut A,
        sink: &mut B,
        bytes: &mut u64,
    ) -> Poll<Result<(), Broken>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        while self.state == State::Open {
            if self.buffer.is_empty() && !self.poll_fill(cx, source)? {
                // What was written leaves before more is waited for; TLS may still hold some of it.
                if let Poll::Ready(Err(_)) = Pin::new(sink).poll_flush(cx) {
                    return Poll::Ready(Err(Broken::Sink));
                }
                return Poll::Pending;
            }
            while !self.buffer.is_empty() {
                let wrote = ready!(Pin::new(&mut *sink).poll_write(cx, self.buffer.bytes()));
                let wrote = wrote.and_then(some).map_err(|_| Broken::Sink)?;
                self.buffer.consume(wrote);
                *bytes += u64::try_from(wrote).unwrap_or(u64::MAX);
            }
        }
        if self.state == State::Closing {
            ready!(Pin::new(sink).poll_shutdown(cx)).map_err(|_| Broken::Sink)?;
            self.state = State::Closed;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; `false`: nothing has come, and the buffer is given back.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
    ) -> Result<bool, Broken> {
        match self.buffer.poll_read(source, cx, usize::MAX) {
            Poll::Pending => {
                self.buffer.release();
                return Ok(false);
            }
            Poll::Ready(Ok(0)) => self.state = State::Closing,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return Err(Broken::Source),
        }
        Ok(true)
    }
}

fn some(wrote: usize) -> io::Result<usize> {
    if wrote == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(wrote) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const TIMES: Times = Times { idle: MINUTE, end_by: None };

    /// Both far ends, and what the splice between them comes to.
    fn spliced(size: usize) -> (DuplexStream, DuplexStream, JoinHandle<(Ended, Bytes)>) {
        let ((client, mut near_client), (server, mut near_server)) = (duplex(size), duplex(size));
        let task = tokio::spawn(async move {
            let mut bytes = Bytes::default();
            let came = Buffer::default();
            let client = Side { stream: &mut near_client, came };
            let server = Side { stream: &mut near_server, came: Buffer::default() };
            let ended = splice(client, server, TIMES, &mut bytes).await;
            (ended, bytes)
        });
        (client, server, task)
    }

    #[tokio::test]
    async fn a_client_that_has_ended_its_side_still_hears_the_answer() {
        let (mut client, mut server, task) = spliced(64);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        server.write_all(b"the answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "the answer");
        assert_eq!(task.await.unwrap(), (Ended::Whole, Bytes { up: 8, down: 10 }));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_of_both_sides_ends_it_and_a_byte_of_either_puts_that_off() {
        let (mut client, mut server, task) = spliced(64);
        let start = Instant::now();
        for round in 0..4 {
            tokio::time::sleep(MINUTE / 2).await;
            let side = if round % 2 == 0 { &mut client } else { &mut server };
            side.write_all(b".").await.unwrap();
        }
        assert_eq!(task.await.unwrap(), (Ended::Idle, Bytes { up: 2, down: 2 }));
        assert_eq!(start.elapsed().as_secs(), 180);
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_stops_its_writer() {
        let (mut client, mut server, task) = spliced(4 << 10);
        let written = tokio::time::timeout(Duration::from_millis(100), client.write_all(&[7; 1 << 20])).await;
        assert!(written.is_err(), "a megabyte went into what holds a few KiB");
        let mut first = [0; 1 << 10];
        server.read_exact(&mut first).await.unwrap();
        drop((client, server));
        let (ended, bytes) = task.await.unwrap();
        assert_eq!(ended, Ended::ServerGone);
        assert!(bytes.up < 64 << 10, "{bytes:?}");
    }

    proptest! {
        #[test]
        fn bytes_arrive_as_they_were_sent_in_both_directions(
            size in 1..5000_usize,
            up in vec(any::<u8>(), 0..40_000),
            down in vec(any::<u8>(), 0..40_000),
            came in vec(any::<u8>(), 0..3000),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let (client, mut near_client) = duplex(size);
                let (server, mut near_server) = duplex(size);
                let mut buffer = Buffer::default();
                let mut before = &came[..];
                while !before.is_empty() {
                    poll_fn(|cx| buffer.poll_read(&mut Reader(&mut before), cx, usize::MAX)).await.unwrap();
                }
                let far = async {
                    let ((mut from_server, mut to_server), (mut from_client, mut to_client)) =
                        (tokio::io::split(client), tokio::io::split(server));
                    let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
                    let (a, b, c, d) = tokio::join!(
                        async { to_server.write_all(&up).await?; to_server.shutdown().await },
                        async { to_client.write_all(&down).await?; to_client.shutdown().await },
                        from_client.read_to_end(&mut got_up),
                        from_server.read_to_end(&mut got_down),
                    );
                    a.and(b).unwrap();
                    c.and(d).unwrap();
                    (got_up, got_down)
                };
                let mut bytes = Bytes::default();
                let client = Side { stream: &mut near_client, came: buffer };
                let server = Side { stream: &mut near_server, came: Buffer::default() };
                let spliced = splice(client, server, TIMES, &mut bytes);
                let (ended, (got_up, got_down)) = tokio::join!(spliced, far);
                assert_eq!(ended, Ended::Whole);
                assert!(got_up == [&came[..], &up].concat() && got_down == down);
                assert_eq!(bytes, Bytes { up: got_up.len() as u64, down: got_down.len() as u64 });
            });
        }
    }

    /// A slice that is read from.
    struct Reader<'a, 'b>(&'a mut &'b [u8]);

    impl AsyncRead for Reader<'_, '_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0).poll_read(cx, buffer)
        }
    }
}

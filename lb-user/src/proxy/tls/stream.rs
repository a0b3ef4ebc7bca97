//! TLS over a stream once its handshake is over, with few system calls: one read brings several records, and what is written
//! leaves by several records or when it is flushed.
//!
//! tokio-rustls does the handshake. Afterwards it would read and send each record by itself. Whoever writes must flush before
//! waiting; all in this proxy do, as a TLS stream may always hold something back.

use std::io::{self, BufRead as _, Write as _};
use std::ops::DerefMut;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::socket::OverSocket;
use crate::proxy::storage::{Size, put_back, take};

/// See the module. `C` is rustls's `ServerConnection` or `ClientConnection`.
#[derive(Debug)]
pub struct Records<S, C> {
    stream: S,
    session: C,
    came: Came,
    /// About how much waits to be sent.
    unsent: usize,
    /// We have said goodbye.
    closed: bool,
}

impl<S, C, D> Records<S, C>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin,
    D: SideData,
{
    /// Goes on where a handshake, of which nothing waits to be sent, has ended.
    pub fn new((stream, session): (S, C)) -> Self {
        Self { stream, session, came: Came::default(), unsent: 0, closed: false }
    }

    /// What the handshake has come to.
    pub fn session(&self) -> &C {
        &self.session
    }

    /// Gives rustls the next of what came, or word of its end.
    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.came.is_empty() && ready!(self.came.poll_read(&mut self.stream, cx))? == 0 {
            self.session.read_tls(&mut io::empty())?;
            return Poll::Ready(Ok(()));
        }
        let taken = self.session.read_tls(&mut self.came.bytes())?;
        self.came.consume(taken);
        if let Err(error) = self.session.process_new_packets() {
            // The other side is told why, if that can be done at once.
            drop(self.poll_send(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut sink = Sink { stream: &mut self.stream, cx };
            match self.session.write_tls(&mut sink) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sent) => self.unsent = self.unsent.saturating_sub(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.unsent = 0;
        Poll::Ready(Ok(()))
    }

    /// Hands rustls more by `write`, which tells how much it took, once there is room.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&mut C) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.unsent >= ENOUGH {
                ready!(self.poll_send(cx))?;
            }
            let taken = write(&mut self.session)?;
            if taken > 0 {
                self.unsent += taken + RECORD_OVERHEAD;
                return Poll::Ready(Ok(taken));
            }
            ready!(self.poll_send(cx))?;
        }
    }
}

impl<S: OverSocket, C> OverSocket for Records<S, C> {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.socket()
    }
}

impl<S, C, D> AsyncRead for Records<S, C>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin,
    D: SideData,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut reader = this.session.reader();
            match reader.fill_buf() {
                Ok(content) => {
                    let length = content.len().min(into.remaining());
                    into.put_slice(&content[..length]);
                    reader.consume(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(this.poll_records(cx))?;
        }
    }
}

impl<S, C, D> AsyncWrite for Records<S, C>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin,
    D: SideData,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if from.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_take(cx, |session| session.writer().write(from))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if from.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_take(cx, |session| session.writer().write_vectored(from))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.session.send_close_notify();
            this.closed = true;
        }
        ready!(this.poll_send(cx))?;
        match ready!(Pin::new(&mut this.stream).poll_shutdown(cx)) {
            // The other side was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            ended => Poll::Ready(ended),
        }
    }
}

/// A stream as rustls writes to it.
struct Sink<'a, 'b, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncWrite + Unpin> io::Write for Sink<'_, '_, S> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.stream).poll_write(self.cx, from))
    }

    fn write_vectored(&mut self, from: &[io::IoSlice<'_>]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, from))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at_once<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Records as they came, with storage only while there are some.
#[derive(Debug, Default)]
struct Came {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Came {
    fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads once; zero is the stream's end.
    fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut storage = take(Size::Records);
        let mut free = ReadBuf::new(&mut storage);
        let polled = Pin::new(stream).poll_read(cx, &mut free);
        let length = free.filled().len();
        if length == 0 {
            put_back(storage);
        } else {
            (self.storage, self.start, self.end) = (storage, 0, length);
        }
        polled.map_ok(|()| length)
    }

    fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
        if self.is_empty() {
            self.release();
        }
    }

    fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        if !self.storage.is_empty() {
            put_back(std::mem::take(&mut self.storage));
        }
    }
}

impl Drop for Came {
    fn drop(&mut self) {
        self.release();
    }
}

/// From so much on, what waits is sent without being asked; rustls holds 64 KiB at most.
const ENOUGH: usize = 48 << 10;

/// A record's header, content type and tag.
const RECORD_OVERHEAD: usize = 22;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConnection, ServerConnection};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::proxy::snapshot::Verify;
    use crate::proxy::tls::{client_config, server_name};

    type Client = Records<DuplexStream, ClientConnection>;
    type Server = Records<DuplexStream, ServerConnection>;

    /// Two ends after their handshake, over a pipe that holds `size` bytes.
    async fn pair(size: usize) -> (Client, Server) {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let connector = TlsConnector::from(client_config(&Verify::Nothing, Vec::new()).unwrap());
        let (near, far) = duplex(size);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (client, server) =
            tokio::join!(connector.connect(server_name("a.test").unwrap(), near), acceptor.accept(far));
        (Records::new(client.unwrap().into_inner()), Records::new(server.unwrap().into_inner()))
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    /// Sends `length` bytes in pieces, each flushed where `flush` says so, then says goodbye.
    async fn send(stream: &mut (impl AsyncWrite + Unpin), length: usize, piece: usize, flush: bool) {
        for piece in content(length).chunks(piece) {
            stream.write_all(piece).await.unwrap();
            if flush {
                stream.flush().await.unwrap();
            }
        }
        stream.shutdown().await.unwrap();
    }

    async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        got
    }

    #[tokio::test]
    async fn what_is_written_leaves_when_it_is_flushed() {
        let (mut client, mut server) = pair(1 << 20).await;
        client.write_all(b"ask").await.unwrap();
        let mut got = [0; 3];
        let early = std::future::poll_fn(|cx| {
            let mut into = ReadBuf::new(&mut got);
            Poll::Ready(Pin::new(&mut server).poll_read(cx, &mut into).is_ready())
        });
        assert!(!early.await);
        client.flush().await.unwrap();
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, *b"ask");
    }

    #[tokio::test]
    async fn an_end_without_a_goodbye_is_an_error_and_one_with_it_none() {
        let (mut client, mut server) = pair(1 << 20).await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(receive(&mut server).await, b"last");
        let (client, mut server) = pair(1 << 20).await;
        drop(client);
        let error = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn bytes_that_are_no_record_are_an_error_that_the_other_side_is_told() {
        let (mut client, mut server) = pair(1 << 20).await;
        client.stream.write_all(&[0x17, 3, 3, 0, 32]).await.unwrap();
        client.stream.write_all(&[7; 32]).await.unwrap();
        let error = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let told = client.read(&mut [0; 8]).await.unwrap_err();
        assert!(told.to_string().contains("BadRecordMac"), "{told}");
    }

    #[tokio::test]
    async fn a_connection_at_rest_has_no_storage() {
        let (mut client, mut server) = pair(1 << 20).await;
        client.write_all(&content(200_000)).await.unwrap();
        client.flush().await.unwrap();
        server.read_exact(&mut vec![0; 1000]).await.unwrap();
        assert!(server.came.storage.capacity() > 0);
        server.read_exact(&mut vec![0; 199_000]).await.unwrap();
        assert_eq!(server.came.storage.capacity(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn both_directions_arrive_whole_at_once(
            size in prop_oneof![Just(1_usize << 10), Just(1 << 14), Just(1 << 18)],
            piece in 1..40_000_usize,
            up in 0..300_000_usize,
            down in 0..300_000_usize,
            flush in any::<bool>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (client, server) = pair(size).await;
                let ((mut client_in, mut client_out), (mut server_in, mut server_out)) = (split(client), split(server));
                let ((), (), to_client, to_server) = tokio::join!(
                    send(&mut client_out, up, piece, flush),
                    send(&mut server_out, down, piece, flush),
                    receive(&mut client_in),
                    receive(&mut server_in),
                );
                assert!(to_server == content(up));
                assert!(to_client == content(down));
            });
        }
    }
}

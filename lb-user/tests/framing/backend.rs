//! The server behind a proxy: keeps every byte that it gets, and answers what the strict reader can delimit.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::corpus::responses::{Answer, Then};
use crate::setup::eventually;
use crate::strict::{self, Message, Read};

/// A running server.
pub(crate) struct Backend {
    pub(crate) address: SocketAddrV4,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: Mutex<Vec<Recording>>,
    /// What requests for these targets are answered with.
    script: BTreeMap<String, Answer>,
}

/// What came over a connection.
#[derive(Default)]
struct Recording {
    bytes: Vec<u8>,
    ended: bool,
}

impl Backend {
    /// Starts it, over TLS or plain.
    pub(crate) async fn start(tls: Option<TlsAcceptor>, script: BTreeMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("bound to IPv4");
        };
        let state = Arc::new(State { script, ..State::default() });
        tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, state }
    }

    /// What came over each connection that has bytes, once all have ended; health tests left out. Begins anew.
    pub(crate) async fn take(&self) -> Vec<Vec<u8>> {
        let ended = || self.state.connections.lock().unwrap().iter().all(|connection| connection.ended);
        eventually("the connections to the server end", ended).await;
        let connections = std::mem::take(&mut *self.state.connections.lock().unwrap());
        let kept = connections.into_iter().map(|connection| connection.bytes);
        kept.filter(|bytes| !bytes.is_empty() && !bytes.starts_with(HEALTH_TEST)).collect()
    }
}

const HEALTH_TEST: &[u8] = b"GET /owa/healthcheck.htm ";

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        let number = {
            let mut connections = state.connections.lock().unwrap();
            connections.push(Recording::default());
            connections.len() - 1
        };
        tokio::spawn(async move {
            match tls {
                None => serve(stream, &state, number).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, &state, number).await;
                    }
                }
            }
            state.change(number, |connection| connection.ended = true);
        });
    }
}

impl State {
    fn change(&self, number: usize, change: impl FnOnce(&mut Recording)) {
        if let Some(connection) = self.connections.lock().unwrap().get_mut(number) {
            change(connection);
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: &State, number: usize) {
    let (mut unread, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        state.change(number, |connection| connection.bytes.extend_from_slice(&piece[..length]));
        unread.extend_from_slice(&piece[..length]);
        loop {
            let answer = match strict::request(&unread) {
                Read::Part(_) => break,
                Read::Whole(message) => {
                    unread.drain(..message.length);
                    answer(&message, &state.script)
                }
                Read::Fault(_) => {
                    let bytes = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                        .to_vec();
                    Answer { bytes, then: Then::Close }
                }
            };
            if stream.write_all(&answer.bytes).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            match answer.then {
                Then::Keep => {}
                Then::Cut => return,
                Then::Close => {
                    drop(stream.shutdown().await);
                    return;
                }
            }
        }
    }
}

fn answer(message: &Message, script: &BTreeMap<String, Answer>) -> Answer {
    let request = message.request();
    if let Some(answer) = script.get(&request.target) {
        return answer.clone();
    }
    let text = if request.target.starts_with("/owa/healthcheck.htm") {
        "200 OK".to_owned()
    } else {
        request.to_string()
    };
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Read: {request}\r\n\r\n", text.len())
        .into_bytes();
    if request.method != "HEAD" {
        bytes.extend_from_slice(text.as_bytes());
    }
    Answer { bytes, then: Then::Keep }
}

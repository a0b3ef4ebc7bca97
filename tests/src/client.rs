//! An HTTPS client on the lab's internet: HTTP/1.1 over rustls on blocking sockets, as little of it as the lab needs.
//! Measures nothing; see `traffic` and `prober`.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use rustls_pki_types::ServerName;
use socket2::{Domain, Socket, Type};

use crate::lab::{CLIENT, CLIENT6, CLUSTER_IP6, Lab, PUBLIC, PUBLIC_NAME};
use crate::sys::Namespace;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Https {
    /// Where it is.
    pub namespace: Namespace,
    /// From which of its addresses.
    pub source: IpAddr,
    /// Its next port, shared by all clients of the lab: none is used twice, so that what is captured of a port is one
    /// connection's.
    ports: Arc<AtomicU16>,
    /// Where it connects to.
    pub target: SocketAddr,
    /// Whom it trusts.
    pub tls: Arc<ClientConfig>,
    /// How long it waits for a connection, and for each answer.
    pub patience: Duration,
}

impl Https {
    /// A client on the lab's internet, to the public address.
    pub fn new(lab: &Lab, tls: Arc<ClientConfig>) -> Self {
        Self {
            namespace: lab.client.clone(),
            source: CLIENT.into(),
            ports: Arc::clone(&lab.client_ports),
            target: SocketAddr::from((PUBLIC, 443)),
            tls,
            patience: Duration::from_secs(10),
        }
    }

    /// The same over IPv6, where there is no NAT: to the cluster IP itself.
    pub fn new6(lab: &Lab, tls: Arc<ClientConfig>) -> Self {
        Self { source: CLIENT6.into(), target: SocketAddr::from((CLUSTER_IP6, 443)), ..Self::new(lab, tls) }
    }

    /// A new connection, TLS handshake included.
    pub fn connect(&self) -> Result<Connection> {
        let stream = self.connect_tcp()?;
        let port = stream.local_addr()?.port();
        let name = ServerName::try_from(PUBLIC_NAME).context("the public name is no DNS name")?;
        let tls = ClientConnection::new(Arc::clone(&self.tls), name)?;
        let mut stream = StreamOwned::new(tls, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("TLS handshake")?;
        }
        Ok(Connection { stream: BufReader::new(stream), port, closing: false })
    }

    /// A new TCP connection, no more.
    pub fn connect_tcp(&self) -> Result<TcpStream> {
        let domain = Domain::for_address(self.target);
        let socket = self.namespace.enter(|| Socket::new(domain, Type::STREAM, None))??;
        let port = self.ports.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| port.checked_add(1));
        let port = port.map_err(|_| anyhow!("this lab's clients have used every port once"))?;
        socket.bind(&SocketAddr::from((self.source, port)).into())?;
        socket
            .connect_timeout(&self.target.into(), self.patience)
            .with_context(|| format!("connect to {}", self.target))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        Ok(stream)
    }
}

/// An open connection, for one request after the other.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    /// The client's port.
    pub port: u16,
    /// The other side said that it will close: the next request needs a new connection.
    pub closing: bool,
}

/// An answer, read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// What the header X-Server says; which server answered.
    pub server: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Whether its handshake went on with an earlier session, from this node or another.
    pub fn resumed(&self) -> bool {
        self.stream.get_ref().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that the other side presented.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let chain = self.stream.get_ref().conn.peer_certificates()?;
        chain.first().map(|leaf| leaf.to_vec())
    }

    /// GET `path`.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[])
    }

    /// A request with `body` and its whole answer.
    pub fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        self.send(method, path, body)?;
        let head = self.head()?;
        let mut answer = Answer { status: head.status, server: head.server.clone(), body: Vec::new() };
        match head.length {
            Length::Known(length) => {
                self.stream.by_ref().take(length).read_to_end(&mut answer.body)?;
                ensure!(answer.body.len() as u64 == length, "the body ended early");
            }
            Length::Chunked => self.chunks(&mut answer.body)?,
        }
        Ok(answer)
    }

    /// Asks for `path` and reads `bytes` of its body, calling `progress` with each piece's size.
    pub fn download(&mut self, path: &str, bytes: usize, mut progress: impl FnMut(usize)) -> Result<()> {
        self.send("GET", path, &[])?;
        let head = self.head()?;
        ensure!(head.status == 200, "status {}", head.status);
        let mut buffer = vec![0; 64 << 10];
        let mut left = bytes;
        while left > 0 {
            let want = left.min(buffer.len());
            let read = self.stream.read(&mut buffer[..want])?;
            ensure!(read > 0, "the body ended early");
            left -= read;
            progress(read);
        }
        Ok(())
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {PUBLIC_NAME}\r\n");
        if !body.is_empty() {
            write!(head, "Content-Length: {}\r\n", body.len())?;
        }
        head += "\r\n";
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        stream.flush().context("send")
    }

    fn head(&mut self) -> Result<Head> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line).context("read the answer")? > 0, "closed without an answer");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut head = Head {
            status: status.with_context(|| format!("not HTTP: {line:?}"))?,
            server: String::new(),
            length: Length::Known(0),
        };
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "closed within the head");
            let Some((name, value)) = line.trim_end().split_once(':') else {
                return Ok(head);
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = Length::Known(value.parse().context("Content-Length")?),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => head.length = Length::Chunked,
                "connection" if value.eq_ignore_ascii_case("close") => self.closing = true,
                "x-server" => value.clone_into(&mut head.server),
                _ => {}
            }
        }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size =
                u64::from_str_radix(line.trim(), 16).with_context(|| format!("not a chunk: {line:?}"))?;
            let before = body.len() as u64;
            self.stream.by_ref().take(size).read_to_end(body)?;
            if body.len() as u64 - before != size {
                bail!("a chunk ended early");
            }
            line.clear();
            self.stream.read_line(&mut line)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

struct Head {
    status: u16,
    server: String,
    length: Length,
}

enum Length {
    Known(u64),
    Chunked,
}

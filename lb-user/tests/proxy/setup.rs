//! Certificates, snapshots and proxies for the tests.

use std::convert::Infallible;
use std::net::{SocketAddrV4, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use lb_user::config::model::{HealthTest, Server};
use lb_user::proxy::access::AccessLog;
use lb_user::proxy::balance::Health;
use lb_user::proxy::route::Routes;
use lb_user::proxy::service::Proxy;
use lb_user::proxy::snapshot::{Farm, PrivateKey, Site, Snapshot, Verify};
use lb_user::proxy::tls;
use tokio_rustls::TlsAcceptor;

pub(crate) const NAME: &str = "mail.example.test";

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let key = tls::certified_key(&self.certificate, &self.key).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let snapshot = snapshot(self, address, &[]);
        let routes = Arc::new(Routes::at(&snapshot, address.into()));
        TlsAcceptor::from(tls::server_config(routes, Arc::new([key])).unwrap())
    }
}

/// One site, one farm, quick tests.
pub(crate) fn snapshot(identity: &Identity, listen: SocketAddrV4, servers: &[SocketAddrV4]) -> Snapshot {
    let server =
        |address: &SocketAddrV4| Server { name: format!("port{}", address.port()), address: *address };
    Snapshot {
        listen: vec![listen.into()],
        sites: vec![Site {
            names: vec![NAME.to_owned()],
            listen: vec![listen.into()],
            certificate: identity.certificate.clone(),
            key: PrivateKey::new(identity.key.clone()),
            farm: 0,
        }],
        farms: vec![Farm {
            name: "exchange".to_owned(),
            servers: servers.iter().map(server).collect(),
            verify: Verify::SameCertificate,
            health: HealthTest {
                path: "/owa/healthcheck.htm".to_owned(),
                host: NAME.to_owned(),
                status: 200,
                body: "200 OK".to_owned(),
                interval: Duration::from_millis(50),
                timeout: Duration::from_secs(20),
                failures: 2,
            },
            response_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(20),
        }],
        drain_timeout: Duration::from_secs(60),
    }
}

/// A proxy in this process.
pub(crate) struct Running {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddrV4,
    pub(crate) log: Lines,
}

/// What the access log wrote.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Running {
    /// A proxy for `servers`, all of which are tested when this returns.
    pub(crate) async fn start(
        identity: &Identity,
        servers: &[SocketAddrV4],
        change: impl FnOnce(&mut Snapshot),
    ) -> Self {
        let (socket, address) = listener();
        let mut snapshot = snapshot(identity, address, servers);
        change(&mut snapshot);
        let log = Lines::default();
        let proxy =
            Proxy::start(&snapshot, vec![socket], AccessLog::start(log.clone()).unwrap(), 1000).unwrap();
        let running = Self { proxy, address, log };
        running.health_becomes(|health| !health.contains(&Health::Untested)).await;
        running
    }

    pub(crate) async fn health_becomes(&self, wanted: impl Fn(&[Health]) -> bool) {
        eventually("the servers' health", || wanted(&self.proxy.health()[0])).await;
    }

    /// The access log's line about `part`, once it is there.
    pub(crate) async fn logged(&self, part: &str) -> String {
        let line = || self.log.text().lines().find(|line| line.contains(part)).map(str::to_owned);
        eventually(part, || line().is_some()).await;
        line().unwrap()
    }
}

pub(crate) fn listener() -> (TcpListener, SocketAddrV4) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let std::net::SocketAddr::V4(address) = socket.local_addr().unwrap() else {
        panic!("bound to IPv4");
    };
    (socket, address)
}

/// Waits for what must come; gives up only when something is plainly broken.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

/// A body of so many zeros, made as they are asked for.
pub(crate) struct Zeros {
    left: u64,
    made: Arc<AtomicU64>,
}

impl Zeros {
    pub(crate) fn new(length: u64) -> Self {
        let made = Arc::default();
        Self { left: length, made }
    }

    /// How many were made so far.
    pub(crate) fn made(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.made)
    }
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 16 << 10] = [0; 16 << 10];
        let length = self.left.min(CHUNK.len() as u64);
        if length == 0 {
            return Poll::Ready(None);
        }
        self.left -= length;
        self.made.fetch_add(length, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK[..length as usize])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

//! Certificates, snapshots and proxies for the tests.

use std::convert::Infallible;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use lb_user::config::model::{Balance, Bounds, HealthTest, Server, Service, Share};
use lb_user::proxy::access::AccessLog;
use lb_user::proxy::balance::Health;
use lb_user::proxy::service::Proxy;
use lb_user::proxy::snapshot::{AffinityKeys, Farm, PrivateKey, Site, Snapshot, Verify};
use lb_user::proxy::tls::{self, Alpn, ClientAuth, SiteTls, TicketSecret};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;
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
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from((*key).clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Everything to the one farm, which may be silent for so long.
pub(crate) fn to_farm(seconds: u64) -> Service<usize> {
    let bounds = Bounds { silence: Duration::from_secs(seconds), ..Bounds::default() };
    Service::to_farm("", bounds).try_map(|_| Ok::<_, ()>(0)).unwrap()
}

/// Servers at these addresses.
pub(crate) fn servers(addresses: &[SocketAddrV4]) -> Vec<Server> {
    let server = |address: &SocketAddrV4| Server {
        name: format!("port{}", address.port()),
        address: *address,
        share: Share::default(),
    };
    addresses.iter().map(server).collect()
}

/// One site, one farm, quick tests.
pub(crate) fn snapshot(identity: &Identity, listen: SocketAddrV4, addresses: &[SocketAddrV4]) -> Snapshot {
    Snapshot {
        listen: vec![listen.into()],
        sites: vec![Site {
            names: vec![NAME.to_owned()],
            listen: vec![listen.into()],
            certificate: identity.certificate.clone(),
            key: PrivateKey::new(identity.key.clone()),
            previous: Vec::new(),
            redirect: Vec::new(),
            tls: SiteTls::default(),
            staple: None,
            service: to_farm(60),
        }],
        farms: vec![Farm {
            name: "exchange".to_owned(),
            servers: servers(addresses),
            balance: Balance::default(),
            verify: Verify::SameCertificate,
            tests: vec![HealthTest {
                interval: Duration::from_millis(50),
                timeout: Duration::from_secs(20),
                live_traffic: None,
                ..HealthTest::plain(NAME)
            }],
            connect_timeout: Duration::from_secs(20),
            reuse: Default::default(),
        }],
        tcp: Vec::new(),
        drain_timeout: Duration::from_secs(60),
        limits: Default::default(),
        protection: Default::default(),
        trusted_proxies: Vec::new(),
        tickets: vec![TicketSecret::new([7; 32])],
        affinity: AffinityKeys::new(vec![[3; 32]]),
        log: Default::default(),
        seed: [1, 2],
    }
}

/// The site speaks HTTP/2 as well.
pub(crate) fn http2_too(snapshot: &mut Snapshot) {
    let alpn = vec![Alpn::H2, Alpn::Http11];
    snapshot.sites[0].tls = SiteTls { alpn, client_auth: ClientAuth::Off };
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
        Self::with(&snapshot, socket, address).await
    }

    /// A proxy of that configuration, all of whose servers are tested when this returns.
    pub(crate) async fn with(snapshot: &Snapshot, socket: TcpListener, address: SocketAddrV4) -> Self {
        let log = Lines::default();
        let written = AccessLog::start(log.clone()).unwrap();
        let proxy = Proxy::start(snapshot, vec![socket], written, 1000).unwrap();
        let tested = || !proxy.health().concat().concat().contains(&Health::Untested);
        eventually("the servers are tested", tested).await;
        Self { proxy, address, log }
    }

    pub(crate) async fn health_becomes(&self, wanted: impl Fn(&[Health]) -> bool) {
        // Of the farm's own test.
        let health = || -> Vec<Health> { self.proxy.health()[0].iter().map(|tests| tests[0]).collect() };
        eventually("the servers' health", || wanted(&health())).await;
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
    let address = v4(socket.local_addr().unwrap());
    (socket, address)
}

/// A socket of this runtime, and where it listens.
pub(crate) async fn tokio_listener() -> (tokio::net::TcpListener, SocketAddrV4) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = v4(socket.local_addr().unwrap());
    (socket, address)
}

/// Where nobody listens.
pub(crate) fn nobody() -> SocketAddrV4 {
    listener().1
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    let SocketAddr::V4(address) = address else { panic!("bound to IPv4") };
    address
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

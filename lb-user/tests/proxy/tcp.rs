//! TCP passed on: what servers get, what clients get, and what the access log says of it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lb_user::config::model::{ClientAddress, HeaderVersion, TcpHealth, TcpService};
use lb_user::proxy::balance::Health;
use lb_user::proxy::snapshot::Snapshot;
use lb_user::proxy::tls::TicketSecret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::client::{Client, header, text, tls};
use crate::setup::{self, Identity, NAME, Running, eventually, listener, nobody, tokio_listener};

/// A service on an address of its own, with quick tests.
fn service(listen: SocketAddrV4, servers: &[SocketAddrV4]) -> TcpService {
    TcpService {
        name: "mail".to_owned(),
        listen: vec![listen.into()],
        servers: setup::servers(servers),
        sni: BTreeMap::new(),
        client_address: ClientAddress::Hidden,
        idle_timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(20),
        max_connections: 100,
        max_connections_per_client: 100,
        allow: Vec::new(),
        deny: Vec::new(),
        health: TcpHealth {
            banner: None,
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(20),
            failures: 2,
        },
    }
}

/// A proxy that publishes one service and nothing else; tested when this returns.
async fn start(servers: &[SocketAddrV4], change: impl FnOnce(&mut TcpService)) -> Running {
    start_for(Duration::from_secs(60), servers, change).await
}

/// The same with this drain timeout.
async fn start_for(
    drain_timeout: Duration,
    servers: &[SocketAddrV4],
    change: impl FnOnce(&mut TcpService),
) -> Running {
    let (socket, address) = listener();
    let mut service = service(address, servers);
    change(&mut service);
    let snapshot = Snapshot {
        listen: vec![address.into()],
        sites: Vec::new(),
        farms: Vec::new(),
        tcp: vec![service],
        drain_timeout,
        limits: Default::default(),
        protection: Default::default(),
        trusted_proxies: Vec::new(),
        tickets: vec![TicketSecret::new([7; 32])],
        affinity: Default::default(),
        log: Default::default(),
        seed: [1, 2],
    };
    Running::with(&snapshot, socket, address).await
}

/// A server that says `banner`, then repeats what it is told, and once the client has ended its side, what it was told in all.
struct Echo {
    address: SocketAddrV4,
    task: tokio::task::JoinHandle<()>,
    /// Connections over which anything came.
    used: Arc<AtomicUsize>,
}

impl Echo {
    async fn start(banner: &'static str) -> Self {
        let (listener, address) = tokio_listener().await;
        let used = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&used);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(echo(stream, banner, Arc::clone(&count)));
            }
        });
        Self { address, task, used }
    }
}

async fn echo(mut stream: TcpStream, banner: &'static str, used: Arc<AtomicUsize>) {
    let (mut told, mut buffer) = (0_usize, [0; 4096]);
    drop(stream.write_all(banner.as_bytes()).await);
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if told == 0 {
            used.fetch_add(1, Ordering::SeqCst);
        }
        told += length;
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    drop(stream.write_all(format!("<{told} bytes>").as_bytes()).await);
}

/// Says `bytes`, ends its side, and hears all.
async fn exchange(address: SocketAddrV4, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut heard = Vec::new();
    let say = async {
        write.write_all(bytes).await.ok();
        write.shutdown().await.ok();
    };
    let (_, outcome) = tokio::join!(say, read.read_to_end(&mut heard));
    // A connection that is closed while the client still speaks is reset.
    outcome.ok();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_an_end_of_one_side_is_not_the_end() {
    let server = Echo::start("220 ready\r\n").await;
    let running = start(&[server.address], |_| {}).await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let heard = exchange(running.address, &sent).await;
    assert!(heard == [b"220 ready\r\n", &sent[..], b"<1000000 bytes>"].concat());
    let line = running.logged(r#""tcp":"mail""#).await;
    let to = format!(r#""tcp":"mail","farm":"mail","server":"port{}","total_ms":"#, server.address.port());
    assert!(line.contains(r#""client":"127.0.0.1""#) && line.contains(&to), "{line}");
    assert!(line.ends_with(r#""received":1000000,"sent":1000026,"whole":true}"#), "{line}");
    assert!(!line.contains("cause") && !line.contains("sni"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_in_front_of_everything_tells_the_server_whom_it_is_from() {
    let server = Echo::start("").await;
    for version in [HeaderVersion::V1, HeaderVersion::V2] {
        let header = |service: &mut TcpService| service.client_address = ClientAddress::Header(version);
        let running = start(&[server.address], header).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let SocketAddr::V4(own) = stream.local_addr().unwrap() else {
            panic!("connected over IPv4");
        };
        stream.write_all(b"EHLO a\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        let expected = match version {
            HeaderVersion::V1 => {
                let (from, to) = (own.port(), running.address.port());
                format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n").into_bytes()
            }
            HeaderVersion::V2 => {
                let ports = [own.port().to_be_bytes(), running.address.port().to_be_bytes()].concat();
                let addresses = [127, 0, 0, 1, 127, 0, 0, 1];
                [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses, &ports].concat()
            }
        };
        let told = format!("<{} bytes>", expected.len() + 8).into_bytes();
        assert_eq!(heard, [&expected[..], b"EHLO a\r\n", &told].concat());
        assert!(running.logged(r#""received":8,"#).await.contains(r#""server":"port"#));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_passed_through_to_the_servers_of_its_name() {
    let (mail, other) = (Identity::new(&[NAME]), Identity::new(&["other.example.test"]));
    let (a, b) = (Backend::start("a", &mail).await, Backend::start("b", &other).await);
    let by_name = |service: &mut TcpService| {
        service.sni = [(NAME, a.address), ("other.example.test", b.address)]
            .map(|(name, address)| (name.to_owned(), setup::servers(&[address])))
            .into();
    };
    let running = start(&[], by_name).await;
    let stream = tls(running.address, "other.example.test").await;
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let pem = pem::parse(&other.certificate).unwrap();
    assert_eq!(certificate, pem.contents(), "the server's own certificate, and so its own TLS");
    let mut client = Client::connect(running.address).await;
    let response = client.get("/who").await;
    assert_eq!(header(&response, "x-server"), "a");
    text(response).await;
    drop((client, stream));
    let line = running.logged(&format!(r#""sni":"{NAME}""#)).await;
    assert!(line.contains(&format!("port{}", a.address.port())), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_known_name_is_closed_unless_there_are_servers_for_it() {
    let (named_server, plain) = (Echo::start("").await, Echo::start("").await);
    let by_name = |service: &mut TcpService| {
        service.sni = BTreeMap::from([(NAME.to_owned(), setup::servers(&[named_server.address]))]);
    };
    let hello = |name: Option<&str>| {
        let extension = name.map_or(Vec::new(), |name| {
            let length = u8::try_from(name.len()).unwrap();
            [&[0, 0, 0, length + 5, 0, length + 3, 0, 0, length][..], name.as_bytes()].concat()
        });
        let extensions = [&[0, u8::try_from(extension.len()).unwrap()][..], &extension].concat();
        let body = [&[3; 34][..], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
        let length = u8::try_from(body.len()).unwrap();
        [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
    };
    let echoed = |hello: &[u8]| [hello, format!("<{} bytes>", hello.len()).as_bytes()].concat();
    for servers in [&[][..], &[plain.address]] {
        let running = start(servers, by_name).await;
        assert_eq!(exchange(running.address, &hello(Some(NAME))).await, echoed(&hello(Some(NAME))));
        assert_eq!(exchange(running.address, &hello(Some("unknown.test"))).await, b"");
        let line = running.logged(r#""sni":"unknown.test""#).await;
        assert!(line.contains(r#""cause":"unknown_host""#) && line.contains(r#""whole":false"#), "{line}");
        assert_eq!(exchange(running.address, b"GET / HTTP/1.1\r\n\r\n").await, b"");
        assert!(!running.logged(r#""cause":"bad_request""#).await.contains("server"));
        let heard = exchange(running.address, &hello(None)).await;
        if servers.is_empty() {
            assert_eq!(heard, b"");
            let line = running.logged(r#""received":0,"sent":0,"#).await;
            assert!(!line.contains("server"), "{line}");
        } else {
            assert_eq!(heard, echoed(&hello(None)));
            running.logged(&format!(r#""server":"port{}""#, plain.address.port())).await;
        }
    }
    assert_eq!((named_server.used.load(Ordering::SeqCst), plain.used.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_connect_is_closed_and_no_server_hears_of_it() {
    let server = Echo::start("220 ready\r\n").await;
    let denied = |service: &mut TcpService| service.deny = vec!["127.0.0.0/8".parse().unwrap()];
    let running = start(&[server.address], denied).await;
    assert_eq!(exchange(running.address, b"EHLO a").await, b"");
    running.logged(r#""cause":"refused""#).await;
    let few = |service: &mut TcpService| service.max_connections_per_client = 1;
    let running = start(&[server.address], few).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first.read_exact(&mut [0; 11]).await.unwrap();
    assert_eq!(exchange(running.address, b"EHLO a").await, b"");
    running.logged(r#""cause":"limit""#).await;
    drop(first);
    eventually("the place is free again", || running.proxy.load().connections() == 0).await;
    assert!(exchange(running.address, b"EHLO a").await.starts_with(b"220 ready\r\nEHLO a"));
    assert_eq!(server.used.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_healthy_by_its_banner_and_one_that_refuses_costs_no_connection() {
    let (good, busy) = (Echo::start("220 ready\r\n").await, Echo::start("421 busy\r\n").await);
    let banner = |service: &mut TcpService| service.health.banner = Some("220".to_owned());
    let running = start(&[good.address, busy.address], banner).await;
    running.health_becomes(|health| *health == [Health::Healthy, Health::Unhealthy]).await;
    for _ in 0..4 {
        assert!(exchange(running.address, b"a").await.starts_with(b"220"));
    }
    // Tests that never come again: the proxy does not know.
    let other = Echo::start("220 other\r\n").await;
    let slow = |service: &mut TcpService| service.health.interval = Duration::from_secs(3600);
    let running = start(&[good.address, other.address], slow).await;
    good.task.abort();
    drop(good.task.await);
    for _ in 0..4 {
        assert!(exchange(running.address, b"a").await.starts_with(b"220 other"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_healthy_server_connections_are_closed() {
    let address = nobody();
    let running = start(&[address], |_| {}).await;
    assert_eq!(exchange(running.address, b"a").await, b"");
    running.logged(r#""cause":"no_healthy_server""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_the_drain_timeout_end_a_connection() {
    let server = Echo::start("220 ready\r\n").await;
    let quick = |service: &mut TcpService| service.idle_timeout = Duration::from_millis(200);
    let running = start(&[server.address], quick).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"220 ready\r\n");
    running.logged(r#""cause":"timeout""#).await;

    let running = start_for(Duration::from_millis(200), &[server.address], |_| {}).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.read_exact(&mut [0; 11]).await.unwrap();
    running.proxy.drain().await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let line = running.logged(r#""cause":"drained""#).await;
    assert!(line.contains(r#""sent":11,"#) && line.ends_with(r#""whole":false}"#), "{line}");
}

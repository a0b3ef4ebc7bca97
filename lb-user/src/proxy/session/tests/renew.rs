//! The configuration changes under a connection.

use super::*;
use crate::config::model::Server;
use crate::proxy::listener::Door;
use crate::proxy::tls::{Alpn, SiteConfigs, SiteTls};

/// Servers in memory; each connection says which server it is to.
struct Named {
    opened: mpsc::UnboundedSender<(String, DuplexStream)>,
    names: Vec<Vec<String>>,
}

impl Dial for Named {
    type Stream = DuplexStream;

    async fn dial(&self, _site: usize, farm: usize, server: usize) -> Result<Dialled<DuplexStream>, Cause> {
        let (stream, theirs) = duplex(64 << 10);
        let name = self.names[farm][server].clone();
        self.opened.send((name, theirs)).map_err(|_| Cause::ConnectFailed)?;
        Ok(Dialled { stream, connect: Duration::ZERO, greet: Duration::ZERO })
    }

    async fn dial_in_clear(&self, _address: SocketAddrV4) -> Result<Dialled<DuplexStream>, Cause> {
        Err(Cause::ConnectFailed)
    }
}

struct Stage {
    client: DuplexStream,
    shared: Arc<Shared<Named>>,
    session: JoinHandle<()>,
    opened: mpsc::UnboundedSender<(String, DuplexStream)>,
    servers: mpsc::UnboundedReceiver<(String, DuplexStream)>,
}

const ASK: &str = "GET /owa/ HTTP/1.1\r\nHost: mail.example.test\r\n\r\n";
const LOG_ON: &str = "GET /owa/ HTTP/1.1\r\nHost: mail.example.test\r\nAuthorization: NTLM TlRM\r\n\r\n";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\n";

fn with_servers(names: &[&str]) -> Snapshot {
    let mut snapshot = snapshot::tests::one_site(ADDRESS.parse().unwrap());
    let known = snapshot.farms[0].servers[0].clone();
    // A server keeps its address, whatever others there are.
    let address = |name: &str| format!("10.0.0.{}:443", name.as_bytes()[0]).parse().unwrap();
    let server = |name: &&str| Server { name: (*name).to_owned(), address: address(name), ..known.clone() };
    snapshot.farms[0].servers = names.iter().map(server).collect();
    snapshot
}

fn served(
    snapshot: &Snapshot,
    before: Option<&Served<Named>>,
    opened: &mpsc::UnboundedSender<(String, DuplexStream)>,
) -> Arc<Served<Named>> {
    let farm = |farm: &snapshot::Farm| {
        let mut before = before.iter().flat_map(|before| &before.farms);
        let known = before.find(|before| before.group.name == farm.name);
        Arc::new(Farm::in_memory(farm, known.map(|known| &**known)))
    };
    let names = |farm: &snapshot::Farm| farm.servers.iter().map(|server| server.name.clone()).collect();
    let door = |address: &SocketAddr| {
        let routes = Arc::new(Routes::at(snapshot, *address));
        let tls = Arc::new(SiteConfigs::none(Arc::clone(&routes)));
        (*address, Door::Tls { tls, routes })
    };
    let policy = |site: &snapshot::Site| Policy::compile(&site.service, Vec::new()).unwrap();
    let seen = Arc::new(match before {
        Some(before) => before.seen.next(snapshot),
        None => Seen::new(snapshot, AccessLog::start(Lines::default()).unwrap(), 7),
    });
    Arc::new(Served {
        dial: Named { opened: opened.clone(), names: snapshot.farms.iter().map(names).collect() },
        sites: snapshot.sites.iter().map(policy).collect(),
        farms: snapshot.farms.iter().map(farm).collect(),
        idle: Default::default(),
        tcp: Vec::new(),
        seen: Arc::clone(&seen),
        limits: Limits::default(),
        guard: Guard::new(&snapshot.protection, [], HashKey::new(&[7; 16]), seen),
        clients: snapshot.protection.clients,
        proxies: TrustedProxies::new(&snapshot.trusted_proxies).unwrap(),
        drain_timeout: snapshot.drain_timeout,
        doors: snapshot.listen.iter().map(door).collect(),
    })
}

fn stage(snapshot: &Snapshot) -> Stage {
    let (opened, servers) = mpsc::unbounded_channel();
    let (client, ours) = duplex(64 << 10);
    let address = ADDRESS.parse().unwrap();
    let served = served(snapshot, None, &opened);
    let shared = Arc::new(Shared {
        served: ArcSwap::new(Arc::clone(&served)),
        phase: watch::channel(Phase::Serving).1,
    });
    let routes = Arc::new(Routes::at(snapshot, address));
    let entry = Entry::Tls { sni: Some(NAME.to_owned()), routes };
    let address_of = "203.0.113.5".parse().unwrap();
    let via = Default::default();
    let peer = Peer { address: address_of, introduced_by: None, via, entry, to: address, tls: None };
    let session = tokio::spawn(run_to_its_end(Session::new(Arc::clone(&shared), served, peer, ours)));
    Stage { client, shared, session, opened, servers }
}

impl Stage {
    fn apply(&self, snapshot: &Snapshot) {
        let next = served(snapshot, Some(&**self.shared.served.load()), &self.opened);
        self.shared.served.store(next);
    }

    async fn ask(&mut self, request: &str) {
        self.client.write_all(request.as_bytes()).await.unwrap();
    }

    /// A connection to a server is opened, and to which.
    async fn opens(&mut self, wanted: &str) -> DuplexStream {
        let (name, stream) = self.servers.recv().await.unwrap();
        assert_eq!(name, wanted);
        stream
    }

    /// The server reads a whole request and answers it; the client gets the answer.
    async fn answers(&mut self, server: &mut DuplexStream) {
        read_head(server).await;
        say(server, OK).await;
        expect(&mut self.client, OK).await;
    }

    /// Open connections to each server, as counted.
    fn connections(&self) -> Vec<u32> {
        let served = self.shared.served.load();
        let group = &served.farms[0].group;
        let count = |server| group.balance.status(server).counters.connections;
        (0..group.servers.len()).map(count).collect()
    }
}

async fn read_head(server: &mut DuplexStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(server.read_u8().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_as_it_began_and_the_next_one_sees_the_new_configuration() {
    let mut snapshot = with_servers(&["a"]);
    let mut stage = stage(&snapshot);
    stage.ask(ASK).await;
    let mut server = stage.opens("a").await;
    read_head(&mut server).await;
    snapshot.sites[0].service.maintenance = Some(crate::config::model::Maintenance {
        body: "later".to_owned(),
        content_type: "text/plain".to_owned(),
        retry_after: SECOND,
        allow: Vec::new(),
    });
    stage.apply(&snapshot);
    say(&mut server, OK).await;
    expect(&mut stage.client, OK).await;
    stage.ask(ASK).await;
    expect(&mut stage.client, UNAVAILABLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_keeps_its_connection_whatever_else_changes() {
    for request in [ASK, LOG_ON] {
        let mut stage = stage(&with_servers(&["a"]));
        stage.ask(request).await;
        let mut server = stage.opens("a").await;
        stage.answers(&mut server).await;
        // Other servers before it, another farm before its own, other limits and another certificate.
        let mut snapshot = with_servers(&["b", "a"]);
        snapshot.farms.insert(0, snapshot::Farm { name: "other".to_owned(), ..snapshot.farms[0].clone() });
        snapshot.sites[0].service = snapshot::tests::to_farm(1);
        snapshot.sites[0].certificate = "another".to_owned();
        stage.apply(&snapshot);
        stage.ask(ASK).await;
        stage.answers(&mut server).await;
        stage.apply(&with_servers(&["a", "c"]));
        stage.ask(ASK).await;
        stage.answers(&mut server).await;
        assert_eq!(stage.connections(), [1, 0]);
        drop(stage.client);
        stage.session.await.unwrap();
        let shared = stage.shared.served.load();
        assert_eq!(shared.farms[0].group.balance.status(0).counters.connections, 0, "it is counted off");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_server_gets_no_more_requests_and_answers_what_it_has() {
    let mut stage = stage(&with_servers(&["a"]));
    stage.ask(ASK).await;
    let mut removed = stage.opens("a").await;
    read_head(&mut removed).await;
    stage.apply(&with_servers(&["b"]));
    say(&mut removed, OK).await;
    expect(&mut stage.client, OK).await;
    stage.ask(ASK).await;
    let mut server = stage.opens("b").await;
    stage.answers(&mut server).await;
    assert_eq!(removed.read(&mut [0]).await.unwrap(), 0, "its connection was let go");
}

#[tokio::test(start_paused = true)]
async fn who_is_logged_on_to_a_removed_server_has_to_begin_anew() {
    let mut stage = stage(&with_servers(&["a", "b"]));
    stage.ask(LOG_ON).await;
    let (name, mut server) = stage.servers.recv().await.unwrap();
    stage.answers(&mut server).await;
    stage.apply(&with_servers(if name == "a" { &["b"] } else { &["a"] }));
    stage.ask(ASK).await;
    let mut rest = Vec::new();
    stage.client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "nobody else's server answers");
    assert!(stage.servers.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_to_prove_itself_otherwise_keeps_only_who_logged_on() {
    for (request, stays) in [(ASK, false), (LOG_ON, true)] {
        let mut stage = stage(&with_servers(&["a"]));
        stage.ask(request).await;
        let mut server = stage.opens("a").await;
        stage.answers(&mut server).await;
        let mut snapshot = with_servers(&["a"]);
        snapshot.farms[0].connect_timeout = SECOND;
        stage.apply(&snapshot);
        stage.ask(ASK).await;
        stage.answers(&mut server).await;
        snapshot.farms[0].verify = snapshot::Verify::Nothing;
        stage.apply(&snapshot);
        stage.ask(ASK).await;
        if !stays {
            server = stage.opens("a").await;
        }
        stage.answers(&mut server).await;
    }
}

const OTHER: &str = "GET /owa/ HTTP/1.1\r\nHost: autodiscover.example.test\r\n\r\n";

/// One server, and a second site before the first.
fn with_another_site() -> Snapshot {
    let mut snapshot = with_servers(&["a"]);
    let names = vec!["autodiscover.example.test".to_owned()];
    snapshot.sites.insert(0, snapshot::Site { names, ..snapshot.sites[0].clone() });
    snapshot
}

/// What a server has to prove depends on the site: its name, with `same-certificate` its certificate.
#[tokio::test(start_paused = true)]
async fn sites_of_one_client_connection_use_server_connections_of_their_own_until_it_logs_on() {
    for (request, apart) in [(ASK, true), (LOG_ON, false)] {
        let mut snapshot = with_another_site();
        let mut stage = stage(&snapshot);
        stage.ask(request).await;
        let mut server = stage.opens("a").await;
        stage.answers(&mut server).await;
        for alone in [false, true] {
            if alone {
                // The other site is there no more: an index means another one.
                snapshot.sites.remove(0);
                stage.apply(&snapshot);
            } else {
                stage.ask(OTHER).await;
                if apart {
                    let mut other = stage.opens("a").await;
                    stage.answers(&mut other).await;
                } else {
                    stage.answers(&mut server).await;
                }
            }
            stage.ask(ASK).await;
            stage.answers(&mut server).await;
        }
        assert!(stage.servers.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_does_not_keep_itself_from_a_server_whose_connections_are_limited() {
    let mut snapshot = with_another_site();
    snapshot.farms[0].servers[0].share.connections = std::num::NonZeroU32::new(1);
    let mut stage = stage(&snapshot);
    stage.ask(ASK).await;
    let mut server = stage.opens("a").await;
    stage.answers(&mut server).await;
    stage.ask(OTHER).await;
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the server has two connections");
    let mut other = stage.opens("a").await;
    stage.answers(&mut other).await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_good_for_another_certificate_but_not_for_other_demands_on_clients() {
    let mut snapshot = with_servers(&["a"]);
    let mut stage = stage(&snapshot);
    stage.ask(ASK).await;
    let mut server = stage.opens("a").await;
    stage.answers(&mut server).await;
    snapshot.sites[0].certificate = "another".to_owned();
    stage.apply(&snapshot);
    stage.ask(ASK).await;
    stage.answers(&mut server).await;
    let before = snapshot.clone();
    snapshot.sites[0].tls = SiteTls { alpn: vec![Alpn::H2, Alpn::Http11], ..SiteTls::default() };
    // Once it is good for nothing, a connection stays so.
    for snapshot in [&snapshot, &snapshot, &before] {
        stage.apply(snapshot);
        stage.ask(ASK).await;
        expect(&mut stage.client, "HTTP/1.1 421 Misdirected Request\r\n").await;
        read_rest(&mut stage.client, "421 Misdirected Request\n").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_served_no_more_is_unknown() {
    let mut snapshot = with_servers(&["a"]);
    let mut stage = stage(&snapshot);
    stage.ask(ASK).await;
    let mut server = stage.opens("a").await;
    stage.answers(&mut server).await;
    snapshot.listen.clear();
    stage.apply(&snapshot);
    stage.ask(ASK).await;
    expect(&mut stage.client, "HTTP/1.1 421 Misdirected Request\r\n").await;
}

/// Reads up to the end of an answer, which is `end`.
async fn read_rest(client: &mut DuplexStream, end: &str) {
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        got.push(client.read_u8().await.unwrap());
    }
}

//! Sessions over streams in memory, under time that stands still until all wait. Bytes are written and compared by hand: what is
//! tested is what crosses the proxy, and when.

mod challenge;
mod own;
mod renew;
mod shared;

use std::collections::BTreeMap;
use std::sync::PoisonError;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::proxy::access::AccessLog;
use crate::proxy::farm::Farm;
use crate::proxy::guard::Guard;
use crate::proxy::policy::Policy;
use crate::proxy::protect::HashKey;
use crate::proxy::protect::limits::Limits;
use crate::proxy::protect::logon::LogonPolicy;
use crate::proxy::protect::proxies::{Source, TrustedProxies, TrustedProxy};
use crate::proxy::seen::Seen;
use crate::proxy::snapshot::{self, Snapshot};

/// Servers in memory: each connection comes out of a channel.
pub(crate) struct Memory(mpsc::UnboundedSender<DuplexStream>);

impl Dial for Memory {
    type Stream = DuplexStream;

    async fn dial(&self, _site: usize, _farm: usize, _server: usize) -> Result<Dialled<DuplexStream>, Cause> {
        let (stream, theirs) = duplex(64 << 10);
        self.0.send(theirs).map_err(|_| Cause::ConnectFailed)?;
        Ok(Dialled { stream, connect: Duration::ZERO, greet: Duration::ZERO })
    }

    async fn dial_in_clear(&self, _address: SocketAddrV4) -> Result<Dialled<DuplexStream>, Cause> {
        self.dial(0, 0, 0).await
    }
}

/// All that a session stands on: a site, the servers' ends of its connections, and its log.
pub(crate) struct Stage {
    pub(crate) shared: Shared<Memory>,
    pub(crate) served: Arc<Served<Memory>>,
    pub(crate) peer: Peer,
    pub(crate) servers: mpsc::UnboundedReceiver<DuplexStream>,
    routes: Arc<Routes>,
    pub(crate) log: Log,
}

/// A client, the session that serves it, and the servers' ends of its connections.
struct Scene {
    client: DuplexStream,
    session: JoinHandle<()>,
    servers: mpsc::UnboundedReceiver<DuplexStream>,
    log: Log,
    shared: Arc<Shared<Memory>>,
    routes: Arc<Routes>,
}

/// What the access log says.
pub(crate) struct Log {
    access: AccessLog,
    lines: Lines,
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.access.flush();
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const ADDRESS: &str = "192.168.50.8:443";
const SECOND: Duration = Duration::from_secs(1);
pub(crate) const NAME: &str = "mail.example.test";

pub(crate) fn stage() -> Stage {
    stage_with(|_| {})
}

fn scene() -> Scene {
    scene_with(|_| {})
}

/// A stage under another configuration.
pub(crate) fn stage_with(change: impl FnOnce(&mut Snapshot)) -> Stage {
    let (opened, servers) = mpsc::unbounded_channel();
    let lines = Lines::default();
    let address = ADDRESS.parse().unwrap();
    let mut snapshot = snapshot::tests::one_site(address);
    change(&mut snapshot);
    let farm = Farm::in_memory(&snapshot.farms[0], None);
    let access = AccessLog::start(lines.clone()).unwrap();
    let routes = Arc::new(Routes::at(&snapshot, address));
    let seen = Arc::new(Seen::new(&snapshot, access.clone(), 7));
    let served = Served {
        dial: Memory(opened),
        sites: vec![Policy::compile(&snapshot.sites[0].service, Vec::new()).unwrap()],
        farms: vec![Arc::new(farm)],
        idle: Default::default(),
        tcp: Vec::new(),
        seen: Arc::clone(&seen),
        limits: Limits::default(),
        guard: Guard::new(&snapshot.protection, [], HashKey::new(&[7; 16]), seen),
        clients: snapshot.protection.clients,
        proxies: TrustedProxies::new(&snapshot.trusted_proxies).unwrap(),
        drain_timeout: snapshot.drain_timeout,
        doors: BTreeMap::new(),
    };
    let served = Arc::new(served);
    let shared =
        Shared { served: ArcSwap::new(Arc::clone(&served)), phase: watch::channel(Phase::Serving).1 };
    let entry = Entry::Tls { sni: Some(NAME.to_owned()), routes: Arc::clone(&routes) };
    let peer = peer(&served, entry);
    Stage { shared, served, peer, servers, routes, log: Log { access, lines } }
}

fn peer(served: &Served<Memory>, entry: Entry) -> Peer {
    let address = "203.0.113.5".parse().unwrap();
    let via = served.proxies.via(address, None);
    Peer { address, introduced_by: None, via, entry, to: ADDRESS.parse().unwrap(), tls: None }
}

/// A scene under another configuration.
fn scene_with(change: impl FnOnce(&mut Snapshot)) -> Scene {
    let Stage { shared, peer, servers, routes, log, .. } = stage_with(change);
    let shared = Arc::new(shared);
    let (client, session) = join(&shared, peer.entry);
    Scene { client, session, servers, log, shared, routes }
}

/// A client that comes in this way.
fn join(shared: &Arc<Shared<Memory>>, entry: Entry) -> (DuplexStream, JoinHandle<()>) {
    let (client, ours) = duplex(64 << 10);
    let (shared, served) = (Arc::clone(shared), shared.served.load_full());
    let peer = peer(&served, entry);
    (client, tokio::spawn(run_to_its_end(Session::new(shared, served, peer, ours))))
}

impl Scene {
    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// The client gets exactly this next.
    async fn gets(&mut self, text: &str) {
        expect(&mut self.client, text).await;
    }

    /// The client gets no more, and the connection ends. What the log says.
    async fn ends(mut self) -> String {
        let mut rest = Vec::new();
        self.client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8(rest).unwrap(), "");
        drop(self.client);
        self.session.await.unwrap();
        self.log.text()
    }

    async fn server(&mut self) -> DuplexStream {
        self.servers.recv().await.unwrap()
    }
}

async fn run_to_its_end<D: Dial>(mut session: Session<Link<DuplexStream>, D>) {
    session.run().await;
}

pub(crate) async fn expect(stream: &mut DuplexStream, text: &str) {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), text);
}

/// A head as the server gets it: the client's lines, and ours.
pub(crate) fn forwarded(lines: &str, number: u64) -> String {
    format!(
        "{lines}X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 0000000000000007-{number:x}\r\n\r\n"
    )
}

const GET: &str = "GET /owa/ HTTP/1.1\r\nHost: mail.example.test\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn requests_of_a_client_cross_over_one_connection_of_its_own() {
    let mut scene = scene();
    scene.send(&format!("{GET}X-Ab: 1\r\n\r\n")).await;
    let mut server = scene.server().await;
    expect(&mut server, &forwarded(&format!("{GET}X-Ab: 1\r\n"), 1)).await;
    say(&mut server, OK).await;
    scene.gets(OK).await;
    scene.send(&format!("{GET}\r\n")).await;
    expect(&mut server, &forwarded(GET, 2)).await;
    say(
        &mut server,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    .await;
    scene.gets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    assert!(scene.servers.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn both_bodies_move_at_once_and_nothing_waits_for_more() {
    let mut scene = scene();
    scene.send(&format!("{POST}Transfer-Encoding: chunked\r\n\r\n")).await;
    let mut server = scene.server().await;
    expect(&mut server, &forwarded(&format!("{POST}Transfer-Encoding: chunked\r\n"), 1)).await;
    say(&mut server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    scene.gets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        scene.send("3\r\nabc\r\n").await;
        expect(&mut server, "3\r\nabc\r\n").await;
        say(&mut server, "2\r\nde\r\n").await;
        scene.gets("2\r\nde\r\n").await;
    }
    say(&mut server, "0\r\n\r\n").await;
    scene.gets("0\r\n\r\n").await;
    scene.send("0\r\n\r\n").await;
    expect(&mut server, "0\r\n\r\n").await;
    scene.send(&format!("{GET}\r\n")).await;
    expect(&mut server, &forwarded(GET, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn an_early_401_comes_at_once_and_the_upload_goes_on_over_the_same_connection() {
    let mut scene = scene();
    scene.send(&format!("{POST}Content-Length: 6\r\n\r\nabc")).await;
    let mut server = scene.server().await;
    expect(&mut server, &forwarded(&format!("{POST}Content-Length: 6\r\n"), 1)).await;
    expect(&mut server, "abc").await;
    let challenge = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
    say(&mut server, challenge).await;
    scene.gets(challenge).await;
    scene.send("def").await;
    expect(&mut server, "def").await;
    scene.send(&format!("{GET}Authorization: NTLM TlRM\r\n\r\n")).await;
    expect(&mut server, &forwarded(&format!("{GET}Authorization: NTLM TlRM\r\n"), 2)).await;
}

/// An upload of which nothing has come yet, answered with these fields.
async fn answered_early(fields: &str) -> (Scene, DuplexStream) {
    let mut scene = scene();
    scene.send(&format!("{POST}Content-Length: 200000\r\n\r\n")).await;
    let mut server = scene.server().await;
    expect(&mut server, &forwarded(&format!("{POST}Content-Length: 200000\r\n"), 1)).await;
    say(&mut server, &format!("HTTP/1.1 403 Forbidden\r\n{fields}Content-Length: 0\r\n\r\n")).await;
    scene.gets("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    (scene, server)
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_no_server_reads_goes_to_nowhere_and_the_client_goes_on() {
    let (mut scene, server) = answered_early("Connection: close\r\n").await;
    drop(server);
    scene.client.write_all(&vec![b'a'; 200_000]).await.unwrap();
    scene.send(&format!("{GET}\r\n")).await;
    let mut another = scene.server().await;
    expect(&mut another, &forwarded(GET, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_early_and_reads_no_more_is_left_though_it_does_not_say_so() {
    let (mut scene, server) = answered_early("").await;
    let asked = Instant::now();
    scene.client.write_all(&vec![b'a'; 200_000]).await.unwrap();
    scene.send(&format!("{GET}\r\n")).await;
    let mut another = scene.server().await;
    expect(&mut another, &forwarded(GET, 2)).await;
    assert_eq!(asked.elapsed().as_secs(), 10);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_to_nowhere_for_two_minutes_and_no_longer() {
    let (mut scene, _server) = answered_early("Connection: close\r\n").await;
    let answered = Instant::now();
    let mut one = [0];
    while scene.client.write_all(b"a").await.is_ok() {
        if timeout(Duration::from_secs(1), scene.client.read(&mut one)).await.is_ok() {
            break;
        }
    }
    assert!((119..=122).contains(&answered.elapsed().as_secs()), "{:?}", answered.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_logged_on_client_whose_server_fails_is_answered_and_has_to_come_anew() {
    for logs_on in [false, true] {
        let mut scene = scene();
        let line = if logs_on { "Authorization: NTLM TlRM\r\n" } else { "" };
        scene.send(&format!("{GET}{line}\r\n")).await;
        let mut server = scene.server().await;
        expect(&mut server, &forwarded(&format!("{GET}{line}"), 1)).await;
        drop(server);
        let mut came = [0; 1024];
        let length = scene.client.read(&mut came).await.unwrap();
        let answer = String::from_utf8_lossy(&came[..length]);
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(answer.contains("\r\nConnection: close\r\n"), logs_on, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_word_gets_the_servers_or_after_a_second_ours() {
    for server_is_quick in [true, false] {
        let mut scene = scene();
        let lines = format!("{POST}Content-Length: 3\r\nExpect: 100-continue\r\n");
        scene.send(&format!("{lines}\r\n")).await;
        let mut server = scene.server().await;
        expect(&mut server, &forwarded(&lines, 1)).await;
        let asked = Instant::now();
        if server_is_quick {
            say(&mut server, "HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        scene.gets("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(asked.elapsed().as_secs(), if server_is_quick { 0 } else { 1 });
        if !server_is_quick {
            say(&mut server, "HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        scene.send("abc").await;
        expect(&mut server, "abc").await;
        say(&mut server, OK).await;
        scene.gets(OK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_answer_instead_of_the_word_is_all_that_comes() {
    let mut scene = scene();
    scene.send(&format!("{POST}Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")).await;
    let mut server = scene.server().await;
    let challenge = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n";
    say(&mut server, challenge).await;
    scene.gets(challenge).await;
    // It may send its body all the same: these are not the next request.
    scene.send(&format!("abc{GET}\r\n")).await;
    expect(&mut server, &forwarded(&format!("{POST}Content-Length: 3\r\nExpect: 100-continue\r\n"), 1)).await;
    expect(&mut server, "abc").await;
    expect(&mut server, &forwarded(GET, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn an_interim_answer_reaches_who_knows_of_such() {
    let mut scene = scene();
    scene.send(&format!("{GET}\r\n")).await;
    let mut server = scene.server().await;
    say(&mut server, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n").await;
    scene.gets("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n").await;
    say(&mut server, OK).await;
    scene.gets(OK).await;
}

#[tokio::test(start_paused = true)]
async fn interim_answers_without_end_wait_for_the_client() {
    let mut scene = scene();
    scene.send(&format!("{GET}\r\n")).await;
    let mut server = scene.server().await;
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let flood = hint.repeat(100_000);
    let said = timeout(SECOND, server.write_all(flood.as_bytes())).await;
    assert!(said.is_err(), "nothing holds what nobody reads");
    for _ in 0..2000 {
        scene.gets(hint).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_phones_ping_is_held_for_59_minutes() {
    let mut scene = scene();
    scene.send(&format!("{POST}Content-Length: 3\r\n\r\nabc")).await;
    let mut server = scene.server().await;
    sleep(59 * 60 * SECOND).await;
    say(&mut server, OK).await;
    scene.gets(OK).await;
    let mut waits = scene;
    waits.send(&format!("{POST}Content-Length: 3\r\n\r\nabc")).await;
    let asked = Instant::now();
    waits.gets("HTTP/1.1 504 Gateway Timeout\r\n").await;
    assert_eq!(asked.elapsed().as_secs(), 65 * 60);
}

#[tokio::test(start_paused = true)]
async fn outlooks_inbound_channel_may_be_silent_for_an_hour_and_no_other_upload() {
    for (method, lives) in [("RPC_IN_DATA", true), ("POST", false)] {
        let mut scene = scene();
        let lines = format!(
            "{method} /rpc/rpcproxy.dll?sbex1:6001 HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1073741824\r\n"
        );
        scene.send(&format!("{lines}\r\n")).await;
        let mut server = scene.server().await;
        expect(&mut server, &forwarded(&lines, 1)).await;
        for _ in 0..4 {
            sleep(60 * 60 * SECOND).await;
            if lives {
                scene.send("a").await;
                expect(&mut server, "a").await;
            }
        }
        if !lives {
            scene.gets("HTTP/1.1 408 Request Timeout\r\n").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn outlooks_outbound_channel_may_be_silent_for_four_hours_and_ten_minutes() {
    let mut service = crate::config::tests::exchange_profile("rpc = true");
    service.routes.iter_mut().for_each(|route| route.test = None);
    let service = service.try_map(|_| Ok::<_, ()>(0)).unwrap();
    let mut scene = scene_with(|snapshot| snapshot.sites[0].service = service);
    let lines = format!(
        "RPC_OUT_DATA /rpc/rpcproxy.dll?sbex1:6001 HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 76\r\n"
    );
    scene.send(&format!("{lines}\r\n{}", "c".repeat(76))).await;
    let mut server = scene.server().await;
    expect(&mut server, &format!("{}{}", forwarded(&lines, 1), "c".repeat(76))).await;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    say(&mut server, &format!("{answer}a")).await;
    scene.gets(&format!("{answer}a")).await;
    // MinConnTimeout may be up to four hours (MS-RPCH 2.2.3.1.1).
    for _ in 0..3 {
        sleep(4 * 60 * 60 * SECOND).await;
        say(&mut server, "a").await;
        scene.gets("a").await;
    }
    let silent = Instant::now();
    let log = scene.ends().await;
    assert_eq!(silent.elapsed().as_secs(), 250 * 60);
    assert!(log.contains("\"status\":200,") && log.contains("\"sent\":4,\"whole\":false"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_client_ends_with_the_server_that_it_logged_on_to_and_with_no_other() {
    for (field, pinned) in
        [("", false), ("Authorization: Negotiate YII\r\n", true), ("Authorization: Basic dTpw\r\n", false)]
    {
        let mut scene = scene();
        scene.send(&format!("{GET}{field}\r\n")).await;
        let mut server = scene.server().await;
        say(&mut server, OK).await;
        scene.gets(OK).await;
        drop(server);
        if pinned {
            let log = scene.ends().await;
            assert!(log.contains("\"pinned\":true"), "{log}");
        } else {
            scene.send(&format!("{GET}\r\n")).await;
            let mut another = scene.server().await;
            expect(&mut another, &forwarded(GET, 2)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_goodbye_to_who_logged_on_says_it_to_the_client() {
    let mut scene = scene();
    scene.send(&format!("{GET}Authorization: NTLM TlRM\r\n\r\n")).await;
    let mut server = scene.server().await;
    say(&mut server, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    scene.gets("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    scene.ends().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_out_of_turn_is_nobodys_answer() {
    let mut scene = scene();
    scene.send(&format!("{GET}\r\n")).await;
    let mut server = scene.server().await;
    say(&mut server, &format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    scene.gets(OK).await;
    scene.send(&format!("{GET}\r\n")).await;
    let mut another = scene.server().await;
    say(&mut another, OK).await;
    scene.gets(OK).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_http_is_answered_with_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "",
    ] {
        let mut scene = scene();
        scene.send(&format!("{GET}\r\n")).await;
        let mut server = scene.server().await;
        say(&mut server, answer).await;
        drop(server);
        scene.gets("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_none_is_answered_with_400_and_not_sent_on() {
    let mut scene = scene();
    let head = format!("{POST}Transfer-Encoding: chunked\r\n");
    scene.send(&format!("{head}\r\n3\r\nabc\r\n0x1\r\na\r\n0\r\n\r\n")).await;
    let mut server = scene.server().await;
    let mut sent = String::new();
    server.read_to_string(&mut sent).await.unwrap();
    assert_eq!(sent, forwarded(&head, 1) + "3\r\nabc\r\n");
    scene
        .gets("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n")
        .await;
    scene.gets("X-Request-Id: 0000000000000007-1\r\nConnection: close\r\n\r\n400 Bad Request\n").await;
    let log = scene.ends().await;
    assert!(log.contains("\"status\":400") && log.contains("\"violation\":\"Chunk\""), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_cut_off_is_cut_off() {
    for head in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut scene = scene();
        scene.send(&format!("{GET}\r\n")).await;
        let mut server = scene.server().await;
        say(&mut server, &format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
        scene.gets(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
        drop(server);
        let log = scene.ends().await;
        assert!(log.contains("\"whole\":false"), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_until_the_close_is_framed_for_its_client() {
    for (version, framing, body) in [
        ("1.1", "Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        ("1.0", "Connection: close\r\n", "ok"),
    ] {
        let mut scene = scene();
        scene.send(&format!("GET / HTTP/{version}\r\nHost: {NAME}\r\n\r\n")).await;
        let mut server = scene.server().await;
        say(&mut server, "HTTP/1.1 200 OK\r\n\r\nok").await;
        drop(server);
        scene.gets(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}")).await;
        if version == "1.0" {
            scene.ends().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_websocket_is_bytes_both_ways_until_each_side_has_ended() {
    let mut scene = scene();
    let ask = format!("{GET}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n");
    scene.send(&format!("{ask}early")).await;
    let mut server = scene.server().await;
    let lines = format!("{GET}Sec-WebSocket-Key: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    expect(&mut server, &forwarded(&lines, 1)).await;
    say(
        &mut server,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nframe",
    )
    .await;
    scene
        .gets("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe")
        .await;
    expect(&mut server, "early").await;
    sleep(59 * 60 * SECOND).await;
    scene.send("\0bytes").await;
    expect(&mut server, "\0bytes").await;
    scene.client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    say(&mut server, "last").await;
    scene.gets("last").await;
    drop(server);
    scene.ends().await;
}

#[tokio::test(start_paused = true)]
async fn each_state_of_a_connection_has_its_own_time() {
    for (sent, seconds) in [("", 30), ("GET / HT", 30)] {
        let mut scene = scene();
        let began = Instant::now();
        scene.send(sent).await;
        scene.ends().await;
        assert_eq!(began.elapsed().as_secs(), seconds, "{sent}");
    }
    for (sent, seconds) in [("", 100), ("GET / HT", 30)] {
        let mut scene = scene();
        scene.send(&format!("{GET}\r\n")).await;
        let mut server = scene.server().await;
        say(&mut server, OK).await;
        scene.gets(OK).await;
        let began = Instant::now();
        scene.send(sent).await;
        scene.ends().await;
        assert_eq!(began.elapsed().as_secs(), seconds, "after a response: {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_ended_its_half_still_gets_its_answer() {
    let mut scene = scene();
    scene.send(&format!("{GET}\r\n")).await;
    scene.client.shutdown().await.unwrap();
    let mut server = scene.server().await;
    sleep(60 * SECOND).await;
    say(&mut server, OK).await;
    scene.gets(OK).await;
    scene.ends().await;
}

pub(crate) async fn say(stream: &mut DuplexStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

const POST: &str = "POST /ews/ HTTP/1.1\r\nHost: mail.example.test\r\n";

#[tokio::test(start_paused = true)]
async fn who_guesses_at_the_logon_form_waits_and_then_is_told_when_to_come_back() {
    let logons = LogonPolicy { enabled: true, ..LogonPolicy::default() };
    let mut scene = scene_with(|snapshot| snapshot.protection.logons = logons);
    let form = "username=ann&password=x";
    let post = format!(
        "POST /owa/auth.owa HTTP/1.1\r\nHost: mail.example.test\r\nContent-Length: {}\r\n",
        form.len()
    );
    let wrong = "HTTP/1.1 302 Found\r\nLocation: /owa/auth/logon.aspx?reason=2\r\nContent-Length: 0\r\n\r\n";
    let mut server = None;
    for (number, wait) in (1..).zip([0, 0, 0, 0, 1, 2, 4, 8]) {
        scene.send(&format!("{post}\r\n{}", &form[..9])).await;
        tokio::task::yield_now().await;
        let asked = Instant::now();
        scene.send(&form[9..]).await;
        if server.is_none() {
            server = Some(scene.server().await);
        }
        let server = server.as_mut().unwrap();
        expect(server, &forwarded(&post, number)).await;
        assert_eq!(asked.elapsed().as_secs(), wait, "the {number}th guess");
        expect(server, form).await;
        say(server, wrong).await;
        scene.gets(wrong).await;
    }
    scene.send(&format!("{post}\r\n{form}{GET}\r\n")).await;
    scene
        .gets("HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: ")
        .await;
    let mut seconds = [0; 3];
    scene.client.read_exact(&mut seconds).await.unwrap();
    assert!((b"890"..=b"900").contains(&&seconds), "{seconds:?}");
    scene
        .gets("\r\nContent-Length: 22\r\nX-Request-Id: 0000000000000007-9\r\n\r\n429 Too Many Requests\n")
        .await;
    // The form that was refused is no part of what comes next.
    expect(server.as_mut().unwrap(), &forwarded(GET, 10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_logon_form_that_does_not_come_is_not_waited_for_without_end() {
    let logons = LogonPolicy { enabled: true, ..LogonPolicy::default() };
    let mut scene = scene_with(|snapshot| snapshot.protection.logons = logons);
    scene
        .send("POST /owa/auth.owa HTTP/1.1\r\nHost: mail.example.test\r\nContent-Length: 20\r\n\r\nuser")
        .await;
    let asked = Instant::now();
    scene.gets("HTTP/1.1 408 Request Timeout\r\n").await;
    assert_eq!(asked.elapsed().as_secs(), 30);
    assert!(scene.servers.try_recv().is_err());
}

fn proxy(one_client_per_connection: bool) -> Scene {
    let networks = vec!["203.0.113.0/24".parse().unwrap()];
    let proxy = TrustedProxy { networks, source: Source::XForwardedFor, one_client_per_connection };
    scene_with(|snapshot| snapshot.trusted_proxies = vec![proxy])
}

/// A head as the server gets it, of a request from this client.
fn forwarded_for(client: &str, lines: &str, number: u64) -> String {
    forwarded(lines, number).replace("X-Forwarded-For: 203.0.113.5", &format!("X-Forwarded-For: {client}"))
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_proxy_that_shares_its_connection_have_a_server_connection_each() {
    let mut scene = proxy(false);
    let mut before = Vec::new();
    for (number, client) in (1..).zip(["198.51.100.1", "198.51.100.2", "198.51.100.1"]) {
        scene.send(&format!("{GET}X-Forwarded-For: 6.6.6.6, {client}\r\n\r\n")).await;
        let mut server = scene.server().await;
        expect(&mut server, &forwarded_for(client, GET, number)).await;
        say(&mut server, OK).await;
        scene.gets(OK).await;
        before.push(server);
    }
    for server in &mut before {
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "ended with its request");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_logs_a_connection_on_that_a_proxy_shares() {
    let mut scene = proxy(false);
    scene.send(&format!("{GET}\r\n")).await;
    let mut server = scene.server().await;
    expect(&mut server, &forwarded(GET, 1)).await;
    let fields = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nwww-authenticate: Basic realm=\"a\"\r\nPersistent-Auth: true\r\n";
    say(&mut server, &format!("HTTP/1.1 401 Unauthorized\r\n{fields}Content-Length: 0\r\n\r\n")).await;
    scene
        .gets("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\n\r\n")
        .await;
    scene.send(&format!("{GET}Authorization: NTLM TlRM\r\nConnection: close\r\n\r\n")).await;
    scene
        .gets(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\n\
                X-Request-Id: 0000000000000007-2\r\nConnection: close\r\n\r\n403 Forbidden\n",
        )
        .await;
    assert!(scene.servers.try_recv().is_err());
    let log = scene.ends().await;
    assert!(log.contains("\"status\":403") && log.contains("\"cause\":\"shared_connection\""), "{log}");
}

#[tokio::test(start_paused = true)]
async fn one_client_per_connection_keeps_its_server_and_another_one_does_not_get_it() {
    let mut scene = proxy(true);
    let get = |client| format!("{GET}X-Forwarded-For: {client}\r\n\r\n");
    scene.send(&get("198.51.100.1")).await;
    let mut server = scene.server().await;
    expect(&mut server, &forwarded_for("198.51.100.1", GET, 1)).await;
    let challenge = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
    say(&mut server, challenge).await;
    scene.gets(challenge).await;
    scene.send(&get("198.51.100.1")).await;
    expect(&mut server, &forwarded_for("198.51.100.1", GET, 2)).await;
    say(&mut server, OK).await;
    scene.gets(OK).await;
    scene.send(&get("198.51.100.2")).await;
    let mut another = scene.server().await;
    expect(&mut another, &forwarded_for("198.51.100.2", GET, 3)).await;
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    say(&mut another, OK).await;
    scene.gets(OK).await;
    scene.send(&format!("{GET}X-Forwarded-For: nonsense\r\n\r\n")).await;
    scene.gets("HTTP/1.1 400 Bad Request\r\n").await;
}

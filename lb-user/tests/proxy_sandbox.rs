//! Runs code as the proxy's user, locked in exactly as the proxy is, and shows what it cannot reach. Needs root.
//!
//! The supervisor starts this program again as `proxy`; there it calls the worker's own `prepare`, and then tries what an
//! attacker would who took the worker over. Paths travel as names of sites: the snapshot is the only way in. Each attempt
//! must be one that root outside can make, or it proves nothing; the parent checks that first.
#![expect(clippy::print_stdout, reason = "it is its own harness, and reports as the usual one")]

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use lb_user::config::model::{Balance, Bounds, HealthTest, Server, Service, Share};
use lb_user::proxy::snapshot::{AffinityKeys, Farm, PrivateKey, Site, Snapshot, Verify};
use lb_user::proxy::supervisor::{Spec, Supervisor, take_listeners};
use lb_user::proxy::tls::SiteTls;
use lb_user::proxy::worker::{self, Work};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, test_kill_process};

const TESTS: [(&str, fn()); 2] = [
    ("code_as_the_proxys_user_reaches_nothing_of_the_agents", reaches_nothing),
    ("a_child_that_sends_rubbish_is_replaced", rubbish_is_replaced),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    match first.as_str() {
        "proxy" => inside(),
        "--list" => TESTS.iter().for_each(|(name, _)| println!("{name}: test")),
        // As the usual harness: a filter leaves out what it does not name.
        filter => {
            let all = filter.starts_with('-');
            for (name, test) in TESTS.iter().filter(|(name, _)| all || name.contains(filter)) {
                test();
                println!("test {name} ... ok");
            }
        }
    }
    ExitCode::SUCCESS
}

type Attempt = (String, io::Result<()>);

/// What is tried, by name, with what came of it. The last one is allowed.
fn attempts(place: &Path, agent: u32, allowed: u16, forbidden: u16) -> Vec<Attempt> {
    let mut tried = Vec::new();
    for folder in ["private", "public"] {
        let at = place.join(folder);
        tried.push((format!("{folder} key file"), open(&at.join("key.pem"))));
        tried.push((format!("{folder} store"), fs::read_dir(at.join("store")).map(drop)));
        tried.push((
            format!("{folder} control socket"),
            UnixStream::connect(at.join("control.sock")).map(drop),
        ));
    }
    let proc = PathBuf::from(format!("/proc/{agent}"));
    for (name, outcome) in [
        ("agent's memory", open(&proc.join("mem"))),
        ("agent's status", open(&proc.join("status"))),
        ("signal to the agent", signal(agent)),
        ("file of its own", File::create(place.join("public/store/new")).map(drop)),
        ("another program", Command::new("/bin/true").status().map(drop)),
        ("another root", rustix::process::chroot("/").map_err(io::Error::from)),
    ] {
        tried.push((name.to_owned(), outcome));
    }
    tried.extend(sockets(allowed, forbidden));
    tried
}

fn sockets(allowed: u16, forbidden: u16) -> [Attempt; 7] {
    let socket = |family, kind, protocol| {
        let made = socket_with(family, kind, SocketFlags::CLOEXEC, protocol);
        made.map(drop).map_err(io::Error::from)
    };
    let connect = |port| TcpStream::connect(("127.0.0.1", port)).map(drop);
    let icmp = Some(rustix::net::ipproto::ICMP);
    [
        ("raw socket", socket(AddressFamily::INET, SocketType::RAW, icmp)),
        ("netlink socket", socket(AddressFamily::NETLINK, SocketType::RAW, None)),
        ("packet socket", socket(AddressFamily::PACKET, SocketType::RAW, None)),
        ("UDP socket", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("port of its own", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("another server's port", connect(forbidden)),
        ("its server", connect(allowed)),
    ]
    .map(|(name, outcome)| (name.to_owned(), outcome))
}

fn open(path: &Path) -> io::Result<()> {
    File::open(path).map(drop)
}

fn signal(agent: u32) -> io::Result<()> {
    let pid = Pid::from_raw(agent.cast_signed()).expect("an agent has a process id");
    Ok(test_kill_process(pid)?)
}

/// The locked-in side.
fn inside() {
    let work = worker::prepare().expect("the sandbox is to be entered");
    match work.snapshot.sites[0].names.as_slice() {
        [place, agent, forbidden] => try_all(&work, Path::new(place), agent, forbidden),
        _ => (&work.channel).write_all(&[0; 16]).expect("the channel is open"),
    }
    // The supervisor ends it.
    std::thread::sleep(Duration::from_secs(60));
}

/// Writes one line an attempt.
fn try_all(work: &Work, place: &Path, agent: &str, forbidden: &str) {
    let allowed = work.snapshot.farms[0].servers[0].address.port();
    let (agent, forbidden) = (agent.parse().expect("a number"), forbidden.parse().expect("a port"));
    let mut output = io::stdout();
    for (name, outcome) in attempts(place, agent, allowed, forbidden) {
        let outcome = outcome.map_or_else(|error| format!("{:?}", error.kind()), |()| "done".to_owned());
        writeln!(output, "{name}: {outcome}").expect("standard output is open");
    }
    writeln!(output, "end").expect("standard output is open");
}

fn reaches_nothing() {
    let place = Place::new();
    let (server, forbidden) = (listen(), listen());
    let ports = (port(&server), port(&forbidden));
    let outside = attempts(&place.0, std::process::id(), ports.0, ports.1);
    for (name, outcome) in &outside {
        assert!(outcome.is_ok(), "root outside must be able to reach: {name}: {outcome:?}");
    }
    let path = place.0.to_str().expect("UTF-8").to_owned();
    let names = vec![path, std::process::id().to_string(), ports.1.to_string()];
    let (reader, writer) = io::pipe().expect("a pipe");
    let seen = supervised(&place, names, ports.0, Some(writer.into()), async |_| {
        let lines = BufReader::new(reader).lines().map(|line| line.expect("a line"));
        lines.take_while(|line| line != "end").collect::<Vec<_>>()
    });
    println!("{}", seen.join("\n"));
    let (last, refused) = seen.split_last().expect("the child tried something");
    assert_eq!(last, "its server: done");
    assert_eq!(seen.len(), outside.len());
    for line in refused {
        assert!(line.ends_with(": PermissionDenied"), "{line}");
    }
}

fn rubbish_is_replaced() {
    supervised(&Place::new(), vec!["rubbish".to_owned()], 1, None, async |supervisor| {
        let mut status = supervisor.status();
        let replaced = status.wait_for(|status| status.restarts >= 2).await.expect("a supervisor");
        assert!(!replaced.ready);
    });
}

/// Runs `test` while the supervisor starts this program as the proxy.
fn supervised<T>(
    place: &Place,
    names: Vec<String>,
    port: u16,
    log: Option<OwnedFd>,
    test: impl AsyncFnOnce(&Supervisor) -> T,
) -> T {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let spec = Spec {
        program: PathBuf::from("/proc/self/exe"),
        user: "64750".to_owned(),
        snapshot: snapshot(listen, names, port),
        listeners: take_listeners(&place.0, &[listen]).expect("a listening socket"),
        run_dir: place.0.clone(),
        log,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let supervisor = Supervisor::start(spec).expect("a supervisor");
        let outcome = test(&supervisor).await;
        supervisor.stop().await;
        outcome
    })
}

fn snapshot(listen: SocketAddr, names: Vec<String>, port: u16) -> Snapshot {
    Snapshot {
        listen: vec![listen],
        sites: vec![Site {
            names,
            listen: vec![listen],
            certificate: String::new(),
            key: PrivateKey::new(String::new()),
            redirect: Vec::new(),
            previous: Vec::new(),
            tls: SiteTls::default(),
            staple: None,
            service: Service::to_farm("", Bounds::default()).try_map(|_| Ok::<_, ()>(0)).expect("a farm"),
        }],
        farms: vec![Farm {
            name: String::new(),
            servers: vec![Server {
                name: String::new(),
                address: SocketAddrV4::new([127, 0, 0, 1].into(), port),
                share: Share::default(),
            }],
            balance: Balance::default(),
            verify: Verify::Nothing,
            tests: vec![HealthTest::plain("")],
            connect_timeout: Duration::from_secs(1),
            reuse: Default::default(),
        }],
        tcp: Vec::new(),
        drain_timeout: Duration::ZERO,
        limits: Default::default(),
        protection: Default::default(),
        trusted_proxies: Vec::new(),
        tickets: Vec::new(),
        affinity: AffinityKeys::new(vec![[3; 32]]),
        log: Default::default(),
        seed: [0; 2],
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a listening socket")
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}

/// A folder as an agent has it: once with the permissions that it sets, and once open to everyone, where only the sandbox is
/// left to refuse.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test starts a process as another user: run it as root"
        );
        let place = Self(std::env::temp_dir().join(format!("rollcall-sandbox-{}", std::process::id())));
        let set =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
        for (folder, folder_mode, file_mode) in [("private", 0o700, 0o600), ("public", 0o777, 0o666)] {
            let at = place.0.join(folder);
            fs::create_dir_all(at.join("store")).expect("a folder");
            fs::write(at.join("key.pem"), "secret").expect("a file");
            // Its queue takes the attempts; nobody accepts them.
            std::mem::forget(UnixListener::bind(at.join("control.sock")).expect("a socket"));
            set(&at.join("key.pem"), file_mode);
            set(&at.join("control.sock"), file_mode);
            set(&at.join("store"), folder_mode);
        }
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

//! The lab itself: it stands, it goes away whatever happens, and its measuring instruments measure. No agent runs here; nginx
//! on a node that has the cluster IP stands in for one.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use rollcall_tests::backend::{Backend, Certificates, VIRTUAL_DIRECTORIES};
use rollcall_tests::capture::{Capture, Flow};
use rollcall_tests::client::Https;
use rollcall_tests::estate;
use rollcall_tests::lab::{CLUSTER_IP, Lab, NODE_DMZ, Plan};
use rollcall_tests::prober::{Connects, Outage, Prober};
use rollcall_tests::sys::{Namespace, Process, signal};
use rollcall_tests::traffic::{Browsers, Habit, Pulse};
use rustix::process::Signal;

/// A lab in which the first nodes have the cluster IP and a web server, as if each were alone.
struct StandIn {
    _web: Vec<Backend>,
    https: Https,
    lab: Lab,
}

impl StandIn {
    fn raise(plan: &Plan, serving: usize) -> Self {
        let lab = Lab::raise(plan).unwrap();
        let certificates = Certificates::make(&lab.folder()).unwrap();
        let web = lab.places.iter().take(serving).map(|place| {
            place.namespace.ip(&format!("addr add {CLUSTER_IP}/32 dev {NODE_DMZ}")).unwrap();
            Backend::start(&lab, &place.namespace, &place.name, &certificates).unwrap()
        });
        Self { _web: web.collect(), https: Https::new(&lab, certificates.client().unwrap()), lab }
    }
}

#[test]
fn requests_go_from_the_internet_through_the_nat_to_a_node() {
    let mut stand_in = StandIn::raise(&Plan::light(1), 1);
    stand_in.https.patience = Duration::from_secs(2);
    let mut connection = stand_in.https.connect().unwrap();
    for directory in VIRTUAL_DIRECTORIES {
        let answer = connection.get(&format!("/{directory}/")).unwrap();
        assert_eq!((answer.status, answer.server.as_str()), (200, "arr1"), "{directory}");
    }
    let health = connection.get("/owa/healthcheck.htm").unwrap();
    assert_eq!(health.body, b"200 OK<br/>ARR1.example.test");
    let upload = vec![7; 3 << 20];
    let upload = connection.request("POST", "/EWS/Exchange.asmx", &upload);
    assert_eq!(upload.unwrap().status, 200);
    let mut received = 0;
    connection.download("/owa/large.bin", 8 << 20, |bytes| received += bytes).unwrap();
    assert_eq!(received, 8 << 20);
}

#[test]
fn nodes_reach_servers_and_each_other_and_the_third_leaves_the_cluster_ip_free() {
    let lab = Lab::raise(&Plan::light(3)).unwrap();
    assert_eq!(lab.places[2].address.octets(), [192, 168, 50, 9]);
    for target in [[10, 0, 0, 36], [10, 0, 0, 37], [192, 168, 50, 1], [192, 168, 50, 9], [203, 0, 113, 10]] {
        assert!(reaches(&lab.places[0].namespace, target), "{target:?}");
    }
}

#[test]
fn a_lab_leaves_nothing_even_after_a_panic() {
    let lab = Lab::raise(&Plan::light(2)).unwrap();
    let namespace = &lab.places[0].namespace;
    let null = Path::new("/dev/null");
    let mut sleeper = Process::start("sleep", namespace, Command::new("sleep").arg("100"), null).unwrap();
    let name = lab.name().to_owned();
    assert_eq!(lab.tear_down(), Vec::<String>::new());
    let ended = sleeper.wait(Duration::from_secs(1)).unwrap();
    assert_eq!(ended.signal(), Some(9));
    let panicked = thread::spawn(|| {
        let lab = Lab::raise(&Plan::light(1)).unwrap();
        std::panic::panic_any(lab.name().to_owned());
    });
    let other = *panicked.join().unwrap_err().downcast::<String>().unwrap();
    assert_eq!(standing(&format!("{name}-")), 0);
    assert_eq!(standing(&format!("{other}-")), 0);
}

#[test]
fn power_and_cables_go_and_come_back() {
    let lab = Lab::raise(&Plan::light(2)).unwrap();
    let place = &lab.places[1];
    lab.power_off(place).unwrap();
    assert!(!place.namespace.exists());
    lab.power_on(place).unwrap();
    assert!(reaches(&lab.router, [192, 168, 50, 7]));
    lab.pull_cable(place).unwrap();
    assert!(!reaches(&lab.router, [192, 168, 50, 7]));
    lab.plug_cable(place).unwrap();
    assert!(reaches(&lab.router, [192, 168, 50, 7]));
}

#[test]
fn a_killed_owners_lab_is_removed_by_the_next_and_an_interrupted_ones_at_once() {
    for (how, at_once) in [(Signal::KILL, false), (Signal::INT, true), (Signal::TERM, true)] {
        let mut owner = Command::new(env!("CARGO_BIN_EXE_rollcall-lab"));
        owner.args(["raise", "--light"]);
        owner.stdout(Stdio::null()).stderr(Stdio::null());
        let mut owner = KilledAtLast(owner.spawn().unwrap());
        let prefix = format!("rc-{}-", owner.0.id());
        let folder = format!("/run/rollcall-lab/{prefix}1");
        wait_for("the other process raises its lab", || Path::new(&folder).join("ready").exists());
        signal(owner.0.id(), how);
        let ended = owner.0.wait().unwrap();
        if at_once {
            assert_eq!(ended.code(), Some(130), "{how:?}");
        } else {
            drop(Lab::raise(&Plan::light(1)).unwrap());
        }
        assert_eq!(standing(&prefix), 0, "{how:?}");
        assert!(!Path::new(&folder).exists(), "{how:?}");
    }
}

#[test]
fn a_lab_of_a_living_process_is_nobody_elses_to_remove() {
    let first = Lab::raise(&Plan::light(1)).unwrap();
    let second = Lab::raise(&Plan::light(1)).unwrap();
    assert!(!estate::clean().iter().any(|name| name == first.name()));
    assert!(first.client.exists() && second.client.exists());
}

#[test]
fn the_outage_is_as_long_as_the_cable_was_out() {
    let stand_in = StandIn::raise(&Plan::nodes(1), 1);
    let lab = &stand_in.lab;
    let prober = Prober::start(lab).unwrap();
    let connects = Connects::start(&stand_in.https);
    thread::sleep(Duration::from_millis(500));
    let fault = Time::now();
    lab.pull_cable(&lab.places[0]).unwrap();
    thread::sleep(Duration::from_millis(700));
    lab.plug_cable(&lab.places[0]).unwrap();
    let out = Time::now().since(fault);
    thread::sleep(Duration::from_millis(1500));
    let longest = connects.finish();
    let attempts = prober.finish().unwrap();
    let outage = Outage::of(&attempts, fault, |_| true);
    println!("out for {out:?}; longest connect {longest:?}; {outage:?}");
    let before = || attempts.iter().filter(|attempt| attempt.sent < fault);
    assert!(before().count() > 200);
    assert!(before().all(|attempt| attempt.succeeded()), "attempts fail without a fault");
    let measured = outage.length.expect("the node answers again");
    assert!(measured >= Duration::from_millis(600), "{measured:?} is too short");
    assert!(outage.failed > 250, "{outage:?}");
    assert!(longest >= Duration::from_millis(500), "{longest:?}");
}

#[test]
fn the_capture_misses_nothing_of_a_flood_that_one_node_answers() {
    let stand_in = StandIn::raise(&Plan::nodes(2), 1);
    let capture = Capture::start(&stand_in.lab).unwrap();
    let flood = Prober::flood(&stand_in.lab, 10_000, Duration::from_secs(3)).unwrap();
    let browsers = Browsers::start(&stand_in.https, 4, Habit::default());
    let pulse = Pulse::start(&stand_in.https).unwrap();
    thread::sleep(Duration::from_secs(3));
    let (requests, pulse) = (browsers.finish().unwrap(), pulse.finish().unwrap());
    let attempts = flood.finish().unwrap();
    let flows = capture.finish().unwrap();
    let answered = attempts.iter().filter(|attempt| attempt.answered.is_some());
    let answered = answered.count();
    println!(
        "{} attempts, {answered} answered, {} frames, {} requests",
        attempts.len(),
        flows.frames,
        requests.len()
    );
    assert!(attempts.len() >= 25_000, "only {} attempts", attempts.len());
    assert!(answered > attempts.len() / 2, "only {answered} answered");
    assert_eq!(flows.missed(&attempts), 0);
    assert_eq!(flows.answered_twice(&[]), Vec::<String>::new());
    assert_eq!(pulse.broken, None);
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.error, None);
        let mac = flows.answered_by(Flow::https(request.client.unwrap())).unwrap();
        assert_eq!(stand_in.lab.node_of_mac(mac).unwrap().name, "arr1");
    }
}

/// Two machines that both hold the cluster IP behind one multicast MAC address, with nothing that tells them whose turn it is:
/// what Rollcall is there to prevent.
#[test]
fn the_capture_finds_flows_that_two_nodes_answer() {
    let stand_in = StandIn::raise(&Plan::nodes(2), 2);
    let lab = &stand_in.lab;
    lab.router
        .ip(&format!("neigh replace {CLUSTER_IP} lladdr 03:bf:c0:a8:32:08 dev dmz nud permanent"))
        .unwrap();
    for place in &lab.places {
        let rules = "add table ip t; add chain ip t c { type filter hook prerouting priority -300; }; \
                     add rule ip t c meta pkttype set host";
        let nft = place.namespace.command("nft").arg(rules).output().unwrap();
        assert!(nft.status.success(), "{nft:?}");
    }
    let capture = Capture::start(lab).unwrap();
    let prober = Prober::start(lab).unwrap();
    thread::sleep(Duration::from_millis(500));
    let attempts = prober.finish().unwrap();
    let doubles = capture.finish().unwrap().answered_twice(&[]);
    println!("{} of {} attempts answered twice", doubles.len(), attempts.len());
    assert!(doubles.len() > attempts.len() / 2, "{:?}", doubles.first());
}

/// Whether a machine's kernel answers: nothing listens there, so it refuses.
fn reaches(from: &Namespace, target: [u8; 4]) -> bool {
    let target = SocketAddr::from((target, 9));
    let refused = from.enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(2)));
    refused.unwrap().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Another process, which a failed test does not leave behind.
struct KilledAtLast(Child);

impl Drop for KilledAtLast {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many namespaces have names that begin so.
fn standing(prefix: &str) -> usize {
    let all = Namespace::all();
    all.iter().filter(|namespace| namespace.name().starts_with(prefix)).count()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Time::now() + Duration::from_secs(20);
    while !done() {
        assert!(Time::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

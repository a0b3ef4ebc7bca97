//! Attaching, replacing and taking away the XDP program, on a veth pair in a network namespace of the test's own.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails, in its helpers too")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};

use lb_common::address::Address;
use lb_common::table::{
    Affinity, BUCKETS, BucketState, BucketTable, Config, Lease, PortRules, Rule, TABLES, Vips,
};
use lb_user::clock::Time;
use lb_user::config::model::{Filtering, Spread, Stickiness, XdpChoice};
use lb_user::dataplane::idle::Idle;
use lb_user::dataplane::{self, Dataplane, Plan, TablePlan};
use rollcall_tests::netns::{in_own_netns, run};

#[test]
fn a_program_is_attached_replaced_and_taken_away() {
    in_own_netns(|| {
        for choice in [XdpChoice::Auto, XdpChoice::Generic, XdpChoice::Native] {
            let pins = veth_and_pins();
            let mut first = Dataplane::attach(&plan(), "v0", choice, &pins.0).unwrap();
            let status = first.status();
            assert_eq!(status.xdp == "native", choice == XdpChoice::Native, "{status:?}");
            assert_eq!(status.tc_companion, choice == XdpChoice::Native, "{status:?}");
            let (mut tables, mut lease) = first.writers();
            for _ in 0..9 {
                tables.apply(&[BucketTable::filled(BucketState::Mine)]).unwrap();
            }
            lease.renew(hence(1)).unwrap();
            let before = attached("v0");
            drop((first, tables, lease));
            assert_eq!(attached("v0"), before, "an agent that ends leaves its program attached");

            let second = Dataplane::attach(&plan(), "v0", choice, &pins.0).unwrap();
            assert_ne!(attached("v0"), before, "the program was replaced");
            dataplane::replace_without_lease_check(&plan(), "v0", &pins.0).unwrap();
            second.detach().unwrap();
            assert_eq!(attached("v0"), None);
            assert!(!pins.0.exists());
            run("ip link del v0").unwrap();
        }
    });
}

#[test]
fn the_next_agent_goes_on_with_the_tables_but_not_with_the_lease() {
    in_own_netns(|| {
        let pins = veth_and_pins();
        let mut first = Dataplane::attach(&plan(), "v0", XdpChoice::Auto, &pins.0).unwrap();
        assert_eq!(pinned_lease(&pins), 0, "a new attachment has no lease");
        assert_eq!(pinned_table(&pins), BucketTable::filled(BucketState::Other));
        let (mut tables, mut lease) = first.writers();
        tables.apply(&[BucketTable::filled(BucketState::Departing)]).unwrap();
        lease.renew(hence(1)).unwrap();
        drop((first, tables, lease));

        let mut second = Dataplane::attach(&plan(), "v0", XdpChoice::Auto, &pins.0).unwrap();
        assert_eq!(
            pinned_lease(&pins),
            0,
            "it accepts nothing under tables that may mean something else now"
        );
        assert_eq!(pinned_table(&pins), BucketTable::filled(BucketState::Departing));
        let (_, mut lease) = second.writers();
        let end = hence(2);
        lease.renew(end).unwrap();
        assert_eq!(pinned_lease(&pins), end.as_nanos());
    });
}

#[test]
fn pins_without_a_living_attachment_are_worth_nothing() {
    in_own_netns(|| {
        let pins = veth_and_pins();
        let mut first = Dataplane::attach(&plan(), "v0", XdpChoice::Auto, &pins.0).unwrap();
        first.writers().1.renew(hence(1)).unwrap();
        drop(first);
        run("ip link del v0").unwrap();
        make_veth();
        Dataplane::attach(&plan(), "v0", XdpChoice::Auto, &pins.0).unwrap();
        assert_eq!(pinned_lease(&pins), 0);
    });
}

#[test]
fn what_is_in_the_way_is_named() {
    in_own_netns(|| {
        let pins = veth_and_pins();
        let other = Pins(pins.0.with_file_name("another-agent"));
        let attach = |interface, pins: &Pins| {
            Dataplane::attach(&plan(), interface, XdpChoice::Generic, &pins.0)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let error = attach("v9", &pins).unwrap_err();
        assert!(error.contains("no interface v9"), "{error}");
        let error = attach("v0", &Pins("/tmp/rollcall-no-bpffs".into())).unwrap_err();
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        attach("v0", &other).unwrap();
        let error = attach("v0", &pins).unwrap_err();
        assert!(error.contains("already has the XDP program `rollcall` (number"), "{error}");
        assert!(!pins.0.exists(), "a failed attempt leaves nothing");
    });
}

/// The one test with live frames: TCP drops what came to a multicast MAC address, unless XDP, or on veth in native mode the
/// tc companion, sees to it.
#[test]
fn tcp_to_the_cluster_mac_is_accepted_in_both_modes() {
    for choice in [XdpChoice::Generic, XdpChoice::Native] {
        in_own_netns(move || {
            let pins = veth_and_pins();
            for command in [
                "ip addr add 192.168.50.6/24 dev v0",
                "ip addr add 192.168.50.8/32 dev lo",
                "ip maddr add 03:bf:c0:a8:32:08 dev v0",
            ] {
                run(command).unwrap();
            }
            let mut dataplane = Dataplane::attach(&serving_plan(), "v0", choice, &pins.0).unwrap();
            let (mut tables, mut lease) = dataplane.writers();
            tables.apply(&[BucketTable::filled(BucketState::Mine)]).unwrap();
            lease.renew(Time::from_nanos(u64::MAX)).unwrap();
            let listener = TcpListener::bind("192.168.50.8:443").unwrap();
            let (here, client_thread) = channel();
            let (moved, go) = channel();
            let client = thread::spawn(move || in_own_netns(move || connect_from(choice, &here, &go)));
            let client_thread: i32 = client_thread.recv().unwrap();
            run(&format!("ip link set v1 netns {client_thread}")).unwrap();
            moved.send(()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            drop(stream);
            assert_eq!(client.join().unwrap(), "hello");
            let counts = dataplane.counters().read().unwrap();
            assert!(counts["new-mine"].packets >= 1);
            assert!(counts["mine"].packets >= 2);
            assert_eq!(counts["arp-answered"].packets > 0, choice == XdpChoice::Generic);
            check_idle(&pins);
            dataplane.detach().unwrap();
        });
    }
}

/// The client's bucket counts as idle only some time after its last packet, all others do from the start.
fn check_idle(pins: &Pins) {
    let timeout = Duration::from_secs(2);
    let stickiness = Some(Stickiness { timeout, max_hold: timeout });
    let tables =
        [Spread { stickiness, ..Spread::plain(Filtering::Multiple) }, Spread::plain(Filtering::Multiple)];
    let idle = || {
        let sets = Idle::open(&pins.0).unwrap().find(&tables).unwrap();
        [sets[0].len(), sets[1].len()]
    };
    assert_eq!(idle(), [BUCKETS - 1, 0]);
    thread::sleep(timeout + Duration::from_millis(200));
    assert_eq!(idle(), [BUCKETS, 0]);
}

/// The client's side, in a namespace of its own: gets `v1`, connects, and reads to the end.
fn connect_from(choice: XdpChoice, here: &Sender<i32>, go: &Receiver<()>) -> String {
    here.send(rustix::thread::gettid().as_raw_pid()).unwrap();
    go.recv().unwrap();
    run("ip addr add 192.168.50.1/24 dev v1").unwrap();
    run("ip link set v1 up").unwrap();
    if choice == XdpChoice::Native {
        // This end has no XDP program, so what the other sends by XDP does not arrive.
        run("ip neigh add 192.168.50.8 lladdr 03:bf:c0:a8:32:08 dev v1").unwrap();
    }
    let mut text = String::new();
    let mut stream = TcpStream::connect("192.168.50.8:443").unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A veth pair, and a folder for pins that goes with the guard.
fn veth_and_pins() -> Pins {
    make_veth();
    Pins(dataplane::pins_of("v0").unwrap())
}

fn make_veth() {
    run("ip link add v0 type veth peer name v1").unwrap();
    run("ip link set v0 up").unwrap();
    run("ip link set v1 up").unwrap();
}

fn hence(hours: u64) -> Time {
    Time::now() + Duration::from_secs(3_600 * hours)
}

/// The end of the pinned lease; 0 for none.
fn pinned_lease(pins: &Pins) -> u64 {
    let map = Map::Array(MapData::from_pin(pins.0.join("LEASE")).unwrap());
    let lease: Lease = Array::try_from(map).unwrap().get(&0, 0).unwrap();
    assert_eq!(lease.until == 0, lease.until_tick == 0, "{lease:?}");
    lease.until
}

/// Table 0 of the active generation.
fn pinned_table(pins: &Pins) -> BucketTable {
    let map = Map::Array(MapData::from_pin(pins.0.join("ACTIVE")).unwrap());
    let active: u32 = Array::try_from(map).unwrap().get(&0, 0).unwrap();
    let map = Map::Array(MapData::from_pin(pins.0.join("TABLES")).unwrap());
    Array::try_from(map).unwrap().get(&(active * TABLES as u32), 0).unwrap()
}

struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = dataplane::cleanup(&self.0);
    }
}

/// The XDP program that `ip` sees on an interface.
fn attached(interface: &str) -> Option<u64> {
    let output =
        std::process::Command::new("ip").args(["-json", "link", "show", "dev", interface]).output().unwrap();
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    links[0]["xdp"]["prog"]["id"].as_u64()
}

/// Port 443 of the cluster IP, by table 0.
fn serving_plan() -> Plan {
    let mut plan = plan();
    plan.config.rules[1] = Rule { sticky: 1, ..Rule::new(0, Affinity::Single) };
    plan.config.cluster_mac = [3, 0xbf, 192, 168, 50, 8];
    plan.port_lists[0].0[443] = 1;
    plan
}

fn plan() -> Plan {
    Plan {
        config: Config {
            vips: Vips::new(&[(Address::v4([192, 168, 50, 8]), 0, 0)]).unwrap(),
            ..Config::EMPTY
        },
        port_lists: vec![PortRules([0; 65_536])],
        tables: vec![TablePlan { spread: Spread::plain(Filtering::Single), rules: vec![], checks: vec![] }],
    }
}

//! Bench `packet`: what the XDP program costs a frame. In nanoseconds through `BPF_PROG_TEST_RUN`, against an empty program in the
//! same run, alternating; what a driver and the network stack cost is not in it. And in frames a second through a veth pair,
//! against dropping everything, nftables and xt_cluster (`live.rs`).

mod frames;
mod live;

use anyhow::{Context as _, Result};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::address::Address;
use lb_common::table::{
    Affinity, BucketState, BucketTable, CLUSTER_IPS, Config, PortRules, RULES, Rule, Vips,
};
use lb_common::verdict::LocalSocket;
use rustix::thread::{CpuSet, sched_setaffinity};

use self::frames::{Frame, PORT, V4, V6};
use super::{Row, median};
use crate::LAB_OBJECT;
use crate::verdicts::{Kernel, Setting};

const RUNS: usize = 15;
const REPEAT: u32 = 200_000;

/// Measures every case.
///
/// # Errors
/// Most often this process is not root.
pub fn run() -> Result<Vec<Row>> {
    // On a thread of its own, because it stays on one CPU, and in a network namespace of its own.
    crate::netns::in_own_netns(|| {
        stay_on_one_cpu()?;
        let mut rows = measure()?;
        rows.extend(live::measure()?);
        Ok(rows)
    })
}

fn stay_on_one_cpu() -> Result<()> {
    let mut cpu = CpuSet::new();
    cpu.set(rustix::thread::sched_getcpu());
    sched_setaffinity(None, &cpu).context("cannot stay on one CPU")
}

struct Case {
    name: &'static str,
    frame: Vec<u8>,
    kernel: Kernel,
    nanos: Vec<f64>,
}

fn measure() -> Result<Vec<Row>> {
    let empty = Empty::load()?;
    let mut cases = cases()?;
    let mut floor = Vec::new();
    for _ in 0..RUNS {
        for case in &mut cases {
            floor.push(empty.time(&case.frame)?);
            case.nanos.push(case.kernel.time(&case.frame, REPEAT)?);
        }
    }
    let floor = median(&floor);
    let mut rows = vec![row("an empty program", "empty", "time a packet", "ns", floor)];
    for case in &cases {
        let nanos = median(&case.nanos);
        rows.push(row(case.name, "rollcall", "over the empty program", "ns", nanos - floor));
    }
    Ok(rows)
}

fn cases() -> Result<Vec<Case>> {
    use BucketState::{Arriving, Departing, Mine, Other};
    use Frame::{Ack, Data, Datagram, Foreign, ForeignV6, Syn, Tagged, V6Ack, V6Syn};
    let small = [
        ("not for a cluster IP", Other, Foreign),
        ("not for a cluster IP, IPv6", Other, ForeignV6),
        ("another node's", Other, Ack),
        ("another node's, 1400 bytes", Other, Data),
        ("another node's SYN", Other, Syn),
        ("another node's datagram", Other, Datagram),
        ("another node's, IPv6", Other, V6Ack),
        ("another node's, VLAN tag", Other, Tagged),
        ("mine, running connection", Mine, Ack),
        ("mine, new connection", Mine, Syn),
        ("mine, datagram", Mine, Datagram),
        ("mine, IPv6", Mine, V6Ack),
        ("mine, new connection, IPv6", Mine, V6Syn),
        ("arriving, new connection", Arriving, Syn),
        ("arriving, no such socket", Arriving, Ack),
        ("departing, no such socket", Departing, Ack),
    ];
    let small = small.into_iter().map(|(name, state, frame)| (name, state, frame, 1, 1));
    let large = [
        ("another node's, 127 rules", Other, Ack, RULES - 1, 1),
        ("another node's, 64 cluster IPs", Other, Ack, 1, CLUSTER_IPS - 2),
        ("not for one of 64 cluster IPs", Other, Foreign, 1, CLUSTER_IPS - 2),
    ];
    let case = |(name, state, frame, rules, more_ips): (_, _, Frame, _, _)| {
        let kernel = Kernel::load(&setting(state, rules, more_ips, frame == Tagged))?;
        Ok(Case { name, frame: frame.bytes()?, kernel, nanos: Vec::new() })
    };
    small.chain(large).map(case).collect()
}

/// A world in which every bucket has one state, with this many port rules, and so many cluster IPs beside two.
fn setting(state: BucketState, rules: usize, more_ips: usize, tagged: bool) -> Setting {
    let more = (0..more_ips as u8).map(|host| (Address::v4([192, 168, 51, host]), 0, 0));
    let [v4, v6] = [V4, V6].map(Address::from);
    let ips: Vec<_> = [(v4, 0, 0), (v6, 0, 0)].into_iter().chain(more).collect();
    let vips = Vips::new(&ips).expect("no more cluster IPs than there is room for");
    let mut config =
        Config { seed: [1, 2], vips, own_mac: [2, 0, 0, 0, 0, 6], hearing_port: 7644, ..Config::EMPTY };
    if tagged {
        config.vlans = [100, 0];
    }
    let mut ports = PortRules([0; 65_536]);
    for number in 1..=rules {
        config.rules[number] = Rule::new(1, Affinity::None);
        ports.0[usize::from(PORT) - 1 + number] = number as u8;
    }
    Setting {
        config,
        port_lists: vec![ports],
        tables: vec![BucketTable::filled(state); 2],
        lease: true,
        socket: LocalSocket::None,
    }
}

/// A program that does nothing but pass: the cost of the measurement itself.
struct Empty(aya::Ebpf);

impl Empty {
    fn load() -> Result<Self> {
        let mut ebpf =
            aya::EbpfLoader::new().load(LAB_OBJECT).context("the kernel refuses; this needs root")?;
        let program = ebpf.program_mut("pass").context("no program `pass`")?;
        <&mut Xdp>::try_from(program)?.load()?;
        Ok(Self(ebpf))
    }

    fn time(&self, frame: &[u8]) -> Result<f64> {
        let program = self.0.program("pass").context("no program `pass`")?;
        let options = TestRunOptions { data_in: Some(frame), repeat: REPEAT, ..TestRunOptions::default() };
        let result = <&Xdp>::try_from(program)?.test_run(options)?;
        Ok(result.duration.as_nanos() as f64)
    }
}

fn row(case: &str, subject: &str, metric: &str, unit: &'static str, value: f64) -> Row {
    Row {
        bench: "packet",
        case: case.to_owned(),
        subject: subject.to_owned(),
        metric: metric.to_owned(),
        unit,
        value,
        runs: RUNS,
    }
}

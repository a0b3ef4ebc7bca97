//! Bench `packet`: nanoseconds for one packet through the XDP program (`BPF_PROG_TEST_RUN`), against an empty program in the
//! same run, alternating. What a driver and the network stack cost is not in it.

use anyhow::{Context as _, Result};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use etherparse::PacketBuilder;
use lb_common::address::Address;
use lb_common::table::{Affinity, BucketState, BucketTable, Config, PortRules, Rule, Vips};
use lb_common::verdict::LocalSocket;
use lb_user::dataplane::OBJECT;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::{Row, median};
use crate::verdicts::{Kernel, Setting};

const RUNS: usize = 15;
const REPEAT: u32 = 200_000;
const VIP: [u8; 4] = [192, 168, 50, 8];
const CLIENT: [u8; 4] = [203, 0, 113, 10];

/// Measures every case.
///
/// # Errors
/// Most often this process is not root.
pub fn run() -> Result<Vec<Row>> {
    // On a thread of its own, because it stays on one CPU.
    let measured = std::thread::spawn(measure).join();
    measured.map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
}

struct Case {
    name: &'static str,
    frame: Vec<u8>,
    kernel: Kernel,
    nanos: Vec<f64>,
}

fn measure() -> Result<Vec<Row>> {
    let mut cpu = CpuSet::new();
    cpu.set(rustix::thread::sched_getcpu());
    sched_setaffinity(None, &cpu).context("cannot stay on one CPU")?;
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
        rows.push(row(case.name, "rollcall", "time a packet", "ns", nanos));
        rows.push(row(case.name, "rollcall", "ratio to the empty program", "", nanos / floor));
    }
    Ok(rows)
}

fn cases() -> Result<Vec<Case>> {
    use BucketState::{Departing, Mine, Other};
    let own = [192, 168, 50, 6];
    [
        ("not for a cluster IP", Other, tcp(own, false)?),
        ("another node's", Other, tcp(VIP, false)?),
        ("mine, running connection", Mine, tcp(VIP, false)?),
        ("mine, new connection", Mine, tcp(VIP, true)?),
        ("departing, no such socket", Departing, tcp(VIP, false)?),
    ]
    .into_iter()
    .map(|(name, state, frame)| {
        Ok(Case { name, frame, kernel: Kernel::load(&setting(state))?, nanos: Vec::new() })
    })
    .collect()
}

fn setting(state: BucketState) -> Setting {
    let vips = Vips::new(&[(Address::v4(VIP), 0, 0)]).expect("one cluster IP fits");
    let mut config = Config { seed: [1, 2], vips, own_mac: [2, 0, 0, 0, 0, 6], ..Config::EMPTY };
    config.rules[1] = Rule::new(1, Affinity::None);
    let mut ports = PortRules([0; 65_536]);
    ports.0[443] = 1;
    Setting {
        config,
        port_lists: vec![ports],
        tables: vec![BucketTable::filled(state); 2],
        lease: true,
        socket: LocalSocket::None,
    }
}

fn tcp(to: [u8; 4], opens: bool) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 6]);
    let builder = builder.ipv4(CLIENT, to, 64).tcp(40_000, 443, 1, 65_535);
    let builder = if opens { builder.syn() } else { builder.ack(1) };
    let mut frame = Vec::new();
    builder.write(&mut frame, &[])?;
    Ok(frame)
}

/// A program that does nothing but pass: the cost of the measurement itself.
struct Empty(aya::Ebpf);

impl Empty {
    fn load() -> Result<Self> {
        let mut ebpf = aya::EbpfLoader::new().load(OBJECT).context("the kernel refuses; this needs root")?;
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

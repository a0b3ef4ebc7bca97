//! Frames through a veth pair: a program makes them (`BPF_F_TEST_XDP_LIVE_FRAMES`), each from another client and for flows of other
//! nodes, and what is attached at the other end drops them: everything at once, Rollcall, nftables' hash in the netdev ingress
//! hook, xt_cluster. Generator and receiver share one CPU, so the time a frame is that of both, and only the difference to
//! dropping everything is the subject's.

use std::process::Command;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use lb_common::table::BucketState;
use lb_user::clock::Time;

use super::super::{Row, median};
use super::frames::Frame;
use super::{row, setting};
use crate::LAB_OBJECT;
use crate::netns::run;
use crate::sys::output;
use crate::verdicts::Kernel;

const RUNS: usize = 7;
const FRAMES: u32 = 400_000;
const FROM: &str = "from";
const TO: &str = "to";

/// Measures every frame with every subject, alternating.
pub(super) fn measure() -> Result<Vec<Row>> {
    // Both ends native: only then does a frame reach the peer by XDP_TX.
    run(&format!("ip link add {FROM} type veth peer name {TO}"))?;
    run(&format!("ip link set {FROM} up"))?;
    run(&format!("ip link set {TO} up"))?;
    let generator = Generator::start()?;
    let mut rows = Vec::new();
    for (case, frame) in [
        ("SYN", Frame::Syn),
        ("ACK", Frame::Ack),
        ("datagram", Frame::Datagram),
        ("IPv6", Frame::V6Ack),
        ("1400 bytes", Frame::Data),
    ] {
        rows.extend(compare(&generator, case, &frame.bytes()?)?);
    }
    Ok(rows)
}

fn compare(generator: &Generator, case: &str, frame: &[u8]) -> Result<Vec<Row>> {
    let subjects: Vec<Subject> = Subject::ALL.into_iter().filter(|subject| subject.takes(frame)).collect();
    let mut nanos = vec![Vec::new(); subjects.len()];
    for _ in 0..RUNS {
        for (subject, nanos) in subjects.iter().zip(&mut nanos) {
            let attached = subject.attach()?;
            nanos.push(generator.time(frame)?);
            attached.detach()?;
        }
    }
    let floor = median(&nanos[0]);
    let rows = subjects.iter().zip(&nanos).flat_map(|(subject, nanos)| {
        let nanos = median(nanos);
        let case = format!("another node's {case}, veth");
        [
            row(&case, subject.name(), "frames a second", "M", 1_000.0 / nanos),
            row(&case, subject.name(), "over dropping everything", "ns", nanos - floor),
        ]
    });
    Ok(rows.map(|row| Row { runs: RUNS, ..row }).collect())
}

/// What drops the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Everything,
    Rollcall,
    Nftables,
    XtCluster,
}

impl Subject {
    const ALL: [Self; 4] = [Self::Everything, Self::Rollcall, Self::Nftables, Self::XtCluster];

    const fn name(self) -> &'static str {
        match self {
            Self::Everything => "XDP_DROP",
            Self::Rollcall => "rollcall",
            Self::Nftables => "nft jhash",
            Self::XtCluster => "xt_cluster",
        }
    }

    /// The peers' rules are written for TCP over IPv4.
    fn takes(self, frame: &[u8]) -> bool {
        const TCP: u8 = 6;
        let is_tcp_v4 = frame[12..14] == [8, 0] && frame[23] == TCP;
        matches!(self, Self::Everything | Self::Rollcall) || is_tcp_v4
    }

    fn attach(self) -> Result<Attached> {
        match self {
            Self::Everything => attach_lab("discard", TO).map(Attached::Program),
            Self::Rollcall => {
                let mut kernel = Kernel::load(&setting(BucketState::Other, 1, 1, false))?;
                kernel.attach(TO)?;
                Ok(Attached::Kernel(Box::new(kernel)))
            }
            Self::Nftables => {
                output(Command::new("nft").args(["-f", "-"]), Some(&nft_rules()))?;
                attach_lab("pass", TO).map(|ebpf| Attached::Rules(ebpf, "nft delete table netdev bench"))
            }
            Self::XtCluster => {
                run(&format!("iptables-legacy -t mangle -A PREROUTING {XT_CLUSTER}"))?;
                attach_lab("pass", TO)
                    .map(|ebpf| Attached::Rules(ebpf, "iptables-legacy -t mangle -F PREROUTING"))
            }
        }
    }
}

/// Both nodes' shares, so that every frame is dropped.
const XT_CLUSTER: &str = "-i to -d 192.168.50.8 -m cluster --cluster-total-nodes 2 --cluster-local-nodemask 3 \
                          --cluster-hash-seed 1 -j DROP";

/// One bucket of 4096 is let through: a comparison that is always true is refused.
fn nft_rules() -> String {
    format!(
        "table netdev bench {{ chain in {{ type filter hook ingress device {TO} priority 0;\n\
         ip daddr 192.168.50.8 jhash ip saddr . tcp sport mod 4096 seed 0x1 <= 4094 drop\n}}\n}}\n"
    )
}

/// What is attached, until it is detached.
enum Attached {
    Program(Ebpf),
    Kernel(Box<Kernel>),
    Rules(Ebpf, &'static str),
}

impl Attached {
    /// Programs are detached when their objects are dropped.
    fn detach(self) -> Result<()> {
        match self {
            Self::Program(ebpf) => drop(ebpf),
            Self::Kernel(kernel) => drop(kernel),
            Self::Rules(ebpf, undo) => {
                drop(ebpf);
                run(undo)?;
            }
        }
        Ok(())
    }
}

struct Generator {
    ebpf: Ebpf,
    interface: u32,
}

impl Generator {
    /// The sending end needs a native program too, or it has no queue to send from.
    fn start() -> Result<Self> {
        let mut ebpf = attach_lab("pass", FROM)?;
        let flood: &mut Xdp = ebpf.program_mut("flood").context("no program `flood`")?.try_into()?;
        flood.load()?;
        Ok(Self { ebpf, interface: index_of(FROM)? })
    }

    /// Nanoseconds a frame. The first tenth warms up.
    fn time(&self, frame: &[u8]) -> Result<f64> {
        self.send(frame, FRAMES / 10)?;
        let start = Time::now();
        self.send(frame, FRAMES)?;
        Ok(Time::now().since(start).as_nanos() as f64 / f64::from(FRAMES))
    }

    fn send(&self, frame: &[u8], count: u32) -> Result<()> {
        let flood: &Xdp = self.ebpf.program("flood").context("no program `flood`")?.try_into()?;
        let context: Vec<u8> = [0, frame.len() as u32, 0, self.interface, 0, 0]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::default()
        };
        flood.test_run(options).context("the kernel sends no live frames")?;
        Ok(())
    }
}

/// Attaches a program of the lab's object natively; it is detached when the object is dropped.
fn attach_lab(name: &str, interface: &str) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(LAB_OBJECT).context("the kernel refuses; this needs root")?;
    let program: &mut Xdp =
        ebpf.program_mut(name).with_context(|| format!("no program `{name}`"))?.try_into()?;
    program.load()?;
    program
        .attach(interface, XdpMode::Driver)
        .with_context(|| format!("cannot attach `{name}` to {interface}"))?;
    Ok(ebpf)
}

fn index_of(interface: &str) -> Result<u32> {
    let shown = output(Command::new("ip").args(["-o", "link", "show", "dev", interface]), None)?;
    let index = shown.split(':').next().and_then(|index| index.trim().parse().ok());
    index.with_context(|| format!("`ip` does not tell the index of {interface}"))
}

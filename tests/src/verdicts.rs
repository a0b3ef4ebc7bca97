//! One frame in, one verdict and one frame out: through the program in the kernel (`BPF_PROG_TEST_RUN`), and through the same
//! policy on the host. The program is loaded but attached to nothing; its socket look-ups see the network namespace of the
//! thread that feeds it.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{Array, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use lb_common::address::Address;
use lb_common::flow::bucket_of;
use lb_common::packet::{Ip, Packet, PacketMut, Tcp};
use lb_common::table::{Bucket, BucketState, BucketTable, Config, Counter, Lease, PortRules, counter};
use lb_common::verdict::{Action, LocalSocket, Reason, World, judge, rewrite};
use lb_user::dataplane::{OBJECT, btf};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it went.
    pub fate: Fate,
    /// As what it was counted.
    pub reason: Reason,
    /// Its bytes afterwards.
    pub frame: Vec<u8>,
}

/// Where a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To the kernel.
    Passed,
    /// Nowhere.
    Dropped,
    /// Back out of the interface.
    Sent,
}

/// All that a verdict depends on. As a [`World`] it is the host's side; the kernel's is made equal to it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The read-only data.
    pub config: Config,
    /// Which rule each port falls under: the lists that the cluster IPs name.
    pub port_lists: Vec<PortRules>,
    /// The owner tables of the active generation.
    pub tables: Vec<BucketTable>,
    /// Whether the lease lives.
    pub lease: bool,
    /// What the host's side finds in place of a socket.
    pub socket: LocalSocket,
}

impl Setting {
    /// Judges a frame on the host.
    pub fn feed(&self, frame: &[u8]) -> Outcome {
        let verdict = judge(frame, self);
        let mut packet = Frame(frame.to_vec());
        let rewritten = rewrite(verdict, &self.config, &mut packet);
        let fate = match (rewritten, verdict.action(&self.config)) {
            (None, _) | (Some(()), Action::Drop) => Fate::Dropped,
            (Some(()), Action::Untouched | Action::Accept) => Fate::Passed,
            (Some(()), Action::Answer) => Fate::Sent,
        };
        Outcome { fate, reason: verdict.reason(), frame: packet.0 }
    }

    /// Puts the bucket of a client's flow under a rule into `state`.
    pub fn set_bucket(&mut self, rule: usize, client: IpAddr, port: u16, state: BucketState) {
        let rule = self.config.rules[rule];
        let bucket = bucket_of(self.config.seed, &rule, &Address::from(client), port);
        self.tables[usize::from(rule.table)].set(bucket, state);
    }
}

impl World for Setting {
    fn config(&self) -> &Config {
        &self.config
    }

    fn rule_of(&self, list: u8, port: u16) -> usize {
        self.port_lists.get(usize::from(list)).map_or(0, |list| usize::from(list.0[usize::from(port)]))
    }

    fn bucket_state(&self, table: u8, bucket: Bucket) -> BucketState {
        self.tables.get(usize::from(table)).map_or(BucketState::Other, |table| table.state(bucket))
    }

    fn local(&self, _ip: &Ip, _tcp: &Tcp) -> LocalSocket {
        self.socket
    }

    fn lease_lives(&self) -> bool {
        self.lease
    }
}

/// A frame that the host rewrites.
struct Frame(Vec<u8>);

impl Packet for Frame {
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        Packet::get(self.0.as_slice(), offset)
    }
}

impl PacketMut for Frame {
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let end = offset.checked_add(N)?;
        self.0.get_mut(offset..end)?.copy_from_slice(&bytes);
        Some(())
    }

    fn grow(&mut self, by: usize) -> Option<()> {
        self.0.resize(self.0.len() + by, 0);
        Some(())
    }
}

/// The program in the kernel.
pub struct Kernel {
    ebpf: Ebpf,
    counts: Vec<Counter>,
}

impl Kernel {
    /// Loads the program with maps of its own.
    ///
    /// # Errors
    /// The kernel refuses: most often this process is not root.
    pub fn load(setting: &Setting) -> Result<Self> {
        let config = Config { snt_isn_offset: snt_isn_offset()?, ..setting.config };
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", &config, true);
        loader.map_max_entries("PORT_RULES", setting.port_lists.len().max(1) as u32);
        let ebpf = loader.load(OBJECT).context("the kernel refuses the maps; this needs root")?;
        let mut kernel = Self { ebpf, counts: vec![Counter::default(); Reason::ALL.len()] };
        kernel.xdp()?.load().context("the kernel refuses the program")?;
        kernel.apply(setting)?;
        Ok(kernel)
    }

    /// Makes the maps equal to `setting`; its read-only data must be that of the load.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn apply(&mut self, setting: &Setting) -> Result<()> {
        let mut rules: Array<_, PortRules> = self.map("PORT_RULES")?.try_into()?;
        for (list, number) in setting.port_lists.iter().zip(0..) {
            rules.set(number, list, 0)?;
        }
        let mut tables: Array<_, BucketTable> = self.map("TABLES")?.try_into()?;
        for (table, index) in setting.tables.iter().zip(0..) {
            tables.set(index, table, 0)?;
        }
        let until = if setting.lease { u64::MAX } else { 0 };
        let mut lease: Array<_, Lease> = self.map("LEASE")?.try_into()?;
        lease.set(0, Lease { until_tick: until, until, tick: 0, time: 0 }, 0)?;
        Ok(())
    }

    /// Feeds the program one frame of 14 to 3,000 bytes.
    ///
    /// # Errors
    /// The kernel refuses, or the frame was not counted exactly once with its length.
    pub fn feed(&mut self, frame: &[u8]) -> Result<Outcome> {
        let mut out = vec![0; frame.len() + 256];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.xdp()?.test_run(options).context("the kernel refuses a test run")?;
        out.truncate(result.data_size_out as usize);
        let fate = match result.return_value {
            1 => Fate::Dropped,
            2 => Fate::Passed,
            3 => Fate::Sent,
            other => anyhow::bail!("the program returned {other}"),
        };
        Ok(Outcome { fate, reason: self.counted(frame.len())?, frame: out })
    }

    /// The mean time for this frame over `repeat` runs, in nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn time(&mut self, frame: &[u8], repeat: u32) -> Result<f64> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = self.xdp()?.test_run(options).context("the kernel refuses a test run")?;
        Ok(result.duration.as_nanos() as f64)
    }

    /// Attaches the program to an interface in the driver, until this value is dropped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, interface: &str) -> Result<()> {
        let attached = self.xdp()?.attach(interface, XdpMode::Driver);
        attached.map(drop).with_context(|| format!("cannot attach the program to {interface}"))
    }

    /// The counters, summed over the CPUs, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<Vec<Counter>> {
        let map = self.ebpf.map("COUNTERS").context("no map COUNTERS")?;
        let map: PerCpuArray<_, Counter> = map.try_into()?;
        let mut counters = Vec::new();
        for reason in Reason::ALL {
            let mut sum = Counter::default();
            for rule in 0..8 {
                for of_cpu in map.get(&counter(rule, *reason as u8), 0)?.iter() {
                    sum.packets += of_cpu.packets;
                    sum.bytes += of_cpu.bytes;
                }
            }
            counters.push(sum);
        }
        Ok(counters)
    }

    /// Instructions that the verifier looked at, where the kernel says.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>> {
        Ok(self.xdp()?.info()?.verified_instruction_count())
    }

    fn counted(&mut self, length: usize) -> Result<Reason> {
        let counts = self.counters()?;
        let mut changed = Vec::new();
        for (reason, (old, new)) in Reason::ALL.iter().zip(self.counts.iter().zip(&counts)) {
            if old != new {
                let packets = new.packets - old.packets;
                changed.push((*reason, packets, new.bytes - old.bytes));
            }
        }
        self.counts = counts;
        match changed.as_slice() {
            [(reason, 1, bytes)] if *bytes == length as u64 => Ok(*reason),
            other => anyhow::bail!("a frame of {length} bytes was counted as {other:?}"),
        }
    }

    fn xdp(&mut self) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut("rollcall").context("no program `rollcall`")?;
        Ok(program.try_into()?)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }
}

fn snt_isn_offset() -> Result<u16> {
    let btf = fs::read("/sys/kernel/btf/vmlinux").context("no kernel type information")?;
    let offset = btf::field_offset(&btf, "tcp_request_sock", "snt_isn")?;
    Ok(u16::try_from(offset)?)
}

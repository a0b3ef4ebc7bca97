//! One frame in, one verdict and one frame out: through the program in the kernel (`BPF_PROG_TEST_RUN`), and through the same
//! policy on the host. The program is loaded but attached to nothing; its socket look-ups see the network namespace of the
//! thread that feeds it.

use std::fs;

use anyhow::{Context as _, Result};
use aya::maps::{Array, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::flow::bucket_of;
use lb_common::packet::{Ipv4, Tcp, parse};
use lb_common::table::{Affinity, Bucket, BucketState, BucketTable, Config, Counter, PortRules};
use lb_common::verdict::{Action, LocalSocket, Reason, World, decide, rewrite};
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
    /// Which rule each port falls under.
    pub port_rules: Box<PortRules>,
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
        let mut bytes = frame.to_vec();
        let parsed = parse(frame);
        let verdict = decide(&parsed, self);
        let packet: &mut [u8] = &mut bytes;
        let rewritten = rewrite(verdict.action, &parsed, &self.config, packet);
        let fate = match (rewritten, verdict.action) {
            (None, _) | (Some(()), Action::Drop) => Fate::Dropped,
            (Some(()), Action::Untouched | Action::Accept) => Fate::Passed,
            (Some(()), Action::Answer) => Fate::Sent,
        };
        Outcome { fate, reason: verdict.reason, frame: bytes }
    }

    /// Puts the bucket of a client's flow into `state`.
    pub fn set_bucket(
        &mut self,
        table: usize,
        affinity: Affinity,
        client: [u8; 4],
        port: u16,
        state: BucketState,
    ) {
        let bucket = bucket_of(self.config.seed, affinity, client, port);
        self.tables[table].set(bucket, state);
    }
}

impl World for Setting {
    fn config(&self) -> &Config {
        &self.config
    }

    fn rule_of(&self, port: u16) -> usize {
        usize::from(self.port_rules.0[usize::from(port)])
    }

    fn bucket_state(&self, table: u8, bucket: Bucket) -> BucketState {
        self.tables.get(usize::from(table)).map_or(BucketState::Other, |table| table.state(bucket))
    }

    fn local(&self, _ip: &Ipv4, _tcp: &Tcp) -> LocalSocket {
        self.socket
    }

    fn now(&self) -> u64 {
        1
    }

    fn lease_deadline(&self) -> u64 {
        if self.lease { u64::MAX } else { 0 }
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
        rules.set(0, setting.port_rules.as_ref(), 0)?;
        let mut tables: Array<_, BucketTable> = self.map("TABLES")?.try_into()?;
        for (table, index) in setting.tables.iter().zip(0..) {
            tables.set(index, table, 0)?;
        }
        let mut lease: Array<_, u64> = self.map("LEASE")?.try_into()?;
        lease.set(0, setting.lease_deadline(), 0)?;
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
            for of_cpu in map.get(&u32::from(*reason as u8), 0)?.iter() {
                sum.packets += of_cpu.packets;
                sum.bytes += of_cpu.bytes;
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

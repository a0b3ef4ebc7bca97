//! One frame in, one verdict and one frame out: through the program in the kernel (`BPF_PROG_TEST_RUN`), and through the same
//! policy on the host. The program is loaded but attached to nothing; its socket look-ups see the network namespace of the
//! thread that feeds it.
//!
//! The map of counters has thousands of elements. So a frame is fed together with what the host expects of it: the kernel's
//! maps are looked at there first, and everywhere only where that was wrong, and once at the end ([`Kernel::audit`]).

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use lb_common::address::Address;
use lb_common::flow::bucket_of;
use lb_common::packet::{Ip, Packet, PacketMut, Tcp};
use lb_common::table::{
    BUCKETS, Bucket, BucketState, BucketTable, COUNTERS_A_RULE, Config, Counter, Lease, NODES, PortRules,
    RULES, SeenTable, TABLES, counter,
};
use lb_common::verdict::{Action, LocalSocket, Note, Reason, World, judge, rewrite};
use lb_user::dataplane::{OBJECT, btf};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it went.
    pub fate: Fate,
    /// As what it was counted.
    pub reason: Reason,
    /// Under which rule it was counted.
    pub rule: u8,
    /// What it left in the maps beside its count: a stamp, or nothing.
    pub note: Note,
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
        let note = match verdict.note() {
            note @ (Note::Seen { .. } | Note::Heard(_)) => note,
            Note::None | Note::Arp(_) | Note::Neighbour(_) => Note::None,
        };
        Outcome { fate, reason: verdict.reason(), rule: verdict.rule(), note, frame: packet.0 }
    }

    /// The bucket of a client's flow under a rule.
    pub fn bucket(&self, rule: usize, client: IpAddr, port: u16) -> Bucket {
        bucket_of(self.config.seed, &self.config.rules[rule], &Address::from(client), port)
    }

    /// Puts the bucket of a client's flow under a rule into `state`.
    pub fn set_bucket(&mut self, rule: usize, client: IpAddr, port: u16, state: BucketState) {
        let bucket = self.bucket(rule, client, port);
        self.tables[usize::from(self.config.rules[rule].table)].set(bucket, state);
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

/// The program in the kernel, with maps of its own.
pub struct Kernel {
    ebpf: Ebpf,
    tables: Array<MapData, BucketTable>,
    lease: Array<MapData, Lease>,
    counters: PerCpuArray<MapData, Counter>,
    seen: Array<MapData, SeenTable>,
    heard: Array<MapData, u64>,
    capture: RingBuf<MapData>,
    /// What the counters are, as far as every frame was counted as it should be.
    counted: Vec<Counter>,
    /// What comes back from the program.
    out: Vec<u8>,
}

impl Kernel {
    /// Loads the program.
    ///
    /// # Errors
    /// The kernel refuses: most often this process is not root.
    pub fn load(setting: &Setting) -> Result<Self> {
        let config = Config { snt_isn_offset: snt_isn_offset()?, ..setting.config };
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", &config, true);
        loader.map_max_entries("PORT_RULES", setting.port_lists.len().max(1) as u32);
        let mut ebpf = loader.load(OBJECT).context("the kernel refuses the maps; this needs root")?;
        let mut port_rules: Array<_, PortRules> = take(&mut ebpf, "PORT_RULES")?.try_into()?;
        for (list, number) in setting.port_lists.iter().zip(0..) {
            port_rules.set(number, list, 0)?;
        }
        let mut kernel = Self {
            tables: take(&mut ebpf, "TABLES")?.try_into()?,
            lease: take(&mut ebpf, "LEASE")?.try_into()?,
            counters: take(&mut ebpf, "COUNTERS")?.try_into()?,
            seen: take(&mut ebpf, "SEEN")?.try_into()?,
            heard: take(&mut ebpf, "HEARD")?.try_into()?,
            capture: take(&mut ebpf, "CAPTURE")?.try_into()?,
            counted: vec![Counter::default(); RULES * COUNTERS_A_RULE],
            out: Vec::new(),
            ebpf,
        };
        for program in ["rollcall", "renew"] {
            kernel.xdp(program)?.load().context("the kernel refuses the program")?;
        }
        kernel.apply(setting)?;
        Ok(kernel)
    }

    /// Puts the owner tables and the lease of `setting` in force; the rest must be that of the load.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn apply(&mut self, setting: &Setting) -> Result<()> {
        for (table, index) in setting.tables.iter().zip(0..) {
            self.tables.set(index, table, 0)?;
        }
        let until = if setting.lease { u64::MAX } else { 0 };
        self.set_lease(Lease { until_tick: until, until, tick: 0, time: 0 })
    }

    /// Feeds the program one frame of 14 to 3,000 bytes, of which the host expects `expected`.
    ///
    /// # Errors
    /// The kernel refuses, or the frame was not counted exactly once with its length.
    pub fn feed(&mut self, frame: &[u8], expected: &Outcome) -> Result<Outcome> {
        let fate = match self.run(frame)? {
            1 => Fate::Dropped,
            2 => Fate::Passed,
            3 => Fate::Sent,
            other => anyhow::bail!("the program returned {other}"),
        };
        let (rule, reason) = self.counted_as(frame.len(), expected)?;
        let note = self.stamped(expected.note)?;
        Ok(Outcome { fate, reason, rule, note, frame: self.out.clone() })
    }

    /// Feeds the program one frame, and tells only whether it passed. What it counts and stamps, [`Kernel::audit`] will not
    /// expect.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn passes(&mut self, frame: &[u8]) -> Result<bool> {
        Ok(self.run(frame)? == 2)
    }

    /// How many frames were counted for each reason; checks that none was counted, and nothing stamped, beside what was expected.
    ///
    /// # Errors
    /// Something was, or the kernel refuses.
    pub fn audit(&self) -> Result<BTreeMap<Reason, u64>> {
        let mut reasons = BTreeMap::new();
        for (place, expected) in self.counted.iter().enumerate() {
            let (rule, reason) = (place / COUNTERS_A_RULE, place % COUNTERS_A_RULE);
            let counter = self.counter(place)?;
            ensure!(counter == *expected, "rule {rule}, reason {reason}: {counter:?}, not {expected:?}");
            if counter.packets > 0 {
                let reason = Reason::ALL.get(reason).context("no reason has this number")?;
                *reasons.entry(*reason).or_default() += counter.packets;
            }
        }
        for table in 0..TABLES as u32 {
            ensure!(self.seen.get(&table, 0)? == NEVER_SEEN, "an unexpected stamp in table {table}");
        }
        for node in 0..NODES as u32 {
            ensure!(self.heard.get(&node, 0)? == 0, "an unexpected stamp of node {node}");
        }
        Ok(reasons)
    }

    /// Puts a lease in force.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_lease(&mut self, lease: Lease) -> Result<()> {
        Ok(self.lease.set(0, lease, 0)?)
    }

    /// Runs the program `renew` on this frame, and tells whether it took it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn renew(&mut self, frame: &[u8]) -> Result<bool> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let result = self.xdp("renew")?.test_run(options).context("the kernel refuses a test run")?;
        Ok(result.return_value == 2)
    }

    /// The lease in force.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lease(&self) -> Result<Lease> {
        Ok(self.lease.get(&0, 0)?)
    }

    /// The samples that wait in the ring buffer, as bytes.
    pub fn samples(&mut self) -> Vec<Vec<u8>> {
        let mut samples = Vec::new();
        while let Some(sample) = self.capture.next() {
            samples.push(sample.to_vec());
        }
        samples
    }

    /// The mean time for this frame over `repeat` runs, in nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn time(&mut self, frame: &[u8], repeat: u32) -> Result<f64> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = self.xdp("rollcall")?.test_run(options).context("the kernel refuses a test run")?;
        Ok(result.duration.as_nanos() as f64)
    }

    /// Attaches the program to an interface in the driver, until this value is dropped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, interface: &str) -> Result<()> {
        let attached = self.xdp("rollcall")?.attach(interface, XdpMode::Driver);
        attached.map(drop).with_context(|| format!("cannot attach the program to {interface}"))
    }

    /// Instructions that the verifier looked at, where the kernel says.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn verified_instructions(&mut self, program: &str) -> Result<Option<u32>> {
        Ok(self.xdp(program)?.info()?.verified_instruction_count())
    }

    /// Runs the program; the frame afterwards is in `out`.
    fn run(&mut self, frame: &[u8]) -> Result<u32> {
        const MAY_GROW_BY: usize = 64;
        let mut out = std::mem::take(&mut self.out);
        out.resize(frame.len() + MAY_GROW_BY, 0);
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.xdp("rollcall")?.test_run(options).context("the kernel refuses a test run")?;
        out.truncate(result.data_size_out as usize);
        self.out = out;
        Ok(result.return_value)
    }

    /// The rule and the reason as which the last frame was counted.
    fn counted_as(&mut self, length: usize, expected: &Outcome) -> Result<(u8, Reason)> {
        let place = counter(expected.rule, expected.reason as u8) as usize;
        let Counter { packets, bytes } = self.counted[place];
        let expected_counter = Counter { packets: packets + 1, bytes: bytes + length as u64 };
        if self.counter(place)? == expected_counter {
            self.counted[place] = expected_counter;
            return Ok((expected.rule, expected.reason));
        }
        self.search(length)
    }

    /// The same, by a look at all counters.
    fn search(&mut self, length: usize) -> Result<(u8, Reason)> {
        let mut changed = Vec::new();
        for place in 0..self.counted.len() {
            let (new, old) = (self.counter(place)?, self.counted[place]);
            if new != old {
                changed.push((place, new.packets - old.packets, new.bytes - old.bytes));
                self.counted[place] = new;
            }
        }
        match changed.as_slice() {
            [(place, 1, bytes)] if *bytes == length as u64 => {
                let reason = Reason::ALL.get(place % COUNTERS_A_RULE).context("no reason has this number")?;
                Ok(((place / COUNTERS_A_RULE) as u8, *reason))
            }
            other => anyhow::bail!("a frame of {length} bytes was counted as {other:?}"),
        }
    }

    /// One counter, summed over the CPUs.
    fn counter(&self, place: usize) -> Result<Counter> {
        let mut sum = Counter::default();
        for of_cpu in self.counters.get(&(place as u32), 0)?.iter() {
            sum.packets += of_cpu.packets;
            sum.bytes += of_cpu.bytes;
        }
        Ok(sum)
    }

    /// What the last frame stamped, where it was expected to; takes the stamp away.
    fn stamped(&mut self, expected: Note) -> Result<Note> {
        match expected {
            Note::Seen { table, .. } => self.stamped_bucket(table),
            Note::Heard(node) => {
                let stamp = self.heard.get(&u32::from(node), 0)?;
                self.heard.set(u32::from(node), 0, 0)?;
                Ok(if stamp == 0 { Note::None } else { Note::Heard(node) })
            }
            Note::None | Note::Arp(_) | Note::Neighbour(_) => Ok(Note::None),
        }
    }

    fn stamped_bucket(&mut self, table: u8) -> Result<Note> {
        let seen = self.seen.get(&u32::from(table), 0)?;
        let stamped: Vec<Bucket> = Bucket::all().filter(|bucket| seen.0[bucket.index()] != 0).collect();
        self.seen.set(u32::from(table), NEVER_SEEN, 0)?;
        match *stamped.as_slice() {
            [] => Ok(Note::None),
            [bucket] => Ok(Note::Seen { table, bucket }),
            _ => anyhow::bail!("one frame stamped {stamped:?}"),
        }
    }

    fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("no program `{name}`"))?;
        Ok(program.try_into()?)
    }
}

const NEVER_SEEN: SeenTable = SeenTable([0; BUCKETS]);

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("no map {name}"))
}

fn snt_isn_offset() -> Result<u16> {
    let btf = fs::read("/sys/kernel/btf/vmlinux").context("no kernel type information")?;
    let offset = btf::field_offset(&btf, "tcp_request_sock", "snt_isn")?;
    Ok(u16::try_from(offset)?)
}

//! owner table -> maps -> XDP program: the only writers of the maps while a program is attached, and a reader of what is in force.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};
use lb_common::table::{
    self, Bucket, BucketState, BucketTable, Counter, GENERATIONS, RULES, Renewal, TABLES, counter,
};
use lb_common::verdict::Reason;

use super::grace::Grace;
use crate::clock::Time;

/// The owner tables that the XDP program reads.
pub struct OwnerTables {
    tables: Array<MapData, BucketTable>,
    active: Array<MapData, u32>,
    grace: Grace,
    active_generation: u32,
    /// How many tables of each generation may hold something else than `Other`.
    filled: [usize; GENERATIONS],
}

impl OwnerTables {
    pub(crate) fn new(tables: Array<MapData, BucketTable>, active: Array<MapData, u32>) -> io::Result<Self> {
        let active_generation = active.get(&0, 0).map_err(io::Error::other)? % GENERATIONS as u32;
        let grace = Grace::start()?;
        // The agent before may have been killed right after it retired one.
        for generation in (0..GENERATIONS as u32).filter(|&generation| generation != active_generation) {
            grace.retire(generation);
        }
        Ok(Self { tables, active, grace, active_generation, filled: [TABLES; GENERATIONS] })
    }

    /// Puts `tables` in force, all at one moment; buckets of tables that are not given become `Other`.
    ///
    /// Waits for a grace period of the kernel (tens of milliseconds) only if it is called more often than
    /// `GENERATIONS - 1` times in one.
    ///
    /// # Errors
    /// More than `TABLES` tables, or the kernel refused to write. The tables in force did not change.
    pub fn apply(&mut self, tables: &[BucketTable]) -> io::Result<()> {
        if tables.len() > TABLES {
            return Err(io::Error::other(format!(
                "{} owner tables; the data path has room for {TABLES}",
                tables.len()
            )));
        }
        let generation = self.grace.clean();
        let flipped = self
            .write(generation, tables)
            .and_then(|()| self.active.set(0, generation, 0).map_err(io::Error::other));
        if let Err(error) = flipped {
            // No packet has read it: clean again after a needless grace period.
            self.grace.retire(generation);
            return Err(error);
        }
        self.grace.retire(self.active_generation);
        self.active_generation = generation;
        Ok(())
    }

    fn write(&mut self, generation: u32, tables: &[BucketTable]) -> io::Result<()> {
        const NOTHING: BucketTable = BucketTable::filled(BucketState::Other);
        let filled = &mut self.filled[generation as usize];
        let rest = std::iter::repeat_n(&NOTHING, filled.saturating_sub(tables.len()));
        // Still true if a write fails midway.
        *filled = (*filled).max(tables.len());
        for (table, index) in tables.iter().chain(rest).zip(generation * TABLES as u32..) {
            self.tables.set(index, table, 0).map_err(io::Error::other)?;
        }
        *filled = tables.len();
        Ok(())
    }
}

/// Until when this node may accept new connections.
pub struct Lease {
    ebpf: Ebpf,
    tick: Duration,
}

impl Lease {
    /// From a loaded object whose program [`Lease::program`] is loaded too.
    pub(crate) fn new(ebpf: Ebpf) -> Self {
        Self { ebpf, tick: Time::coarse_tick() }
    }

    /// The program that writes the lease: it reads clock and tick where it compares them.
    pub(crate) fn program(ebpf: &mut Ebpf) -> &mut Xdp {
        let program = ebpf.program_mut("renew").and_then(|program| program.try_into().ok());
        program.expect("invariant: lb-ebpf has this XDP program")
    }

    /// Lets the node accept until `deadline`, or up to two ticks of the kernel less.
    ///
    /// # Errors
    /// The kernel refused to run the program; the lease that was there goes on.
    pub fn renew(&mut self, deadline: Time) -> io::Result<()> {
        let tick_length = u64::try_from(self.tick.as_nanos()).unwrap_or(u64::MAX);
        let frame = Renewal { until: deadline.as_nanos(), tick_length }.to_bytes();
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
        let result = Self::program(&mut self.ebpf).test_run(options).map_err(io::Error::other)?;
        const XDP_PASS: u32 = 2;
        if result.return_value == XDP_PASS {
            Ok(())
        } else {
            Err(io::Error::other("the program that renews the lease did not take it"))
        }
    }

    /// Ends the lease at once.
    ///
    /// # Errors
    /// The kernel refused to run the program; the lease that was there goes on.
    pub fn end(&mut self) -> io::Result<()> {
        self.renew(Time::default())
    }
}

/// Begins the counters of the port rules anew: their numbers mean other rules now. What is counted meanwhile may be lost.
pub(super) fn forget_rules(counters: &mut PerCpuArray<MapData, Counter>) -> io::Result<()> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    for rule in 1..RULES as u8 {
        for reason in Reason::ALL {
            let nothing = PerCpuValues::try_from(vec![Counter::default(); cpus])?;
            counters.set(counter(rule, *reason as u8), nothing, 0).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// What the XDP program goes by at this moment; a cheap handle.
#[derive(Clone)]
pub struct InForce(Arc<Maps>);

struct Maps {
    tables: Array<MapData, BucketTable>,
    active: Array<MapData, u32>,
    lease: Array<MapData, table::Lease>,
}

impl InForce {
    /// Opens the maps that are pinned in the folder `pins`.
    pub(crate) fn open(pins: &Path) -> io::Result<Self> {
        let maps = Maps {
            tables: pinned(pins, "TABLES")?,
            active: pinned(pins, "ACTIVE")?,
            lease: pinned(pins, "LEASE")?,
        };
        Ok(Self(Arc::new(maps)))
    }

    /// The state of a bucket of an owner table.
    ///
    /// # Errors
    /// The kernel refused to read a map.
    pub fn bucket_state(&self, table: u8, bucket: Bucket) -> io::Result<BucketState> {
        let active =
            || Ok::<_, io::Error>(self.0.active.get(&0, 0).map_err(io::Error::other)? % GENERATIONS as u32);
        loop {
            let generation = active()?;
            let index = generation * TABLES as u32 + u32::from(table) % TABLES as u32;
            let found = self.0.tables.get(&index, 0).map_err(io::Error::other)?;
            // Only a generation that is not active is rewritten.
            if active()? == generation {
                return Ok(found.state(bucket));
            }
        }
    }

    /// Whether the lease lives at `now`. The program goes by the kernel's tick, and may see it end two ticks sooner.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn lease_lives(&self, now: Time) -> io::Result<bool> {
        let lease = self.0.lease.get(&0, 0).map_err(io::Error::other)?;
        Ok(now.as_nanos() < lease.until)
    }
}

/// Opens an array map that is pinned in the folder `pins`.
pub(super) fn pinned<V: Pod>(pins: &Path, name: &str) -> io::Result<Array<MapData, V>> {
    let map = MapData::from_pin(pins.join(name)).map_err(io::Error::other)?;
    Array::try_from(Map::Array(map)).map_err(io::Error::other)
}

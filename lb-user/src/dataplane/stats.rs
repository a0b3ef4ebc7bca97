//! verdict -> counter: how many frames met their fate for which reason.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use aya::maps::{MapData, PerCpuArray};
use lb_common::table::{Counter, counter};
use lb_common::verdict::Reason;

use crate::control::api::Count;

/// The counters of one interface. They outlive the agent, and begin at zero when the program is first attached.
#[derive(Clone)]
pub struct Counters(Arc<PerCpuArray<MapData, Counter>>);

impl Counters {
    pub(crate) fn new(map: PerCpuArray<MapData, Counter>) -> Self {
        Self(Arc::new(map))
    }

    /// Frames and bytes of every reason, also of those that never occurred, by its name.
    ///
    /// # Errors
    /// The kernel refused to read the map; nothing changed.
    pub fn read(&self) -> io::Result<BTreeMap<String, Count>> {
        let mut counts = BTreeMap::new();
        for reason in Reason::ALL {
            let mut sum = Count::default();
            let of_cpus = self.0.get(&counter(0, *reason as u8), 0);
            for of_cpu in of_cpus.map_err(io::Error::other)?.iter() {
                sum.packets += of_cpu.packets;
                sum.bytes += of_cpu.bytes;
            }
            counts.insert(reason.as_str().to_owned(), sum);
        }
        Ok(counts)
    }
}

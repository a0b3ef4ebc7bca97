//! XDP program -> whose hearing tests arrived, and when. Who is deaf by that is judged in `cluster`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use aya::maps::{Array, MapData};

use crate::clock::Time;
use crate::config::model::Priority;

/// When the latest hearing test of each node arrived here; a cheap handle. It outlives the agent, so a moment may be from
/// before this agent's start.
#[derive(Clone)]
pub struct Hearing(Arc<Array<MapData, u64>>);

impl Hearing {
    pub(crate) fn new(map: Array<MapData, u64>) -> Self {
        Self(Arc::new(map))
    }

    /// By node, of these nodes; one that was never heard is not there.
    ///
    /// # Errors
    /// The kernel refused to read the map; nothing changed.
    pub fn read(&self, nodes: impl IntoIterator<Item = Priority>) -> io::Result<BTreeMap<Priority, Time>> {
        let mut heard = BTreeMap::new();
        for node in nodes {
            let nanos = self.0.get(&node.number().into(), 0).map_err(io::Error::other)?;
            if nanos > 0 {
                heard.insert(node, Time::from_nanos(nanos));
            }
        }
        Ok(heard)
    }
}

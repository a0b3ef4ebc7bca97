//! Who holds a bucket, by what the nodes say: this one by its owner tables, others by what they last announced. Pure.

use lb_common::table::{Bucket, BucketState};

use crate::cluster::node::{PeerSnapshot, Snapshot};
use crate::cluster::peer::Standing;
use crate::cluster::wire::{Holdings, Phase};
use crate::config::model::Priority;

/// The state of a bucket on this node, as of the snapshot.
pub(super) fn own_state(snapshot: &Snapshot, table: usize, bucket: Bucket) -> BucketState {
    snapshot.tables.get(table).map_or(BucketState::Other, |table| table.state(bucket))
}

/// The state of a bucket on a peer; `None` where that is not known. Whether it is the peer's alone follows from what the others
/// hold or still have connections in.
pub(super) fn peer_state(
    snapshot: &Snapshot,
    peer: &PeerSnapshot,
    table: usize,
    bucket: Bucket,
) -> Option<BucketState> {
    let holdings = peer.state.as_ref()?.holdings.get(table)?;
    if !holdings.holds.contains(bucket) {
        let departs = holdings.departing.contains(bucket);
        return Some(if departs { BucketState::Departing } else { BucketState::Other });
    }
    let here = own_state(snapshot, table, bucket) != BucketState::Other;
    let has = |holdings: &Holdings| holdings.holds.contains(bucket) || holdings.departing.contains(bucket);
    let elsewhere = snapshot.peers.iter().any(|other| {
        let gone = matches!(other.standing, Standing::Dead | Standing::Stopped);
        let held = other.state.as_ref().and_then(|state| state.holdings.get(table)).is_some_and(has);
        other.node != peer.node && !gone && held
    });
    Some(if here || elsewhere { BucketState::Arriving } else { BucketState::Mine })
}

/// Whether a peer may accept new connections now, as far as this node knows.
pub(super) fn peer_serves(peer: &PeerSnapshot) -> bool {
    let leads = matches!(peer.phase, Some(Phase::Serving | Phase::Stopping));
    peer.standing == Standing::Alive && leads
}

/// The node that holds a bucket now, if one is known to.
pub(super) fn holder(snapshot: &Snapshot, me: Priority, table: usize, bucket: Bucket) -> Option<Priority> {
    if accepts(own_state(snapshot, table, bucket)) {
        return Some(me);
    }
    let holds = |peer: &&PeerSnapshot| {
        peer_serves(peer) && peer_state(snapshot, peer, table, bucket).is_some_and(accepts)
    };
    snapshot.peers.iter().find(holds).map(|peer| peer.node)
}

/// The state as one word.
pub(super) const fn word(state: BucketState) -> &'static str {
    match state {
        BucketState::Other => "other",
        BucketState::Mine => "mine",
        BucketState::Arriving => "arriving",
        BucketState::Departing => "departing",
    }
}

const fn accepts(state: BucketState) -> bool {
    matches!(state, BucketState::Mine | BucketState::Arriving)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use lb_common::table::BucketTable;

    use super::*;
    use crate::clock::Time;
    use crate::cluster::operate::{Intent, Mandate};
    use crate::cluster::sets::BucketSet;
    use crate::cluster::wire::{Generations, Health, State, TableId, Traffic};

    /// This node with `tables`, and no peers.
    pub(in crate::agent) fn snapshot(tables: Vec<BucketTable>) -> Snapshot {
        Snapshot {
            at: Time::from_nanos(1_000_000_000),
            phase: Phase::Serving,
            mandate: Mandate::default(),
            rank: Priority::new(1).unwrap(),
            incarnation: 7,
            aside: None,
            health: Health::default(),
            wants: Vec::new(),
            converging: false,
            late: std::time::Duration::ZERO,
            wrongly_suspected: 0,
            refused: Default::default(),
            problem: None,
            facts: 0,
            switched: 0,
            generations: Generations::default(),
            preparation: None,
            waiting: None,
            lease: None,
            table: TableId::default(),
            default_host: None,
            sticking: vec![0; tables.len()],
            tables,
            peers: Vec::new(),
        }
    }

    /// A serving peer that holds and lets depart these buckets of the last of `tables` tables.
    pub(in crate::agent) fn peer(
        number: u8,
        tables: usize,
        holds: &[u16],
        departing: &[u16],
    ) -> PeerSnapshot {
        let set =
            |buckets: &[u16]| buckets.iter().filter_map(|&bucket| Bucket::new(bucket)).collect::<BucketSet>();
        let mut holdings = vec![Holdings::NONE; tables];
        holdings[tables - 1] =
            Holdings { holds: set(holds), departing: set(departing), released: Vec::new() };
        PeerSnapshot {
            node: Priority::new(number).unwrap(),
            standing: Standing::Alive,
            phase: Some(Phase::Serving),
            intent: Intent::Started,
            rank: Priority::new(number).unwrap(),
            incarnation: Some(7),
            health: Health::default(),
            wants: Vec::new(),
            traffic: Traffic::default(),
            generations: Generations::default(),
            holds: vec![0; tables],
            state: Some(Arc::new(State { holdings, published: None })),
            last_heard: None,
            lost_path: None,
            filtered: false,
        }
    }

    #[test]
    fn a_bucket_is_held_by_who_accepts_its_new_connections() {
        let [me, two, three] = [1, 2, 3].map(|number| Priority::new(number).unwrap());
        let [a, b, c, d] = [0, 1, 2, 3].map(|number| Bucket::new(number).unwrap());
        let mut table = BucketTable::filled(BucketState::Other);
        table.set(a, BucketState::Mine);
        table.set(b, BucketState::Departing);
        let mut snapshot = snapshot(vec![table]);
        snapshot.peers = vec![peer(2, 1, &[1, 2], &[]), peer(3, 1, &[3], &[2])];
        let held = [a, b, c, d].map(|bucket| holder(&snapshot, me, 0, bucket));
        assert_eq!(held, [Some(me), Some(two), Some(two), Some(three)]);
        let states = [a, b, c, d].map(|bucket| peer_state(&snapshot, &snapshot.peers[0], 0, bucket));
        let expected = [BucketState::Other, BucketState::Arriving, BucketState::Arriving, BucketState::Other];
        assert_eq!(states, expected.map(Some));
        assert_eq!(peer_state(&snapshot, &snapshot.peers[1], 0, d), Some(BucketState::Mine));

        snapshot.peers[1].standing = Standing::Dead;
        assert_eq!(holder(&snapshot, me, 0, d), None);
        assert_eq!(peer_state(&snapshot, &snapshot.peers[0], 0, c), Some(BucketState::Mine));
        snapshot.peers[0].state = None;
        assert_eq!(holder(&snapshot, me, 0, c), None);
    }
}

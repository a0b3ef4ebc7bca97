//! Four nodes, each with the program and maps of its own: a flow passes on exactly one of them, and while its bucket moves, on one
//! at most.

use std::net::IpAddr;

use lb_common::table::{BUCKETS, BucketState, BucketTable};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::{Kernel, Setting};

use crate::frames::*;
use crate::random::runner;
use crate::scene::*;

const NODES: usize = 4;

#[test]
fn in_one_epoch_every_flow_passes_on_exactly_one_node() {
    in_own_netns(|| {
        let mut cluster = Cluster::load();
        let mut holders = [0; NODES];
        for moves in samples(&any::<u64>(), 4).into_iter().map(moves) {
            for epoch in [Epoch::Before, Epoch::After] {
                cluster.enter(&moves, [epoch; NODES]);
                for frame in samples(&flow(), 1_500) {
                    let passing = cluster.passing(&frame);
                    let [only] = passing.as_slice() else {
                        panic!("{passing:?} let it pass in {epoch:?}: {frame:02x?}");
                    };
                    holders[*only] += 1;
                }
            }
        }
        println!("flows passed on each node: {holders:?}");
        assert!(holders.iter().all(|&passed| passed > 1_000), "{holders:?}");
    });
}

#[test]
fn in_every_mix_of_neighbouring_epochs_a_flow_passes_on_one_node_at_most() {
    in_own_netns(|| {
        let mut cluster = Cluster::load();
        let moves = moves(1);
        let (mut on_one, mut on_none) = (0, 0);
        for (earlier, later) in Epoch::neighbours() {
            for mix in 0..1 << NODES {
                let epochs = std::array::from_fn(|node| if mix >> node & 1 == 0 { earlier } else { later });
                cluster.enter(&moves, epochs);
                for frame in samples(&flow(), 150) {
                    match cluster.passing(&frame).as_slice() {
                        [] => on_none += 1,
                        [_] => on_one += 1,
                        both => panic!("{both:?} let it pass in {epochs:?}: {frame:02x?}"),
                    }
                }
            }
        }
        println!("{on_one} flows passed on one node, {on_none} on none");
        // While the loser knows of its release and the heir does not yet, nobody accepts.
        assert!(on_one > 2 * on_none && on_none > 0, "{on_one} and {on_none}");
    });
}

#[test]
fn nodes_without_a_lease_accept_no_flow_whatever_their_tables_say() {
    in_own_netns(|| {
        let mut cluster = Cluster::load();
        for node in &mut cluster.nodes {
            // A partition that healed badly: each believes that all is its own.
            fill(&mut node.setting, BucketState::Mine);
            node.setting.lease = false;
            node.kernel.apply(&node.setting).unwrap();
        }
        for frame in samples(&flow(), 500) {
            assert_eq!(cluster.passing(&frame), [] as [usize; 0], "{frame:02x?}");
        }
    });
}

/// The steps of a planned move, as each node comes to know of them, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Epoch {
    Before,
    /// The loser released it and named the heir.
    Released,
    /// The heir accepts; older connections may still live on the loser.
    Taken,
    After,
}

impl Epoch {
    fn neighbours() -> [(Self, Self); 3] {
        [(Self::Before, Self::Released), (Self::Released, Self::Taken), (Self::Taken, Self::After)]
    }
}

/// From whom to whom each bucket of a table goes; it may stay.
#[derive(Clone, Copy)]
struct Move {
    loser: usize,
    heir: usize,
}

impl Move {
    fn state(self, node: usize, epoch: Epoch) -> BucketState {
        let (loses, inherits) = (self.loser == node, self.heir == node);
        match (epoch, loses, inherits) {
            (_, true, true) => BucketState::Mine,
            (Epoch::Before, true, false) | (Epoch::After, false, true) => BucketState::Mine,
            (Epoch::Released | Epoch::Taken, true, false) => BucketState::Departing,
            (Epoch::Taken, false, true) => BucketState::Arriving,
            (Epoch::Before | Epoch::Released, false, true)
            | (Epoch::After, true, false)
            | (_, false, false) => BucketState::Other,
        }
    }
}

/// For every bucket of every table.
fn moves(seed: u64) -> Vec<Vec<Move>> {
    let mut state = seed;
    let mut node = || {
        // Knuth's multiplicative generator; its high bits are good enough to scatter.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 61) as usize % NODES
    };
    (0..TABLES).map(|_| (0..BUCKETS).map(|_| Move { loser: node(), heir: node() }).collect()).collect()
}

struct Node {
    setting: Setting,
    kernel: Kernel,
}

struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    fn load() -> Self {
        let setting = Scene { default_host: true, ..Scene::new() }.setting();
        let node = |number: usize| {
            let mut setting = setting.clone();
            setting.config.own_mac = [2, 0, 0, 0, 1, number as u8];
            let kernel = Kernel::load(&setting).unwrap();
            Node { setting, kernel }
        };
        Self { nodes: (0..NODES).map(node).collect() }
    }

    /// Puts each node into its epoch.
    fn enter(&mut self, moves: &[Vec<Move>], epochs: [Epoch; NODES]) {
        for ((number, node), epoch) in self.nodes.iter_mut().enumerate().zip(epochs) {
            for (table, moves) in node.setting.tables.iter_mut().zip(moves) {
                let states = moves.iter().map(|bucket| bucket.state(number, epoch) as u8);
                *table = BucketTable([0; BUCKETS]);
                table.0.iter_mut().zip(states).for_each(|(byte, state)| *byte = state);
            }
            node.kernel.apply(&node.setting).unwrap();
        }
    }

    /// The nodes that let the frame pass.
    fn passing(&mut self, frame: &[u8]) -> Vec<usize> {
        let nodes = self.nodes.iter_mut().enumerate();
        nodes.filter_map(|(number, node)| node.kernel.passes(frame).unwrap().then_some(number)).collect()
    }
}

/// SYNs, UDP datagrams, echo requests and other protocols for the cluster IPs, under rules that serve.
fn flow() -> impl Strategy<Value = Vec<u8>> {
    let v4 = (any::<[u8; 4]>(), select(vec![VIP4, OTHER_VIP4])).prop_map(|(ip, vip)| (IpAddr::from(ip), vip));
    let v6 =
        (any::<[u8; 16]>(), select(vec![VIP6, OTHER_VIP6])).prop_map(|(ip, vip)| (IpAddr::from(ip), vip));
    let pair = prop_oneof![v4, v6].prop_map(|(client, vip)| Pair { client, vip });
    let tcp_port = select(vec![443, 445, 8000, 25, 9000, 10_443, 143, 65_535, 22, 80]);
    let udp_port = select(vec![443, 53, 0, 9, 22]);
    (pair, any::<u16>(), tcp_port, udp_port, 0..6).prop_map(|(pair, from, tcp_port, udp_port, kind)| {
        match kind {
            0..=2 => pair.tcp(from, tcp_port, SYN),
            3 => pair.udp(from, udp_port),
            4 => pair.echo(),
            _ => pair.frame(GRE, &[0; 8]),
        }
    })
}

fn samples<T>(strategy: &impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = runner(1);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

//! Sends frames to the cluster MAC of every mode, and counts those that the other nodes say they got.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use super::super::seen::{Counted, Echoes};
use super::super::wire::{CALLS, Keys, Kind, LONGEST, Message};
use super::super::{MAX_FRAMES, cluster_macs};
use super::resolve;
use crate::clock::Time;
use crate::config::model::{Config, Mode, Node, Priority};
use crate::dataplane::link::Interface;
use crate::preflight::next_frame;
use crate::sys::{FrameSocket, Received};

/// How many frames each node gets in a mode, where there are few nodes.
const EACH: u32 = 5;

/// How often a node is called, and how long each time is waited for its answer.
const CALLS_EACH: u32 = 3;
const CALL_WAIT: Duration = Duration::from_millis(250);

/// A node that has just joined a group is to be known to the switches.
const JOINED: Duration = Duration::from_millis(600);

/// From one frame to the next, and after the last.
const PACE: Duration = Duration::from_millis(20);
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Who sends.
struct Sender<'a> {
    socket: FrameSocket,
    me: Priority,
    own: (Ipv4Addr, [u8; 6]),
    keys: &'a Keys,
    run: [u8; 16],
}

/// Sends to at most [`MAX_FRAMES`] other nodes and counts. Takes some 2 s.
///
/// # Errors
/// Without CAP_NET_RAW, or the interface is down.
pub(super) fn count(
    config: &Config,
    nic: &Interface,
    keys: &Keys,
    run: [u8; 16],
) -> io::Result<Vec<Counted>> {
    let me = config.me();
    let others = config.cluster.nodes.iter().filter(|node| node.priority != me.priority);
    let others: Vec<&Node> = others.take(MAX_FRAMES as usize).collect();
    let own = (me.address, nic.mac);
    let addresses: Vec<Ipv4Addr> = others.iter().map(|node| node.address).collect();
    let macs = resolve(nic, me.address, &addresses)?;
    let socket = FrameSocket::open(nic.index, Received::EtherType(CALLS))?;
    let sender = Sender { socket, me: me.priority, own, keys, run };
    let reached = others.iter().filter_map(|node| Some((*node, *macs.get(&node.address)?)));
    let reached: Vec<(&Node, [u8; 6])> = reached.collect();
    let listening = sender.call(&reached)?;
    let callees: Vec<&Node> =
        others.iter().copied().filter(|node| listening.contains(&node.priority)).collect();
    let first_ip = config.cluster.cluster_ips.first().map_or(config.cluster.probed().into(), |ip| ip.address);
    let each = (MAX_FRAMES / u32::try_from(callees.len()).unwrap_or(MAX_FRAMES).max(1)).clamp(1, EACH);
    let arrived = if callees.is_empty() {
        BTreeSet::new()
    } else {
        sleep(JOINED);
        sender.probe(&callees, &cluster_macs(first_ip), each)?
    };
    Ok(others
        .iter()
        .map(|node| {
            let listens = listening.contains(&node.priority);
            let modes = cluster_macs(first_ip).map(|(mode, _)| {
                let back =
                    arrived.iter().filter(|(of, to, _)| (*of, *to) == (node.priority, number(mode))).count();
                (mode, Echoes { sent: each, back: u32::try_from(back).unwrap_or(0) })
            });
            let modes = if listens { modes.to_vec() } else { Vec::new() };
            Counted { node: node.name.clone(), mac: macs.get(&node.address).copied(), listens, modes }
        })
        .collect())
}

impl Sender<'_> {
    fn message(&self, kind: Kind, to: Priority, number: u16) -> Message {
        Message { kind, from: self.me, to, number, run: self.run }
    }

    /// Calls these nodes; those that listen.
    fn call(&self, nodes: &[(&Node, [u8; 6])]) -> io::Result<BTreeSet<Priority>> {
        let mut listening = BTreeSet::new();
        for _ in 0..CALLS_EACH {
            for (node, mac) in nodes.iter().filter(|(node, _)| !listening.contains(&node.priority)) {
                let call = self.message(Kind::Call, node.priority, 0);
                self.socket.send(&call.call_frame(*mac, self.own.1, self.keys))?;
            }
            self.hear(CALL_WAIT, |answer| {
                if answer.kind == Kind::Ready {
                    listening.insert(answer.from);
                }
                listening.len() == nodes.len()
            })?;
            if listening.len() == nodes.len() {
                break;
            }
        }
        Ok(listening)
    }

    /// Sends `each` probes to each node in each mode: who got which.
    fn probe(
        &self,
        nodes: &[&Node],
        macs: &[(Mode, [u8; 6])],
        each: u32,
    ) -> io::Result<BTreeSet<(Priority, u8, u16)>> {
        let all = nodes.len() * macs.len() * each as usize;
        let mut arrived = BTreeSet::new();
        let mut note = |answer: &Message| {
            if let Kind::Arrived(mode) = answer.kind {
                arrived.insert((answer.from, number(mode), answer.number));
            }
            arrived.len() == all
        };
        for turn in 0..u16::try_from(each).unwrap_or(1) {
            for (mode, mac) in macs {
                for node in nodes {
                    let probe = self.message(Kind::Probe(*mode), node.priority, turn);
                    self.socket.send(&probe.probe_frame((node.address, *mac), self.own, self.keys))?;
                }
            }
            self.hear(PACE, &mut note)?;
        }
        self.hear(LAST_WAIT, &mut note)?;
        Ok(arrived)
    }

    /// Takes answers to this run in for that long, or until `enough` says so.
    fn hear(&self, wait: Duration, mut enough: impl FnMut(&Message) -> bool) -> io::Result<()> {
        let until = Time::now() + wait;
        let mut frame = [0; LONGEST];
        while let Some(length) = next_frame(&self.socket, &mut frame, until)? {
            let Some(message) = Message::of_call(&frame[..length], self.keys) else { continue };
            if message.run == self.run && message.to == self.me && enough(&message) {
                break;
            }
        }
        Ok(())
    }
}

/// Orders modes.
fn number(mode: Mode) -> u8 {
    match mode {
        Mode::Unicast => 0,
        Mode::Multicast => 1,
        Mode::Igmp => 2,
    }
}

//! A stranger in the DMZ who has recorded the nodes' heartbeats and sends some in their name: as they were, damaged, cut off, or
//! sealed with a key of his own. He forges the source address, or the kernel of the receiver would not let him in.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lb_user::clock::Time;
use lb_user::config::model::HEARTBEAT_PORT;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::capture::filter::{JEQ, LD_B, LD_H, OUTGOING, PACKET_TYPE, RET};
use crate::capture::{filter::LD_W, packet_socket};
use crate::lab::{Lab, Place};
use crate::sys::Namespace;

/// Where he is.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 66);

/// How many heartbeats he keeps from one node to another.
const KEPT: usize = 2000;

/// Length of what is not encrypted in a heartbeat; what he must not touch if his forgeries are to be looked at.
const HEADER: usize = 32;

/// Where in the header the session begins and ends.
const SESSION: std::ops::Range<usize> = 8..24;

/// The stranger, and what he has heard.
#[derive(Debug)]
pub struct Stranger {
    namespace: Namespace,
    heard: BTreeMap<(Ipv4Addr, Ipv4Addr), Vec<Vec<u8>>>,
}

/// What he sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malice {
    /// What he recorded, as it was.
    Replayed,
    /// With some bits turned.
    Damaged,
    /// With its end missing.
    Truncated,
    /// A right header with a session of his own, and sealed with his own key: to the receiver, bytes that do not open.
    WrongKey,
    /// Bytes without any sense.
    Noise,
}

impl Malice {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Replayed, Self::Damaged, Self::Truncated, Self::WrongKey, Self::Noise];
}

impl Stranger {
    /// Plugs him into the DMZ and lets him listen for `time`.
    pub fn listen(lab: &Lab, time: Duration) -> Result<Self> {
        let namespace = lab.stranger("mallory", ADDRESS)?;
        let mut stranger = Self { namespace, heard: BTreeMap::new() };
        stranger.record(lab, time)?;
        Ok(stranger)
    }

    /// Lets him listen again; what he recorded before is kept as long as there is room.
    pub fn record(&mut self, lab: &Lab, time: Duration) -> Result<()> {
        let socket = lab.dmz.enter(|| packet_socket(&heartbeats()))??;
        let (end, mut buffer) = (Time::now() + time, [0; 2048]);
        while Time::now() < end {
            match (&socket).read(&mut buffer) {
                Ok(length) => self.hear(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("the stranger cannot listen"),
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: &[u8]) {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return };
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport)
        else {
            return;
        };
        let between = (ip.header().source_addr(), ip.header().destination_addr());
        let kept = self.heard.entry(between).or_default();
        if kept.len() < KEPT {
            kept.push(udp.payload().to_vec());
        }
    }

    /// How many heartbeats he has from one node to another.
    pub fn heard(&self, from: &Place, to: &Place) -> usize {
        self.heard.get(&(from.address, to.address)).map_or(0, Vec::len)
    }

    /// Sends `per_second` datagrams of these kinds by turns to `to`, in the name of `from`, until the attack is ended.
    pub fn attack(&self, from: &Place, to: &Place, kinds: &[Malice], per_second: u32) -> Result<Attack> {
        let recorded = self.heard.get(&(from.address, to.address));
        let recorded = recorded.filter(|recorded| !recorded.is_empty());
        let recorded = recorded.with_context(|| format!("no heartbeat from {} was heard", from.name))?;
        let mut forge = Forge { recorded: recorded.clone(), random: 0x9e37_79b9_7f4a_7c15, next: 0 };
        let (source, target) = (from.address, to.address);
        let socket = self.namespace.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)))??;
        socket.set_header_included_v4(true)?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count, kinds) = (Arc::clone(&stop), Arc::clone(&sent), kinds.to_vec());
        let thread = thread::spawn(move || -> Result<()> {
            let (start, period) = (Time::now(), Duration::from_secs(1) / per_second);
            for (kind, index) in kinds.iter().cycle().zip(0..) {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                thread::sleep((start + period.saturating_mul(index)).since(Time::now()));
                let packet = datagram(source, target, &forge.make(*kind))?;
                socket.send_to(&packet, &SocketAddrV4::new(target, HEARTBEAT_PORT).into())?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Attack { stop, sent, thread, begun: Time::now() })
    }
}

/// An attack under way.
#[derive(Debug)]
pub struct Attack {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
    begun: Time,
}

impl Attack {
    /// Ends it: how many datagrams were sent, and in what time.
    pub fn end(self) -> Result<(u64, Duration)> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the attack panicked"))??;
        Ok((self.sent.load(Ordering::Relaxed), Time::now().since(self.begun)))
    }
}

/// Makes hostile datagrams out of recorded ones; the same ones each time.
struct Forge {
    recorded: Vec<Vec<u8>>,
    random: u64,
    next: usize,
}

impl Forge {
    fn make(&mut self, kind: Malice) -> Vec<u8> {
        self.next = (self.next + 1) % self.recorded.len();
        let mut bytes = self.recorded[self.next].clone();
        match kind {
            Malice::Replayed => {}
            Malice::Damaged => {
                for _ in 0..=self.below(3) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
            Malice::Truncated => bytes.truncate(self.below(bytes.len())),
            Malice::WrongKey => {
                self.fill(&mut bytes[SESSION]);
                self.fill(&mut bytes[HEADER..]);
            }
            Malice::Noise => {
                let length = self.below(1472);
                bytes = vec![0; length];
                self.fill(&mut bytes);
            }
        }
        bytes
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number()).unwrap_or(0) % bound.max(1)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.number().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }

    /// Xorshift: no secret hangs on it.
    fn number(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 1
    }
}

fn datagram(source: Ipv4Addr, target: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder =
        PacketBuilder::ipv4(source.octets(), target.octets(), 64).udp(HEARTBEAT_PORT, HEARTBEAT_PORT);
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

/// Passes what goes from a node to the port of the heartbeats, as it comes into the switch.
fn heartbeats() -> [SockFilter; 10] {
    let insn = SockFilter::new;
    [
        insn(LD_W, 0, 0, PACKET_TYPE),
        insn(JEQ, 7, 0, OUTGOING),
        insn(LD_H, 0, 0, 12),
        insn(JEQ, 0, 5, 0x0800),
        insn(LD_B, 0, 0, 23),
        insn(JEQ, 0, 3, 17),
        insn(LD_H, 0, 0, 36),
        insn(JEQ, 0, 1, u32::from(HEARTBEAT_PORT)),
        insn(RET, 0, 0, 2048),
        insn(RET, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forge() -> Forge {
        Forge { recorded: vec![(0..200).collect()], random: 1, next: 0 }
    }

    #[test]
    fn only_a_replay_is_what_was_recorded() {
        let original: Vec<u8> = (0..200).collect();
        for kind in Malice::ALL {
            let mut forge = forge();
            let same = (0..100).filter(|_| forge.make(kind) == original).count();
            assert_eq!(same, if kind == Malice::Replayed { 100 } else { 0 }, "{kind:?}");
        }
    }

    #[test]
    fn a_wrong_key_leaves_magic_version_sender_receiver_and_number() {
        let made = forge().make(Malice::WrongKey);
        let original: Vec<u8> = (0..200).collect();
        assert_eq!((&made[..8], &made[24..32]), (&original[..8], &original[24..32]));
        assert_ne!(made[SESSION], original[SESSION]);
    }
}

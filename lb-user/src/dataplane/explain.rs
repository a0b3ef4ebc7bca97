//! packet, as an operator describes it -> verdict, and all that led to it: judged by the very code that runs in the kernel, over
//! facts that the caller brings. Reads no map and asks no socket (`agent/explain.rs`).

use std::cell::Cell;
use std::net::IpAddr;

use lb_common::packet::{Ip, Tcp, TcpFlags, protocol};
use lb_common::table::{Bucket, BucketState, Config, PortRules};
use lb_common::verdict::{LocalSocket, Verdict, World, judge};

use crate::control::api::{Flag, Packet, Protocol};

/// What a node's verdict depends on.
pub struct Facts<'a> {
    /// What does not change while its program is attached.
    pub config: &'a Config,
    /// Which rule each port falls under.
    pub port_lists: &'a [PortRules],
    /// The states of its buckets.
    pub state: &'a dyn Fn(u8, Bucket) -> BucketState,
    /// Whether its lease lives.
    pub lease: bool,
    /// What its kernel has for the packet's addresses and ports.
    pub socket: LocalSocket,
}

/// A verdict, and what was looked up for it.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// The verdict.
    pub verdict: Verdict,
    /// The owner table, the bucket and its state, if they mattered.
    pub bucket: Option<(u8, Bucket, BucketState)>,
    /// Whether the kernel's sockets mattered.
    pub asked_kernel: bool,
}

/// Judges `packet`, which came to the cluster MAC.
pub fn trace(packet: &Packet, facts: &Facts<'_>) -> Trace {
    let world = Recorder { facts, bucket: Cell::new(None), asked_kernel: Cell::new(false) };
    let verdict = judge(frame(packet, facts.config).as_slice(), &world);
    Trace { verdict, bucket: world.bucket.get(), asked_kernel: world.asked_kernel.get() }
}

struct Recorder<'a> {
    facts: &'a Facts<'a>,
    bucket: Cell<Option<(u8, Bucket, BucketState)>>,
    asked_kernel: Cell<bool>,
}

impl World for Recorder<'_> {
    fn config(&self) -> &Config {
        self.facts.config
    }

    fn rule_of(&self, list: u8, port: u16) -> usize {
        let list = self.facts.port_lists.get(usize::from(list));
        list.map_or(0, |list| usize::from(list.0[usize::from(port)]))
    }

    fn bucket_state(&self, table: u8, bucket: Bucket) -> BucketState {
        let state = (self.facts.state)(table, bucket);
        self.bucket.set(Some((table, bucket, state)));
        state
    }

    fn local(&self, _ip: &Ip, _tcp: &Tcp) -> LocalSocket {
        self.asked_kernel.set(true);
        self.facts.socket
    }

    fn lease_lives(&self) -> bool {
        self.facts.lease
    }
}

/// The packet as a frame to the cluster MAC. Checksums are left out: the program does not look at them.
fn frame(packet: &Packet, config: &Config) -> Vec<u8> {
    const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const VLAN: [u8; 2] = [0x81, 0];
    let mut frame = [config.cluster_mac, FROM].concat();
    for vlan in config.vlans.into_iter().filter(|&vlan| vlan != 0) {
        frame.extend(VLAN);
        frame.extend(vlan.to_be_bytes());
    }
    let v6 = packet.destination.is_ipv6();
    let payload = payload(packet, v6);
    frame.extend(header(packet, v6, payload.len() as u8));
    frame.extend(payload);
    frame
}

/// The EtherType and the IP header.
fn header(packet: &Packet, v6: bool, payload_len: u8) -> Vec<u8> {
    const TTL: u8 = 64;
    let next = match (packet.protocol, v6) {
        (Protocol::Tcp, _) => protocol::TCP,
        (Protocol::Udp, _) => protocol::UDP,
        (Protocol::Icmp, false) => protocol::ICMP,
        (Protocol::Icmp, true) => protocol::ICMPV6,
    };
    let mut header = if v6 {
        vec![0x86, 0xdd, 0x60, 0, 0, 0, 0, payload_len, next, TTL]
    } else {
        vec![8, 0, 0x45, 0, 0, 20 + payload_len, 0, 0, 0, 0, TTL, next, 0, 0]
    };
    for address in [packet.source.ip(), packet.destination.ip()] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    header
}

/// The header that the IP header carries, and nothing behind it.
fn payload(packet: &Packet, v6: bool) -> Vec<u8> {
    let ports = [packet.source.port().to_be_bytes(), packet.destination.port().to_be_bytes()].concat();
    let rest: &[u8] = match packet.protocol {
        // Sequence and acknowledgement number, header length, flags, window, checksum, urgent pointer.
        Protocol::Tcp => &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags(&packet.flags).0, 0xff, 0xff, 0, 0, 0, 0],
        Protocol::Udp => &[0, 8, 0, 0],
        Protocol::Icmp => return vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 1],
    };
    [&ports, rest].concat()
}

/// The flags byte of a TCP header.
pub fn flags(flags: &[Flag]) -> TcpFlags {
    let bit = |flag: &Flag| match flag {
        Flag::Syn => TcpFlags::SYN,
        Flag::Ack => TcpFlags::ACK,
        Flag::Fin => TcpFlags::FIN,
        Flag::Rst => TcpFlags::RST,
    };
    TcpFlags(flags.iter().map(bit).fold(0, |all, bit| all | bit))
}

#[cfg(test)]
mod tests {
    use lb_common::address::Address;
    use lb_common::flow::bucket_of;
    use lb_common::table::{Affinity, Rule, Vips};
    use lb_common::verdict::Reason;

    use super::*;

    fn config(vlans: [u16; 2]) -> Config {
        let ips =
            ["192.168.50.8", "fd00:50::8"].map(|ip| (Address::from(ip.parse::<IpAddr>().unwrap()), 0, 1));
        let mut config = Config { seed: [7, 9], vips: Vips::new(&ips).unwrap(), vlans, ..Config::EMPTY };
        config.rules[0] = Rule { enabled: 0, ..Rule::new(0, Affinity::Single) };
        config.rules[1] = Rule::new(1, Affinity::None);
        config
    }

    fn packet(protocol: Protocol, source: &str, destination: &str, flags: &[Flag]) -> Packet {
        let [source, destination] = [source, destination].map(|end| end.parse().unwrap());
        Packet { source, destination, protocol, flags: flags.to_vec() }
    }

    fn judged(
        packet: &Packet,
        vlans: [u16; 2],
        state: BucketState,
        lease: bool,
        socket: LocalSocket,
    ) -> Trace {
        let mut lists = [PortRules([0; 65_536]), PortRules([0; 65_536])];
        lists[0].0[443] = 1;
        lists[1].0[53] = 1;
        let state = move |_, _| state;
        let config = config(vlans);
        trace(packet, &Facts { config: &config, port_lists: &lists, state: &state, lease, socket })
    }

    #[test]
    fn described_packets_are_judged_as_the_program_judges_them() {
        use BucketState::{Arriving, Departing, Mine, Other};
        let (v4, v6) = ("192.168.50.8:443", "[fd00:50::8]:443");
        let (c4, c6) = ("203.0.113.10:40000", "[2001:db8::10]:40000");
        let (syn, ack) = (&[Flag::Syn][..], &[Flag::Ack][..]);
        let (none, open) = (LocalSocket::None, LocalSocket::Open);
        let rows = [
            (Protocol::Tcp, c4, v4, syn, Mine, true, none, Reason::NewMine, 1, false),
            (Protocol::Tcp, c6, v6, syn, Mine, true, none, Reason::NewMine, 1, false),
            (Protocol::Tcp, c4, v4, syn, Mine, false, none, Reason::NewNoLease, 1, false),
            (Protocol::Tcp, c4, v4, ack, Mine, true, none, Reason::Mine, 1, false),
            (Protocol::Tcp, c6, v6, ack, Other, true, none, Reason::Other, 1, false),
            (Protocol::Tcp, c4, v4, ack, Departing, true, open, Reason::LocalOpen, 1, true),
            (Protocol::Tcp, c4, v4, &[Flag::Ack, Flag::Rst], Arriving, true, none, Reason::NoSocket, 1, true),
            (Protocol::Tcp, c4, "192.168.50.8:80", syn, Mine, true, none, Reason::Unmatched, 0, false),
            (Protocol::Tcp, c4, "192.0.2.1:443", syn, Mine, true, none, Reason::OtherAddress, 0, false),
            (Protocol::Udp, c4, "192.168.50.8:53", &[], Arriving, true, none, Reason::Arriving, 1, false),
            (Protocol::Udp, c6, "[fd00:50::8]:53", &[], Mine, true, none, Reason::Mine, 1, false),
            (Protocol::Icmp, c4, v4, &[], Mine, true, none, Reason::Echo, 0, false),
            (Protocol::Icmp, c6, v6, &[], Other, true, none, Reason::EchoOther, 0, false),
        ];
        for (protocol, source, destination, flags, state, lease, socket, reason, rule, asked) in rows {
            for vlans in [[0, 0], [100, 0], [100, 7]] {
                let packet = packet(protocol, source, destination, flags);
                let trace = judged(&packet, vlans, state, lease, socket);
                let found = (trace.verdict.reason(), trace.verdict.rule(), trace.asked_kernel);
                assert_eq!(found, (reason, rule, asked), "{packet:?} {state:?} {vlans:?}");
            }
        }
    }

    #[test]
    fn the_bucket_is_the_one_that_the_client_has() {
        let syn = packet(Protocol::Tcp, "203.0.113.10:40000", "192.168.50.8:443", &[Flag::Syn]);
        let trace = judged(&syn, [0; 2], BucketState::Mine, true, LocalSocket::None);
        let client = Address::v4([203, 0, 113, 10]);
        let bucket = bucket_of([7, 9], &Rule::new(1, Affinity::None), &client, 40_000);
        assert_eq!(trace.bucket, Some((1, bucket, BucketState::Mine)));
        let unmatched = packet(Protocol::Udp, "203.0.113.10:40000", "192.168.50.8:54", &[]);
        assert_eq!(judged(&unmatched, [0; 2], BucketState::Mine, true, LocalSocket::None).bucket, None);
    }
}

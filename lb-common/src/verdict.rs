//! frame -> flow -> bucket -> owner table -> verdict: the whole policy, and nothing else decides a packet's fate.
//!
//! It asks the [`World`] lazily, so that the steady state costs one hash and one table look-up. It holds no map, clock or
//! socket: the XDP program and the tests bring those.

use crate::flow::bucket_of;
use crate::packet::{Arp, Foreign, Frame, Ipv4, Malformed, PacketMut, Payload, Tcp, TcpFlags};
use crate::table::{Affinity, Bucket, BucketState, Config, Rule};

/// What a verdict may ask.
pub trait World {
    /// What does not change while the program is attached.
    fn config(&self) -> &Config;

    /// The index in `Config::rules` of the rule that a TCP port falls under; 0 where no rule names it.
    fn rule_of(&self, port: u16) -> usize;

    /// The state of a bucket of an owner table in the active generation.
    fn bucket_state(&self, table: u8, bucket: Bucket) -> BucketState;

    /// What this host's kernel has for the packet's addresses and ports.
    fn local(&self, ip: &Ipv4, tcp: &Tcp) -> LocalSocket;

    /// The time of the coarse monotonic clock, in nanoseconds.
    fn now(&self) -> u64;

    /// Until when, on the same clock, this node may accept new connections; 0: not at all.
    fn lease_deadline(&self) -> u64;
}

/// What the kernel's socket table has for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalSocket {
    /// Nothing.
    None,
    /// Only a listener, which is found for every unknown client and is no connection.
    Listener {
        /// Whether the packet is an ACK that carries a valid SYN cookie of this host.
        cookie_ok: bool,
    },
    /// A connection request that the client has not yet confirmed.
    HalfOpen {
        /// Whether the packet's acknowledgement number is that of this host's own SYN-ACK.
        ack_ok: bool,
    },
    /// A connection.
    Open,
    /// A connection that ended lately.
    TimeWait,
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on as if the program were not there.
    Untouched,
    /// It goes on, with this interface's own MAC address as destination.
    Accept,
    /// It ends here.
    Drop,
    /// It is turned into its own answer and sent back.
    Answer,
}

/// What happens to a frame, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// Why; counted once for every frame.
    pub reason: Reason,
}

/// Declares the reasons: the variant, its name in counters, and what it does to the frame.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident => $name:literal, $action:ident;)+) => {
        /// Why a frame met its fate. Its number is its place in the map `COUNTERS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in counters.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it does to the frame.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)+ }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor ARP.
    OtherProtocolFamily => "not-ip", Untouched;
    /// Too short to say where it goes.
    Short => "too-short", Untouched;
    /// Of a VLAN, which is another interface.
    Vlan => "other-vlan", Untouched;
    /// ARP that asks for no cluster IP.
    OtherArp => "other-arp", Untouched;
    /// IPv4 to another address.
    OtherAddress => "other-address", Untouched;

    /// ARP request for a cluster IP: answered with the cluster MAC.
    ArpAnswered => "arp-answered", Answer;
    /// ARP request for a cluster IP while this node may not serve.
    ArpNoLease => "arp-no-lease", Drop;

    /// Of a flow in a bucket that is this node's alone.
    Mine => "mine", Accept;
    /// New connection in a bucket that is this node's alone.
    NewMine => "new-mine", Accept;
    /// New connection in a bucket that comes to this node.
    NewArriving => "new-arriving", Accept;
    /// This host has the connection.
    LocalOpen => "local-open", Accept;
    /// This host had the connection until lately.
    LocalTimeWait => "local-time-wait", Accept;
    /// This host has the connection request that the packet confirms or resets.
    LocalHalfOpen => "local-half-open", Accept;
    /// The ACK carries a SYN cookie of this host.
    LocalCookie => "local-cookie", Accept;

    /// Of a flow in another node's bucket.
    Other => "other", Drop;
    /// New connection in a bucket that leaves this node.
    NewDeparting => "new-departing", Drop;
    /// New connection while this node may not serve.
    NewNoLease => "new-no-lease", Drop;
    /// This host knows no such connection, and another may.
    NoSocket => "no-socket", Drop;
    /// This host only listens there; another may have the connection.
    ListenerOnly => "listener-only", Drop;
    /// This host has a connection request of that client, but the packet confirms another host's.
    HalfOpenOther => "half-open-other", Drop;
    /// The port rule's filtering mode is `disabled`.
    RuleDisabled => "rule-disabled", Drop;
    /// No port rule names the port, and `unmatched` is `drop`.
    Unmatched => "unmatched", Drop;

    /// Fragment that does not begin its packet: only the node that accepted the first can complete it.
    Fragment => "later-fragment", Accept;
    /// The same, while this node may not serve.
    FragmentNoLease => "later-fragment-no-lease", Drop;
    /// ICMP error: means something only to the host that has the connection it quotes.
    IcmpError => "icmp-error", Accept;
    /// Echo request, and this node is the one to answer.
    Echo => "echo", Accept;
    /// Echo request that another node answers.
    EchoOther => "echo-other", Drop;
    /// Echo request while this node may not serve.
    EchoNoLease => "echo-no-lease", Drop;
    /// Any other ICMP to a cluster IP.
    OtherIcmp => "other-icmp", Drop;
    /// Neither TCP nor ICMP to a cluster IP.
    OtherProtocol => "other-protocol", Drop;
    /// To a cluster IP, and it ends inside a header.
    Truncated => "truncated", Drop;
    /// To a cluster IP, with an impossible IP header.
    BadIpHeader => "bad-ip-header", Drop;
    /// To a cluster IP, with an impossible TCP header.
    BadTcpHeader => "bad-tcp-header", Drop;
}

/// How many reasons there are, and so elements of the map `COUNTERS`.
pub const REASONS: usize = Reason::ALL.len();

/// Decides a frame's fate.
#[inline(always)]
pub fn decide<W: World>(frame: &Frame, world: &W) -> Verdict {
    let reason = match frame {
        Frame::Foreign(foreign) => judge_foreign(*foreign),
        Frame::Arp(arp) => judge_arp(arp, world),
        Frame::Ipv4(ip) if world.config().serves(ip.destination) => judge_ipv4(ip, world),
        Frame::Ipv4(_) => Reason::OtherAddress,
    };
    let action = if world.config().observe == 0 { reason.action() } else { Action::Untouched };
    Verdict { action, reason }
}

#[inline(always)]
const fn judge_foreign(foreign: Foreign) -> Reason {
    match foreign {
        Foreign::Short => Reason::Short,
        Foreign::Vlan => Reason::Vlan,
        Foreign::Arp => Reason::OtherArp,
        Foreign::Protocol => Reason::OtherProtocolFamily,
    }
}

/// The answer is the same from every node, so all that may serve give it, and it does not matter who is first.
#[inline(always)]
fn judge_arp<W: World>(arp: &Arp, world: &W) -> Reason {
    if !arp.request || !world.config().serves(arp.target_ip) {
        Reason::OtherArp
    } else if lease_lives(world) {
        Reason::ArpAnswered
    } else {
        Reason::ArpNoLease
    }
}

#[inline(always)]
fn judge_ipv4<W: World>(ip: &Ipv4, world: &W) -> Reason {
    match &ip.payload {
        Payload::Tcp(tcp) => judge_tcp(ip, tcp, world),
        Payload::Echo => judge_echo(ip, world),
        Payload::IcmpError => Reason::IcmpError,
        Payload::OtherIcmp => Reason::OtherIcmp,
        Payload::LaterFragment if lease_lives(world) => Reason::Fragment,
        Payload::LaterFragment => Reason::FragmentNoLease,
        Payload::OtherProtocol => Reason::OtherProtocol,
        Payload::Malformed(Malformed::Truncated) => Reason::Truncated,
        Payload::Malformed(Malformed::IpHeader) => Reason::BadIpHeader,
        Payload::Malformed(Malformed::TcpHeader) => Reason::BadTcpHeader,
    }
}

#[inline(always)]
fn judge_tcp<W: World>(ip: &Ipv4, tcp: &Tcp, world: &W) -> Reason {
    let number = world.rule_of(tcp.destination_port);
    let rule = world.config().rule(number);
    if rule.enabled == 0 {
        return if number == 0 { Reason::Unmatched } else { Reason::RuleDisabled };
    }
    let state = tcp_bucket_state(ip, tcp, rule, world);
    if tcp.flags.opens() { judge_new(state, world) } else { judge_running(state, ip, tcp, world) }
}

#[inline(always)]
fn tcp_bucket_state<W: World>(ip: &Ipv4, tcp: &Tcp, rule: &Rule, world: &W) -> BucketState {
    let bucket = bucket_of(world.config().seed, rule.affinity(), ip.source, tcp.source_port);
    world.bucket_state(rule.table, bucket)
}

/// A new connection: the table and the lease alone decide, whatever socket exists.
#[inline(always)]
fn judge_new<W: World>(state: BucketState, world: &W) -> Reason {
    let accepted = match state {
        BucketState::Mine => Reason::NewMine,
        BucketState::Arriving => Reason::NewArriving,
        BucketState::Departing => return Reason::NewDeparting,
        BucketState::Other => return Reason::Other,
    };
    if tcp_lease_lives(world) { accepted } else { Reason::NewNoLease }
}

/// A packet of a connection that already exists somewhere.
#[inline(always)]
fn judge_running<W: World>(state: BucketState, ip: &Ipv4, tcp: &Tcp, world: &W) -> Reason {
    match state {
        BucketState::Other => Reason::Other,
        BucketState::Mine if tcp_lease_lives(world) => Reason::Mine,
        BucketState::Mine | BucketState::Arriving | BucketState::Departing => {
            judge_local(world.local(ip, tcp), tcp.flags)
        }
    }
}

/// Whether this host is the one that has the packet's connection. If another may have it, ours must stay silent: its kernel
/// would answer an unknown packet with a reset.
#[inline(always)]
const fn judge_local(socket: LocalSocket, flags: TcpFlags) -> Reason {
    match socket {
        LocalSocket::None => Reason::NoSocket,
        LocalSocket::Listener { cookie_ok: true }
            if flags.any(TcpFlags::ACK) && !flags.any(TcpFlags::SYN | TcpFlags::RST) =>
        {
            Reason::LocalCookie
        }
        LocalSocket::Listener { .. } => Reason::ListenerOnly,
        LocalSocket::HalfOpen { ack_ok } => judge_half_open(ack_ok, flags),
        LocalSocket::Open => Reason::LocalOpen,
        LocalSocket::TimeWait => Reason::LocalTimeWait,
    }
}

/// Two hosts may each hold a request of one client: the bucket moved between two of its SYNs. Only the acknowledgement
/// number tells whose SYN-ACK the client took; a reset without one says that it wants neither.
#[inline(always)]
const fn judge_half_open(ack_ok: bool, flags: TcpFlags) -> Reason {
    let ours = if flags.any(TcpFlags::ACK) { ack_ok } else { flags.any(TcpFlags::RST) };
    if ours { Reason::LocalHalfOpen } else { Reason::HalfOpenOther }
}

/// Echo goes to the node that holds the client's bucket of table 0, which is always a `single` table: the default host.
#[inline(always)]
fn judge_echo<W: World>(ip: &Ipv4, world: &W) -> Reason {
    let bucket = bucket_of(world.config().seed, Affinity::Single, ip.source, 0);
    match world.bucket_state(0, bucket) {
        BucketState::Mine | BucketState::Arriving if lease_lives(world) => Reason::Echo,
        BucketState::Mine | BucketState::Arriving => Reason::EchoNoLease,
        BucketState::Departing | BucketState::Other => Reason::EchoOther,
    }
}

#[inline(always)]
fn lease_lives<W: World>(world: &W) -> bool {
    world.now() < world.lease_deadline()
}

#[inline(always)]
fn tcp_lease_lives<W: World>(world: &W) -> bool {
    world.config().ignore_lease != 0 || lease_lives(world)
}

/// Makes the changes to a frame that its verdict calls for. `None`, which a frame that was parsed never gives: it is too
/// short, and must be dropped.
#[inline(always)]
pub fn rewrite<P: PacketMut + ?Sized>(
    action: Action,
    frame: &Frame,
    config: &Config,
    packet: &mut P,
) -> Option<()> {
    match action {
        Action::Untouched | Action::Drop => Some(()),
        Action::Accept => packet.put(0, config.own_mac),
        Action::Answer => match frame {
            Frame::Arp(arp) => answer_arp(arp, config, packet),
            Frame::Foreign(_) | Frame::Ipv4(_) => None,
        },
    }
}

/// Turns an ARP request into its reply. The cluster MAC never stands in the Ethernet source: a switch would learn it on one
/// port, and the other nodes would go deaf.
#[inline(always)]
fn answer_arp<P: PacketMut + ?Sized>(arp: &Arp, config: &Config, packet: &mut P) -> Option<()> {
    const OPERATION: usize = 6;
    const REPLY: [u8; 2] = [0, 2];
    packet.put(0, arp.source_mac)?;
    packet.put(6, config.own_mac)?;
    let at = arp.offset;
    packet.put(at + OPERATION, REPLY)?;
    packet.put(at + 8, config.cluster_mac)?;
    packet.put(at + 14, arp.target_ip)?;
    packet.put(at + 18, arp.sender_mac)?;
    packet.put(at + 24, arp.sender_ip)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::Cell;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reasons_have_names_of_their_own_and_number_the_counters() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), REASONS);
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }

    #[test]
    fn a_new_connection_is_decided_by_bucket_and_lease() {
        use BucketState::{Arriving, Departing, Mine, Other};
        let rows = [
            (Mine, true, Reason::NewMine),
            (Arriving, true, Reason::NewArriving),
            (Departing, true, Reason::NewDeparting),
            (Other, true, Reason::Other),
            (Mine, false, Reason::NewNoLease),
            (Arriving, false, Reason::NewNoLease),
            (Departing, false, Reason::NewDeparting),
            (Other, false, Reason::Other),
        ];
        for (state, lease, reason) in rows {
            // Even for a connection that this host has.
            let fake = Fake::new(state, lease, LocalSocket::Open);
            assert_eq!(decide(&tcp(TcpFlags::SYN), &fake).reason, reason, "{state:?} {lease}");
            assert_eq!(fake.looked_up.get(), 0, "no socket counts for a new connection");
        }
    }

    #[test]
    fn a_running_connection_asks_for_a_socket_only_where_it_may_be_elsewhere() {
        use BucketState::{Arriving, Departing, Mine, Other};
        let rows = [
            (Mine, true, Reason::Mine, 0),
            (Other, true, Reason::Other, 0),
            (Other, false, Reason::Other, 0),
            (Mine, false, Reason::LocalOpen, 1),
            (Arriving, true, Reason::LocalOpen, 1),
            (Arriving, false, Reason::LocalOpen, 1),
            (Departing, true, Reason::LocalOpen, 1),
            (Departing, false, Reason::LocalOpen, 1),
        ];
        for (state, lease, reason, look_ups) in rows {
            let fake = Fake::new(state, lease, LocalSocket::Open);
            assert_eq!(decide(&tcp(TcpFlags::ACK), &fake).reason, reason, "{state:?} {lease}");
            assert_eq!(fake.looked_up.get(), look_ups, "{state:?} {lease}");
        }
    }

    #[test]
    fn a_socket_decides_by_its_state_and_the_packets_flags() {
        const ACK: u8 = TcpFlags::ACK;
        const RST: u8 = TcpFlags::RST;
        const FIN: u8 = TcpFlags::FIN;
        const SYN: u8 = TcpFlags::SYN;
        let cookie = LocalSocket::Listener { cookie_ok: true };
        let listener = LocalSocket::Listener { cookie_ok: false };
        let right = LocalSocket::HalfOpen { ack_ok: true };
        let wrong = LocalSocket::HalfOpen { ack_ok: false };
        let rows = [
            (LocalSocket::None, ACK, Reason::NoSocket),
            (LocalSocket::None, RST, Reason::NoSocket),
            (listener, ACK, Reason::ListenerOnly),
            (cookie, ACK, Reason::LocalCookie),
            (cookie, ACK | FIN, Reason::LocalCookie),
            (cookie, ACK | RST, Reason::ListenerOnly),
            (cookie, ACK | SYN, Reason::ListenerOnly),
            (cookie, FIN, Reason::ListenerOnly),
            (right, ACK, Reason::LocalHalfOpen),
            (right, ACK | RST, Reason::LocalHalfOpen),
            (right, FIN, Reason::HalfOpenOther),
            (wrong, ACK, Reason::HalfOpenOther),
            (wrong, ACK | RST, Reason::HalfOpenOther),
            (wrong, RST, Reason::LocalHalfOpen),
            (wrong, 0, Reason::HalfOpenOther),
            (LocalSocket::Open, FIN, Reason::LocalOpen),
            (LocalSocket::TimeWait, ACK, Reason::LocalTimeWait),
        ];
        for (socket, flags, reason) in rows {
            let fake = Fake::new(BucketState::Arriving, true, socket);
            assert_eq!(decide(&tcp(flags), &fake).reason, reason, "{socket:?} {flags:#x}");
        }
    }

    #[test]
    fn observing_changes_no_verdicts_reason_and_touches_no_frame() {
        let mut fake = Fake::new(BucketState::Other, true, LocalSocket::None);
        fake.config.observe = 1;
        let verdict = decide(&tcp(TcpFlags::SYN), &fake);
        assert_eq!(verdict.reason, Reason::Other);
        assert_eq!(verdict.action, Action::Untouched);
    }

    #[test]
    fn only_counted_cluster_ips_are_served() {
        let config = Config {
            cluster_ips: [
                [192, 168, 50, 8],
                [192, 168, 50, 9],
                [0; 4],
                [0; 4],
                [0; 4],
                [0; 4],
                [0; 4],
                [0; 4],
            ],
            cluster_ip_count: 1,
            ..Config::EMPTY
        };
        assert!(config.serves([192, 168, 50, 8]));
        assert!(!config.serves([192, 168, 50, 9]), "beyond the count");
        assert!(!config.serves([0; 4]));
        assert!(!Config::EMPTY.serves([0; 4]));
    }

    /// A world in which every bucket has one state, and which counts its socket look-ups.
    struct Fake {
        config: Config,
        state: BucketState,
        lease: bool,
        socket: LocalSocket,
        looked_up: Cell<u32>,
    }

    impl Fake {
        fn new(state: BucketState, lease: bool, socket: LocalSocket) -> Self {
            let mut config = Config { cluster_ip_count: 1, ..Config::EMPTY };
            config.cluster_ips[0] = [192, 168, 50, 8];
            config.rules[1].enabled = 1;
            Self { config, state, lease, socket, looked_up: Cell::new(0) }
        }
    }

    impl World for Fake {
        fn config(&self) -> &Config {
            &self.config
        }

        fn rule_of(&self, _port: u16) -> usize {
            1
        }

        fn bucket_state(&self, _table: u8, _bucket: Bucket) -> BucketState {
            self.state
        }

        fn local(&self, _ip: &Ipv4, _tcp: &Tcp) -> LocalSocket {
            self.looked_up.set(self.looked_up.get() + 1);
            self.socket
        }

        fn now(&self) -> u64 {
            1_000
        }

        fn lease_deadline(&self) -> u64 {
            // A deadline is the first moment after the lease.
            if self.lease { 1_001 } else { 1_000 }
        }
    }

    fn tcp(flags: u8) -> Frame {
        Frame::Ipv4(Ipv4 {
            offset: 14,
            source: [203, 0, 113, 10],
            destination: [192, 168, 50, 8],
            payload: Payload::Tcp(Tcp {
                offset: 34,
                source_port: 40_000,
                destination_port: 443,
                acknowledgement: 1,
                flags: TcpFlags(flags),
            }),
        })
    }
}

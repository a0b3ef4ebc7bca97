//! frame -> flow -> bucket -> owner table -> verdict: the whole policy, and nothing else decides a packet's fate.
//!
//! It asks the [`World`] lazily, so that the steady state costs one hash and one table look-up. It holds no map, clock or
//! socket: the XDP program and the tests bring those.

use crate::address::Address;
use crate::flow::bucket_of;
use crate::packet::{
    self, Foreign, HEADERS_END, Icmp, Ip, Ipv4Head, Ipv6Head, Link, Malformed, Packet, PacketMut, Ports,
    Quote, Tcp, TcpFlags, protocol,
};
use crate::table::{Bucket, BucketState, COUNTERS_A_RULE, Config, NODES, RULES, Rule, Sample, counter};

/// What a verdict may ask.
pub trait World {
    /// What does not change while the program is attached.
    fn config(&self) -> &Config;

    /// The index in `Config::rules` of the rule that a port falls under, by this element of the map `PORT_RULES`; 0 where no
    /// rule names it.
    fn rule_of(&self, list: u8, port: u16) -> usize;

    /// The state of a bucket of an owner table in the active generation.
    fn bucket_state(&self, table: u8, bucket: Bucket) -> BucketState;

    /// What this host's kernel has for the packet's addresses and ports.
    fn local(&self, ip: &Ip, tcp: &Tcp) -> LocalSocket;

    /// Whether this node may accept new connections now.
    fn lease_lives(&self) -> bool;
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

impl Action {
    /// What the reason with this number does. Reasons with the same action stand together, which makes it two comparisons.
    #[inline(always)]
    const fn of_reason(number: u8) -> Self {
        const ANSWER: u8 = first(Action::Answer);
        const ACCEPT: u8 = first(Action::Accept);
        const DROP: u8 = first(Action::Drop);
        match number {
            DROP.. => Self::Drop,
            ACCEPT.. => Self::Accept,
            ANSWER.. => Self::Answer,
            _ => Self::Untouched,
        }
    }
}

/// The number of the first reason with this action.
const fn first(action: Action) -> u8 {
    let mut number = 0;
    while Reason::ALL[number].action() as u8 != action as u8 {
        number += 1;
    }
    number as u8
}

const _: () = {
    let mut number = 0;
    while number < REASONS {
        let reason = Reason::ALL[number];
        assert!(Action::of_reason(number as u8) as u8 == reason.action() as u8);
        let place = counter((RULES - 1) as u8, number as u8);
        assert!(Verdict::of(reason).under(RULES - 1).counter() == place);
        number += 1;
    }
};

/// What happens to a frame, and why: one word, because that is what a register holds. The compiler would keep a struct on the
/// stack and write all of it on each of the program's hundred paths, which costs more than what the paths decide.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verdict(u64);

impl Verdict {
    /// Reason and rule together are the place in `COUNTERS`.
    const RULE: u32 = COUNTERS_A_RULE.trailing_zeros();
    const KIND: u32 = 16;
    const DETAIL: u32 = 32;
    const SEEN: u64 = 1;
    const HEARD: u64 = 2;
    const ARP: u64 = 3;
    const NEIGHBOUR: u64 = 4;

    /// A verdict under no rule.
    #[inline(always)]
    const fn of(reason: Reason) -> Self {
        Self(reason as u64)
    }

    /// The same, under the rule with this number.
    #[inline(always)]
    const fn under(self, rule: usize) -> Self {
        Self(self.0 | (rule as u64) << Self::RULE)
    }

    /// The same, with something else to do. Only one thing is.
    #[inline(always)]
    const fn with(self, kind: u64, detail: u64) -> Self {
        Self(self.0 | kind << Self::KIND | detail << Self::DETAIL)
    }

    /// Why; counted once for every frame.
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        Reason::of_number(self.number())
    }

    #[inline(always)]
    const fn number(self) -> u8 {
        self.0 as u8 & (COUNTERS_A_RULE - 1) as u8
    }

    /// The number of the port rule that it fell under; 0 for rule 0, and for what no rule is for.
    #[inline(always)]
    pub const fn rule(self) -> u8 {
        (self.0 >> Self::RULE) as u8 & (RULES - 1) as u8
    }

    /// Its place in the map `COUNTERS`: `table::counter` of its rule and its reason.
    #[inline(always)]
    pub const fn counter(self) -> u32 {
        self.0 as u32 & (RULES * COUNTERS_A_RULE - 1) as u32
    }

    /// What happens.
    #[inline(always)]
    pub const fn action(self, config: &Config) -> Action {
        if config.observe == 0 { Action::of_reason(self.number()) } else { Action::Untouched }
    }

    /// What else is to be done.
    #[inline(always)]
    pub const fn note(self) -> Note {
        let detail = self.0 >> Self::DETAIL;
        match (self.0 >> Self::KIND) & 0xff {
            Self::SEEN => {
                Note::Seen { table: (detail >> 16) as u8, bucket: Bucket::of_hash(detail & 0xffff) }
            }
            Self::HEARD => Note::Heard(detail as u8),
            // The masks change nothing; they show the verifier the bounds.
            Self::ARP => Note::Arp(detail as usize & HEADERS_END),
            Self::NEIGHBOUR => Note::Neighbour(detail as usize & HEADERS_END),
            _ => Note::None,
        }
    }
}

impl core::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (reason, rule, note) = (self.reason(), self.rule(), self.note());
        f.debug_struct("Verdict").field("reason", &reason).field("rule", &rule).field("note", &note).finish()
    }
}

/// What is to be done beside passing or dropping a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    None,
    /// Stamp the bucket: a packet of it was accepted, and its clients stay with it until they are idle.
    Seen {
        /// The owner table.
        table: u8,
        /// The bucket.
        bucket: Bucket,
    },
    /// Stamp the node with this number, 1..=64: its hearing test arrived.
    Heard(u8),
    /// Answer the ARP request at this offset.
    Arp(usize),
    /// Answer the neighbour solicitation in the IPv6 packet at this offset.
    Neighbour(usize),
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

            /// The reason with this number; the first where there is none.
            #[inline(always)]
            pub const fn of_number(number: u8) -> Self {
                match number { $(number if number == Self::$variant as u8 => Self::$variant,)+ _ => Self::ALL[0] }
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
    /// Neither IP nor ARP.
    OtherProtocolFamily => "not-ip", Untouched;
    /// Too short to say where it goes.
    Short => "too-short", Untouched;
    /// Of another VLAN, which is another interface.
    Vlan => "other-vlan", Untouched;
    /// ARP that asks for no cluster IP.
    OtherArp => "other-arp", Untouched;
    /// IP to another address.
    OtherAddress => "other-address", Untouched;

    /// ARP request for a cluster IP: answered with the cluster MAC.
    ArpAnswered => "arp-answered", Answer;
    /// Neighbour solicitation for a cluster IP: answered with the cluster MAC.
    NeighbourAnswered => "neighbour-answered", Answer;

    /// Of a flow in a bucket that is this node's alone.
    Mine => "mine", Accept;
    /// New connection in a bucket that is this node's alone.
    NewMine => "new-mine", Accept;
    /// New connection in a bucket that comes to this node.
    NewArriving => "new-arriving", Accept;
    /// Of a flow that is no connection of this host's kernel, in a bucket that comes to this node.
    Arriving => "arriving", Accept;
    /// This host has the connection.
    LocalOpen => "local-open", Accept;
    /// This host had the connection until lately.
    LocalTimeWait => "local-time-wait", Accept;
    /// This host has the connection request that the packet confirms or resets.
    LocalHalfOpen => "local-half-open", Accept;
    /// The ACK carries a SYN cookie of this host.
    LocalCookie => "local-cookie", Accept;
    /// Fragment that does not begin its packet: only the node that accepted the first can complete it.
    Fragment => "later-fragment", Accept;
    /// ICMP error about a flow that this node has or may have.
    IcmpError => "icmp-error", Accept;
    /// Echo request, and this node is the one to answer.
    Echo => "echo", Accept;

    /// ARP request for a cluster IP while this node may not serve.
    ArpNoLease => "arp-no-lease", Drop;
    /// Neighbour solicitation for a cluster IP while this node may not serve.
    NeighbourNoLease => "neighbour-no-lease", Drop;
    /// A node of this cluster announces a cluster IP.
    Announcement => "announcement", Drop;
    /// Of a flow in another node's bucket.
    Other => "other", Drop;
    /// New connection in a bucket that leaves this node.
    NewDeparting => "new-departing", Drop;
    /// New connection while this node may not serve.
    NewNoLease => "new-no-lease", Drop;
    /// Of a flow that is no connection of this host's kernel, in a bucket that leaves this node.
    Departing => "departing", Drop;
    /// The same, while this node may not serve.
    NoLease => "no-lease", Drop;
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
    /// A later fragment while this node may not serve.
    FragmentNoLease => "later-fragment-no-lease", Drop;
    /// ICMP error about another node's flow.
    IcmpErrorOther => "icmp-error-other", Drop;
    /// ICMP error that quotes no packet of a cluster IP, or too little of it.
    BadQuote => "bad-quote", Drop;
    /// Echo request that another node answers.
    EchoOther => "echo-other", Drop;
    /// Echo request while this node may not serve.
    EchoNoLease => "echo-no-lease", Drop;
    /// Any other ICMP to a cluster IP.
    OtherIcmp => "other-icmp", Drop;
    /// Neither TCP, UDP nor ICMP, and `unmatched` is `drop`.
    OtherProtocol => "other-protocol", Drop;
    /// A node's test of who hears frames for the cluster MAC.
    HearingTest => "hearing-test", Drop;
    /// To a cluster IP, and it ends inside a header.
    Truncated => "truncated", Drop;
    /// To a cluster IP, with an impossible IP header.
    BadIpHeader => "bad-ip-header", Drop;
    /// To a cluster IP, with more headers than are read.
    TooManyHeaders => "too-many-headers", Drop;
    /// To a cluster IP, with an impossible TCP header.
    BadTcpHeader => "bad-tcp-header", Drop;
}

/// How many reasons there are.
pub const REASONS: usize = Reason::ALL.len();

const _: () = assert!(REASONS <= COUNTERS_A_RULE && RULES * COUNTERS_A_RULE <= 1 << Verdict::KIND);

/// The payload of a hearing test: these bytes, then the number of the node that sent it.
pub const HEARING_TEST: [u8; 7] = *b"rchear1";

/// The length of a hearing test, its UDP header included.
const HEARING_TEST_LEN: usize = 16;

/// Decides a frame's fate.
#[inline(always)]
pub fn judge<P: Packet + ?Sized, W: World>(packet: &P, world: &W) -> Verdict {
    let config = world.config();
    match packet::link(packet, config.vlans) {
        Link::Ipv4(offset) => judge_ipv4(packet, offset, world),
        Link::Ipv6(offset) => judge_ipv6(packet, offset, world),
        Link::Arp(offset) => judge_arp(packet, offset, world),
        Link::Foreign(foreign) => Verdict::of(judge_foreign(foreign)),
    }
}

#[inline(always)]
const fn judge_foreign(foreign: Foreign) -> Reason {
    match foreign {
        Foreign::Short => Reason::Short,
        Foreign::Vlan => Reason::Vlan,
        Foreign::Protocol => Reason::OtherProtocolFamily,
    }
}

/// The answer is the same from every node, so all that may serve give it, and it does not matter who is first.
#[cold]
#[inline(never)]
fn judge_arp<P: Packet + ?Sized, W: World>(packet: &P, offset: usize, world: &W) -> Verdict {
    let config = world.config();
    let Some(arp) = packet::arp(packet, offset) else {
        return Verdict::of(Reason::OtherArp);
    };
    if !arp.request || config.vips.find(&arp.target).is_none() {
        Verdict::of(Reason::OtherArp)
    } else if arp.sender == arp.target && arp.sender_mac == config.cluster_mac {
        Verdict::of(Reason::Announcement)
    } else if world.lease_lives() {
        Verdict::of(Reason::ArpAnswered).with(Verdict::ARP, offset as u64)
    } else {
        Verdict::of(Reason::ArpNoLease)
    }
}

#[inline(always)]
fn judge_ipv4<P: Packet + ?Sized, W: World>(packet: &P, offset: usize, world: &W) -> Verdict {
    let Some(head) = Ipv4Head::read(packet, offset) else {
        return Verdict::of(Reason::Short);
    };
    let Some(vip) = world.config().vips.find(&head.destination()) else {
        return Verdict::of(Reason::OtherAddress);
    };
    if head.is_plain() {
        judge_ipv4_head(packet, &head, vip, world)
    } else {
        judge_rare_ipv4(packet, offset, vip, world)
    }
}

#[inline(always)]
fn judge_ipv4_head<P: Packet + ?Sized, W: World>(
    packet: &P,
    head: &Ipv4Head,
    vip: usize,
    world: &W,
) -> Verdict {
    match head.parse() {
        Ok(ip) => judge_ip(packet, &ip, vip, world),
        Err(malformed) => Verdict::of(judge_malformed(malformed)),
    }
}

/// What is not plain, out of the way: inlined, it would take the registers of what nearly every packet is. It reads the header
/// again, since an argument in memory would keep the plain packet's header in memory too.
#[cold]
#[inline(never)]
fn judge_rare_ipv4<P: Packet + ?Sized, W: World>(
    packet: &P,
    offset: usize,
    vip: usize,
    world: &W,
) -> Verdict {
    match Ipv4Head::read(packet, offset) {
        Some(head) => judge_ipv4_head(packet, &head, vip, world),
        None => Verdict::of(Reason::Short),
    }
}

#[inline(always)]
fn judge_ipv6<P: Packet + ?Sized, W: World>(packet: &P, offset: usize, world: &W) -> Verdict {
    let Some(head) = Ipv6Head::read(packet, offset) else {
        return Verdict::of(Reason::Short);
    };
    let destination = head.destination();
    match world.config().vips.find(&destination) {
        Some(vip) if head.is_plain() => judge_ipv6_head(packet, &head, vip, world),
        None if !packet::is_solicited_node(&destination) => Verdict::of(Reason::OtherAddress),
        vip => judge_rare_ipv6(packet, offset, vip, world),
    }
}

#[inline(always)]
fn judge_ipv6_head<P: Packet + ?Sized, W: World>(
    packet: &P,
    head: &Ipv6Head,
    vip: usize,
    world: &W,
) -> Verdict {
    match head.parse(packet) {
        Ok(ip) => judge_ip(packet, &ip, vip, world),
        Err(malformed) => Verdict::of(judge_malformed(malformed)),
    }
}

/// As `judge_rare_ipv4`.
#[cold]
#[inline(never)]
fn judge_rare_ipv6<P: Packet + ?Sized, W: World>(
    packet: &P,
    offset: usize,
    vip: Option<usize>,
    world: &W,
) -> Verdict {
    let Some(head) = Ipv6Head::read(packet, offset) else {
        return Verdict::of(Reason::Short);
    };
    if let Some(target) = head.solicitation(packet) {
        return judge_solicitation(&target, offset, vip.is_some(), world);
    }
    match vip {
        Some(vip) => judge_ipv6_head(packet, &head, vip, world),
        None => Verdict::of(Reason::OtherAddress),
    }
}

/// As ARP. One for another address passes, unless it came to a cluster IP.
#[inline(always)]
fn judge_solicitation<W: World>(target: &Address, offset: usize, to_vip: bool, world: &W) -> Verdict {
    match world.config().vips.find(target) {
        None if to_vip => Verdict::of(Reason::OtherIcmp),
        None => Verdict::of(Reason::OtherAddress),
        Some(_) if world.lease_lives() => {
            Verdict::of(Reason::NeighbourAnswered).with(Verdict::NEIGHBOUR, offset as u64)
        }
        Some(_) => Verdict::of(Reason::NeighbourNoLease),
    }
}

#[inline(always)]
const fn judge_malformed(malformed: Malformed) -> Reason {
    match malformed {
        Malformed::Truncated => Reason::Truncated,
        Malformed::IpHeader => Reason::BadIpHeader,
        Malformed::TooManyHeaders => Reason::TooManyHeaders,
        Malformed::TcpHeader => Reason::BadTcpHeader,
    }
}

/// A packet to a cluster IP.
#[inline(always)]
fn judge_ip<P: Packet + ?Sized, W: World>(packet: &P, ip: &Ip, vip: usize, world: &W) -> Verdict {
    if ip.later_fragment {
        let reason = if world.lease_lives() { Reason::Fragment } else { Reason::FragmentNoLease };
        return Verdict::of(reason);
    }
    match (ip.protocol, ip.destination.v6) {
        (protocol::TCP, _) => match packet::tcp(packet, ip) {
            Ok(tcp) => judge_tcp(ip, &tcp, vip, world),
            Err(malformed) => Verdict::of(judge_malformed(malformed)),
        },
        (protocol::UDP, _) => match packet::udp(packet, ip) {
            Ok(ports) => judge_udp(packet, ip, ports, vip, world),
            Err(malformed) => Verdict::of(judge_malformed(malformed)),
        },
        (protocol::ICMP, false) | (protocol::ICMPV6, true) => match packet::icmp(packet, ip) {
            Ok(icmp) => judge_icmp(packet, ip, icmp, world),
            Err(malformed) => Verdict::of(judge_malformed(malformed)),
        },
        (_, _) => judge_other_protocol(ip, world),
    }
}

/// The port rule that a flow of a cluster IP falls under, and its bucket.
struct Place<'a> {
    number: usize,
    rule: &'a Rule,
    bucket: Bucket,
}

impl<'a> Place<'a> {
    /// Of a client's flow under the rule with this number; or why there is no place for it.
    #[inline(always)]
    fn find<W: World>(number: usize, client: &Address, port: u16, world: &'a W) -> Result<Self, Verdict> {
        let config = world.config();
        let rule = config.rule(number);
        if rule.enabled == 0 {
            let reason = if number == 0 { Reason::Unmatched } else { Reason::RuleDisabled };
            return Err(Verdict::of(reason).under(number));
        }
        Ok(Self { number, rule, bucket: bucket_of(config.seed, rule, client, port) })
    }

    #[inline(always)]
    fn state<W: World>(&self, world: &W) -> BucketState {
        world.bucket_state(self.rule.table, self.bucket)
    }

    #[inline(always)]
    fn verdict(&self, reason: Reason) -> Verdict {
        let verdict = Verdict::of(reason).under(self.number);
        if reason.action() != Action::Accept || self.rule.sticky == 0 {
            return verdict;
        }
        verdict.with(Verdict::SEEN, (self.rule.table as u64) << 16 | self.bucket.index() as u64)
    }
}

#[inline(always)]
fn judge_tcp<W: World>(ip: &Ip, tcp: &Tcp, vip: usize, world: &W) -> Verdict {
    let number = world.rule_of(world.config().vips.get(vip).tcp, tcp.ports.destination);
    let place = match Place::find(number, &ip.source, tcp.ports.source, world) {
        Ok(place) => place,
        Err(verdict) => return verdict,
    };
    let state = place.state(world);
    // First of all what nearly every packet is on all nodes but one.
    place.verdict(if state == BucketState::Other {
        Reason::Other
    } else if tcp.flags.opens() {
        judge_new(state, world)
    } else if place.rule.local == 0 {
        judge_unprotected(state, world)
    } else {
        judge_running(state, ip, tcp, world)
    })
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
fn judge_running<W: World>(state: BucketState, ip: &Ip, tcp: &Tcp, world: &W) -> Reason {
    match state {
        BucketState::Other => Reason::Other,
        BucketState::Mine if tcp_lease_lives(world) => Reason::Mine,
        BucketState::Mine | BucketState::Arriving | BucketState::Departing => {
            judge_local(world.local(ip, tcp), tcp.flags)
        }
    }
}

/// A packet of a flow that this host's kernel has no connection for, wherever it goes: it moves with its bucket, at once.
#[inline(always)]
fn judge_unprotected<W: World>(state: BucketState, world: &W) -> Reason {
    let accepted = match state {
        BucketState::Mine => Reason::Mine,
        BucketState::Arriving => Reason::Arriving,
        BucketState::Departing => return Reason::Departing,
        BucketState::Other => return Reason::Other,
    };
    if world.lease_lives() { accepted } else { Reason::NoLease }
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

#[inline(always)]
fn judge_udp<P: Packet + ?Sized, W: World>(
    packet: &P,
    ip: &Ip,
    ports: Ports,
    vip: usize,
    world: &W,
) -> Verdict {
    let config = world.config();
    if ports.destination == config.hearing_port
        && ip.payload_len >= HEARING_TEST_LEN
        && let Some(node) = hearing_test(packet, ip.payload, world)
    {
        return Verdict::of(Reason::HearingTest).with(Verdict::HEARD, node as u64);
    }
    let number = world.rule_of(config.vips.get(vip).udp, ports.destination);
    match Place::find(number, &ip.source, ports.source, world) {
        Ok(place) => place.verdict(judge_unprotected(place.state(world), world)),
        Err(verdict) => verdict,
    }
}

/// The number of the node whose hearing test this is. It proves nothing unless it came to the cluster MAC.
#[cold]
#[inline(never)]
fn hearing_test<P: Packet + ?Sized, W: World>(packet: &P, payload: usize, world: &W) -> Option<u8> {
    const UDP_LEN: usize = 8;
    let config = world.config();
    let [a, b, c, d, e, f, g, node] = packet.get::<8>(payload + UDP_LEN)?;
    let genuine = [a, b, c, d, e, f, g] == HEARING_TEST
        && packet.get::<6>(0)? == config.cluster_mac
        && (1..NODES as u8).contains(&node)
        && config.hearing_port != 0;
    genuine.then_some(node)
}

#[inline(always)]
fn judge_icmp<P: Packet + ?Sized, W: World>(packet: &P, ip: &Ip, icmp: Icmp, world: &W) -> Verdict {
    match icmp {
        Icmp::Echo => Verdict::of(judge_echo(&ip.source, world)),
        Icmp::Error => judge_icmp_error(packet, ip, world),
        Icmp::Other => Verdict::of(Reason::OtherIcmp),
    }
}

/// Echo goes to the node that holds the client's bucket under rule 0, whose table is always a `single` one: the default host.
#[inline(always)]
fn judge_echo<W: World>(client: &Address, world: &W) -> Reason {
    let config = world.config();
    let rule = config.rule(0);
    match world.bucket_state(rule.table, bucket_of(config.seed, rule, client, 0)) {
        BucketState::Mine | BucketState::Arriving if world.lease_lives() => Reason::Echo,
        BucketState::Mine | BucketState::Arriving => Reason::EchoNoLease,
        BucketState::Departing | BucketState::Other => Reason::EchoOther,
    }
}

/// An error goes to the owner of the flow that it quotes, and where the bucket is on its way to both. It needs no lease: to a
/// kernel without that flow it means nothing.
#[inline(always)]
fn judge_icmp_error<P: Packet + ?Sized, W: World>(packet: &P, ip: &Ip, world: &W) -> Verdict {
    let Some(quote) = packet::quote(packet, ip) else {
        return Verdict::of(Reason::BadQuote);
    };
    let Some(vip) = world.config().vips.find(&quote.source) else {
        return Verdict::of(Reason::BadQuote);
    };
    let (client, ports) = (&quote.destination, &quote.ports);
    let place = match Place::find(quoted_rule(&quote, vip, world), client, ports.destination, world) {
        Ok(place) => place,
        Err(verdict) => return verdict,
    };
    let reason = match place.state(world) {
        BucketState::Other => Reason::IcmpErrorOther,
        BucketState::Mine | BucketState::Arriving | BucketState::Departing => Reason::IcmpError,
    };
    Verdict::of(reason).under(place.number)
}

/// The number of the rule that the answers to a quoted packet fall under.
#[inline(always)]
fn quoted_rule<W: World>(quote: &Quote, vip: usize, world: &W) -> usize {
    let vip = world.config().vips.get(vip);
    match quote.protocol {
        protocol::TCP => world.rule_of(vip.tcp, quote.ports.source),
        protocol::UDP => world.rule_of(vip.udp, quote.ports.source),
        _ => 0,
    }
}

/// GRE, ESP, SCTP and so on: rule 0.
#[inline(always)]
fn judge_other_protocol<W: World>(ip: &Ip, world: &W) -> Verdict {
    match Place::find(0, &ip.source, 0, world) {
        Ok(place) => place.verdict(judge_unprotected(place.state(world), world)),
        Err(_) => Verdict::of(Reason::OtherProtocol),
    }
}

#[inline(always)]
fn tcp_lease_lives<W: World>(world: &W) -> bool {
    world.config().ignore_lease != 0 || world.lease_lives()
}

/// Makes the changes to a frame that its verdict calls for. `None`, which a frame that was judged gives only where the driver
/// has no room for an answer: it must be dropped.
#[inline(always)]
pub fn rewrite<P: PacketMut + ?Sized>(verdict: Verdict, config: &Config, packet: &mut P) -> Option<()> {
    match verdict.action(config) {
        Action::Untouched | Action::Drop => Some(()),
        Action::Accept => packet.put(0, config.own_mac),
        Action::Answer => answer(verdict, config, packet),
    }
}

#[cold]
#[inline(never)]
fn answer<P: PacketMut + ?Sized>(verdict: Verdict, config: &Config, packet: &mut P) -> Option<()> {
    match verdict.note() {
        Note::Arp(offset) => answer_arp(offset, config, packet),
        Note::Neighbour(offset) => answer_solicitation(offset, config, packet),
        Note::None | Note::Seen { .. } | Note::Heard(_) => None,
    }
}

/// Turns an ARP request into its reply. The cluster MAC never stands in the Ethernet source: a switch would learn it on one
/// port, and the other nodes would go deaf.
#[inline(always)]
fn answer_arp<P: PacketMut + ?Sized>(at: usize, config: &Config, packet: &mut P) -> Option<()> {
    const OPERATION: usize = 6;
    const REPLY: [u8; 2] = [0, 2];
    let asker = packet.get::<6>(6)?;
    let sender_mac = packet.get::<6>(at + 8)?;
    let sender = packet.get::<4>(at + 14)?;
    let target = packet.get::<4>(at + 24)?;
    packet.put(0, asker)?;
    packet.put(6, config.own_mac)?;
    packet.put(at + OPERATION, REPLY)?;
    packet.put(at + 8, config.cluster_mac)?;
    packet.put(at + 14, target)?;
    packet.put(at + 18, sender_mac)?;
    packet.put(at + 24, sender)
}

/// Turns a neighbour solicitation into its advertisement (RFC 4861, section 7.2.4), which is eight bytes longer than one without
/// options. Who asks from `::` is told by way of all nodes. The Ethernet source: see `answer_arp`.
#[inline(always)]
fn answer_solicitation<P: PacketMut + ?Sized>(at: usize, config: &Config, packet: &mut P) -> Option<()> {
    const ADVERTISEMENT_LEN: usize = 32;
    const ALL_NODES: Address = Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]);
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    let head = Ipv6Head::read(packet, at)?;
    let (source, target) = (head.source(), head.solicitation(packet)?);
    let asker = packet.get::<6>(6)?;
    let probes = source.high == 0 && source.low == 0;
    let (to, to_mac, solicited) = if probes { (ALL_NODES, ALL_NODES_MAC, 0) } else { (source, asker, 0x40) };
    let body = at + 40;
    if packet.get::<2>(body + ADVERTISEMENT_LEN - 2).is_none() {
        packet.grow(8)?;
    }
    let (target_high, target_low) = target.v6_bytes();
    let (to_high, to_low) = to.v6_bytes();
    packet.put(0, to_mac)?;
    packet.put(6, config.own_mac)?;
    packet.put(at, [0x60, 0, 0, 0, 0, ADVERTISEMENT_LEN as u8, protocol::ICMPV6, 255])?;
    packet.put(at + 8, target_high)?;
    packet.put(at + 16, target_low)?;
    packet.put(at + 24, to_high)?;
    packet.put(at + 32, to_low)?;
    // Flags: whether it was asked for, and that it overrides.
    let head = [136, 0, 0, 0, solicited | 0x20, 0, 0, 0];
    let [m0, m1, m2, m3, m4, m5] = config.cluster_mac;
    let option = [2, 1, m0, m1, m2, m3, m4, m5];
    let pseudo = [0, 0, 0, ADVERTISEMENT_LEN as u8, 0, 0, 0, protocol::ICMPV6];
    packet.put(body, head)?;
    packet.put(body + 8, target_high)?;
    packet.put(body + 16, target_low)?;
    packet.put(body + 24, option)?;
    // The target stands twice: as the source, and in the message.
    let sum = [target_high, target_low, target_high, target_low, to_high, to_low, pseudo, head, option];
    packet.put(body + 2, checksum(sum))
}

/// The internet checksum (RFC 1071) of these bytes, as it stands in a packet.
#[inline(always)]
fn checksum<const N: usize>(words: [[u8; 8]; N]) -> [u8; 2] {
    let mut sum: u64 = 0;
    for word in words {
        // In the machine's own order: the sum of swapped bytes is the swapped sum.
        let word = u64::from_ne_bytes(word);
        sum += (word & 0xffff_ffff) + (word >> 32);
    }
    for _ in 0..3 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_ne_bytes()
}

/// What `rollcall capture` shows of a frame.
#[inline(always)]
pub fn sample<P: Packet + ?Sized>(
    packet: &P,
    verdict: Verdict,
    config: &Config,
    length: u32,
    time: u64,
) -> Sample {
    let mut sample = Sample {
        time,
        source: [0; 2],
        destination: [0; 2],
        length,
        source_port: 0,
        destination_port: 0,
        family: 0,
        protocol: 0,
        flags: 0,
        reason: verdict.reason() as u8,
        rule: verdict.rule(),
        reserved: [0; 3],
    };
    let ip = match packet::link(packet, config.vlans) {
        Link::Ipv4(at) => Ipv4Head::read(packet, at).and_then(|head| head.parse().ok()),
        Link::Ipv6(at) => Ipv6Head::read(packet, at).and_then(|head| head.parse(packet).ok()),
        Link::Arp(_) | Link::Foreign(_) => None,
    };
    if let Some(ip) = ip {
        describe(&mut sample, packet, &ip);
    }
    sample
}

#[inline(always)]
fn describe<P: Packet + ?Sized>(sample: &mut Sample, packet: &P, ip: &Ip) {
    sample.family = if ip.destination.v6 { 6 } else { 4 };
    sample.source = [ip.source.high, ip.source.low];
    sample.destination = [ip.destination.high, ip.destination.low];
    sample.protocol = ip.protocol;
    if ip.later_fragment {
        return;
    }
    let ports = match ip.protocol {
        protocol::TCP => packet::tcp(packet, ip).map(|tcp| {
            sample.flags = tcp.flags.0;
            tcp.ports
        }),
        protocol::UDP => packet::udp(packet, ip),
        _ => return,
    };
    if let Ok(ports) = ports {
        (sample.source_port, sample.destination_port) = (ports.source, ports.destination);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::Cell;
    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::table::{Affinity, Vips};

    const VIP: [u8; 4] = [192, 168, 50, 8];
    const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
    const CLUSTER_MAC: [u8; 6] = [3, 0xbf, 192, 168, 50, 8];

    /// One cluster IP, where every port falls under rule 1, and the same answer to every question; it counts the costly ones.
    struct Answers {
        config: Config,
        state: BucketState,
        socket: LocalSocket,
        lease: bool,
        lease_asked: Cell<u32>,
        socket_asked: Cell<u32>,
    }

    impl Answers {
        fn new(state: BucketState, lease: bool, socket: LocalSocket) -> Self {
            let vips = Vips::new(&[(Address::v4(VIP), 0, 0)]).unwrap();
            let mut config = Config { vips, own_mac: OWN_MAC, cluster_mac: CLUSTER_MAC, ..Config::EMPTY };
            config.rules[1] = Rule::new(1, Affinity::None);
            Self { config, state, socket, lease, lease_asked: Cell::new(0), socket_asked: Cell::new(0) }
        }

        fn judge(&self, frame: &[u8]) -> Reason {
            judge(frame, self).reason()
        }
    }

    impl World for Answers {
        fn config(&self) -> &Config {
            &self.config
        }

        fn rule_of(&self, _list: u8, _port: u16) -> usize {
            1
        }

        fn bucket_state(&self, _table: u8, _bucket: Bucket) -> BucketState {
            self.state
        }

        fn local(&self, _ip: &Ip, _tcp: &Tcp) -> LocalSocket {
            self.socket_asked.set(self.socket_asked.get() + 1);
            self.socket
        }

        fn lease_lives(&self) -> bool {
            self.lease_asked.set(self.lease_asked.get() + 1);
            self.lease
        }
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[12] = 8;
        (frame[14], frame[17], frame[23]) = (0x45, 40, protocol::TCP);
        frame[30..34].copy_from_slice(&VIP);
        (frame[46], frame[47]) = (0x50, flags);
        frame
    }

    const STATES: [BucketState; 4] =
        [BucketState::Other, BucketState::Mine, BucketState::Arriving, BucketState::Departing];
    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;
    const RST: u8 = TcpFlags::RST;

    #[test]
    fn a_new_connection_depends_on_bucket_and_lease_alone() {
        use Reason::{NewArriving, NewDeparting, NewMine, NewNoLease, Other};
        let expected = [[Other, Other], [NewMine, NewNoLease], [NewArriving, NewNoLease], [NewDeparting; 2]];
        for (state, [with_lease, without]) in STATES.into_iter().zip(expected) {
            for socket in [LocalSocket::None, LocalSocket::Open, LocalSocket::TimeWait] {
                assert_eq!(Answers::new(state, true, socket).judge(&tcp(SYN)), with_lease, "{state:?}");
                assert_eq!(Answers::new(state, false, socket).judge(&tcp(SYN)), without, "{state:?}");
            }
        }
    }

    #[test]
    fn a_running_connection_depends_on_its_socket_where_the_bucket_does_not_settle_it() {
        let half_open = |ack_ok| LocalSocket::HalfOpen { ack_ok };
        let listener = |cookie_ok| LocalSocket::Listener { cookie_ok };
        let rows = [
            (LocalSocket::None, ACK, Reason::NoSocket),
            (listener(false), ACK, Reason::ListenerOnly),
            (listener(true), ACK, Reason::LocalCookie),
            (listener(true), RST | ACK, Reason::ListenerOnly),
            (listener(true), SYN | ACK, Reason::ListenerOnly),
            (half_open(true), ACK, Reason::LocalHalfOpen),
            (half_open(false), ACK, Reason::HalfOpenOther),
            (half_open(false), RST, Reason::LocalHalfOpen),
            (half_open(false), RST | ACK, Reason::HalfOpenOther),
            (half_open(false), 0, Reason::HalfOpenOther),
            (LocalSocket::Open, ACK, Reason::LocalOpen),
            (LocalSocket::TimeWait, ACK, Reason::LocalTimeWait),
        ];
        for (socket, flags, reason) in rows {
            let unsettled = [
                (BucketState::Mine, false),
                (BucketState::Arriving, true),
                (BucketState::Arriving, false),
                (BucketState::Departing, true),
                (BucketState::Departing, false),
            ];
            for (state, lease) in unsettled {
                let found = Answers::new(state, lease, socket).judge(&tcp(flags));
                assert_eq!(found, reason, "{state:?}, lease {lease}, {socket:?}, flags {flags:#04x}");
            }
            assert_eq!(Answers::new(BucketState::Mine, true, socket).judge(&tcp(flags)), Reason::Mine);
            assert_eq!(Answers::new(BucketState::Other, true, socket).judge(&tcp(flags)), Reason::Other);
        }
    }

    /// The steady state costs one hash and one look at a table.
    #[test]
    fn what_is_settled_without_it_is_not_asked() {
        // Questions after lease and socket: of another node's packets, of one's own, of one's own on the move.
        let rows = [
            (BucketState::Other, SYN, [0, 0]),
            (BucketState::Other, ACK, [0, 0]),
            (BucketState::Mine, SYN, [1, 0]),
            (BucketState::Mine, ACK, [1, 0]),
            (BucketState::Departing, SYN, [0, 0]),
            (BucketState::Departing, ACK, [0, 1]),
            (BucketState::Arriving, SYN, [1, 0]),
            (BucketState::Arriving, ACK, [0, 1]),
        ];
        for (state, flags, asked) in rows {
            let world = Answers::new(state, true, LocalSocket::Open);
            world.judge(&tcp(flags));
            assert_eq!([world.lease_asked.get(), world.socket_asked.get()], asked, "{state:?}, {flags:#04x}");
        }
    }

    #[test]
    fn every_reason_has_a_name_and_a_number_of_its_own() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), REASONS);
        for (number, reason) in (0u8..).zip(Reason::ALL) {
            assert_eq!((*reason as u8, Reason::of_number(number)), (number, *reason));
        }
        assert_eq!(Reason::of_number(u8::MAX), Reason::ALL[0]);
    }

    #[test]
    fn observing_changes_no_reason_but_leaves_every_frame_alone() {
        let mut world = Answers::new(BucketState::Mine, true, LocalSocket::None);
        world.config.observe = 1;
        let verdict = judge(tcp(SYN).as_slice(), &world);
        assert_eq!((verdict.reason(), verdict.action(&world.config)), (Reason::NewMine, Action::Untouched));
    }

    proptest! {
        #[test]
        fn a_verdict_survives_its_word(number in 0..REASONS, rule in 0u8..128, table in 0u8..32, bucket in 0u16..4096, node in 1u8..65, offset in 14usize..23) {
            let reason = Reason::ALL[number];
            let verdict = Verdict::of(reason).under(rule.into());
            prop_assert_eq!((verdict.reason(), verdict.rule(), verdict.note()), (reason, rule, Note::None));
            let bucket = Bucket::new(bucket).unwrap();
            let seen = verdict.with(Verdict::SEEN, u64::from(table) << 16 | bucket.index() as u64);
            let notes = [
                (seen, Note::Seen { table, bucket }),
                (verdict.with(Verdict::HEARD, node.into()), Note::Heard(node)),
                (verdict.with(Verdict::ARP, offset as u64), Note::Arp(offset)),
                (verdict.with(Verdict::NEIGHBOUR, offset as u64), Note::Neighbour(offset)),
            ];
            for (verdict, note) in notes {
                prop_assert_eq!((verdict.reason(), verdict.rule(), verdict.note()), (reason, rule, note));
            }
        }

        #[test]
        fn the_checksum_is_that_of_rfc_1071(words: [[u8; 8]; 9]) {
            let mut sum: u32 = words.as_flattened().chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            prop_assert_eq!(u16::from_be_bytes(checksum(words)), !(sum as u16));
        }

        /// Whatever the bytes behind a header that is for the cluster: judged, rewritten and sampled without a panic, and nothing
        /// changes beyond what the verdict says.
        #[test]
        fn no_frame_panics(kind in 0usize..3, bytes in prop::collection::vec(any::<u8>(), 0..150), state in 0usize..4, lease: bool) {
            let ethertype = [[8u8, 0], [0x86, 0xdd], [8, 6]][kind];
            let frame = [vec![9; 12], ethertype.to_vec(), bytes].concat();
            let world = Answers::new(STATES[state], lease, LocalSocket::None);
            let verdict = judge(frame.as_slice(), &world);
            sample(frame.as_slice(), verdict, &world.config, frame.len() as u32, 1);
            let mut out = Frame { bytes: frame.clone(), room: true };
            prop_assert!(rewrite(verdict, &world.config, &mut out).is_some());
            match verdict.action(&world.config) {
                Action::Untouched | Action::Drop => prop_assert_eq!(out.bytes, frame),
                Action::Accept => prop_assert_eq!((&out.bytes[..6], &out.bytes[6..]), (&OWN_MAC[..], &frame[6..])),
                Action::Answer => prop_assert_eq!(&out.bytes[6..12], OWN_MAC.as_slice()),
            }
        }
    }

    struct Frame {
        bytes: Vec<u8>,
        room: bool,
    }

    impl Packet for Frame {
        fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
            Packet::get(self.bytes.as_slice(), offset)
        }
    }

    impl PacketMut for Frame {
        fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
            self.bytes.get_mut(offset..offset + N)?.copy_from_slice(&bytes);
            Some(())
        }

        fn grow(&mut self, by: usize) -> Option<()> {
            self.room.then(|| self.bytes.resize(self.bytes.len() + by, 0))
        }
    }

    #[test]
    fn an_answer_that_has_no_room_is_none_and_one_that_needs_none_is_given() {
        let vip = [0xfd; 16];
        let mut world = Answers::new(BucketState::Mine, true, LocalSocket::None);
        world.config.vips = Vips::new(&[(Address::v6([0xfd; 8], [0xfd; 8]), 0, 0)]).unwrap();
        let head = [0x60, 0, 0, 0, 0, 24, protocol::ICMPV6, 255];
        let ethernet = [&[9; 12][..], &[0x86, 0xdd]].concat();
        let solicitation = [&ethernet[..], &head, &[1; 16], &vip, &[135, 0, 0, 0, 0, 0, 0, 0], &vip].concat();
        for (padding, room, answered) in
            [(0, false, false), (7, false, false), (8, false, true), (0, true, true)]
        {
            let bytes = [&solicitation[..], &vec![0; padding]].concat();
            let verdict = judge(bytes.as_slice(), &world);
            assert_eq!(verdict.note(), Note::Neighbour(14));
            let mut frame = Frame { bytes, room };
            let rewritten = rewrite(verdict, &world.config, &mut frame);
            assert_eq!(rewritten.is_some(), answered, "{padding} bytes of padding, room {room}");
        }
    }
}

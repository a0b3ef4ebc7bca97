//! What the nodes answer, as the router sees it come in from the DMZ: which MAC address spoke in which flow. Finds flows that
//! two nodes answered, and questions that were answered more than once.
//!
//! It listens below IP, on frames as they arrive, so it sees what XDP transmits and what kernels send alike. Flows are
//! protocol, client address, client port and cluster port; the lab's clients use no port twice. An echo request is a flow of
//! its own.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use lb_user::clock::Time;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::estate::locked;
use crate::lab::{CLUSTER_IP, CLUSTER_IP6, Lab, mac_text};
use crate::prober::Attempt;

/// ETH_P_ALL, as `socket()` takes it: in network order.
const EVERY_FRAME: i32 = (0x0003_u16.to_be()) as i32;

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    flows: Arc<Mutex<Flows>>,
    thread: JoinHandle<Result<()>>,
}

impl Capture {
    /// Begins to listen at the router.
    pub fn start(lab: &Lab) -> Result<Self> {
        let socket = lab.router.enter(|| packet_socket(&from_cluster_ips()))??;
        let stop = Arc::new(AtomicBool::new(false));
        let flows = Arc::new(Mutex::new(Flows::default()));
        let (stopped, heard) = (Arc::clone(&stop), Arc::clone(&flows));
        let thread = thread::spawn(move || listen(&socket, &stopped, &heard));
        Ok(Self { stop, flows, thread })
    }

    /// The MAC address of the node that first answered in a flow, up to now.
    pub fn answered_by(&self, flow: Flow) -> Option<[u8; 6]> {
        locked(&self.flows).answered_by(flow)
    }

    /// What was captured up to now.
    pub fn so_far(&self) -> Flows {
        locked(&self.flows).clone()
    }

    /// Ends it.
    pub fn finish(self) -> Result<Flows> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the capture panicked"))??;
        Ok(std::mem::take(&mut *locked(&self.flows)))
    }
}

/// What is asked and answered in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A TCP connection.
    Tcp,
    /// A question by UDP, and its answer.
    Udp,
    /// An echo request and its reply.
    Echo,
}

/// What the nodes answer under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Its protocol.
    pub kind: Kind,
    /// The client's end; the port of an echo request is its identifier.
    pub client: SocketAddr,
    /// The cluster's port; of an echo request its sequence number.
    pub port: u16,
}

impl Flow {
    /// The connection of a client to the published site.
    pub fn https(client: impl Into<SocketAddr>) -> Self {
        Self { kind: Kind::Tcp, client: client.into(), port: 443 }
    }
}

/// What one node said in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    /// The node's MAC address.
    pub mac: [u8; 6],
    /// When its first frame came in.
    pub first: Time,
    /// When its last frame came in.
    pub last: Time,
    /// SYN-ACKs.
    pub syn_acks: u32,
    /// Frames with data or FIN; answers by UDP; echo replies.
    pub data: u32,
    /// Resets.
    pub resets: u32,
}

impl Voice {
    fn only_resets(&self) -> bool {
        self.syn_acks == 0 && self.data == 0
    }
}

/// Everything that was answered.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    by: BTreeMap<Flow, Vec<Voice>>,
    /// Frames seen.
    pub frames: u64,
}

/// When a node could not be heard: its cable was out or it had no power. After a loss of power there is no end of that for the
/// connections that it had. DESIGN's one exception to "no flow is ever answered
/// by two nodes" is a network that is itself in two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The node's MAC address.
    pub mac: [u8; 6],
    /// Since when, at the earliest.
    pub from: Time,
    /// Since when, at the latest: nothing that it answers later was begun before.
    pub by: Time,
    /// Until when, if it came back.
    pub until: Option<Time>,
}

impl Flows {
    /// How many flows were answered at all.
    pub fn len(&self) -> usize {
        self.by.len()
    }

    /// Whether nothing was answered.
    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// The MAC address of the node that first answered in a flow.
    pub fn answered_by(&self, flow: Flow) -> Option<[u8; 6]> {
        let voices = self.by.get(&flow)?;
        voices.first().map(|voice| voice.mac)
    }

    /// All that was said in a flow.
    pub fn voices(&self, flow: Flow) -> &[Voice] {
        self.by.get(&flow).map_or(&[], Vec::as_slice)
    }

    /// The flows of one kind that were answered.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Flow> {
        self.by.keys().filter(move |flow| flow.kind == kind)
    }

    /// The TCP flows that more than one node accepted.
    pub fn accepted_twice(&self) -> Vec<String> {
        let accepted = |voices: &&Vec<Voice>| voices.iter().filter(|voice| voice.syn_acks > 0).count() > 1;
        let twice = self.by_several().filter(|(_, voices)| accepted(voices));
        twice.map(|(flow, voices)| describe(*flow, voices)).collect()
    }

    /// The flows with a reset.
    pub fn reset(&self) -> impl Iterator<Item = &Flow> {
        let reset = |voices: &[Voice]| voices.iter().any(|voice| voice.resets > 0);
        self.by.iter().filter(move |(_, voices)| reset(voices)).map(|(flow, _)| flow)
    }

    /// Questions by UDP and echo requests that were answered more than once, be it by one node.
    pub fn answered_again(&self) -> Vec<String> {
        let questions = self.by.iter().filter(|(flow, _)| match flow.kind {
            Kind::Tcp => false,
            Kind::Udp | Kind::Echo => true,
        });
        let again = questions.filter(|(_, voices)| voices.iter().map(|voice| voice.data).sum::<u32>() > 1);
        again.map(|(flow, voices)| describe(*flow, voices)).collect()
    }

    /// Flows that more than one node answered, by SYN-ACK, data or reset.
    ///
    /// One case is none: a node is gone, and while it is, another resets what it left behind, so that clients need not wait
    /// for a time-out. What the node's own kernel still sends on such a connection after its return meets a client that has
    /// closed it. `gone` names the nodes that the caller took away.
    pub fn answered_twice(&self, gone: &[Gone]) -> Vec<String> {
        self.answered_twice_but_for(gone, |_| false)
    }

    /// As `answered_twice`, without those whose second answer came at a moment that is `parted`.
    pub fn answered_twice_but_for(&self, gone: &[Gone], parted: impl Fn(Time) -> bool) -> Vec<String> {
        let counts = |voices: &[Voice]| voices.get(1).is_some_and(|voice| !parted(voice.first));
        self.by_several()
            .filter(|(_, voices)| !is_orphan_reset(voices, gone) && counts(voices))
            .map(|(flow, voices)| describe(*flow, voices))
            .collect()
    }

    /// When the second of two nodes first answered in such a flow, each in the order of time.
    pub fn second_answers(&self, gone: &[Gone]) -> Vec<Time> {
        let twice = self.by_several().filter(|(_, voices)| !is_orphan_reset(voices, gone));
        let mut times: Vec<_> = twice.filter_map(|(_, voices)| Some(voices.get(1)?.first)).collect();
        times.sort();
        times
    }

    /// How many flows of a node that is gone were reset by another.
    pub fn orphans_reset(&self, gone: &[Gone]) -> usize {
        self.by_several().filter(|(_, voices)| is_orphan_reset(voices, gone)).count()
    }

    fn by_several(&self) -> impl Iterator<Item = (&Flow, &Vec<Voice>)> {
        self.by.iter().filter(|(_, voices)| voices.len() > 1)
    }

    /// Attempts that were answered but not captured: what this capture missed. A measure of its own honesty.
    pub fn missed(&self, attempts: &[Attempt]) -> usize {
        let answered = attempts.iter().filter(|attempt| attempt.answered.is_some());
        answered.filter(|attempt| !self.by.contains_key(&Flow::https(attempt.source))).count()
    }

    /// Takes one frame in.
    pub fn hear(&mut self, frame: &[u8], now: Time) {
        let Some((flow, voice)) = parse(frame, now) else {
            return;
        };
        self.frames += 1;
        if voice.syn_acks + voice.data + voice.resets == 0 {
            return;
        }
        let voices = self.by.entry(flow).or_default();
        match voices.iter_mut().find(|known| known.mac == voice.mac) {
            None => voices.push(voice),
            Some(known) => {
                known.last = now;
                known.syn_acks += voice.syn_acks;
                known.data += voice.data;
                known.resets += voice.resets;
            }
        }
    }
}

fn is_orphan_reset(voices: &[Voice], gone: &[Gone]) -> bool {
    gone.iter().any(|gone| {
        let (dead, others): (Vec<&Voice>, Vec<&Voice>) =
            voices.iter().partition(|voice| voice.mac == gone.mac);
        let ([dead], [heir]) = (&dead[..], &others[..]) else {
            return false;
        };
        let during = heir.first > gone.from && gone.until.is_none_or(|until| heir.first < until);
        dead.first < gone.by && during && heir.only_resets()
    })
}

fn describe(flow: Flow, voices: &[Voice]) -> String {
    let Flow { kind, client, port } = flow;
    let voices = voices.iter().map(|voice| {
        format!(
            "{} ({} SYN-ACK, {} data, {} reset, at {:.6}..{:.6} s)",
            mac_text(voice.mac),
            voice.syn_acks,
            voice.data,
            voice.resets,
            seconds(voice.first),
            seconds(voice.last)
        )
    });
    let voices: Vec<_> = voices.collect();
    format!("{kind:?} {client} -> cluster IP, {port}, by {}", voices.join(" and "))
}

fn seconds(time: Time) -> f64 {
    time.since(Time::from_nanos(0)).as_secs_f64()
}

fn listen(socket: &Socket, stop: &AtomicBool, flows: &Mutex<Flows>) -> Result<()> {
    let mut buffer = [0; 256];
    let mut end = None;
    loop {
        if end.is_some_and(|end| Time::now() > end) {
            return Ok(());
        }
        if end.is_none() && stop.load(Ordering::Acquire) {
            // What has come in by now is read yet; what goes on for ever is not waited for.
            end = Some(Time::now() + Duration::from_secs(1));
        }
        match (&*socket).read(&mut buffer) {
            Ok(length) => locked(flows).hear(&buffer[..length], Time::now()),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) =>
            {
                if end.is_some() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error).context("the capture failed"),
        }
    }
}

/// The flow of a frame, and what it says.
fn parse(frame: &[u8], now: Time) -> Option<(Flow, Voice)> {
    let (ethernet, rest) = Ethernet2Header::from_slice(frame).ok()?;
    let mut voice = Voice { mac: ethernet.source, first: now, last: now, syn_acks: 0, data: 0, resets: 0 };
    let (client, protocol, length, payload) = match ethernet.ether_type {
        EtherType::IPV4 => {
            let (ip, rest) = Ipv4Header::from_slice(rest).ok()?;
            (ip.fragment_offset.value() == 0).then_some(())?;
            (
                ip.destination.into(),
                ip.protocol,
                usize::from(ip.total_len).checked_sub(ip.header_len())?,
                rest,
            )
        }
        EtherType::IPV6 => {
            let (ip, rest) = Ipv6Header::from_slice(rest).ok()?;
            (ip.destination.into(), ip.next_header, usize::from(ip.payload_length), rest)
        }
        _ => return None,
    };
    let (kind, client_port, port) = match protocol {
        IpNumber::TCP => hear_tcp(payload, length, &mut voice)?,
        IpNumber::UDP => hear_udp(payload, &mut voice)?,
        IpNumber::ICMP | IpNumber::IPV6_ICMP => hear_echo(payload, &mut voice)?,
        _ => return None,
    };
    Some((Flow { kind, client: SocketAddr::new(client, client_port), port }, voice))
}

/// Protocol, client's port and cluster's port of a segment of which `length` bytes were sent.
fn hear_tcp(segment: &[u8], length: usize, voice: &mut Voice) -> Option<(Kind, u16, u16)> {
    let (tcp, _) = TcpHeader::from_slice(segment).ok()?;
    let payload = length.saturating_sub(tcp.header_len());
    voice.syn_acks = u32::from(tcp.syn && tcp.ack);
    voice.data = u32::from(!tcp.rst && !tcp.syn && (payload > 0 || tcp.fin));
    voice.resets = u32::from(tcp.rst);
    Some((Kind::Tcp, tcp.destination_port, tcp.source_port))
}

fn hear_udp(datagram: &[u8], voice: &mut Voice) -> Option<(Kind, u16, u16)> {
    let (udp, _) = UdpHeader::from_slice(datagram).ok()?;
    voice.data = 1;
    Some((Kind::Udp, udp.destination_port, udp.source_port))
}

/// Identifier and sequence number of an echo reply (RFC 792, RFC 4443).
fn hear_echo(message: &[u8], voice: &mut Voice) -> Option<(Kind, u16, u16)> {
    let &[kind, _, _, _, id_high, id_low, number_high, number_low, ..] = message else {
        return None;
    };
    [0, 129].contains(&kind).then_some(())?;
    voice.data = 1;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Some((Kind::Echo, pair(id_high, id_low), pair(number_high, number_low)))
}

/// A socket of the calling thread's namespace that gets every frame that the filter passes, in and out, and does not wait long.
pub(crate) fn packet_socket(filter: &[SockFilter]) -> Result<Socket> {
    let kind = Protocol::from(EVERY_FRAME);
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(kind)).context("a packet socket needs root")?;
    socket.attach_filter(filter)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket)
}

/// Instructions of a socket's filter (linux/filter.h) that the lab uses.
pub(crate) mod filter {
    /// Loads the word, half word or byte at `k`.
    pub(crate) const LD_W: u16 = 0x20;
    pub(crate) const LD_H: u16 = 0x28;
    pub(crate) const LD_B: u16 = 0x30;
    /// Loads the frame's length.
    pub(crate) const LD_LEN: u16 = 0x80;
    pub(crate) const JEQ: u16 = 0x15;
    pub(crate) const JGT: u16 = 0x25;
    pub(crate) const JSET: u16 = 0x45;
    pub(crate) const RET: u16 = 0x06;
    /// Where [`LD_W`] finds the packet's type and the interface's number.
    pub(crate) const PACKET_TYPE: u32 = 0xffff_f000 + 4;
    pub(crate) const INTERFACE: u32 = 0xffff_f000 + 8;
    /// The packet type of a frame that goes out.
    pub(crate) const OUTGOING: u32 = 4;
}

/// Passes the headers of incoming frames whose source is a cluster IP, and nothing else.
fn from_cluster_ips() -> [SockFilter; 17] {
    use filter::{JEQ, LD_H, LD_W, OUTGOING, PACKET_TYPE, RET};
    let insn = SockFilter::new;
    let [a, b, c, d, e, f, g, h] = CLUSTER_IP6.segments().map(u32::from);
    [
        insn(LD_W, 0, 0, PACKET_TYPE),
        insn(JEQ, 14, 0, OUTGOING),
        insn(LD_H, 0, 0, 12),
        insn(JEQ, 0, 2, 0x0800),
        insn(LD_W, 0, 0, 26),
        insn(JEQ, 9, 10, CLUSTER_IP.to_bits()),
        insn(JEQ, 0, 9, 0x86dd),
        insn(LD_W, 0, 0, 22),
        insn(JEQ, 0, 7, a << 16 | b),
        insn(LD_W, 0, 0, 26),
        insn(JEQ, 0, 5, c << 16 | d),
        insn(LD_W, 0, 0, 30),
        insn(JEQ, 0, 3, e << 16 | f),
        insn(LD_W, 0, 0, 34),
        insn(JEQ, 0, 1, g << 16 | h),
        insn(RET, 0, 0, 200),
        insn(RET, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use etherparse::PacketBuilder;

    use super::*;

    const A: [u8; 6] = [2, 0xaa, 192, 168, 50, 6];
    const B: [u8; 6] = [2, 0xaa, 192, 168, 50, 7];

    #[derive(Clone, Copy)]
    enum Says {
        SynAck,
        Data,
        Ack,
        Reset,
    }

    fn frame(mac: [u8; 6], says: Says) -> Vec<u8> {
        let ip = PacketBuilder::ethernet2(mac, [2; 6]).ipv4(CLUSTER_IP.octets(), [203, 0, 113, 70], 64);
        let tcp = ip.tcp(443, 5000, 1, 100);
        let (tcp, payload): (_, &[u8]) = match says {
            Says::SynAck => (tcp.syn().ack(1), b""),
            Says::Data => (tcp.ack(1), b"data"),
            Says::Ack => (tcp.ack(1), b""),
            Says::Reset => (tcp.rst(), b""),
        };
        let mut bytes = Vec::new();
        tcp.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn heard(frames: &[([u8; 6], Says)]) -> Flows {
        let mut flows = Flows::default();
        for (&(mac, says), at) in frames.iter().zip(1..) {
            flows.hear(&frame(mac, says), Time::from_nanos(at));
        }
        flows
    }

    #[test]
    fn two_nodes_in_one_flow_are_a_double_whatever_they_say() {
        for second in [Says::SynAck, Says::Data, Says::Reset] {
            let flows = heard(&[(A, Says::SynAck), (B, second)]);
            assert_eq!(flows.answered_twice(&[]).len(), 1);
        }
    }

    #[test]
    fn one_node_and_bare_acknowledgements_of_another_are_none() {
        let flows = heard(&[(A, Says::SynAck), (A, Says::Data), (B, Says::Ack), (A, Says::Reset)]);
        assert_eq!(flows.answered_twice(&[]), Vec::<String>::new());
        assert_eq!(flows.len(), 1);
    }

    #[test]
    fn a_reset_of_what_a_dead_node_left_is_no_double_but_a_reset_beside_a_living_one_is() {
        let flows = heard(&[(A, Says::SynAck), (A, Says::Data), (B, Says::Reset)]);
        let gone = |from| {
            let from = Time::from_nanos(from);
            [Gone { mac: A, from, by: from, until: Some(Time::from_nanos(5)) }]
        };
        assert_eq!(flows.answered_twice(&gone(2)).len(), 0);
        assert_eq!(flows.orphans_reset(&gone(2)), 1);
        assert_eq!(flows.answered_twice(&gone(4)).len(), 1, "reset before it was gone");
        let ack = (A, Says::Ack);
        let returned =
            heard(&[(A, Says::SynAck), (A, Says::Data), (B, Says::Reset), ack, ack, (A, Says::Data)]);
        assert_eq!(returned.answered_twice(&gone(2)).len(), 0, "it spoke again after its return");
        let late = heard(&[(A, Says::SynAck), ack, ack, ack, ack, (B, Says::Reset)]);
        assert_eq!(late.answered_twice(&gone(2)).len(), 1, "reset after its return");
        let begun_since = heard(&[(B, Says::Ack), (B, Says::Ack), (A, Says::SynAck), (B, Says::Reset)]);
        assert_eq!(begun_since.answered_twice(&gone(2)).len(), 1, "it answered after it had gone");
        let answered = heard(&[(A, Says::SynAck), (B, Says::SynAck)]);
        assert_eq!(answered.answered_twice(&gone(1)).len(), 1, "more than a reset");
    }

    #[test]
    fn a_question_is_answered_once_by_whatever_protocol_and_version() {
        let v4 = || PacketBuilder::ethernet2(A, [2; 6]).ipv4(CLUSTER_IP.octets(), [203, 0, 113, 70], 64);
        let v6 = || PacketBuilder::ethernet2(A, [2; 6]).ipv6(CLUSTER_IP6.octets(), [3; 16], 64);
        let mut frames = vec![Vec::new(); 4];
        v4().udp(53, 5000).write(&mut frames[0], b"answer").unwrap();
        v6().udp(53, 5000).write(&mut frames[1], b"answer").unwrap();
        v4().icmpv4_echo_reply(7, 8).write(&mut frames[2], b"echo").unwrap();
        v6().icmpv6_echo_reply(7, 8).write(&mut frames[3], b"echo").unwrap();
        let mut flows = Flows::default();
        for (frame, at) in frames.iter().zip(1..) {
            flows.hear(frame, Time::from_nanos(at));
        }
        assert_eq!((flows.of(Kind::Udp).count(), flows.of(Kind::Echo).count()), (2, 2));
        assert_eq!(flows.answered_again(), Vec::<String>::new());
        flows.hear(&frames[3], Time::from_nanos(9));
        assert_eq!(flows.answered_again().len(), 1);
        assert_eq!(flows.answered_twice(&[]), Vec::<String>::new(), "one node, twice");
    }

    #[test]
    fn who_answered_first_is_known() {
        let flows = heard(&[(B, Says::SynAck), (A, Says::Reset)]);
        let client = SocketAddrV4::new([203, 0, 113, 70].into(), 5000);
        assert_eq!(flows.answered_by(Flow::https(client)), Some(B));
    }
}

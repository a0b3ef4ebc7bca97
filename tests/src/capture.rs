//! What the nodes answer, as the router sees it come in from the DMZ: which MAC address spoke in which flow. Finds flows that
//! two nodes answered.
//!
//! It listens below IP, on frames as they arrive, so it sees what XDP transmits and what kernels send alike. Flows are client
//! address, client port and cluster port; the lab's clients use no port twice.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::{Ethernet2Header, Ipv4Header, TcpHeader};
use lb_user::clock::Time;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::estate::locked;
use crate::lab::{CLUSTER_IP, Lab, mac_text};
use crate::prober::Attempt;

/// ETH_P_IP, as `socket()` takes it: in network order. Frames that go out are no part of it.
const INCOMING_IPV4: i32 = (0x0800_u16.to_be()) as i32;

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
        let socket = lab.router.enter(|| -> Result<Socket> {
            let kind = Protocol::from(INCOMING_IPV4);
            let socket =
                Socket::new(Domain::PACKET, Type::RAW, Some(kind)).context("a packet socket needs root")?;
            socket.attach_filter(&from_cluster_ip())?;
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20)?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok(socket)
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let flows = Arc::new(Mutex::new(Flows::default()));
        let (stopped, heard) = (Arc::clone(&stop), Arc::clone(&flows));
        let thread = thread::spawn(move || listen(&socket, &stopped, &heard));
        Ok(Self { stop, flows, thread })
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

/// The client's end of a flow, and the cluster's port.
pub type Flow = (SocketAddrV4, u16);

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
    /// Frames with data or FIN.
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

/// When a node could not be heard: its cable was out or it had no power. DESIGN's one exception to "no flow is ever answered
/// by two nodes" is a network that is itself in two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The node's MAC address.
    pub mac: [u8; 6],
    /// Since when.
    pub from: Time,
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

    /// The MAC address of the node that first answered a client's port on the cluster's port 443.
    pub fn answered_by(&self, client: SocketAddrV4) -> Option<[u8; 6]> {
        let voices = self.by.get(&(client, 443))?;
        voices.first().map(|voice| voice.mac)
    }

    /// Flows that more than one node answered, by SYN-ACK, data or reset.
    ///
    /// One case is none: a node is gone, and while it is, another resets what it left behind, so that clients need not wait
    /// for a time-out. What the node's own kernel still sends on such a connection after its return meets a client that has
    /// closed it. `gone` names the nodes that the caller took away.
    pub fn answered_twice(&self, gone: &[Gone]) -> Vec<String> {
        self.by_several()
            .filter(|(_, voices)| !is_orphan_reset(voices, gone))
            .map(|((client, port), voices)| describe(*client, *port, voices))
            .collect()
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
        answered.filter(|attempt| !self.by.contains_key(&(attempt.source, 443))).count()
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
        let ([_], [heir]) = (&dead[..], &others[..]) else {
            return false;
        };
        heir.only_resets() && heir.first > gone.from && gone.until.is_none_or(|until| heir.first < until)
    })
}

fn describe(client: SocketAddrV4, port: u16, voices: &[Voice]) -> String {
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
    format!("{client} -> {CLUSTER_IP}:{port} by {}", voices.join(" and "))
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
    let (ip, rest) = Ipv4Header::from_slice(rest).ok()?;
    let (tcp, _) = TcpHeader::from_slice(rest).ok()?;
    let client = SocketAddrV4::new(Ipv4Addr::from(ip.destination), tcp.destination_port);
    let headers = ip.header_len() + tcp.header_len();
    let payload = usize::from(ip.total_len).saturating_sub(headers);
    let is = u32::from;
    let voice = Voice {
        mac: ethernet.source,
        first: now,
        last: now,
        syn_acks: is(tcp.syn && tcp.ack),
        data: is(!tcp.rst && !tcp.syn && (payload > 0 || tcp.fin)),
        resets: is(tcp.rst),
    };
    Some(((client, tcp.source_port), voice))
}

/// Passes the headers of frames whose IPv4 source is the cluster IP, and nothing else.
fn from_cluster_ip() -> [SockFilter; 4] {
    let insn = SockFilter::new;
    [insn(0x20, 0, 0, 26), insn(0x15, 0, 1, CLUSTER_IP.to_bits()), insn(0x06, 0, 0, 200), insn(0x06, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
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
        let gone = |from| [Gone { mac: A, from: Time::from_nanos(from), until: Some(Time::from_nanos(5)) }];
        assert_eq!(flows.answered_twice(&gone(2)).len(), 0);
        assert_eq!(flows.orphans_reset(&gone(2)), 1);
        assert_eq!(flows.answered_twice(&gone(4)).len(), 1, "reset before it was gone");
        let ack = (A, Says::Ack);
        let returned =
            heard(&[(A, Says::SynAck), (A, Says::Data), (B, Says::Reset), ack, ack, (A, Says::Data)]);
        assert_eq!(returned.answered_twice(&gone(2)).len(), 0, "it spoke again after its return");
        let late = heard(&[(A, Says::SynAck), ack, ack, ack, ack, (B, Says::Reset)]);
        assert_eq!(late.answered_twice(&gone(2)).len(), 1, "reset after its return");
        let answered = heard(&[(A, Says::SynAck), (B, Says::SynAck)]);
        assert_eq!(answered.answered_twice(&gone(1)).len(), 1, "more than a reset");
    }

    #[test]
    fn who_answered_first_is_known() {
        let flows = heard(&[(B, Says::SynAck), (A, Says::Reset)]);
        let client = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 70), 5000);
        assert_eq!(flows.answered_by(client), Some(B));
    }
}

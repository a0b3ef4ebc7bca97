//! ICMP echo, over IPv4 and IPv6: requests with numbers, and how often each was answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Ipv4Header};
use lb_user::clock::Time;
use socket2::{Domain, Protocol, Socket, Type};

use crate::caller::client_address;
use crate::lab::Lab;
use crate::sys::Namespace;

/// How long replies are waited for after the last request.
pub const PATIENCE: Duration = Duration::from_millis(300);

/// Time from one request to the next.
const PERIOD: Duration = Duration::from_millis(5);

/// How many requests there are at most: more would need numbers twice.
const MOST: u16 = 60_000;

/// Identifies our requests; the source address is nobody else's, so any number does.
const IDENTIFIER: u16 = 0x7263;

const PAYLOAD: [u8; 8] = *b"rollcall";

/// Requests under way.
#[derive(Debug)]
pub struct Pinger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Ping>>>,
}

/// One echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The client's address.
    pub client: IpAddr,
    /// When it was sent.
    pub sent: Time,
    /// How many replies came.
    pub replies: u32,
}

impl Pinger {
    /// A request to `target` every 5 ms, from an address of its own.
    pub fn start(lab: &Lab, target: IpAddr) -> Result<Self> {
        let target = SocketAddr::new(target, 0);
        let (namespace, source) = (lab.client.clone(), client_address(lab, target)?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || ping_again(&namespace, source, target, &stopped));
        Ok(Self { stop, thread })
    }

    /// Sends no more, waits for the last replies, and gives all requests in their order.
    pub fn finish(self) -> Result<Vec<Ping>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("a pinger panicked"))?
    }
}

fn ping_again(
    namespace: &Namespace,
    source: IpAddr,
    target: SocketAddr,
    stop: &AtomicBool,
) -> Result<Vec<Ping>> {
    namespace.move_into()?;
    let socket = open(source, target)?;
    let mut pings = Vec::new();
    for number in 0..MOST {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let sent = Time::now();
        pings.push(Ping { client: source, sent, replies: 0 });
        socket.send(&request(target.ip(), number)).context("cannot send an echo request")?;
        hear_until(&socket, sent + PERIOD, &mut pings);
    }
    hear_until(&socket, Time::now() + PATIENCE, &mut pings);
    Ok(pings)
}

fn open(source: IpAddr, target: SocketAddr) -> Result<Socket> {
    let protocol = match target {
        SocketAddr::V4(_) => Protocol::ICMPV4,
        SocketAddr::V6(_) => Protocol::ICMPV6,
    };
    let socket = Socket::new(Domain::for_address(target), Type::RAW, Some(protocol));
    let socket = socket.context("a raw socket needs root")?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&target.into())?;
    socket.set_read_timeout(Some(PERIOD))?;
    Ok(socket)
}

/// The kernel computes the checksum of ICMPv6 itself (RFC 3542, section 3.1).
fn request(target: IpAddr, number: u16) -> Vec<u8> {
    let echo = IcmpEchoHeader { id: IDENTIFIER, seq: number };
    let head = match target {
        IpAddr::V4(_) => {
            Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &PAYLOAD).to_bytes().to_vec()
        }
        IpAddr::V6(_) => [[128, 0, 0, 0], echo.to_bytes()].concat(),
    };
    [head, PAYLOAD.to_vec()].concat()
}

fn hear_until(mut socket: &Socket, end: Time, pings: &mut [Ping]) {
    use std::io::Read as _;
    let mut buffer = [0; 256];
    while Time::now() < end {
        let Ok(length) = socket.read(&mut buffer) else {
            continue;
        };
        let number = reply_number(&buffer[..length]);
        if let Some(ping) = number.and_then(|number| pings.get_mut(usize::from(number))) {
            ping.replies += 1;
        }
    }
}

/// The number of the request that a message answers. A socket of IPv4 hears it with its IP header, one of IPv6 without.
fn reply_number(message: &[u8]) -> Option<u16> {
    let message = match Ipv4Header::from_slice(message) {
        Ok((_, message)) => message,
        Err(_) => message,
    };
    let &[kind, 0, _, _, id_high, id_low, number_high, number_low, ..] = message else {
        return None;
    };
    let ours = [0, 129].contains(&kind) && u16::from_be_bytes([id_high, id_low]) == IDENTIFIER;
    ours.then_some(u16::from_be_bytes([number_high, number_low]))
}

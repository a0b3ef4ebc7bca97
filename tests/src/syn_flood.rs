//! A SYN flood with spoofed sources, and what it may cost: memory of processes and of the kernel.
//!
//! The router sends it, past its own connection tracking, as if it had forwarded it from outside; what the nodes answer ends
//! there. No source of it exists: 198.18.0.0/15 is for tests of this kind (RFC 2544).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use lb_user::clock::Time;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Lab;
use crate::node::Cluster;
use crate::sys;

/// SYNs a second: beyond any backlog, and below what starves a machine of two cores.
const RATE: u64 = 100_000;

/// SYNs between two looks at the clock.
const BURST: u64 = 200;

/// IPPROTO_RAW: the sender writes the IP header.
const RAW: i32 = 255;

/// A flood under way; ended when dropped.
#[derive(Debug)]
pub struct SynFlood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl SynFlood {
    /// Sends `count` SYNs to `target`.
    pub fn start(lab: &Lab, target: SocketAddrV4, count: u64) -> Result<Self> {
        lab.router.nft(
            "table ip flood {\nchain out { type filter hook output priority raw;\nip saddr 198.18.0.0/15 notrack\n}\n\
             chain in { type filter hook prerouting priority raw;\nip daddr 198.18.0.0/15 drop\n}\n}",
        )?;
        let socket = lab.router.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))))?;
        let socket = socket.context("a raw socket needs root")?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || flood(&socket, target, count, &stopped, &counted));
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// How many were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Waits until all are sent.
    pub fn finish(mut self) -> Result<u64> {
        let thread = self.thread.take().context("a flood ends once")?;
        thread.join().map_err(|_| anyhow!("the flood panicked"))??;
        Ok(self.sent())
    }
}

impl Drop for SynFlood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn flood(
    socket: &Socket,
    target: SocketAddrV4,
    count: u64,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<()> {
    let to = SocketAddr::from(target).into();
    let start = Time::now();
    for number in 0..count {
        if number % BURST == 0 {
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            thread::sleep((start + Duration::from_nanos(number * 1_000_000_000 / RATE)).since(Time::now()));
        }
        match socket.send_to(&syn(target, number)?, &to) {
            Ok(_) => {}
            // A full queue on the way: it is a flood.
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {}
            Err(error) => return Err(error).context("cannot send a spoofed SYN"),
        }
        sent.store(number + 1, Ordering::Release);
    }
    Ok(())
}

/// The SYN with this number: 2^33 different ones, spread by a multiplication (Knuth, volume 3, 6.4).
fn syn(target: SocketAddrV4, number: u64) -> Result<Vec<u8>> {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let host = u32::try_from(mixed >> 47)?;
    let source = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + host);
    let port = 1024 + u16::try_from((mixed >> 32) & 0x7fff)?;
    let mut tcp = TcpHeader::new(port, target.port(), (mixed & 0xffff_ffff) as u32, 64_240);
    tcp.syn = true;
    tcp.checksum = tcp.calc_checksum_ipv4_raw(source.octets(), target.ip().octets(), &[])?;
    let ip = Ipv4Header::new(20, 64, IpNumber::TCP, source.octets(), target.ip().octets())?;
    Ok([&ip.to_bytes()[..], &tcp.to_bytes()[..]].concat())
}

/// Memory in use, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Of each node's agent and proxy.
    pub processes: Vec<(String, u64)>,
    /// Of the kernel, that it could not give back.
    pub kernel: u64,
}

impl Memory {
    /// Now.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let resident = |pid| sys::memory(pid, sys::Memory::Resident);
        let mut processes = Vec::new();
        for node in &cluster.nodes {
            let status = node.status()?;
            processes.push((format!("agent of {}", node.name()), resident(status.pid)?));
            if let Some(pid) = status.proxy.and_then(|proxy| proxy.pid) {
                processes.push((format!("proxy of {}", node.name()), resident(pid)?));
            }
        }
        Ok(Self { processes, kernel: sys::kilobytes("/proc/meminfo", "SUnreclaim:")? })
    }

    /// What grew since `before` by more than these bounds, a line each.
    pub fn grown_since(&self, before: &Self, process: u64, kernel: u64) -> Vec<String> {
        let pairs = self.processes.iter().zip(&before.processes);
        let rows = pairs.map(|((name, now), (_, then))| (name.as_str(), *then, *now, process));
        let rows = rows.chain([("kernel slab", before.kernel, self.kernel, kernel)]);
        let grown = rows.filter(|(_, then, now, bound)| now.saturating_sub(*then) > *bound);
        grown
            .map(|(name, then, now, _)| format!("{name}: from {} to {} KiB", then >> 10, now >> 10))
            .collect()
    }
}

//! What must be true of this machine before the agent starts, looked at before anything is changed: each failure is one
//! message with its cause and its cure, all of them at once.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;
use thiserror::Error;

use crate::arp::format_mac;
use crate::arp::{Arp, BROADCAST, Operation};
use crate::clock::Time;
use crate::config::model::{Config, HEARTBEAT_PORT};
use crate::dataplane::link::{InspectError, Interface};
use crate::ndp::{self, NDP_FRAME};
use crate::proxy::supervisor;
use crate::sys::{FrameSocket, Received};

/// Fewer file descriptors than this are not worth starting with: a connection of the proxy takes two.
const MIN_FILES: u64 = 4096;

/// How often the cluster IP is asked for.
const PROBES: u32 = 3;

/// How long each time.
const PROBE_WAIT: Duration = Duration::from_millis(200);

/// What the agent cannot do without (capabilities(7)).
const CAPABILITIES: &[(&str, CapabilitySet)] = &[
    ("CAP_BPF", CapabilitySet::BPF),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ("CAP_NET_RAW", CapabilitySet::NET_RAW),
    ("CAP_NET_BIND_SERVICE", CapabilitySet::NET_BIND_SERVICE),
    ("CAP_SETUID", CapabilitySet::SETUID),
    ("CAP_SETGID", CapabilitySet::SETGID),
    ("CAP_KILL", CapabilitySet::KILL),
    ("CAP_PERFMON", CapabilitySet::PERFMON),
];

/// Looks at what this process and its kernel can do, and raises the limit of open files. Before all else: too few rights or
/// files would show up as other errors, or as panics of libraries.
pub fn check_process() -> Result<(), PreflightErrors> {
    let problems: Vec<_> = [privileges(), files(), kernel()].into_iter().filter_map(Result::err).collect();
    if problems.is_empty() { Ok(()) } else { Err(PreflightErrors(problems)) }
}

/// Looks at the network; yields the interface. Takes up to 0.6 s for each cluster IP.
///
/// `cluster_mac`: answers that carry it come from fellow nodes. `resumed`: an earlier agent's data path and listening
/// sockets are there, so what they hold is no obstacle.
pub fn check(config: &Config, cluster_mac: [u8; 6], resumed: bool) -> Result<Interface, PreflightErrors> {
    let mut problems = Vec::new();
    if !resumed {
        problems.extend(ports(config));
    }
    let interface = match interface(config) {
        Ok(interface) => Some(interface),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    // Only an interface that works can ask.
    if let (Some(interface), true) = (&interface, problems.is_empty() && !config.cluster.observe) {
        for ip in &config.cluster.cluster_ips {
            problems.extend(unanswered(interface, ip.address, cluster_mac).err());
        }
    }
    match interface {
        Some(interface) if problems.is_empty() => Ok(interface),
        Some(_) | None => Err(PreflightErrors(problems)),
    }
}

/// Looks at what a configuration adds to that of an agent that runs: its cluster IPs, and the ports that are listened at. Takes up to
/// 0.6 s for each new cluster IP.
pub fn check_added(before: &Config, now: &Config, cluster_mac: [u8; 6]) -> Result<(), PreflightErrors> {
    let mut problems = Vec::new();
    let known: Vec<SocketAddr> = before.cluster.listens().collect();
    for address in now.cluster.listens().filter(|address| !known.contains(address)) {
        if let Err(error) = supervisor::bind(address) {
            problems.push(port("TCP", address, &error));
        }
    }
    let ips = |config: &Config| config.cluster.cluster_ips.iter().map(|ip| ip.address).collect::<Vec<_>>();
    let known = ips(before);
    match interface(now) {
        Ok(interface) => {
            for address in ips(now).into_iter().filter(|address| !known.contains(address)) {
                problems.extend(unanswered(&interface, address, cluster_mac).err());
            }
        }
        Err(problem) => problems.push(problem),
    }
    if problems.is_empty() { Ok(()) } else { Err(PreflightErrors(problems)) }
}

/// Everything that keeps the agent from starting, at least one thing. Nothing was changed.
#[derive(Debug, Error)]
pub struct PreflightErrors(pub Vec<PreflightError>);

impl PreflightErrors {
    /// Whether the configuration is to blame, rather than the machine or its network.
    pub fn is_configuration(&self) -> bool {
        self.0.iter().any(|error| match error {
            PreflightError::Interface(error) => error.is_configuration(),
            PreflightError::NotHere { .. } | PreflightError::OtherNetwork { .. } => true,
            PreflightError::Down { .. }
            | PreflightError::NoIpv6 { .. }
            | PreflightError::Answered { .. }
            | PreflightError::Probe { .. }
            | PreflightError::Privileges { .. }
            | PreflightError::Files { .. }
            | PreflightError::Kernel
            | PreflightError::Taken { .. }
            | PreflightError::Port { .. } => false,
        })
    }
}

impl std::fmt::Display for PreflightErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}

/// One thing that keeps the agent from starting.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// The interface cannot be used.
    #[error(transparent)]
    Interface(#[from] InspectError),
    /// It is switched off.
    #[error("interface {interface} is down; hint: ip link set {interface} up")]
    Down {
        /// Its name.
        interface: String,
    },
    /// This node's address is not on it.
    #[error(
        "interface {interface} has {found}, not this node's address {address}; hint: correct `interface` or `name` in node.toml, or the node's `address` in the cluster file"
    )]
    NotHere {
        /// Its name.
        interface: String,
        /// Its addresses.
        found: String,
        /// The address that it should have.
        address: Ipv4Addr,
    },
    /// The cluster IP does not belong there.
    #[error(
        "cluster IP {cluster_ip} is not in the network of interface {interface}, which has {network}; hint: correct the cluster IP in the cluster file, `interface` in node.toml, or the interface's prefix length"
    )]
    OtherNetwork {
        /// The cluster IP.
        cluster_ip: Ipv4Addr,
        /// The interface's address and prefix length.
        network: String,
        /// Its name.
        interface: String,
    },
    /// The gateway cannot be asked.
    #[error(
        "gateway {gateway} has an IPv6 address, and interface {interface} has none to ask it from; hint: sysctl -w net.ipv6.conf.{interface}.disable_ipv6=0, or set `gateway` in the cluster file to the router's IPv4 address"
    )]
    NoIpv6 {
        /// Its name.
        interface: String,
        /// The gateway's address.
        gateway: Ipv6Addr,
    },
    /// Another machine has the cluster IP.
    #[error(
        "another machine, {mac}, answers for cluster IP {address}; hint: find it by that MAC address and remove the address there, or choose another cluster IP"
    )]
    Answered {
        /// The cluster IP.
        address: IpAddr,
        /// The machine's MAC address.
        mac: String,
    },
    /// The cluster IP cannot be asked for.
    #[error("cannot ask on {interface} whether cluster IP {address} is free: {reason}")]
    Probe {
        /// The interface.
        interface: String,
        /// The cluster IP.
        address: IpAddr,
        /// Why.
        reason: String,
    },
    /// Capabilities are missing.
    #[error(
        "this process may not set up networking: it lacks {missing}; hint: run it as root (sudo), or give it these capabilities (systemd: AmbientCapabilities=)"
    )]
    Privileges {
        /// Their names.
        missing: String,
    },
    /// Too few open files are allowed.
    #[error(
        "only {allowed} open files are allowed, at least {MIN_FILES} are needed; hint: raise the limit; in a systemd unit: LimitNOFILE=65536, in a shell: ulimit -n 65536"
    )]
    Files {
        /// How many are.
        allowed: u64,
    },
    /// The kernel is without a feature.
    #[error(
        "this kernel does not describe its types (there is no /sys/kernel/btf/vmlinux), which the packet program needs; hint: use a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian 12, Ubuntu 22.04, RHEL 9 and later have"
    )]
    Kernel,
    /// Somebody listens where the agent must.
    #[error(
        "{protocol} port {port} of {address} is taken by another program; hint: `ss -lpn sport = :{port}` names it; stop it, or let it use another port"
    )]
    Taken {
        /// TCP or UDP.
        protocol: &'static str,
        /// Its number.
        port: u16,
        /// The address.
        address: IpAddr,
    },
    /// The port cannot be used for another reason.
    #[error("{protocol} port {port} of {address} cannot be used: {reason}")]
    Port {
        /// TCP or UDP.
        protocol: &'static str,
        /// Its number.
        port: u16,
        /// The address.
        address: IpAddr,
        /// Why.
        reason: String,
    },
}

fn interface(config: &Config) -> Result<Interface, PreflightError> {
    let interface = Interface::inspect(&config.local.interface)?;
    let name = interface.name.clone();
    if !interface.up {
        return Err(PreflightError::Down { interface: name });
    }
    let address = config.me().address;
    let Some(&(_, prefix)) = interface.addresses.iter().find(|(own, _)| *own == address) else {
        let found: Vec<String> = interface.addresses.iter().map(|(own, _)| own.to_string()).collect();
        let found = if found.is_empty() { "no address".to_owned() } else { found.join(", ") };
        return Err(PreflightError::NotHere { interface: name, found, address });
    };
    if let (Some(IpAddr::V6(gateway)), None) = (config.cluster.gateway, interface.asks_from()) {
        return Err(PreflightError::NoIpv6 { interface: name, gateway });
    }
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let elsewhere = |ip: Ipv4Addr| ip.to_bits() & mask != address.to_bits() & mask;
    match v4_cluster_ips(config).find(|ip| elsewhere(*ip)) {
        None => Ok(interface),
        Some(cluster_ip) => {
            let network = format!("{address}/{prefix}");
            Err(PreflightError::OtherNetwork { cluster_ip, network, interface: name })
        }
    }
}

fn v4_cluster_ips(config: &Config) -> impl Iterator<Item = Ipv4Addr> {
    let ips = config.cluster.cluster_ips.iter();
    ips.filter_map(|ip| if let IpAddr::V4(address) = ip.address { Some(address) } else { None })
}

fn privileges() -> Result<(), PreflightError> {
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let missing = CAPABILITIES.iter().filter(|(_, capability)| !effective.contains(*capability));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(PreflightError::Privileges { missing: missing.join(", ") }) }
}

/// The proxy inherits the limit, so it is raised as far as allowed.
fn files() -> Result<(), PreflightError> {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let allowed = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    match allowed {
        Some(allowed) if allowed < MIN_FILES => Err(PreflightError::Files { allowed }),
        Some(_) | None => Ok(()),
    }
}

fn kernel() -> Result<(), PreflightError> {
    if fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) { Ok(()) } else { Err(PreflightError::Kernel) }
}

/// Ports that somebody else has. A listener on all addresses holds a cluster IP's port too, even before the address is here.
fn ports(config: &Config) -> Vec<PreflightError> {
    let mut problems = Vec::new();
    let heartbeats = config.me().address;
    if let Err(error) = UdpSocket::bind((heartbeats, HEARTBEAT_PORT))
        && error.kind() != io::ErrorKind::AddrNotAvailable
    {
        problems.push(port("UDP", SocketAddr::new(heartbeats.into(), HEARTBEAT_PORT), &error));
    }
    if config.cluster.observe {
        return problems;
    }
    for address in config.cluster.listens() {
        // As the proxy will, but without listening: nobody gets to see a port that opens and closes.
        if let Err(error) = supervisor::bind(address) {
            problems.push(port("TCP", address, &error));
        }
    }
    problems
}

fn port(protocol: &'static str, address: SocketAddr, error: &io::Error) -> PreflightError {
    let (port, address) = (address.port(), address.ip());
    if error.kind() == io::ErrorKind::AddrInUse {
        return PreflightError::Taken { protocol, port, address };
    }
    PreflightError::Port { protocol, port, address, reason: error.to_string() }
}

fn unanswered(interface: &Interface, address: IpAddr, cluster_mac: [u8; 6]) -> Result<(), PreflightError> {
    let macs = probe(interface, address).map_err(|error| PreflightError::Probe {
        interface: interface.name.clone(),
        address,
        reason: error.to_string(),
    })?;
    match macs.into_iter().find(|mac| *mac != cluster_mac) {
        None => Ok(()),
        Some(mac) => Err(PreflightError::Answered { address, mac: format_mac(mac) }),
    }
}

/// Who answers for `address` on the interface named `interface`.
#[cfg(test)]
pub(crate) fn probe_from(interface: &str, address: IpAddr) -> anyhow::Result<Vec<[u8; 6]>> {
    Ok(probe(&Interface::inspect(interface)?, address)?)
}

/// Asks in a way that nobody learns anything from. The MAC addresses in the answers, each once, at most a handful.
pub(crate) fn probe(interface: &Interface, address: IpAddr) -> io::Result<Vec<[u8; 6]>> {
    let (received, question) = match address {
        // With sender 0.0.0.0 (RFC 5227, section 2.1.1).
        IpAddr::V4(address) => {
            let nobody = (Ipv4Addr::UNSPECIFIED, interface.mac);
            (Received::Arp, Arp::question(address, BROADCAST, nobody).encode().to_vec())
        }
        IpAddr::V6(address) => (Received::Ipv6, ndp::question(address, interface.mac)),
    };
    let socket = FrameSocket::open(interface.index, received)?;
    let mut macs = Vec::new();
    for _ in 0..PROBES {
        socket.send(&question)?;
        let until = Time::now() + PROBE_WAIT;
        let mut frame = [0; NDP_FRAME];
        while let Some(length) = next_frame(&socket, &mut frame, until)? {
            if let Some(mac) = answer_for(&frame[..length], address)
                && !macs.contains(&mac)
                && macs.len() < 8
            {
                macs.push(mac);
            }
        }
    }
    Ok(macs)
}

/// The length of the next frame, as far as it fits; `None` once it is `until`.
pub(crate) fn next_frame(socket: &FrameSocket, frame: &mut [u8], until: Time) -> io::Result<Option<usize>> {
    loop {
        let left = until.since(Time::now());
        if left.is_zero() {
            return Ok(None);
        }
        let mut ready = [PollFd::new(socket, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut ready, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match socket.recv(frame) {
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The MAC address that the frame, an answer, gives for `address`.
fn answer_for(frame: &[u8], address: IpAddr) -> Option<[u8; 6]> {
    match address {
        IpAddr::V4(address) => {
            let arp = Arp::decode(frame)?;
            (arp.operation == Operation::Reply && arp.sender.0 == address).then_some(arp.sender.1)
        }
        IpAddr::V6(address) => ndp::advertised(frame).filter(|(of, _)| *of == address).map(|(_, mac)| mac),
    }
}

#[cfg(test)]
mod tests;

//! Looks: sends frames, connects, reads files, asks the agent. What is seen is judged elsewhere. Everything read is bounded.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::seen::{Hearing, Look, Observations, Port};
use super::wire::Keys;
use crate::arp::{ARP_FRAME, Arp, BROADCAST, Operation};
use crate::clock::Time;
use crate::config::model::Config;
use crate::control::api::Status;
use crate::dataplane::link::Interface;
use crate::preflight::next_frame;
use crate::sys::{FrameSocket, Received};

mod agent;
mod frames;
pub(crate) mod gateway;
mod host;
mod ports;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Whole,
    /// This host alone: nothing is sent.
    Local,
}

/// How often a MAC address is asked for, and how long each time.
const QUESTIONS: u32 = 3;
const QUESTION_WAIT: Duration = Duration::from_millis(250);

/// Why nothing of the network was looked at.
const NO_NETWORK: &str = "without the network, as asked for";

/// Looks at what the network of this configuration's node does. Takes some 20 s where everything is looked at.
pub fn observe(config: &Config, scope: Scope) -> Observations {
    let nic = Interface::inspect(&config.local.interface);
    let nic = nic.map_err(|error| error.to_string());
    let status = agent::status(config);
    let network = match (scope, &nic) {
        (Scope::Local, _) => Err(NO_NETWORK.to_owned()),
        (Scope::Whole, Err(_)) => Err("the interface cannot be used".to_owned()),
        (Scope::Whole, Ok(nic)) if !(nic.up && nic.carrier) => Err("the interface is down".to_owned()),
        (Scope::Whole, Ok(nic)) => Ok(nic),
    };
    let local = ports::look(config, status.as_ref(), scope);
    let index = nic.as_ref().map_or(0, |nic| nic.index);
    Observations {
        gateway: look(&network, |nic| look_at_gateway(config, nic, status.as_ref())),
        frames: look(&network, |nic| count_frames(config, nic)),
        hearing: status
            .as_ref()
            .map_or_else(|| Look::Not("no agent runs here".to_owned()), |status| Look::Seen(hearing(status))),
        machine: host::machine(),
        bridge: host::bridge(&config.local.interface),
        managers: host::managers(&config.local.interface, index),
        firewall: local.firewall,
        peers: local.peers,
        servers: local.servers,
        clients: agent::clients(config),
        interface: nic.map(|nic| Port {
            up: nic.up,
            carrier: nic.carrier,
            has_address: nic.addresses.iter().any(|(address, _)| *address == config.me().address),
        }),
    }
}

fn look<T>(
    network: &Result<&Interface, String>,
    at: impl FnOnce(&Interface) -> Result<T, String>,
) -> Look<T> {
    match network.clone().and_then(at) {
        Ok(seen) => Look::Seen(seen),
        Err(why) => Look::Not(why),
    }
}

fn look_at_gateway(
    config: &Config,
    nic: &Interface,
    status: Option<&Status>,
) -> Result<super::seen::Gateway, String> {
    let gateway = match config.cluster.gateway.or(nic.gateway) {
        Some(IpAddr::V4(gateway)) => gateway,
        Some(IpAddr::V6(_)) => return Err("the gateway has an IPv6 address alone".to_owned()),
        None => return Err("no gateway is known: set `gateway` in the cluster file".to_owned()),
    };
    // The packet program of an agent that serves, or stands by, takes what comes for the cluster IP.
    let takes = status.filter(|status| status.state != "observing");
    if takes.is_some_and(|status| !status.lease) {
        return Err(
            "this node's agent does not serve: look again once it does, or while it is stopped".to_owned()
        );
    }
    let cluster_ip = config.cluster.probed();
    let asked = gateway::Asked {
        nic,
        own: config.me().address,
        gateway,
        cluster_ip,
        first_ip: config.cluster.cluster_ips.first().map_or(cluster_ip.into(), |ip| ip.address),
        mode: Some(config.cluster.mode),
        id: echo_id(),
    };
    let counted = || takes.and_then(|_| agent::status(config)).map(|status| agent::counted(&status));
    gateway::look(asked, counted).map_err(|error| format!("frames cannot be sent: {error}"))
}

fn count_frames(config: &Config, nic: &Interface) -> Result<Vec<super::seen::Counted>, String> {
    if config.cluster.nodes.len() == 1 {
        return Err("the configuration has no other node".to_owned());
    }
    let secret = config.secret().map_err(|error| error.to_string())?;
    let mut run = [0; 16];
    aws_lc_rs::rand::fill(&mut run).map_err(|_| "the system gives no random bytes".to_owned())?;
    let keys = Keys::of(&secret.doctor_keys());
    frames::count(config, nic, &keys, run).map_err(|error| format!("frames cannot be sent: {error}"))
}

/// Distinguishes this process's echoes from those of others on this host.
fn echo_id() -> u16 {
    // The lower half of a process id: what two processes have in common is that they are not this one for long.
    (std::process::id() & 0xffff) as u16
}

fn hearing(status: &Status) -> Hearing {
    let serving = status.nodes.iter().filter(|node| node.state == "serving").count();
    let deaf = status.nodes.iter().filter(|node| node.deaf).map(|node| node.name.clone());
    Hearing { serving, deaf: deaf.collect() }
}

/// The MAC addresses of these addresses, as far as they answer ARP.
fn resolve(
    nic: &Interface,
    own: Ipv4Addr,
    addresses: &[Ipv4Addr],
) -> io::Result<BTreeMap<Ipv4Addr, [u8; 6]>> {
    let socket = FrameSocket::open(nic.index, Received::Arp)?;
    let mut macs = BTreeMap::new();
    for _ in 0..QUESTIONS {
        for address in addresses.iter().filter(|address| !macs.contains_key(*address)) {
            socket.send(&Arp::question(*address, BROADCAST, (own, nic.mac)).encode())?;
        }
        let until = Time::now() + QUESTION_WAIT;
        let mut frame = [0; ARP_FRAME];
        while macs.len() < addresses.len()
            && let Some(length) = next_frame(&socket, &mut frame, until)?
        {
            let answer = Arp::decode(&frame[..length]).filter(|arp| arp.operation == Operation::Reply);
            if let Some(answer) = answer.filter(|answer| addresses.contains(&answer.sender.0)) {
                macs.entry(answer.sender.0).or_insert(answer.sender.1);
            }
        }
        if macs.len() == addresses.len() {
            break;
        }
    }
    Ok(macs)
}

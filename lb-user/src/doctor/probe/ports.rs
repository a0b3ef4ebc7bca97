//! What can be connected to, what the agent hears of the others, and what this host's packet filter does to what has to come in.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::super::firewall::{Fate, Incoming, Obstacle, Ruleset};
use super::super::seen::{Heartbeats, Look, Peer, Reach, Server};
use super::{NO_NETWORK, Scope};
use crate::config::model::{Config, HEARTBEAT_PORT, Node, PEER_PORT};
use crate::control::api::Status;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many connections are tried at a time.
const AT_ONCE: usize = 32;

/// How long `nft` may take, and how much of what it prints is read.
const NFT_PATIENCE: Duration = Duration::from_secs(5);
const MAX_RULESET: u64 = 16 << 20;

/// Where `nft` is; never by a path that somebody else sets.
const NFT: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];

/// What was seen.
pub(super) struct Ports {
    pub(super) firewall: Look<Vec<Obstacle>>,
    pub(super) peers: Look<Vec<Peer>>,
    pub(super) servers: Look<Vec<Server>>,
}

/// Looks; only at the packet filter in the local scope.
pub(super) fn look(config: &Config, status: Option<&Status>, scope: Scope) -> Ports {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let why = format!("the system refuses what it needs: {error}");
            return Ports {
                firewall: Look::Not(why.clone()),
                peers: Look::Not(why.clone()),
                servers: Look::Not(why),
            };
        }
    };
    runtime.block_on(async {
        let firewall = match ruleset().await {
            Ok(text) => obstacles(config, &text),
            Err(why) => Look::Not(why),
        };
        match scope {
            Scope::Local => {
                let not = || NO_NETWORK.to_owned();
                Ports { firewall, peers: Look::Not(not()), servers: Look::Not(not()) }
            }
            Scope::Whole => {
                let (peers, servers) = tokio::join!(peers(config, status), servers(config));
                Ports { firewall, peers: Look::Seen(peers), servers: Look::Seen(servers) }
            }
        }
    })
}

async fn peers(config: &Config, status: Option<&Status>) -> Vec<Peer> {
    let me = config.me().priority;
    // Of a node whose heartbeats are filtered, and whose data path answers, the agent says nothing worse than this.
    let silence = config.cluster.timing.suspect() * 2 + Duration::from_secs(1);
    let others: Vec<&Node> = config.cluster.nodes.iter().filter(|node| node.priority != me).collect();
    let reached = connect_all(others.iter().map(|node| SocketAddr::from((node.address, PEER_PORT)))).await;
    let peer = |(node, port): (&Node, Reach)| Peer {
        name: node.name.clone(),
        address: node.address,
        port,
        heartbeats: heartbeats(&node.name, status, silence),
    };
    others.into_iter().zip(reached).map(peer).collect()
}

fn heartbeats(name: &str, status: Option<&Status>, silence: Duration) -> Heartbeats {
    let Some(status) = status else { return Heartbeats::Unknown("no agent runs here".to_owned()) };
    let Some(node) = status.nodes.iter().find(|node| node.name == name) else {
        return Heartbeats::Unknown("the agent does not know that node yet".to_owned());
    };
    let silent = node.silent_ms.is_none_or(|silent| Duration::from_millis(silent) >= silence);
    if silent || matches!(node.state.as_str(), "suspect" | "dead") {
        Heartbeats::Missing
    } else {
        Heartbeats::Heard
    }
}

async fn servers(config: &Config) -> Vec<Server> {
    let cluster = &config.cluster;
    let of_farms = cluster.farms.iter().flat_map(|farm| {
        farm.servers.iter().map(|server| (format!("{} {}", farm.name, server.name), server.address))
    });
    let of_tcp = cluster.tcp.iter().flat_map(|service| service.pools()).flat_map(|(pool, servers)| {
        servers.iter().map(move |server| (format!("{pool} {}", server.name), server.address))
    });
    let all: Vec<(String, SocketAddr)> =
        of_farms.chain(of_tcp).map(|(name, address)| (name, address.into())).collect();
    let reached = connect_all(all.iter().map(|(_, address)| *address)).await;
    let server = |((name, address), reach)| Server { name, address, reach };
    all.into_iter().zip(reached).map(server).collect()
}

/// What connections to these came to, in their order.
async fn connect_all(addresses: impl Iterator<Item = SocketAddr>) -> Vec<Reach> {
    stream::iter(addresses.map(connect)).buffered(AT_ONCE).collect().await
}

async fn connect(address: SocketAddr) -> Reach {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Err(_) => Reach::Silent,
        Ok(Ok(_)) => Reach::Open,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Reach::Refused,
        Ok(Err(error)) => Reach::Failed(error.to_string()),
    }
}

/// What `nft` prints of this host's packet filter.
async fn ruleset() -> Result<Vec<u8>, String> {
    let program = NFT.into_iter().find(|path| std::path::Path::new(path).is_file());
    let program = program.ok_or("there is no `nft` here to ask (apt install nftables)")?;
    let mut command = tokio::process::Command::new(program);
    command.args(["-j", "list", "ruleset"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |error: std::io::Error| format!("`nft` cannot be asked: {error}");
    let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
    let output = child.stdout.take().ok_or("`nft` cannot be asked")?;
    let asked = async {
        let mut text = Vec::new();
        output.take(MAX_RULESET).read_to_end(&mut text).await?;
        Ok((text, child.wait().await?))
    };
    let (text, status) = tokio::time::timeout(NFT_PATIENCE, asked)
        .await
        .map_err(|_| format!("`nft` gave no answer within {NFT_PATIENCE:?}"))?
        .map_err(failed)?;
    if status.success() {
        Ok(text)
    } else {
        Err("`nft` does not tell the packet filter; is this root?".to_owned())
    }
}

fn obstacles(config: &Config, text: &[u8]) -> Look<Vec<Obstacle>> {
    let document = serde_json::from_slice(text).unwrap_or_default();
    let Some(ruleset) = Ruleset::of(&document) else {
        return Look::Not("what `nft` prints is not understood".to_owned());
    };
    let fates = incoming(config).into_iter().map(|packet| Obstacle { fate: ruleset.fate(&packet), packet });
    Look::Seen(fates.filter(|obstacle| obstacle.fate != Fate::Passes).collect())
}

/// What has to come in: heartbeats and, where it is used, the peer port from each other node, and what the proxy listens on.
fn incoming(config: &Config) -> Vec<Incoming> {
    let me = config.me();
    let packet = |what: String, protocol, port, from, to| Incoming {
        what,
        protocol,
        port,
        from,
        to,
        interface: config.local.interface.clone(),
    };
    let others = config.cluster.nodes.iter().filter(|node| node.priority != me.priority);
    let mut all = Vec::new();
    for node in others {
        let (name, from) = (&node.name, Some(node.address));
        all.push(packet(format!("heartbeats of {name}"), "udp", HEARTBEAT_PORT, from, me.address));
        if me.keys.is_some() {
            all.push(packet(format!("peer port, for {name}"), "tcp", PEER_PORT, from, me.address));
        }
    }
    let mut services: Vec<SocketAddr> = config.cluster.listens().collect();
    services.sort_unstable();
    services.dedup();
    for service in services {
        if let SocketAddr::V4(service) = service {
            let what = format!("clients of {service}");
            all.push(packet(what, "tcp", service.port(), None, *service.ip()));
        }
    }
    all
}

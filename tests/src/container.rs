//! A container on a node, as container engines publish one: a namespace of its own behind the node's, and a DNAT rule that leads
//! a port of the cluster IP there. Its connections do not end in the node's namespace.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use crate::lab::{CLUSTER_IP, Lab, Place};
use crate::responder::Responder;
use crate::sys::Namespace;

/// Where it is published.
pub const PUBLISHED: SocketAddr = SocketAddr::new(IpAddr::V4(CLUSTER_IP), 8080);

/// What cluster.toml has to say of it: clients stay with their node while nodes come and go, because a connection that moved
/// would be one that its new node knows nothing of.
pub const RULE: &str = r#"[[rule]]
ports = 8080
local = false
affinity = "single"
stickiness_timeout = "20m"
"#;

/// The container's own address, the same on every node.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
/// The node's towards it.
const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// Where it listens.
const PORT: u16 = 80;

/// A running container with the small service in it. It ends with this; its namespace ends with the lab.
#[derive(Debug)]
pub struct Container {
    _service: Responder,
    /// Where it lives.
    pub namespace: Namespace,
}

impl Container {
    /// Starts one on a node, and publishes it there. It answers as the node.
    pub fn start(lab: &Lab, place: &Place) -> Result<Self> {
        let namespace = lab.machine(&format!("{}-inner", place.name))?;
        place.namespace.ip(&format!(
            "link add inner type veth peer name eth0 netns {}\naddr add {BRIDGE}/24 dev inner\nlink set inner up",
            namespace.name()
        ))?;
        namespace.ip(&format!(
            "addr add {ADDRESS}/24 dev eth0\nlink set eth0 up\nroute add default via {BRIDGE}"
        ))?;
        publish(&place.namespace)?;
        let service = Responder::start(&namespace, &place.name, &[ADDRESS.into()], PORT)?;
        Ok(Self { _service: service, namespace })
    }
}

/// As firewalls are set up that track connections strictly: what is not known, and begins none, is not guessed at.
fn publish(node: &Namespace) -> Result<()> {
    node.sysctl("net/ipv4/ip_forward", "1")?;
    node.nft(&format!(
        "table ip publish {{\nchain in {{ type nat hook prerouting priority dstnat;\nip daddr {} tcp dport {} dnat to {ADDRESS}:{PORT}\n}}\nchain stray {{ type filter hook input priority filter;\nip daddr {} tcp dport {} drop\n}}\n}}",
        PUBLISHED.ip(),
        PUBLISHED.port(),
        PUBLISHED.ip(),
        PUBLISHED.port(),
    ))?;
    node.sysctl("net/netfilter/nf_conntrack_tcp_loose", "0")
}

//! DESIGN's reference network, raised between network namespaces: an internet client, a router with NAT, the DMZ with the
//! nodes, the LAN with the servers. No packet leaves the machine. Starts no program: see `backend` and `node`.
//!
//! ```text
//!  client            router                       dmz (bridge)        arr1, arr2, ..        lan (bridge)     sbex1, sbex3
//!  203.0.113.10 ---- .1    192.168.50.1 ---------- r  arr1 ---------- .6   10.0.0.6 ------- arr1  sbex1 ---- 10.0.0.36
//!  .64/26             443 -> 192.168.50.8             arr2 ---------- .7   10.0.0.7 ------- arr2  sbex3 ---- 10.0.0.37
//!                          10.0.0.1 ----------------------------------------------------------- r
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use lb_user::dataplane::OBJECT;

use crate::estate::{BPFFS, Estate, Turn, mount_bpffs};
use crate::sys::{Namespace, output};

/// The address that all nodes answer.
pub const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 8);
/// The router's address on the internet; its port 443 leads to the cluster IP.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The client's own address; it also has every address of 203.0.113.64/26.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The router's address in the DMZ.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);
/// The name that the service is published under.
pub const PUBLIC_NAME: &str = "mail.example.test";
/// The servers' names and addresses.
pub const SERVERS: [(&str, Ipv4Addr); 2] =
    [("sbex1", Ipv4Addr::new(10, 0, 0, 36)), ("sbex3", Ipv4Addr::new(10, 0, 0, 37))];
/// A node's interface in the DMZ.
pub const NODE_DMZ: &str = "dmz";
/// A node's interface in the LAN.
pub const NODE_LAN: &str = "lan";

/// First and count of the client's further addresses, handed out by [`Lab::client_address`].
const CLIENT_POOL: (u8, u8) = (64, 64);

/// What to raise.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes, 1..=20.
    pub nodes: u8,
    /// Further public ports and where in the DMZ they lead, beside 443 to the cluster IP.
    pub ports: Vec<(u16, Ipv4Addr)>,
    /// Whether it will see load: at most one such lab stands on a machine at once, the next waits for its turn.
    pub load: bool,
    /// The nodes' `xdp`: `native`, the real thing, or `generic`, which on veth leaves the peer its segmentation offload.
    pub xdp: &'static str,
}

impl Plan {
    /// `nodes` nodes behind port 443, and load.
    pub fn nodes(nodes: u8) -> Self {
        Self { nodes, ports: Vec::new(), load: true, xdp: "native" }
    }

    /// The same for tests that measure nothing: any number of such labs stand side by side.
    pub fn light(nodes: u8) -> Self {
        Self { load: false, ..Self::nodes(nodes) }
    }
}

/// A node's place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `arrN`.
    pub name: String,
    /// N, which is also its host priority.
    pub number: u8,
    /// In the DMZ.
    pub address: Ipv4Addr,
    /// In the LAN.
    pub lan_address: Ipv4Addr,
    /// Of its DMZ interface.
    pub mac: [u8; 6],
    /// Where it lives.
    pub namespace: Namespace,
}

impl Place {
    fn of(lab: &str, number: u8) -> Self {
        // .8 is the cluster IP, so the third node has .9.
        let host = if number < 3 { 5 + number } else { 6 + number };
        Self {
            name: format!("arr{number}"),
            number,
            address: Ipv4Addr::new(192, 168, 50, host),
            lan_address: Ipv4Addr::new(10, 0, 0, host),
            mac: [0x02, 0xaa, 192, 168, 50, host],
            namespace: Namespace::named(format!("{lab}-arr{number}")),
        }
    }
}

/// The network, standing. Torn down when dropped.
#[derive(Debug)]
pub struct Lab {
    /// The internet.
    pub client: Namespace,
    /// Its NAT leads to the cluster IP; what the nodes answer is captured here.
    pub router: Namespace,
    /// The nodes' places, powered or not.
    pub places: Vec<Place>,
    /// The servers' names and namespaces, as in [`SERVERS`].
    pub servers: Vec<(&'static str, Ipv4Addr, Namespace)>,
    dmz: Namespace,
    lan: Namespace,
    next_client: AtomicU8,
    /// The next port of [`CLIENT`] that no connection has used; see `client`.
    pub(crate) client_ports: Arc<AtomicU16>,
    kept: bool,
    estate: Arc<Estate>,
    _turn: Option<Turn>,
}

impl Lab {
    /// Raises the network.
    pub fn raise(plan: &Plan) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab needs root: network namespaces and XDP; hint: sudo, or cargo xtask, which asks for it"
        );
        ensure!((1..=20).contains(&plan.nodes), "a lab has 1 to 20 nodes");
        let turn = plan.load.then(Turn::wait).transpose()?;
        mount_bpffs()?;
        let estate = Estate::found()?;
        let name = estate.name().to_owned();
        let standing = Standing(&estate);
        let servers = SERVERS.iter().map(|&(server, address)| {
            let namespace = estate.namespace(server)?;
            Ok((server, address, namespace))
        });
        let lab = Self {
            client: estate.namespace("client")?,
            router: estate.namespace("router")?,
            dmz: estate.namespace("dmz")?,
            lan: estate.namespace("lan")?,
            servers: servers.collect::<Result<_>>()?,
            places: (1..=plan.nodes).map(|number| Place::of(&name, number)).collect(),
            next_client: AtomicU8::new(0),
            client_ports: Arc::new(AtomicU16::new(1024)),
            kept: false,
            estate: Arc::clone(&estate),
            _turn: turn,
        };
        std::mem::forget(standing);
        lab.connect(plan)?;
        Ok(lab)
    }

    /// Its name, `rc-PID-N`.
    pub fn name(&self) -> &str {
        self.estate.name()
    }

    /// For files; gone with the lab.
    pub fn folder(&self) -> PathBuf {
        self.estate.folder()
    }

    /// An address of the client that nobody else in this lab uses: its ports are all the caller's.
    pub fn client_address(&self) -> Result<Ipv4Addr> {
        let (first, count) = CLIENT_POOL;
        let next = self.next_client.fetch_add(1, Ordering::Relaxed);
        ensure!(next < count, "this lab's client has no more than {count} addresses");
        Ok(Ipv4Addr::new(203, 0, 113, first + next))
    }

    /// The node that has the MAC address `mac` in the DMZ.
    pub fn node_of_mac(&self, mac: [u8; 6]) -> Option<&Place> {
        self.places.iter().find(|place| place.mac == mac)
    }

    /// Makes a node's machine and plugs both its cables in: at the start, and when its power returns.
    pub fn power_on(&self, place: &Place) -> Result<()> {
        let namespace = self.estate.namespace(&place.name)?;
        plug(&namespace, NODE_DMZ, &self.dmz, &place.name, Some(place.mac))?;
        plug(&namespace, NODE_LAN, &self.lan, &place.name, None)?;
        namespace.ip(&format!(
            "addr add {}/24 dev {NODE_DMZ}\naddr add {}/24 dev {NODE_LAN}\nroute add default via {GATEWAY}",
            place.address, place.lan_address
        ))?;
        self.allow_transmit(place)
    }

    /// Takes a node's power: its cables go silent at once, then its processes and all that its kernel knew are gone.
    pub fn power_off(&self, place: &Place) -> Result<()> {
        self.dmz.ip(&format!("link del {}", place.name))?;
        self.lan.ip(&format!("link del {}", place.name))?;
        self.estate.remove_namespace(&place.namespace)
    }

    /// Pulls a node's cable out of the DMZ's switch.
    pub fn pull_cable(&self, place: &Place) -> Result<()> {
        self.dmz.ip(&format!("link set {} down", place.name)).map(drop)
    }

    /// Puts it back.
    pub fn plug_cable(&self, place: &Place) -> Result<()> {
        self.dmz.ip(&format!("link set {} up", place.name)).map(drop)
    }

    /// Lets it stand after this process has ended; the caller's processes too have to be kept.
    pub fn keep(&mut self) -> Result<()> {
        self.kept = true;
        self.estate.keep()
    }

    /// Tears it down and gives what is left of it all the same, a line each.
    pub fn tear_down(self) -> Vec<String> {
        let estate = Arc::clone(&self.estate);
        drop(self);
        estate.leftovers()
    }

    fn connect(&self, plan: &Plan) -> Result<()> {
        for (bridge, name) in [(&self.dmz, "dmz"), (&self.lan, "lan")] {
            // No snooping, no spanning tree: a plain switch floods the cluster MAC and forwards at once.
            bridge.ip("link add br0 type bridge mcast_snooping 0 stp_state 0\nlink set br0 up")?;
            plug(&self.router, name, bridge, "router", None)?;
        }
        plug(&self.client, "wan", &self.router, "wan", None)?;
        let (first, _) = CLIENT_POOL;
        self.client.ip(&format!(
            "addr add {CLIENT}/24 dev wan\nroute add default via {PUBLIC}\nroute add local 203.0.113.{first}/26 dev wan"
        ))?;
        self.router.ip(&format!(
            "addr add {PUBLIC}/24 dev wan\naddr add {GATEWAY}/24 dev dmz\naddr add 10.0.0.1/24 dev lan"
        ))?;
        self.route(plan)?;
        for (name, address, namespace) in &self.servers {
            plug(namespace, NODE_LAN, &self.lan, name, None)?;
            namespace.ip(&format!("addr add {address}/24 dev {NODE_LAN}\nroute add default via 10.0.0.1"))?;
        }
        for place in &self.places {
            self.power_on(place)?;
        }
        Ok(())
    }

    /// The router's forwarding and NAT. Clients keep their addresses.
    fn route(&self, plan: &Plan) -> Result<()> {
        self.router.sysctl("net/ipv4/ip_forward", "1")?;
        let mut rules = format!("tcp dport 443 dnat to {CLUSTER_IP}\n");
        for (port, target) in &plan.ports {
            rules += &format!("tcp dport {port} dnat to {target}\n");
        }
        let table = format!(
            "table ip nat {{ chain prerouting {{ type nat hook prerouting priority dstnat;\niifname != \"wan\" return\n{rules}}}\n}}"
        );
        output(self.router.command("nft").args(["-f", "-"]), Some(&table))?;
        // Tens of thousands of half-open connections are a measurement's daily bread; they must not fill the table.
        for (state, seconds) in [("syn_sent", "3"), ("syn_recv", "3"), ("close", "2"), ("time_wait", "5")] {
            let key = format!("net/netfilter/nf_conntrack_tcp_timeout_{state}");
            self.router.sysctl(&key, seconds)?;
        }
        Ok(())
    }

    /// XDP_TX from a veth reaches its peer only where the peer has an XDP program too, so the switch's end of a node's cable
    /// gets one that passes everything.
    fn allow_transmit(&self, place: &Place) -> Result<()> {
        let mut object = aya::Ebpf::load(OBJECT).context("cannot load the XDP object")?;
        let program = object.program_mut("pass").context("the XDP object has no program `pass`")?;
        let program: &mut Xdp = program.try_into()?;
        program.load().context("cannot load the XDP program `pass`")?;
        // `ip` attaches without a bpf_link, so the program stays as long as the cable, whoever ends before it.
        let pin = Path::new(BPFFS).join(format!("{}-{}-pass", self.name(), place.name));
        program.pin(&pin)?;
        let mut attach = self.dmz.command("ip");
        attach.args(["link", "set", "dev", &place.name, "xdpdrv", "pinned"]);
        let attached = output(attach.arg(&pin), None);
        program.unpin().context("cannot remove a pin")?;
        attached.map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.kept {
            self.estate.tear_down();
        }
    }
}

/// Tears down what stands so far if raising fails before there is a [`Lab`].
struct Standing<'a>(&'a Estate);

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.tear_down();
    }
}

/// A cable between an interface of a machine and a port, on the bridge `br0` where there is one.
fn plug(
    machine: &Namespace,
    interface: &str,
    switch: &Namespace,
    port: &str,
    mac: Option<[u8; 6]>,
) -> Result<()> {
    let address = mac.map(|mac| format!("address {}", mac_text(mac)));
    let mut ip = Command::new("ip");
    ip.args(["link", "add", interface, "netns", machine.name()]);
    ip.args(address.as_deref().unwrap_or_default().split_whitespace());
    ip.args(["type", "veth", "peer", "name", port, "netns", switch.name()]);
    output(&mut ip, None)?;
    let master = if switch.ip("link show br0").is_ok() {
        format!("link set {port} master br0\n")
    } else {
        String::new()
    };
    switch.ip(&format!("{master}link set {port} up"))?;
    machine.ip(&format!("link set {interface} up")).map(drop)
}

/// `aa:bb:cc:dd:ee:ff`.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

//! DESIGN's reference network, raised between network namespaces: an internet client, a router with NAT, the DMZ with the
//! nodes, the LAN with the servers. No packet leaves the machine. Starts no program: see `backend` and `node`.
//!
//! ```text
//!  client            router                       dmz (bridge)        arr1, arr2, ..        lan (bridge)     sbex1, sbex3
//!  203.0.113.10 ---- .1    192.168.50.1 ---------- r  arr1 ---------- .6   10.0.0.6 ------- arr1  sbex1 ---- 10.0.0.36
//!  .64/26             443 -> 192.168.50.8             arr2 ---------- .7   10.0.0.7 ------- arr2  sbex3 ---- 10.0.0.37
//!                          10.0.0.1 ----------------------------------------------------------- r
//! ```
//!
//! IPv6, where the plan has it, is routed without NAT: client 2001:db8:113::10, router fd00:50::1, nodes fd00:50::6 and so on,
//! cluster IP fd00:50::8. A plan may also put a second router, called `hop`, between client and router: see `internet`.

mod faults;
mod internet;
mod switch;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;

use crate::LAB_OBJECT;
use crate::estate::{BPFFS, Estate, Turn, mount_bpffs};
use crate::stalls;
use crate::sys::{Namespace, output};

pub use switch::takes_multicast;

/// The address that all nodes answer.
pub const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 8);
/// The router's address on the internet; its port 443 leads to the cluster IP.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The client's own address; it also has every address of 203.0.113.64/26.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The router's address in the DMZ.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);
/// The address that all nodes answer, of IPv6.
pub const CLUSTER_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 8);
/// The client's own address, of IPv6; it also has every address of 2001:db8:113:1::/64.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10);
/// The router's address in the DMZ, of IPv6.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 1);
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

/// How frames for the cluster IPs reach every node: `cluster.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To 03:bf and the cluster IP's octets.
    Multicast,
    /// To the MAC address of the group 239.255.50.8.
    Igmp,
    /// To 02:bf and the cluster IP's octets, which no switch learns.
    Unicast,
}

impl Mode {
    /// As cluster.toml has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Multicast => "multicast",
            Self::Igmp => "igmp",
            Self::Unicast => "unicast",
        }
    }

    /// Where frames for the cluster IPs go.
    pub fn cluster_mac(self) -> [u8; 6] {
        let [a, b, c, d] = CLUSTER_IP.octets();
        match self {
            Self::Multicast => [0x03, 0xbf, a, b, c, d],
            Self::Igmp => [0x01, 0x00, 0x5e, 0x7f, c, d],
            Self::Unicast => [0x02, 0xbf, a, b, c, d],
        }
    }
}

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
    /// Whether there is IPv6, on the internet and in the DMZ, and with it the second cluster IP.
    pub ipv6: bool,
    /// The cluster's `mode`.
    pub mode: Mode,
    /// The cluster's `profile`: how soon silence counts.
    pub profile: &'static str,
    /// Whether the DMZ's switch sends multicast only where somebody asked for it. As such switches do, it then also drops
    /// frames that carry a unicast address to a multicast MAC address, except to ports of routers, which the nodes' ports
    /// are made; see [`Lab::deafen`].
    pub snooping: bool,
    /// The MTU of every link but the small hop's.
    pub mtu: u16,
    /// Whether the client is behind one more router and a link with an MTU of 1280.
    pub small_hop: bool,
    /// Whether the nodes answer every SYN with a cookie (`tcp_syncookies` is 2).
    pub syncookies: bool,
    /// Further text for cluster.toml, such as port rules.
    pub rules: String,
}

impl Plan {
    /// `nodes` nodes behind port 443, and load.
    pub fn nodes(nodes: u8) -> Self {
        Self {
            nodes,
            ports: Vec::new(),
            load: true,
            xdp: "native",
            ipv6: false,
            mode: Mode::Multicast,
            profile: "default",
            snooping: false,
            mtu: 1500,
            small_hop: false,
            syncookies: false,
            rules: String::new(),
        }
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
    /// In the DMZ, of IPv6, where the plan has it.
    pub address6: Ipv6Addr,
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
            address6: Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, host.into()),
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
    /// What it was raised by.
    pub plan: Plan,
    /// The DMZ's switch, with a port for each node that has the node's name.
    pub dmz: Namespace,
    lan: Namespace,
    hop: Option<Namespace>,
    next_client: AtomicU8,
    next_client6: AtomicU16,
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
        if plan.load {
            stalls::watch()?;
        }
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
            hop: plan.small_hop.then(|| estate.namespace("hop")).transpose()?,
            plan: plan.clone(),
            next_client: AtomicU8::new(0),
            next_client6: AtomicU16::new(1),
            client_ports: Arc::new(AtomicU16::new(1024)),
            kept: false,
            estate: Arc::clone(&estate),
            _turn: turn,
        };
        std::mem::forget(standing);
        lab.connect()?;
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

    /// The same, of IPv6.
    pub fn client_address6(&self) -> Ipv6Addr {
        let next = self.next_client6.fetch_add(1, Ordering::Relaxed);
        Ipv6Addr::new(0x2001, 0xdb8, 0x113, 1, 0, 0, 0, next)
    }

    /// The addresses that all nodes answer.
    pub fn cluster_ips(&self) -> Vec<IpAddr> {
        let v6 = self.plan.ipv6.then_some(CLUSTER_IP6.into());
        [CLUSTER_IP.into()].into_iter().chain(v6).collect()
    }

    /// A disk of so many bytes, mounted on `folder`, which is below the lab's own.
    pub fn disk(&self, folder: &Path, bytes: usize) -> Result<()> {
        self.estate.disk(folder, bytes)
    }

    /// One more machine, which is not plugged in anywhere.
    pub fn machine(&self, role: &str) -> Result<Namespace> {
        self.estate.namespace(role)
    }

    /// One more machine in the DMZ, which is no node, at that address.
    pub fn stranger(&self, role: &str, address: Ipv4Addr) -> Result<Namespace> {
        let namespace = self.estate.namespace(role)?;
        self.cable(&namespace, NODE_DMZ, &self.dmz, role, None)?;
        namespace.ip(&format!("addr add {address}/24 dev {NODE_DMZ}"))?;
        Ok(namespace)
    }

    /// The MAC address that the router knows for an address of the DMZ.
    pub fn neighbour(&self, ip: IpAddr) -> Result<Option<String>> {
        let mut command = self.router.command("ip");
        let text =
            output(command.args(["-json", "neigh", "show", "to", &ip.to_string(), "dev", "dmz"]), None)?;
        let entries: serde_json::Value = serde_json::from_str(&text).context("`ip -json` printed no JSON")?;
        Ok(entries[0]["lladdr"].as_str().map(str::to_owned))
    }

    /// The router before the small hop, where the plan has it.
    pub fn hop(&self) -> Result<&Namespace> {
        self.hop.as_ref().context("this lab's plan has no small hop")
    }

    /// The node that has the MAC address `mac` in the DMZ.
    pub fn node_of_mac(&self, mac: [u8; 6]) -> Option<&Place> {
        self.places.iter().find(|place| place.mac == mac)
    }

    /// Makes a node's machine and plugs both its cables in: at the start, and when its power returns.
    pub fn power_on(&self, place: &Place) -> Result<()> {
        let namespace = self.estate.namespace(&place.name)?;
        self.allow_ipv6(&namespace)?;
        self.cable(&namespace, NODE_DMZ, &self.dmz, &place.name, Some(place.mac))?;
        self.cable(&namespace, NODE_LAN, &self.lan, &place.name, None)?;
        self.expect_multicast(&place.name)?;
        let mut commands = format!(
            "addr add {}/24 dev {NODE_DMZ}\naddr add {}/24 dev {NODE_LAN}\nroute add default via {GATEWAY}\n",
            place.address, place.lan_address
        );
        if self.plan.ipv6 {
            let own = place.address6;
            write!(
                commands,
                "addr add {own}/64 dev {NODE_DMZ} nodad\nroute add default via {GATEWAY6} dev {NODE_DMZ}\n"
            )?;
        }
        namespace.ip(&commands)?;
        if self.plan.syncookies {
            namespace.sysctl("net/ipv4/tcp_syncookies", "2")?;
        }
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

    /// Pulls a server's cable out of the LAN's switch.
    pub fn pull_server(&self, server: &str) -> Result<()> {
        self.lan.ip(&format!("link set {server} down")).map(drop)
    }

    /// Puts it back.
    pub fn plug_server(&self, server: &str) -> Result<()> {
        self.lan.ip(&format!("link set {server} up")).map(drop)
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

    fn connect(&self) -> Result<()> {
        for namespace in [&self.client, &self.router, &self.dmz].into_iter().chain(&self.hop) {
            self.allow_ipv6(namespace)?;
        }
        self.make_switches()?;
        self.connect_internet()?;
        self.router.ip(&format!("addr add {GATEWAY}/24 dev dmz\naddr add 10.0.0.1/24 dev lan"))?;
        if self.plan.ipv6 {
            self.router.ip(&format!("addr add {GATEWAY6}/64 dev dmz nodad"))?;
        }
        self.route()?;
        for (name, address, namespace) in &self.servers {
            self.cable(namespace, NODE_LAN, &self.lan, name, None)?;
            namespace.ip(&format!("addr add {address}/24 dev {NODE_LAN}\nroute add default via 10.0.0.1"))?;
        }
        for place in &self.places {
            self.power_on(place)?;
        }
        Ok(())
    }

    /// The router's forwarding and NAT. Clients keep their addresses.
    fn route(&self) -> Result<()> {
        self.router.sysctl("net/ipv4/ip_forward", "1")?;
        self.publish(CLUSTER_IP)?;
        // Tens of thousands of half-open connections are a measurement's daily bread; they must not fill the table.
        for (state, seconds) in [("syn_sent", "3"), ("syn_recv", "3"), ("close", "2"), ("time_wait", "5")] {
            let key = format!("net/netfilter/nf_conntrack_tcp_timeout_{state}");
            self.router.sysctl(&key, seconds)?;
        }
        Ok(())
    }

    /// Has the router's ports that lead to the cluster lead to `target`. Connections that are under way stay where they are.
    pub fn publish(&self, target: Ipv4Addr) -> Result<()> {
        let mut rules = String::new();
        for (port, usual) in [(443, CLUSTER_IP)].iter().chain(&self.plan.ports) {
            let to = if *usual == CLUSTER_IP { target } else { *usual };
            writeln!(rules, "tcp dport {port} dnat to {to}")?;
        }
        // What goes to the cluster IP itself is not for the NAT.
        self.router.nft(&format!(
            "table ip nat {{ chain prerouting {{ type nat hook prerouting priority dstnat;\n}}\n}}\nflush chain ip nat prerouting\ntable ip nat {{ chain prerouting {{\niifname != \"wan\" return\nip daddr != {PUBLIC} return\n{rules}}}\n}}\n"
        ))
    }

    /// A cable with the plan's MTU; see [`plug`].
    fn cable(
        &self,
        machine: &Namespace,
        interface: &str,
        switch: &Namespace,
        port: &str,
        mac: Option<[u8; 6]>,
    ) -> Result<()> {
        plug(machine, interface, switch, port, mac, self.plan.mtu)
    }

    /// Lets interfaces that `namespace` gets from now on speak IPv6, if the plan has it: without waiting for other owners of an
    /// address, and without asking for routers.
    fn allow_ipv6(&self, namespace: &Namespace) -> Result<()> {
        if !self.plan.ipv6 {
            return Ok(());
        }
        let values = [
            ("default/accept_dad", "0"),
            ("default/accept_ra", "0"),
            ("default/disable_ipv6", "0"),
            ("all/disable_ipv6", "0"),
        ];
        values.iter().try_for_each(|(key, value)| namespace.sysctl(&format!("net/ipv6/conf/{key}"), value))
    }

    /// XDP_TX from a veth reaches its peer only where the peer has an XDP program too, so the switch's end of a node's cable
    /// gets one that passes everything.
    fn allow_transmit(&self, place: &Place) -> Result<()> {
        self.pass_natively(&self.dmz, &place.name)
    }

    /// Gives an interface an XDP program in native mode that passes everything. On veth that ends the other end's segmentation
    /// offload: what goes to this one are frames as a wire would carry them.
    pub fn pass_natively(&self, namespace: &Namespace, interface: &str) -> Result<()> {
        let mut object = aya::Ebpf::load(LAB_OBJECT).context("cannot load the lab's XDP object")?;
        let program = object.program_mut("pass").context("the lab's XDP object has no program `pass`")?;
        let program: &mut Xdp = program.try_into()?;
        program.load().context("cannot load the XDP program `pass`")?;
        // `ip` attaches without a bpf_link, so the program stays as long as the cable, whoever ends before it.
        let pin = Path::new(BPFFS).join(format!("{}-{interface}-pass", self.name()));
        program.pin(&pin)?;
        let mut attach = namespace.command("ip");
        attach.args(["link", "set", "dev", interface, "xdpdrv", "pinned"]);
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
    mtu: u16,
) -> Result<()> {
    let address = mac.map(|mac| format!("address {}", mac_text(mac)));
    let mtu = mtu.to_string();
    let mut ip = Command::new("ip");
    ip.args(["link", "add", interface, "netns", machine.name(), "mtu", &mtu]);
    ip.args(address.as_deref().unwrap_or_default().split_whitespace());
    ip.args(["type", "veth", "peer", "name", port, "netns", switch.name(), "mtu", &mtu]);
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

//! The two configuration files as they are written: a mirror for serde, with the place of every value that a check may
//! complain about, and the only home of the defaults. Whether values make sense together is for `check.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::config::spanned::Spanned;

mod health;
mod limits;
mod log;
mod message;
mod protection;
mod proxy;
mod rewrite;
mod site;
mod store;
mod tcp;
mod values;

pub(crate) use health::HealthTable;
pub(crate) use limits::LimitsTable;
pub(crate) use log::LogTable;
pub(crate) use message::{HeadersTable, MaintenanceEntry, MaintenanceTable};
pub(crate) use protection::{LogonsTable, ProtectionTable, QuotaTable, RateEntry};
pub(crate) use proxy::TrustedProxyTable;
pub(crate) use rewrite::{ConditionTable, MapTable, RewriteTable, SetTable};
pub(crate) use site::{
    BalanceTable, BoundsTable, ClientCertificatesTable, Ecp, ExchangeTable, FarmTable, RouteTable, SiteTable,
};
pub(crate) use store::StoreTable;
pub(crate) use tcp::{TcpHealthTable, TcpTable};
pub(crate) use values::{Failback, Ports, ServerEntry, Size, Statuses, Time};

/// The cluster file: the same on every node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterFile {
    /// What all nodes share.
    pub(crate) cluster: ClusterTable,
    /// Where generations are kept beside the nodes' own disks.
    #[serde(default)]
    pub(crate) config: StoreTable,
    /// The nodes; at least one, at most 64.
    #[serde(default)]
    pub(crate) node: Vec<Spanned<NodeTable>>,
    /// Port rules beside those that `[exchange]` brings.
    #[serde(default)]
    pub(crate) rule: Vec<Spanned<RuleTable>>,
    /// The usual case: one farm of Exchange servers behind one site.
    pub(crate) exchange: Option<Spanned<ExchangeTable>>,
    /// What the proxy's clients are held to.
    #[serde(default = "no_limits")]
    pub(crate) limits: Spanned<LimitsTable>,
    /// What is logged of requests.
    #[serde(default)]
    pub(crate) log: LogTable,
    /// What keeps guessers and floods from the servers.
    #[serde(default)]
    pub(crate) protection: ProtectionTable,
    /// Who may say whom a request is from.
    #[serde(default)]
    pub(crate) trusted_proxy: Vec<Spanned<TrustedProxyTable>>,
    /// Other farms.
    #[serde(default)]
    pub(crate) farm: Vec<Spanned<FarmTable>>,
    /// Other sites.
    #[serde(default)]
    pub(crate) site: Vec<Spanned<SiteTable>>,
    /// Ports that are passed on as they come: mail, or TLS that the servers end.
    #[serde(default)]
    pub(crate) tcp: Vec<Spanned<TcpTable>>,
}

/// `[cluster]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterTable {
    /// The cluster IP with its network's prefix length, such as `"192.168.50.8/24"`. This or `ips` is required.
    pub(crate) ip: Option<Spanned<String>>,
    /// Several of them, IPv4 and IPv6, the first of which gives the cluster MAC; at most 64.
    #[serde(default)]
    pub(crate) ips: Vec<Spanned<String>>,
    /// How frames reach all nodes: `"multicast"`, `"igmp"` or `"unicast"`. Required, without default: what the network lets through decides.
    #[schemars(extend("enum" = ["multicast", "igmp", "unicast"]))]
    pub(crate) mode: Option<Spanned<String>>,
    /// Heartbeats in one word: `"default"` (20 ms x 5: a dead node's share is taken after 100 ms), `"fast"` (5 ms x 5; for a
    /// quiet network and processors that are not busy; costs CPU) or `"vm"` (200 ms x 5; for virtual machines that stall).
    #[serde(default = "profile")]
    #[schemars(extend("enum" = ["default", "fast", "vm"]))]
    pub(crate) profile: Spanned<String>,
    /// Milliseconds from one heartbeat to the next, in place of the profile's; 5 to 1000. Shorter finds a dead node sooner and
    /// costs CPU and packets in proportion.
    #[schemars(range(min = 5, max = 1000))]
    pub(crate) period_ms: Option<Spanned<u32>>,
    /// Periods of silence that make a peer suspect, in place of the profile's; 3 to 100. With `period_ms` it sets the time to
    /// take-over: 20 ms x 5 = 100 ms. Raise it on hosts that stall, such as overcommitted hypervisors.
    #[schemars(range(min = 3, max = 100))]
    pub(crate) suspect_after: Option<Spanned<u32>>,
    /// The router that a lone node must reach before it serves, by an IPv4 or IPv6 address in a cluster IP's network, or a link-local one.
    /// Default: the interface's default route, of IPv4 if it has one.
    pub(crate) gateway: Option<Spanned<String>>,
    /// `true`: count verdicts and change nothing. Default `false`. For a first run on a live host.
    #[serde(default)]
    pub(crate) observe: bool,
    /// Connections that no rule names: `"drop"` (default) or `"default-host"`, which is NLB's way and shows the default
    /// host's other services to the world.
    #[serde(default = "unmatched")]
    #[schemars(extend("enum" = ["drop", "default-host"]))]
    pub(crate) unmatched: Spanned<String>,
    /// How long connections in flight may go on once a node drains or stops. Default `"60s"`; 0 to 1 h. Keep it below the
    /// service manager's stop timeout.
    #[serde(default = "drain_timeout")]
    pub(crate) drain_timeout: Spanned<Time>,
    /// When a node that was away takes its share back: `"immediate"` (default), `"manual"` (when an operator says so) or after
    /// a time such as `"10min"`; 1 s to 24 h.
    #[serde(default = "failback")]
    pub(crate) failback: Spanned<Failback>,
    /// A node that fell and came back three times within this time gets no share until it has stayed for this time. Default
    /// `"5min"`; up to 24 h; `"0s"` switches it off.
    #[serde(default = "hold_down")]
    pub(crate) hold_down: Spanned<Time>,
    /// Time over which the load weight of a returning node grows to its full value. Default `"0s"`: at once; up to 1 h. For
    /// services that are slow until their caches are filled.
    #[serde(default = "ramp")]
    pub(crate) ramp: Spanned<Time>,
    /// How a node begins after its agent starts: `"as-before"` (default: as the operator left it), `"started"`, `"stopped"` or
    /// `"suspended"`.
    #[serde(default = "initial_state")]
    #[schemars(extend("enum" = ["as-before", "started", "stopped", "suspended"]))]
    pub(crate) initial_state: Spanned<String>,
}

/// `[[node]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeTable {
    /// Unique name: letters, digits, `-`, `_`, `.`.
    pub(crate) name: Spanned<String>,
    /// Its own address in the cluster IP's network.
    pub(crate) address: Spanned<String>,
    /// Its address in a network without cluster IP, for a second path of heartbeats. Default: none. All nodes have one, or none
    /// has.
    pub(crate) second_address: Option<Spanned<String>>,
    /// Host priority, 1 to 64, unique; the lowest number alive is the default host.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) priority: Spanned<u32>,
    /// Load weight, 0 to 100. Default 50. Only the ratio between the nodes counts.
    #[serde(default = "weight")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) weight: Spanned<u32>,
    /// The public keys that the others know it by, as `rollcall init` and `rollcall join` write them. All nodes have them, or none
    /// has: then each keeps the configuration in a file that an operator copies.
    pub(crate) keys: Option<Spanned<String>>,
}

/// `[[rule]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleTable {
    /// The cluster IP that it is for. Default: all of them.
    pub(crate) ip: Option<Spanned<String>>,
    /// `"tcp"` (default), `"udp"` or `"both"`.
    #[serde(default = "protocol")]
    #[schemars(extend("enum" = ["tcp", "udp", "both"]))]
    pub(crate) protocol: Spanned<String>,
    /// A port, or a range such as `"8000-8099"`.
    pub(crate) ports: Spanned<Ports>,
    /// `"multiple"` (default: over all nodes), `"single"` (default host alone) or `"disabled"`.
    #[serde(default = "filtering")]
    #[schemars(extend("enum" = ["multiple", "single", "disabled"]))]
    pub(crate) filtering: Spanned<String>,
    /// `"none"` (default: each connection on its own), `"single"` (all of a client's together; only where the service keeps
    /// state in the node) or `"network"` (all of a client's network together; for clients behind several proxies).
    #[serde(default = "affinity")]
    #[schemars(extend("enum" = ["none", "single", "network"]))]
    pub(crate) affinity: Spanned<String>,
    /// With affinity `"network"`, the prefix length of an IPv4 client's network. Default 24; 8 to 32.
    #[serde(default = "prefix_v4")]
    #[schemars(range(min = 8, max = 32))]
    pub(crate) prefix_v4: Spanned<u8>,
    /// With affinity `"network"`, the prefix length of an IPv6 client's network. Default 64; 16 to 128.
    #[serde(default = "prefix_v6")]
    #[schemars(range(min = 16, max = 128))]
    pub(crate) prefix_v6: Spanned<u8>,
    /// Whether its TCP connections end in the agent's network namespace. Default `true`. `false` for ports that this host
    /// forwards (published containers, DNAT): their connections then move with the share, at once.
    #[serde(default = "yes")]
    pub(crate) local: bool,
    /// With filtering `"multiple"`, load weights by node, 0 to 100, such as `{ arr1 = 70, arr2 = 30 }`. Default: each node's own.
    #[serde(default = "no_numbers")]
    #[schemars(extend("additionalProperties" = json!({ "type": "integer", "minimum": 0, "maximum": 100 })))]
    pub(crate) weights: Spanned<BTreeMap<String, Spanned<u8>>>,
    /// With filtering `"single"`, handling priorities by node, 1 to 64 and unique: the lowest number alive takes all. Default:
    /// each node's host priority.
    #[serde(default = "no_numbers")]
    #[schemars(extend("additionalProperties" = json!({ "type": "integer", "minimum": 1, "maximum": 64 })))]
    pub(crate) handling_priorities: Spanned<BTreeMap<String, Spanned<u8>>>,
    /// With affinity `"single"` or `"network"`: clients stay with their node while nodes come and go, until a bucket has been
    /// idle for this long, such as `"20m"`. Default: they do not. 1 s to 4 h. Slows joins down by as much.
    pub(crate) stickiness_timeout: Option<Spanned<Time>>,
    /// With `stickiness_timeout`: a bucket moves after this long all the same. Default `"12h"`; up to 7 days.
    pub(crate) max_hold: Option<Spanned<Time>>,
    /// How each node tests its own service behind this rule; one whose test fails hands over its share of this rule. Default:
    /// not at all.
    pub(crate) check: Option<Spanned<CheckTable>>,
}

/// `check` of `[[rule]]`: one of `tcp`, `http` and `command`, and how often.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckTable {
    /// `true`: a connection can be made.
    pub(crate) tcp: Option<Spanned<bool>>,
    /// The path that an HTTP server answers well, without TLS.
    pub(crate) http: Option<Spanned<String>>,
    /// A program and its arguments, such as `"/usr/local/bin/dns-ok example.test"`, that ends with exit code 0. Run without a
    /// shell; words are split at spaces. The only one for rules of UDP alone.
    pub(crate) command: Option<Spanned<String>>,
    /// With `tcp` and `http`, where. Default: the rule's cluster IP, the first where it is for all; services that listen on
    /// another address need it.
    pub(crate) address: Option<Spanned<String>>,
    /// With `tcp` and `http`, the port. Default: the rule's first.
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) port: Option<Spanned<u16>>,
    /// With `http`, the request's Host. Default: address and port.
    pub(crate) host: Option<Spanned<String>>,
    /// With `http`, the status of a good answer. Default 200.
    #[schemars(range(min = 100, max = 599))]
    pub(crate) status: Option<Spanned<u16>>,
    /// With `http`, what a good answer's body contains. Default `""`: anything.
    pub(crate) body: Option<Spanned<String>>,
    /// Time from one test to the next. Default `"1s"`; 100 ms to 1 h.
    #[serde(default = "one_second")]
    pub(crate) interval: Spanned<Time>,
    /// Longest time for one test. Default `"1s"`; 10 ms to 60 s.
    #[serde(default = "one_second")]
    pub(crate) timeout: Spanned<Time>,
    /// Failures in a row that make the service unhealthy. Default 3; 1 to 100.
    #[serde(default = "check_failures")]
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failures: Spanned<u8>,
    /// Successes in a row that make it healthy again. Default 2; 1 to 100.
    #[serde(default = "check_successes")]
    #[schemars(range(min = 1, max = 100))]
    pub(crate) successes: Spanned<u8>,
}

/// `node.toml`: this machine's own facts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeFile {
    /// Which of the cluster's nodes this is.
    pub(crate) name: Spanned<String>,
    /// The interface in the cluster IP's network.
    pub(crate) interface: Spanned<String>,
    /// Where the XDP program is attached. Default: `interface`. The NIC beneath, where `interface` is a VLAN interface, which
    /// has no native XDP; then `vlans` are the tags there.
    pub(crate) xdp_interface: Option<Spanned<String>>,
    /// The VLAN tags with which frames for the cluster IPs come to `xdp_interface`, outermost first; one or two. The NIC must
    /// leave them in the frame: `ethtool -K eth0 rxvlan off`.
    #[serde(default)]
    #[schemars(extend("items" = json!({ "type": "integer", "minimum": 1, "maximum": 4094 })))]
    pub(crate) vlans: Vec<Spanned<u16>>,
    /// File with the cluster secret: up to three lines of 64 hexadecimal digits, of which the first is used and all are
    /// accepted, and a line `seed` with 64 more while they are changed. Default `/etc/rollcall/cluster.secret`.
    #[serde(default = "secret_file")]
    pub(crate) secret_file: Spanned<PathBuf>,
    /// File with this node's private keys, readable by root alone, where the nodes share their configuration by themselves.
    /// Default `/etc/rollcall/node.key`.
    #[serde(default = "key_file")]
    pub(crate) key_file: Spanned<PathBuf>,
    /// User that the proxy runs as. Default `rollcall-proxy`.
    #[serde(default = "proxy_user")]
    pub(crate) proxy_user: Spanned<String>,
    /// User that the child runs as which talks to the other nodes, where they share their configuration. Default `rollcall-peer`.
    #[serde(default = "peer_user")]
    pub(crate) peer_user: Spanned<String>,
    /// Folder for the control socket and what a killed agent leaves for the next. Default `/run/rollcall`. Must be emptied
    /// by a reboot.
    #[serde(default = "run_dir")]
    pub(crate) run_dir: Spanned<PathBuf>,
    /// Folder for what outlives a reboot: what operators ordered, and the events. Default `/var/lib/rollcall`.
    #[serde(default = "state_dir")]
    pub(crate) state_dir: Spanned<PathBuf>,
    /// A program that is run for each event, which it reads as a line of JSON. Default: none.
    pub(crate) on_event: Option<Spanned<PathBuf>>,
    /// The file that the access log is appended to. Default: the agent's standard output, as it was when it started.
    pub(crate) access_log: Option<Spanned<PathBuf>>,
    /// `true`: events go to syslog too. Default `false`.
    #[serde(default)]
    pub(crate) syslog: bool,
    /// How the XDP program is attached: `"auto"` (default: in the driver where it can, else generic), `"native"` or
    /// `"generic"`.
    #[serde(default = "xdp")]
    #[schemars(extend("enum" = ["auto", "native", "generic"]))]
    pub(crate) xdp: Spanned<String>,
}

impl NodeFile {
    /// The facts of the node `name` where no file tells them: defaults, and no interface.
    pub(crate) fn without_file(name: String) -> Self {
        Self {
            name: nowhere(name),
            interface: nowhere("none".to_owned()),
            xdp_interface: None,
            vlans: Vec::new(),
            secret_file: secret_file(),
            key_file: key_file(),
            proxy_user: proxy_user(),
            peer_user: peer_user(),
            run_dir: run_dir(),
            state_dir: state_dir(),
            on_event: None,
            access_log: None,
            syslog: false,
            xdp: xdp(),
        }
    }
}

/// A value that no line of a file gave.
pub(crate) fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn no_limits() -> Spanned<LimitsTable> {
    nowhere(LimitsTable::default())
}

fn profile() -> Spanned<String> {
    nowhere("default".to_owned())
}

fn unmatched() -> Spanned<String> {
    nowhere("drop".to_owned())
}

fn drain_timeout() -> Spanned<Time> {
    nowhere(Time::seconds(300))
}

fn failback() -> Spanned<Failback> {
    nowhere(Failback::Immediate)
}

fn hold_down() -> Spanned<Time> {
    nowhere(Time::seconds(300))
}

fn ramp() -> Spanned<Time> {
    nowhere(Time::seconds(0))
}

fn initial_state() -> Spanned<String> {
    nowhere("as-before".to_owned())
}

fn weight() -> Spanned<u32> {
    nowhere(50)
}

fn filtering() -> Spanned<String> {
    nowhere("multiple".to_owned())
}

fn affinity() -> Spanned<String> {
    nowhere("none".to_owned())
}

fn protocol() -> Spanned<String> {
    nowhere("tcp".to_owned())
}

fn prefix_v4() -> Spanned<u8> {
    nowhere(24)
}

fn prefix_v6() -> Spanned<u8> {
    nowhere(64)
}

const fn yes() -> bool {
    true
}

fn no_numbers() -> Spanned<BTreeMap<String, Spanned<u8>>> {
    nowhere(BTreeMap::new())
}

fn one_second() -> Spanned<Time> {
    nowhere(Time::seconds(1))
}

fn check_failures() -> Spanned<u8> {
    nowhere(3)
}

fn check_successes() -> Spanned<u8> {
    nowhere(2)
}

fn min_servers() -> Spanned<usize> {
    nowhere(1)
}

fn https() -> Spanned<u16> {
    nowhere(443)
}

pub(crate) fn response_timeout() -> Spanned<Time> {
    nowhere(Time::seconds(3600))
}

fn connect_timeout() -> Spanned<Time> {
    nowhere(Time::seconds(5))
}

fn secret_file() -> Spanned<PathBuf> {
    nowhere("/etc/rollcall/cluster.secret".into())
}

fn key_file() -> Spanned<PathBuf> {
    nowhere("/etc/rollcall/node.key".into())
}

fn proxy_user() -> Spanned<String> {
    nowhere("rollcall-proxy".to_owned())
}

fn peer_user() -> Spanned<String> {
    nowhere("rollcall-peer".to_owned())
}

fn run_dir() -> Spanned<PathBuf> {
    nowhere("/run/rollcall".into())
}

fn state_dir() -> Spanned<PathBuf> {
    nowhere("/var/lib/rollcall".into())
}

fn xdp() -> Spanned<String> {
    nowhere("auto".to_owned())
}

//! What goes over the control socket, each a line of JSON: one request, and one answer, or to `Capture` and a followed `Events` many.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::proxy::balance::settings::State;

pub use self::certificate::{CertificateEntry, CertificateSet};
pub use self::configuration::{
    Applied, Canary, CertificateFacts, Configure, FileFacts, GenerationEntry, Removed, Shown, TRIAL, WATCH,
};
pub use self::event::EventRecord;
pub use self::operate::{Action, Nodes, Operated};
pub use self::request::{Asked, FarmExplanation, RequestExplanation, ServerExplanation, Step};
pub use crate::proxy::recent::Recalled;
use crate::wall::WallTime;

mod certificate;
mod configuration;
mod event;
mod operate;
mod request;

/// What a client may ask of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things are. Also for the group `rollcall-view`.
    Status,
    /// What an operator wants of nodes. Answered by `Operated`.
    Operate {
        /// What.
        action: Action,
        /// Of which.
        #[serde(default)]
        nodes: Nodes,
        /// For which port rule alone: `443`, `tcp/443`, `192.168.50.8:443`; `None`: as a whole.
        #[serde(default)]
        rule: Option<String>,
    },
    /// Put another program in the agent's place, in the same process, while the node keeps all that it holds. Answered by `Error` if
    /// it is refused; else the connection ends, and the next program answers the next request.
    Upgrade {
        /// Its path; `None`: that from which the agent was started.
        binary: Option<PathBuf>,
    },
    /// Have a server of a farm be in another state on this node. Answered by `ServerSet`.
    SetServer {
        /// Its farm, or its pool of a TCP service.
        farm: String,
        /// Its name there.
        server: String,
        /// Whether it is to take requests.
        state: State,
    },
    /// What would become of such a packet, and why. Also for the group `rollcall-view`.
    Explain(Packet),
    /// What would become of such a request, and why. Also for the group `rollcall-view`.
    ExplainRequest(Asked),
    /// TCP connections to the cluster IPs on this host. Also for the group `rollcall-view`.
    Connections {
        /// Only those in this bucket, of whichever owner table.
        bucket: Option<u16>,
        /// Only those in buckets that this node holds now.
        node: Option<String>,
        /// How many to list at most; further ones are counted.
        limit: usize,
    },
    /// Samples of what becomes of packets, as it happens. Answered by many `Sample` and `Skipped` and one `Captured` at the end, which
    /// comes when the client ends its side, a limit is reached, or the agent stops.
    Capture {
        /// The reasons' names; none: every reason but those of packets that are not for a cluster IP.
        reasons: Vec<String>,
        /// Of how many such packets one is sampled, chosen at random; at least 1.
        every: u32,
        /// How many to show at most.
        count: Option<u64>,
        /// For how many seconds; at most `MAX_CAPTURE`.
        seconds: u64,
    },
    /// All that is counted on this node, as OpenMetrics text. Answered by `Metrics`. Also for the group `rollcall-view`.
    Metrics,
    /// What became of one of the last requests. Answered by `Recalled`. Also for the group `rollcall-view`.
    Recall {
        /// Its number, as the log has it.
        id: String,
    },
    /// Read the configuration again and apply what it says of the service. Answered when that is done.
    Reload {
        /// By another worker, which takes over from the one that serves.
        replace_worker: bool,
    },
    /// About the configuration that the nodes share.
    Configuration(Configure),
    /// The certificates of the sites. Answered by `Certificates`. Also for the group `rollcall-view`.
    Certificates,
    /// The latest events of this node, oldest first. Also for the group `rollcall-view`.
    Events {
        /// Go on with those that come, until the client ends its side or the agent stops: many `Events`.
        follow: bool,
    },
}

/// The longest capture, seconds.
pub const MAX_CAPTURE: u64 = 86_400;

/// How many samples a second a capture shows; what comes faster is skipped and counted.
pub const CAPTURE_RATE: u32 = 1000;

/// A packet, as far as a verdict depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packet {
    /// Where it comes from; for ICMP the port means nothing.
    pub source: SocketAddr,
    /// Where it goes; for ICMP the port means nothing. Of the same family.
    pub destination: SocketAddr,
    /// What it is.
    pub protocol: Protocol,
    /// TCP flags.
    pub flags: Vec<Flag>,
}

/// The protocol of a described packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An echo request, by ICMP or ICMPv6.
    Icmp,
}

/// A TCP flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// A connection begins.
    Syn,
    /// The acknowledgement number counts.
    Ack,
    /// The sender has no more to send.
    Fin,
    /// The connection is refused or dropped.
    Rst,
}

impl Request {
    /// What a client must be allowed to do.
    pub fn needs(&self) -> Permission {
        match self {
            Self::Status
            | Self::Explain(_)
            | Self::ExplainRequest(_)
            | Self::Connections { .. }
            | Self::Metrics
            | Self::Recall { .. }
            | Self::Certificates
            | Self::Configuration(Configure::Show { .. } | Configure::Log)
            | Self::Events { .. } => Permission::View,
            // A capture loads another program.
            Self::Operate { .. }
            | Self::SetServer { .. }
            | Self::Upgrade { .. }
            | Self::Configuration(
                Configure::Apply { .. }
                | Configure::Confirm
                | Configure::RollBack { .. }
                | Configure::SetCertificate { .. }
                | Configure::Token { .. }
                | Configure::Remove { .. }
                | Configure::Leave { .. }
                | Configure::RotateSecret { .. },
            )
            | Self::Reload { .. }
            | Self::Capture { .. } => Permission::Change,
        }
    }
}

/// What a client may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Ask.
    View,
    /// Change how the node serves.
    Change,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To `Status`.
    Status(Box<Status>),
    /// To `Configure::Show`.
    Shown(Box<Shown>),
    /// To `Configure::Log`.
    Generations {
        /// The newest first.
        generations: Vec<GenerationEntry>,
    },
    /// To `Configure::Token`.
    Token {
        /// The word, which is a secret.
        token: String,
        /// Where this node is asked with it.
        address: Ipv4Addr,
    },
    /// To `Configure::Apply`, `Configure::Confirm` and `Configure::RollBack`.
    Applied(Box<Applied>),
    /// To `Certificates`, in the order of their files.
    Certificates {
        /// What the sites of the configuration in force serve.
        certificates: Vec<CertificateEntry>,
    },
    /// To `Configure::SetCertificate`.
    CertificateSet(Box<CertificateSet>),
    /// To `Configure::Remove` and `Configure::Leave`.
    Removed(Box<Removed>),
    /// To `Explain`.
    Explanation(Box<Explanation>),
    /// To `ExplainRequest`.
    RequestExplanation(Box<RequestExplanation>),
    /// To `Connections`.
    Connections(Connections),
    /// To `Capture`: a packet.
    Sample(Sample),
    /// To `Capture`: packets that were not shown in the last second, because there were too many.
    Skipped {
        /// How many.
        packets: u64,
    },
    /// To `Capture`: the end.
    Captured(Captured),
    /// To `Events`.
    Events {
        /// In the order of their numbers, which follow each other. Where one follows that is higher by more, the client has read too
        /// slowly for those between.
        records: Vec<EventRecord>,
    },
    /// To `Metrics`.
    Metrics {
        /// The text, as `application/openmetrics-text; version=1.0.0; charset=utf-8` has it.
        text: String,
    },
    /// To `Recall`; `None`: it is not, or no longer, among the last requests of this node's proxy.
    Recalled {
        /// It; `None`: it is not among the last ones.
        request: Option<Box<Recalled>>,
    },
    /// To `Operate`, by node.
    Operated {
        /// In the order of priorities.
        nodes: Vec<Operated>,
    },
    /// To `SetServer`: done.
    ServerSet {
        /// The state before.
        was: String,
        /// The server as it is now.
        server: Box<ServerStatus>,
    },
    /// To `Reload`: done.
    Reloaded(Reloaded),
    /// Refused or failed.
    Error {
        /// What, where, and what to do.
        text: String,
    },
    /// Refused because the configuration that was brought, or a file that it names, is wrong.
    Invalid {
        /// What, where, and what to do.
        text: String,
    },
}

/// How things are on one node, as `rollcall status` shows it and `status --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// One sentence on what is wrong, if anything is.
    pub problem: Option<String>,
    /// `starting`, `serving`, `stands by`, `draining`, `stopping`, `stopped`, `suspended` or `observing`.
    pub state: String,
    /// Since how many seconds, and why, it stands by, in words, if it does.
    #[serde(default)]
    pub stands_by: Option<String>,
    /// What operators changed of what the configuration says, a sentence each.
    #[serde(default)]
    pub adjusted: Vec<String>,
    /// Every node holds what it should, as far as this one knows.
    #[serde(default)]
    pub converged: bool,
    /// Epoch of the owner table in force.
    pub epoch: u64,
    /// The default host's name, if one is known.
    pub default_host: Option<String>,
    /// Whether the lease lives: only then are new connections accepted.
    pub lease: bool,
    /// Every configured node, in the order of priorities.
    pub nodes: Vec<NodeStatus>,
    /// Owner tables: what this node holds.
    pub tables: Vec<TableStatus>,
    /// The cluster interface.
    pub interface: InterfaceStatus,
    /// What became of the packets of each port rule, in the order of the configuration; last, of those under no rule.
    pub rules: Vec<RuleStatus>,
    /// Verdicts by reason, in the order of the reasons' names.
    pub counters: BTreeMap<String, Count>,
    /// How heartbeats fare.
    #[serde(default)]
    pub heartbeats: HeartbeatStatus,
    /// The proxy; `None` where nothing is published.
    pub proxy: Option<ProxyStatus>,
    /// Fixed ports between nodes: heartbeat (UDP), peer (TCP).
    pub heartbeat_port: u16,
    /// See `heartbeat_port`.
    pub peer_port: u16,
    /// The certificates of sites that have expired or do so within 30 days, the first to end first.
    #[serde(default)]
    pub certificates: Vec<CertificateEntry>,
    /// The latest events, oldest first; each a sentence.
    pub events: Vec<String>,
    /// Process id of the agent.
    pub pid: u32,
    /// The latest upgrade in place of this process; `None`: none since it started.
    #[serde(default)]
    pub upgrade: Option<UpgradeStatus>,
    /// The configuration in force.
    #[serde(default)]
    pub configuration: ConfigurationStatus,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// A digest of all that is in force: the same on nodes that serve the same.
    pub hash: String,
    /// When it came into force; `None`: an agent that does not say so.
    pub applied: Option<WallTime>,
    /// Why the configuration that was to come into force after it did not.
    pub refused: Option<String>,
    /// Another one is prepared, and comes into force once these nodes have prepared it or, if it has no part for them, are gone.
    #[serde(default)]
    pub waits_for: Option<Vec<String>>,
    /// The generation that this node works with, by its name; `None`: its nodes do not share their configuration.
    #[serde(default)]
    pub generation: Option<String>,
    /// That generation is on trial on this node alone, and gone then unless it is confirmed.
    #[serde(default)]
    pub confirm_by: Option<WallTime>,
    /// Why this node cannot work with the generation in force; then other nodes have its share.
    #[serde(default)]
    pub objection: Option<String>,
    /// The store that is no node, if generations are kept in one, too.
    #[serde(default)]
    pub store: Option<StoreStatus>,
}

/// A store that is no node, as this one finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `etcd`.
    pub kind: String,
    /// Since when it has what this node has, or is away; `None`: it was not asked yet.
    pub since: Option<WallTime>,
    /// Why it is away, if it is. The nodes go on without it.
    pub why: Option<String>,
}

/// A configuration that was applied, or is prepared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// As in [`ConfigurationStatus`].
    pub hash: String,
    /// What is another than before, in words.
    pub changed: Vec<String>,
    /// What the operator should know of it, a sentence each.
    pub warnings: Vec<String>,
    /// It is only prepared, and comes into force as [`ConfigurationStatus::waits_for`] says; `None`: it is in force.
    #[serde(default)]
    pub waits_for: Option<Vec<String>>,
}

/// How heartbeats fare on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatStatus {
    /// By how much this node's own went out late at the worst, within the last minute, milliseconds.
    pub late_ms: u64,
    /// How often a node was suspected that lived, since the agent started.
    pub wrongly_suspected: u64,
    /// How many datagrams were not believed since then, by kind.
    pub refused: BTreeMap<String, u64>,
    /// What an operator should know of all that and of lost paths, a sentence each; none while all is well.
    pub remarks: Vec<String>,
}

/// An upgrade in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// How many there were in this process, this one included.
    pub count: u32,
    /// The file that the program came from.
    pub program: String,
    /// The version before it.
    pub from: String,
    /// For how long no heartbeat went out, milliseconds.
    pub silent_ms: u64,
    /// Why it became something else than an upgrade, if it did.
    pub failed: Option<String>,
}

/// A node as this one sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its host priority.
    pub priority: u8,
    /// Its own address.
    pub address: String,
    /// `serving`, `starting`, `stands by`, `draining`, `stopped`, `suspended`, `suspect`, `dead`, `unknown` (never heard); of this node
    /// as in `Status::state`.
    pub state: String,
    /// What its operator wants of it: `started`, `draining`, `stopped` or `suspended`.
    #[serde(default)]
    pub intent: String,
    /// Its host priority in force: `priority`, unless its operator set another.
    #[serde(default)]
    pub rank: u8,
    /// Another number whenever its agent starts anew; `None`: never heard.
    #[serde(default)]
    pub incarnation: Option<u32>,
    /// It has no share although it serves, because it came back and its time has not come.
    #[serde(default)]
    pub stands_by: bool,
    /// The gateway does not answer it while it answers others.
    #[serde(default)]
    pub cut_off: bool,
    /// How many buckets of each table of `Status::tables` it holds.
    #[serde(default)]
    pub shares: Vec<u32>,
    /// Established TCP connections to the cluster IPs on it, as far as it says.
    #[serde(default)]
    pub connections: Option<u32>,
    /// How many buckets of the first `multiple` table it holds.
    pub holds: u32,
    /// Milliseconds since its last heartbeat; `None` for this node and for one never heard.
    pub silent_ms: Option<u64>,
    /// On which path of two it is not heard while it is on the other: `first` (the cluster NIC) or `second`.
    #[serde(default)]
    pub lost_path: Option<String>,
    /// Whether its service works and it hears frames for the cluster MAC, as far as it says.
    pub ready: bool,
    /// It says that it does not hear frames for the cluster MAC while others do.
    pub deaf: bool,
    /// What its data path has passed for the cluster IPs since it was attached, as far as it says.
    pub passed: Option<Count>,
    /// The first 16 digits of the generation that it works with, or tries another in place of; `None`: it says of none.
    #[serde(default)]
    pub generation: Option<String>,
    /// The first 16 digits of the generation that it tries, if it does.
    #[serde(default)]
    pub candidate: Option<String>,
}

/// What this node holds of one owner table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatus {
    /// `multiple` or `single`.
    pub filtering: String,
    /// Its rules, as `tcp 443` or `tcp+udp 8000-8099 at 192.168.50.8`, comma-separated; empty for what no rule names.
    pub ports: String,
    /// For how many seconds without a packet a client's bucket stays with its node; 0: it does not.
    pub sticky_seconds: u64,
    /// How many buckets stay for now because of that, though another node should own them.
    pub sticking: u32,
    /// What the operator wants of this node for these rules: `started`, `draining` or `stopped`.
    #[serde(default)]
    pub intent: String,
    /// How the service behind its rules is on this node; `None` where nothing is tested.
    #[serde(default)]
    pub service: Option<ServiceStatus>,
    /// How many buckets are this node's alone, arriving, departing.
    pub mine: u32,
    /// See `mine`.
    pub arriving: u32,
    /// See `mine`.
    pub departing: u32,
    /// One character a bucket: `.` other, `m` mine, `a` arriving, `d` departing.
    pub states: String,
}

/// The service behind the rules of an owner table, on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// What is looked at: `proxy`, `tcp 192.168.50.8:25` and the like.
    pub tests: Vec<String>,
    /// Whether it works; `None`: not known yet.
    pub works: Option<bool>,
    /// What the latest test says is wrong. A single failure need not count.
    pub trouble: Option<String>,
}

/// What became of the packets under a port rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The rule, as `tcp 443`; empty for what no rule names: echo, fragments, and what is refused before a rule is looked for.
    pub rule: String,
    /// The index of its owner table in `Status::tables`; `None` where everything is dropped.
    pub table: Option<usize>,
    /// Passed to this host.
    pub accepted: Count,
    /// Dropped here: `left_to_others` and `refused` together.
    pub dropped: Count,
    /// Dropped because another node answers, or may: every node hears every packet.
    pub left_to_others: Count,
    /// Dropped because no node, or not this one now, may answer.
    pub refused: Count,
    /// By reason, those that occurred.
    pub reasons: BTreeMap<String, Count>,
}

/// The cluster interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub xdp: String,
    /// Why not native, where it is not.
    pub why: Option<String>,
    /// Where the XDP program is attached, if on another interface.
    #[serde(default)]
    pub xdp_interface: Option<String>,
    /// Whether the tc companion that corrects the packet type is attached.
    pub tc_companion: bool,
    /// The cluster MAC address.
    pub cluster_mac: String,
    /// How frames for it come in: `a filter entry`, or `promiscuous mode` and why.
    #[serde(default)]
    pub filter: String,
    /// The folder with the pinned link and maps.
    pub pins: String,
}

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The proxy child.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// Whether the process is there.
    pub alive: bool,
    /// Its process id.
    pub pid: Option<u32>,
    /// Whether it accepts and every farm has a healthy server.
    pub ready: bool,
    /// Open client connections.
    pub connections: u32,
    /// Requests in flight.
    pub requests: u32,
    /// How often it was started again after it died.
    pub restarts: u32,
    /// Every farm's servers.
    pub servers: Vec<ServerStatus>,
    /// What was closed at the ends of drain timeouts since the agent started, by kind: no failures.
    #[serde(default)]
    pub closed: BTreeMap<String, u64>,
    /// A worker that another one took over from, while it finishes its requests.
    #[serde(default)]
    pub retiring: Option<RetiringStatus>,
}

/// A worker that finishes its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiringStatus {
    /// Its process id.
    pub pid: u32,
    /// Open client connections.
    pub connections: u32,
    /// Requests in flight.
    pub requests: u32,
}

/// A server of a farm, or of a pool of a TCP service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The farm's name.
    pub farm: String,
    /// The server's name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether any of its health tests succeeds.
    pub healthy: bool,
    /// `active`, `drain` or `disabled`.
    #[serde(default)]
    pub state: String,
    /// The state that the configuration gives it; an operator may have given it another.
    #[serde(default)]
    pub configured: String,
    /// Its share beside the others'.
    #[serde(default)]
    pub weight: u32,
    /// It takes requests only while no other server works.
    #[serde(default)]
    pub backup: bool,
    /// Its health tests, the farm's own first.
    #[serde(default)]
    pub tests: Vec<TestStatus>,
    /// Requests that it has not answered to their end, on this node.
    #[serde(default)]
    pub requests: u32,
    /// Connections of this node to it.
    #[serde(default)]
    pub connections: u32,
    /// Requests since this node's proxy started.
    #[serde(default)]
    pub total: u64,
    /// Those of them that it did not answer.
    #[serde(default)]
    pub failed: u64,
    /// How long it lately took to begin an answer, on average, microseconds; 0: it gave none yet.
    #[serde(default)]
    pub response_us: u64,
    /// The certificate that it presented last; `None`: it was not reached yet, or speaks no TLS.
    #[serde(default)]
    pub presents: Option<PresentedStatus>,
}

impl ServerStatus {
    /// Takes up what was known of the same server under another configuration. A test goes by its name and by what it asks for.
    pub fn follow(&mut self, known: &Self) {
        for test in &mut self.tests {
            let is_it = |before: &&TestStatus| (&before.name, &before.what) == (&test.name, &test.what);
            if let Some(before) = known.tests.iter().find(is_it) {
                *test = before.clone();
            }
        }
        self.healthy = known.healthy;
        self.presents = known.presents.clone();
        (self.requests, self.connections) = (known.requests, known.connections);
        (self.total, self.failed, self.response_us) = (known.total, known.failed, known.response_us);
    }
}

/// A server in one health test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestStatus {
    /// The test's name in the configuration; `default` is the farm's own.
    pub name: String,
    /// What is asked for: a path, or what a TCP service is expected to say.
    pub what: String,
    /// `healthy`, `unhealthy` or `untested`.
    pub health: String,
    /// What was found last: a status, or a word such as `timeout`.
    pub finding: Option<String>,
    /// When, in milliseconds since 1970 (UTC).
    pub tested_ms: Option<u64>,
}

/// A certificate that a server presents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PresentedStatus {
    /// `sha256:` and 64 hexadecimal digits, of its DER.
    pub sha256: String,
    /// Until when it is valid; `None` where that cannot be read.
    pub not_after: Option<WallTime>,
    /// Where it has to be the site's: `the site's`, `the site's before` (accepted until all servers present the new one), or
    /// `another`; else empty.
    pub whose: String,
}

/// What would become of a packet, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// One sentence.
    pub summary: String,
    /// Whether it is for a cluster IP.
    pub for_cluster: bool,
    /// The port rule, as `tcp 443`, if it falls under one.
    pub rule: Option<String>,
    /// What of the client decides the bucket: its affinity, then the value, as `single: 203.0.113.10`.
    pub affinity: Option<String>,
    /// Its owner table's index in `Status::tables`.
    pub table: Option<u8>,
    /// Its bucket.
    pub bucket: Option<u16>,
    /// Every configured node in the order of priorities; this one by its maps, others by what they announced.
    pub nodes: Vec<NodeExplanation>,
}

/// What a node does with a packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeExplanation {
    /// Its name.
    pub name: String,
    /// Whether it is the node that was asked.
    pub this: bool,
    /// `passes`, `drops`, `ignores` (not for a cluster IP, or it observes), `asks its kernel` (sockets of other nodes are not known
    /// here), or `silent`.
    pub action: String,
    /// The reason's name in counters; empty where it is not known.
    pub reason: String,
    /// What the reason means.
    pub meaning: String,
    /// `mine`, `arriving`, `departing` or `other`; `None` where no bucket was looked at.
    pub state: Option<String>,
    /// Whether its lease lives, as far as this node knows.
    pub lease: bool,
    /// What its kernel has for the packet's addresses and ports, where that was asked: `none`, `listener`, `half-open`, `open`,
    /// `time-wait`.
    pub socket: Option<String>,
    /// What is not known here and would change the verdict.
    pub unsure: Option<String>,
}

/// TCP connections to the cluster IPs on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// In the order of tables and buckets.
    pub connections: Vec<Connection>,
    /// How many there are, those that were not listed included.
    pub total: usize,
    /// How many of these are established.
    pub established: usize,
}

/// A TCP connection to a cluster IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The client's end.
    pub client: SocketAddr,
    /// The cluster IP and port.
    pub service: SocketAddr,
    /// Its state, as `established` or `time-wait`.
    pub state: String,
    /// Its owner table's index in `Status::tables`.
    pub table: usize,
    /// Its bucket.
    pub bucket: u16,
    /// The bucket's state on this host: `mine`, `arriving`, `departing` or `other`.
    pub bucket_state: String,
    /// The node that holds the bucket now, if one is known to.
    pub holder: Option<String>,
}

/// A packet that a capture shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When, in microseconds since 1970 (UTC).
    pub time_us: u64,
    /// `tcp`, `udp`, `icmp`, `icmp6`, the number of another IP protocol, or empty where it is not IP.
    pub protocol: String,
    /// Source address; `None` where the packet is not IP.
    pub source: Option<IpAddr>,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination address; `None` where the packet is not IP.
    pub destination: Option<IpAddr>,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// TCP flags, a letter each, as tcpdump has them: `S`, `F.`, `P.`, `R`.
    pub flags: String,
    /// The port rule, as `tcp 443`, if it fell under one.
    pub rule: Option<String>,
    /// The reason's name in counters.
    pub reason: String,
    /// The frame's length in bytes.
    pub length: u32,
}

/// What a capture came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// How many samples were shown.
    pub shown: u64,
    /// How many were taken, but came too fast to be shown.
    pub skipped: u64,
    /// How many packets with these reasons there were in the meantime, sampled or not.
    pub matched: u64,
}

//! Windows NLB from what `Get-NlbCluster`, `Get-NlbClusterNode`, `Get-NlbClusterPortRule` (as lists or tables) and `nlb params` print. Pure.
//! What it means here is for `map`.

pub mod records;

use std::collections::BTreeSet;
use std::net::IpAddr;

use self::records::{Field, Record, records};
use super::ledger::{Became, Finding};

/// What is known of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nlb {
    /// The cluster IPs, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The prefix length of the first one's network.
    pub prefix: Option<u8>,
    /// How frames reach all hosts: `unicast`, `multicast` or `igmp`.
    pub mode: Option<&'static str>,
    /// By host priority.
    pub nodes: Vec<Host>,
    /// In their order.
    pub rules: Vec<PortRule>,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its host priority.
    pub priority: u32,
    /// Its name; empty where it is not known.
    pub name: String,
    /// Its own address.
    pub address: Option<IpAddr>,
}

/// A port rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// `None`: for all cluster IPs.
    pub ip: Option<IpAddr>,
    /// From 0.
    pub first: u16,
    /// Up to 65535.
    pub last: u16,
    /// `tcp`, `udp` or `both`.
    pub protocol: &'static str,
    /// `multiple`, `single` or `disabled`.
    pub filtering: &'static str,
    /// `none`, `single` or `network`.
    pub affinity: &'static str,
    /// Minutes for which clients stay with their host; 0: as long as all is as it is.
    pub timeout: u32,
    /// By host priority; empty where all have the same.
    pub weights: Vec<(u32, u32)>,
    /// By host priority.
    pub handling: Vec<(u32, u32)>,
    /// Where it stands.
    pub line: usize,
}

/// What a file says, and what became of each field of it.
pub fn read(text: &str, nlb: &mut Nlb) -> Vec<Finding> {
    let (records, other) = records(text);
    let mut reader = Reader { nlb, host: None, said: BTreeSet::new(), findings: Vec::new() };
    for record in &records {
        reader.record(record);
    }
    let words = |(line, text): (usize, String)| Finding {
        line,
        path: text.chars().filter(|c| !c.is_control()).take(60).collect(),
        became: Became::unneeded("no field"),
    };
    reader.findings.extend(other.into_iter().map(words));
    let mut findings = reader.findings;
    findings.sort_by_key(|finding| finding.line);
    nlb.nodes.sort_by_key(|host| host.priority);
    findings
}

struct Reader<'a> {
    nlb: &'a mut Nlb,
    /// Whose `nlb params` is being read.
    host: Option<u32>,
    /// Line and name of each field that something was said of.
    said: BTreeSet<(usize, String)>,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn record(&mut self, record: &Record) {
        let has = |names: &[&str]| record.first(names).is_some();
        if has(&["start", "startport"]) && has(&["end", "endport"]) {
            self.rule(record);
        } else if has(&["hostpriority", "hostid"]) {
            self.host(record);
            self.cluster(record);
        } else if has(&["ipaddress", "clusteripaddress", "clusterprimaryip", "vip"]) {
            self.cluster(record);
        }
        // What nobody spoke of.
        for (key, field) in &record.fields {
            if !self.said.contains(&(field.line, field.name.clone())) {
                let became = if INTERNAL.contains(&key.as_str()) {
                    Became::unneeded("of NLB's own work, which has no counterpart")
                } else {
                    Became::warned("not known to this import")
                };
                self.say(field, became);
            }
        }
    }

    fn say(&mut self, field: &Field, became: Became) {
        // A record may be a host's and the cluster's: the first word counts.
        if self.said.insert((field.line, field.name.clone())) {
            self.findings.push(Finding { line: field.line, path: field.name.clone(), became });
        }
    }

    fn cluster(&mut self, record: &Record) {
        if let Some(field) = record.first(&["clusteripaddress", "ipaddress", "clusterprimaryip", "vip"]) {
            match field.value.parse::<IpAddr>() {
                Ok(ip) if !self.nlb.ips.contains(&ip) => {
                    self.nlb.ips.push(ip);
                    self.say(field, Became::mapped("cluster.ip"));
                }
                Ok(_) => self.say(field, Became::mapped("cluster.ip, as before")),
                Err(_) => self.say(field, Became::refused("no IP address; write the cluster IP yourself")),
            }
        }
        if let Some(field) = record.first(&["clusternetworkmask", "subnetmask"]) {
            match prefix(&field.value) {
                Some(prefix) => {
                    self.nlb.prefix = self.nlb.prefix.or(Some(prefix));
                    self.say(field, Became::mapped(format!("cluster.ip, /{prefix}")));
                }
                None => self.say(field, Became::refused("no network mask; write the prefix length yourself")),
            }
        }
        self.mode(record);
        for name in ["clustername", "name"] {
            if let Some(field) = record.fields.get(name).filter(|_| !record.fields.contains_key("hostid")) {
                self.say(field, Became::unneeded("clusters have no name here"));
            }
        }
    }

    fn mode(&mut self, record: &Record) {
        if let Some(field) = record.first(&["mode", "operationmode"]) {
            let modes = [("UNICAST", "unicast"), ("MULTICAST", "multicast"), ("IGMPMULTICAST", "igmp")];
            let known = modes.into_iter().find(|(name, _)| field.value.eq_ignore_ascii_case(name));
            match known {
                Some((_, mode)) => {
                    self.nlb.mode = Some(mode);
                    self.say(field, Became::mapped(format!("cluster.mode = \"{mode}\"")));
                }
                None => {
                    self.say(field, Became::refused("no operation mode of NLB; write cluster.mode yourself"))
                }
            }
        }
        let enabled = |name: &str| record.fields.get(name).map(|field| (field, is_on(&field.value)));
        let Some((field, multicast)) = enabled("multicastsupportenable") else { return };
        let igmp = enabled("igmpsupport");
        let mode = match (multicast, igmp) {
            (false, _) => "unicast",
            (true, Some((_, true))) => "igmp",
            (true, _) => "multicast",
        };
        self.nlb.mode = Some(mode);
        self.say(field, Became::mapped(format!("cluster.mode = \"{mode}\"")));
        if let Some((field, _)) = igmp {
            self.say(field, Became::mapped(format!("cluster.mode = \"{mode}\"")));
        }
    }

    fn host(&mut self, record: &Record) {
        let Some(field) = record.first(&["hostpriority", "hostid"]) else { return };
        let Some(priority) = field.value.parse().ok().filter(|priority| (1..=64).contains(priority)) else {
            return self.say(field, Became::refused("no host priority from 1 to 64"));
        };
        self.say(field, Became::mapped("priority of a [[node]]"));
        self.host = Some(priority);
        let name = record.first(&["hostname", "fullyqualifieddomainname", "name", "host"]);
        let address = record.first(&["dedicatedipaddress"]);
        let at = self.nlb.nodes.iter().position(|host| host.priority == priority).unwrap_or_else(|| {
            self.nlb.nodes.push(Host { priority, ..Host::default() });
            self.nlb.nodes.len() - 1
        });
        if let Some(field) = name {
            let short = field.value.split('.').next().unwrap_or_default().to_ascii_lowercase();
            let sound = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            self.nlb.nodes[at].name = short.chars().filter(|c| sound(*c)).take(40).collect();
            self.say(field, Became::mapped("name of a [[node]]"));
        }
        if let Some(field) = address {
            match field.value.parse() {
                Ok(address) => {
                    self.nlb.nodes[at].address = Some(address);
                    self.say(field, Became::mapped("address of a [[node]]"));
                }
                Err(_) => {
                    self.say(field, Became::refused("no IP address; write the node's address yourself"))
                }
            }
        }
        if let Some(field) = record.first(&["interface"]) {
            self.say(field, Became::unneeded("Linux names interfaces otherwise: `interface` in node.toml"));
        }
    }

    fn rule(&mut self, record: &Record) {
        let rule = match port_rule(record) {
            Ok(rule) => rule,
            Err(field) => {
                let why = "nothing that a port rule can have; write the [[rule]] yourself";
                return self.say(&field, Became::refused(why));
            }
        };
        let same = |other: &PortRule| {
            (other.ip, other.first, other.last, other.protocol)
                == (rule.ip, rule.first, rule.last, rule.protocol)
        };
        let line = rule.line;
        if self.nlb.rules.len() == MOST_RULES {
            let why = format!("more than {MOST_RULES} port rules, which NLB cannot have");
            return record.fields.values().for_each(|field| self.say(field, Became::refused(why.clone())));
        }
        let at = self.nlb.rules.iter().position(same).unwrap_or_else(|| {
            self.nlb.rules.push(rule);
            self.nlb.rules.len() - 1
        });
        if let Some(host) = self.host {
            let number = |names: &[&str]| record.first(names).and_then(|field| field.value.parse().ok());
            let rule = &mut self.nlb.rules[at];
            rule.weights.extend(number(&["load", "loadweight"]).map(|weight| (host, weight)));
            rule.handling
                .extend(number(&["pri", "priority", "handlingpriority"]).map(|priority| (host, priority)));
        }
        for (key, field) in &record.fields {
            let became = match key.as_str() {
                "state" if field.value.eq_ignore_ascii_case("enabled") => Became::unneeded("as rules are"),
                "state" => Became::warned(format!(
                    "the rule of line {line} was {}; here it is in force",
                    field.value
                )),
                _ => Became::mapped("[[rule]]"),
            };
            self.say(field, became);
        }
    }
}

fn port_rule(record: &Record) -> Result<PortRule, Field> {
    let missing = || record.first(&["start", "startport"]).cloned().unwrap_or_default();
    let port = |names: &[&str]| {
        let field = record.first(names).ok_or_else(missing)?;
        field.value.parse::<u16>().map_err(|_| field.clone())
    };
    let among = |names: &[&str], choices: &[(&str, &'static str)], default: Option<&'static str>| {
        let field = record.first(names).filter(|field| !field.value.is_empty());
        match (field, default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(missing()),
            (Some(field), _) => {
                let found = choices.iter().find(|(name, _)| field.value.eq_ignore_ascii_case(name));
                found.map(|(_, choice)| *choice).ok_or_else(|| field.clone())
            }
        }
    };
    let ip = match record.first(&["ipaddress", "vip", "ip"]) {
        Some(field) if !is_all(&field.value) => Some(field.value.parse().map_err(|_| field.clone())?),
        Some(_) | None => None,
    };
    let timeout = record.first(&["timeout"]).map_or(Some(0), |field| field.value.parse().ok());
    Ok(PortRule {
        ip,
        first: port(&["start", "startport"])?,
        last: port(&["end", "endport"])?,
        protocol: among(&["protocol", "prot"], &[("tcp", "tcp"), ("udp", "udp"), ("both", "both")], None)?,
        filtering: among(
            &["mode", "filteringmode"],
            &[("multiple", "multiple"), ("single", "single"), ("disabled", "disabled")],
            Some("multiple"),
        )?,
        affinity: among(
            &["affinity"],
            &[
                ("none", "none"),
                ("single", "single"),
                ("network", "network"),
                ("class c", "network"),
                ("c", "network"),
            ],
            Some("none"),
        )?,
        timeout: timeout.ok_or_else(missing)?,
        weights: Vec::new(),
        handling: Vec::new(),
        line: missing().line,
    })
}

fn is_all(text: &str) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case("all") || text == "255.255.255.255"
}

fn is_on(text: &str) -> bool {
    ["enabled", "true", "1"].iter().any(|on| text.eq_ignore_ascii_case(on))
}

/// The length of `255.255.255.0`.
fn prefix(mask: &str) -> Option<u8> {
    let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
    let length = mask.leading_ones();
    (mask.count_ones() == length && length > 0).then(|| u8::try_from(length).ok()).flatten()
}

/// NLB has 32 or 64 by version.
const MOST_RULES: usize = 64;

/// What these tools print besides.
const INTERNAL: [&str; 62] = [
    "aliveheartbeatperiod",
    "alivemsgperiod",
    "alivemsgtolerance",
    "activationid",
    "adapterguid",
    "alwaysdisplay",
    "badteaming",
    "bdateaming",
    "clustermacaddress",
    "clustermodeonstart",
    "clusternetworkaddress",
    "connectioncleanupdelay",
    "currenthoststate",
    "currenttime",
    "currentversion",
    "dedicatednetworkmask",
    "descriptorsperalloc",
    "effectivenlbversion",
    "effectiveversion",
    "extendedaffinity",
    "filtericmp",
    "gredescriptortimeout",
    "host",
    "hoststate",
    "icmpfilteringenabled",
    "identityheartbeatenabled",
    "identityheartbeatperiod",
    "initialhoststate",
    "installdate",
    "interfaceguid",
    "ipsecconnectiontimeout",
    "ipsecdescriptortimeout",
    "iptomacenable",
    "iptomcastip",
    "masksourcemac",
    "maxconnectiondescriptors",
    "maxdescriptorallocs",
    "mcastipaddress",
    "multicastarpenable",
    "multicastsupportenable",
    "nbtsupportenable",
    "netmonalivemsgs",
    "numactions",
    "numalivemsgs",
    "numberofrules",
    "numpackets",
    "parametersversion",
    "passworddisabled",
    "persistedhoststates",
    "persistedstates",
    "persistsuspendonreboot",
    "pptp",
    "remotecontrolcode",
    "remotecontrolenabled",
    "remotecontrolport",
    "remotecontroludpport",
    "retainsuspend",
    "scalesingleclient",
    "state",
    "status",
    "tcpconnectiontimeout",
    "tcpdescriptortimeout",
];

#[cfg(test)]
mod tests;

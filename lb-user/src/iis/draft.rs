//! The configuration that an import comes to, before it is written. Pure. What is not known is a blank, which `write` marks for the operator.

use std::net::IpAddr;

use crate::proxy::rewrite::spec::{Maps, RuleSpec};

/// A value, or what the operator has to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fill {
    /// As it is written in the file.
    Known(String),
    /// What is to be written there.
    Blank(String),
}

impl Fill {
    /// A value that is known, or a blank.
    pub fn of(value: Option<impl ToString>, blank: &str) -> Self {
        value.map_or_else(|| Self::Blank(blank.to_owned()), |value| Self::Known(value.to_string()))
    }
}

/// The cluster file.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Cluster IPs with prefix lengths.
    pub ips: Vec<Fill>,
    /// `cluster.mode`.
    pub mode: Option<&'static str>,
    /// `[[node]]`.
    pub nodes: Vec<Node>,
    /// `[[rule]]`.
    pub rules: Vec<PortRule>,
    /// `[exchange]`.
    pub exchange: Option<Exchange>,
    /// `[[farm]]`.
    pub farms: Vec<Farm>,
    /// `[[site]]`.
    pub sites: Vec<Site>,
}

/// `[[node]]`.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: Fill,
    /// Its own address.
    pub address: Fill,
    /// Its host priority.
    pub priority: u32,
}

/// `[[rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRule {
    /// A cluster IP; `None`: all.
    pub ip: Option<IpAddr>,
    /// `tcp`, `udp` or `both`.
    pub protocol: &'static str,
    /// First and last.
    pub ports: (u16, u16),
    /// `multiple`, `single` or `disabled`.
    pub filtering: &'static str,
    /// `none`, `single` or `network`.
    pub affinity: &'static str,
    /// Minutes; 0: not sticky.
    pub sticky: u32,
    /// By node.
    pub weights: Vec<(String, u32)>,
    /// By node.
    pub handling: Vec<(String, u32)>,
}

/// A key and its value as TOML.
pub type Line = (&'static str, String);

/// `[exchange]`.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The site's part.
    pub face: Face,
    /// The servers.
    pub servers: Vec<Server>,
    /// `[exchange.balance]`.
    pub balance: Vec<Line>,
    /// `[exchange.health]`.
    pub health: Vec<Line>,
    /// `rpc`, `ecp` and so on.
    pub lines: Vec<Line>,
    /// Rules that do not send requests to farms.
    pub rules: Vec<RuleSpec>,
    /// Their maps.
    pub maps: Maps,
}

/// What clients see of a site.
#[derive(Clone, Debug)]
pub struct Face {
    /// Host names; empty: a blank.
    pub names: Vec<String>,
    /// Its certificate's file.
    pub certificate: Fill,
    /// Its key's, if another.
    pub key: Option<String>,
    /// The password of a PKCS#12 file.
    pub password_file: Option<String>,
    /// Where it listens.
    pub port: u16,
    /// Whether requests to port 80 are redirected to it.
    pub redirect_http: bool,
    /// `hsts`: seconds.
    pub hsts: Option<u64>,
    /// `response_headers`: fields that are set.
    pub set: Vec<(String, String)>,
    /// `response_headers`: fields that do not cross.
    pub remove: Vec<String>,
}

/// `[[farm]]`.
#[derive(Clone, Debug)]
pub struct Farm {
    /// Its name.
    pub name: String,
    /// What stands over it.
    pub comment: String,
    /// Its servers.
    pub servers: Vec<Server>,
    /// Whether servers are spoken to over TLS.
    pub tls: bool,
    /// `response_timeout` and the like.
    pub lines: Vec<Line>,
    /// `[farm.balance]`.
    pub balance: Vec<Line>,
    /// `[farm.health]`.
    pub health: Vec<Line>,
}

/// One of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Fill,
    /// Its port.
    pub port: u16,
    /// 1 to 1000.
    pub weight: u32,
    /// Whether it takes requests.
    pub active: bool,
}

/// `[[site]]`.
#[derive(Clone, Debug)]
pub struct Site {
    /// What it was in IIS.
    pub comment: String,
    /// What clients see.
    pub face: Face,
    /// The farm that answers what no route is for.
    pub farm: Option<String>,
    /// Whether a `Location` that names a server is made to name the site.
    pub rewrite_location: bool,
    /// `[site.maps]`.
    pub maps: Maps,
    /// `[[site.rewrite]]`.
    pub rules: Vec<RuleSpec>,
    /// `[[site.route]]`.
    pub routes: Vec<Route>,
}

/// `[[site.route]]` to a farm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The path and all below it.
    pub path: String,
    /// Some of the site's names; empty: all.
    pub hosts: Vec<String>,
    /// The farm.
    pub farm: String,
}

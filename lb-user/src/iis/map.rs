//! Model to draft: what IIS, ARR and NLB did, in this configuration's terms, and in the ledger what became of each setting. Pure.
//!
//! ```text
//! bindings, certificates -> sites;  rules -> rules and routes;  farms that rules name -> farms;  NLB -> cluster, nodes, port rules
//! ```

mod cluster;
mod exchange;
mod farms;
mod patterns;
mod rules;
mod sites;
mod values;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::draft::Draft;
use super::ledger::{Became, Ledger};
use super::model::{Model, Settings};
use super::nlb::Nlb;

/// What an import knows beside the file.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What NLB's tools printed, if anything.
    pub nlb: Option<Nlb>,
    /// Addresses of servers and nodes by name, in lower case.
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// Certificates that there are.
    pub certificates: Vec<Certificate>,
    /// Which tables are written.
    pub shape: Shape,
}

/// A certificate with its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The file, as an absolute path.
    pub path: String,
    /// The key's file, if it is another.
    pub key: Option<String>,
    /// The file with the password, where it has one.
    pub password_file: Option<String>,
    /// What it is for.
    pub names: Vec<String>,
    /// SHA-1 of its DER as hexadecimal digits, as Windows calls certificates.
    pub thumbprint: String,
}

/// Which tables are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// `[exchange]` where it fits.
    #[default]
    Fitting,
    /// `[exchange]` wherever it is possible.
    Exchange,
    /// Farms, sites and rules, one for one.
    AsIs,
}

/// What an import comes to.
#[derive(Clone, Debug, Default)]
pub struct Mapped {
    /// The configuration.
    pub draft: Draft,
    /// What the operator should know beside what became of each setting.
    pub remarks: Vec<String>,
}

/// The configuration that does what `model` says.
pub fn map(model: &Model, known: &Known, ledger: &mut Ledger) -> Mapped {
    let mut mapper = Mapper { model, known, ledger, remarks: Vec::new() };
    let mut draft = Draft::default();
    mapper.server_proxy();
    let mut sites = mapper.sites();
    let farms = mapper.farms(&mut sites);
    mapper.headers(&mut sites);
    match mapper.exchange(&sites, &farms) {
        Some(exchange) => draft.exchange = Some(exchange),
        None => {
            draft.farms = farms;
            draft.sites = sites.into_iter().map(|site| site.draft).collect();
        }
    }
    if draft.exchange.is_none() && draft.sites.is_empty() {
        mapper.remarks.push(NOTHING.to_owned());
    }
    mapper.cluster(&mut draft);
    Mapped { draft, remarks: mapper.remarks }
}

struct Mapper<'a> {
    model: &'a Model,
    known: &'a Known,
    ledger: &'a mut Ledger,
    remarks: Vec<String>,
}

impl Mapper<'_> {
    fn say(&mut self, id: usize, became: Became) {
        self.ledger.settle(id, became);
    }

    /// Says the same of an element and each attribute of it that can be read.
    fn say_all(&mut self, settings: &Settings, became: &Became) {
        if settings.element.is_empty() {
            return;
        }
        self.say(settings.id, became.clone());
        settings.values.values().for_each(|said| self.ledger.settle(said.id, became.clone()));
    }

    /// The address of a server or node.
    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let name = name.to_ascii_lowercase();
        let short = || self.known.hosts.get(name.split('.').next().unwrap_or_default());
        name.parse().ok().or_else(|| self.known.hosts.get(&name).or_else(short).copied())
    }

    /// `system.webServer/proxy`: what holds for rules that name a host and no farm.
    fn server_proxy(&mut self) {
        let model = self.model;
        for settings in &model.proxy {
            self.say(settings.id, Became::mapped("the proxy"));
            for (name, said) in &settings.values {
                let became = match (settings.element.as_str(), name.as_str()) {
                    ("proxy", "enabled") if settings.is("enabled", false) => Became::mapped("the proxy"),
                    ("proxy", "enabled") => Became::unneeded("off, which concerns hosts that are no farm"),
                    ("proxy", "reverseRewriteHostInResponseHeaders") => {
                        Became::mapped("rewrite_location of sites")
                    }
                    ("proxy", "timeout") => Became::mapped("response_timeout of farms made of hosts"),
                    ("proxy", "preserveHostHeader") if settings.is(name, false) => {
                        Became::mapped(values::HOST)
                    }
                    ("proxy", "preserveHostHeader") => Became::warned(values::HOST),
                    _ => values::protocol(settings, name),
                };
                self.ledger.settle(said.id, became);
            }
        }
    }
}

const NOTHING: &str =
    "nothing is published: there is no rule that sends requests to a farm, redirects or answers them";

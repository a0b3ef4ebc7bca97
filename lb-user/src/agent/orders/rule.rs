//! Which port rule an operator means, and which owner table is that rule's alone. Pure.

use std::net::IpAddr;

use crate::config::model::{Config, Filtering, PortRule, Protocol};
use crate::dataplane::plan::tables_of;

/// A port rule that can be told something alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// As `tcp 443`.
    pub(super) name: String,
    pub(super) table: u8,
    /// Whether its share goes by weight.
    pub(super) weighted: bool,
}

/// What was written: `443`, `tcp/443`, `192.168.50.8:443`, `udp/[fd00::8]:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    protocol: Option<Protocol>,
    ip: Option<IpAddr>,
    port: u16,
}

/// The rule that `text` means; an error is a sentence with a cure.
pub(super) fn find(config: &Config, text: &str) -> Result<Found, String> {
    let rules = &config.cluster.rules;
    let wanted = read(text).ok_or_else(|| {
        format!("`{text}` is no port rule: write its port, as 443, tcp/443 or 192.168.50.8:443")
    })?;
    let found: Vec<usize> = (0..rules.len()).filter(|&index| wanted.means(&rules[index])).collect();
    let index = match found[..] {
        [] => return Err(format!("no port rule covers {text}; {}", known(rules))),
        [index] => index,
        [_, _, ..] => {
            let names: Vec<String> = found.iter().map(|&index| rules[index].to_string()).collect();
            return Err(format!(
                "{text} may be {}; hint: name the protocol, as tcp/{}, or the cluster IP",
                names.join(" or "),
                wanted.port
            ));
        }
    };
    let tables = tables_of(rules);
    let Some(table) = tables[index] else {
        return Err(format!(
            "{} is disabled in the configuration, so no node has a share of it",
            rules[index]
        ));
    };
    let sharing: Vec<String> = rules
        .iter()
        .zip(&tables)
        .enumerate()
        .filter(|(other, (_, its))| *other != index && **its == Some(table))
        .map(|(_, (rule, _))| rule.to_string())
        .collect();
    if !sharing.is_empty() {
        return Err(format!(
            "{} moves together with {}: there are too many rules for each to move alone; hint: have fewer than 32 rules, or give this one its own `weights`",
            rules[index],
            sharing.join(", ")
        ));
    }
    Ok(Found {
        name: rules[index].to_string(),
        table: u8::try_from(table).unwrap_or(u8::MAX),
        weighted: rules[index].spread.filtering == Filtering::Multiple,
    })
}

fn known(rules: &[PortRule]) -> String {
    if rules.is_empty() {
        return "there are none".to_owned();
    }
    let names: Vec<String> = rules.iter().map(ToString::to_string).collect();
    format!("the rules are {}", names.join(", "))
}

fn read(text: &str) -> Option<Wanted> {
    let (protocol, place) = match text.split_once('/') {
        Some(("tcp", place)) => (Some(Protocol::Tcp), place),
        Some(("udp", place)) => (Some(Protocol::Udp), place),
        Some(("tcp+udp", place)) => (Some(Protocol::Both), place),
        Some(_) => return None,
        None => (None, text),
    };
    let (ip, port) = match place.rsplit_once(':') {
        None => (None, place),
        Some((ip, port)) => {
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
            (Some(bare.parse().ok()?), port)
        }
    };
    // A sign is none of a port's.
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten()?;
    Some(Wanted { protocol, ip, port })
}

impl Wanted {
    fn means(&self, rule: &PortRule) -> bool {
        let protocol = match (self.protocol, rule.protocol) {
            (None, _) | (_, Protocol::Both) => true,
            (Some(wanted), protocol) => wanted == protocol,
        };
        let ip = self.ip.is_none_or(|ip| rule.ip.is_none_or(|own| own == ip));
        protocol && ip && (rule.first_port..=rule.last_port).contains(&self.port)
    }
}

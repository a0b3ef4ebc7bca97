//! From the name that a client asks for to the site that answers. Pure.
//!
//! There is no default site: a name that no site serves at this address, or that belongs to another certificate than the one
//! the TLS handshake was for, gets 421 (Misdirected Request).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::snapshot::Snapshot;

/// The names served at one listening address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Name to site.
    sites: BTreeMap<String, usize>,
    /// The site whose certificate a client gets that names none of these in its handshake: the first one here.
    first: Option<usize>,
}

impl Routes {
    /// The names that `snapshot` serves at `address`.
    pub fn at(snapshot: &Snapshot, address: SocketAddr) -> Self {
        let mut routes = Self::default();
        for (index, site) in snapshot.sites.iter().enumerate() {
            if !site.listen.contains(&address) {
                continue;
            }
            routes.first.get_or_insert(index);
            for name in &site.names {
                routes.sites.entry(normal(name)).or_insert(index);
            }
        }
        routes
    }

    /// The site whose certificate is presented to a client that asks for `sni`. A client that names no site gets the first
    /// one's, so that it can be told 421 instead of a broken handshake; it reaches no site by that.
    pub fn certificate(&self, sni: Option<&str>) -> Option<usize> {
        let named = sni.and_then(|name| self.sites.get(&normal(name)));
        named.copied().or(self.first)
    }

    /// The site for a request to `host` (the Host header's text) over a connection whose handshake named `sni`; `None`: 421.
    pub fn site(&self, sni: Option<&str>, host: &str) -> Option<usize> {
        let site = *self.sites.get(&normal(without_port(host)?))?;
        let greeted = match sni {
            Some(name) => self.sites.get(&normal(name)).copied(),
            None => self.first,
        };
        (greeted == Some(site)).then_some(site)
    }
}

/// `host` without its port. The port itself decides nothing: a router's NAT may have changed it.
fn without_port(host: &str) -> Option<&str> {
    match host.split_once(':') {
        None => Some(host),
        Some((name, port)) => port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name),
    }
}

/// Names are compared without case and without the root's dot.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::snapshot::{PrivateKey, Site};
    use super::*;

    fn routes() -> Routes {
        let at = "192.168.50.8:443".parse().unwrap();
        let elsewhere = "192.168.50.8:8443".parse().unwrap();
        let site = |names: &[&str], listen| Site {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            listen: vec![listen],
            certificate: String::new(),
            key: PrivateKey::new(String::new()),
            farm: 0,
        };
        let snapshot = Snapshot {
            listen: vec![at, elsewhere],
            sites: vec![
                site(&["mail.example.test", "autodiscover.example.test"], at),
                site(&["www.example.test"], at),
                site(&["hidden.example.test"], elsewhere),
            ],
            farms: Vec::new(),
            drain_timeout: Duration::ZERO,
        };
        Routes::at(&snapshot, at)
    }

    #[test]
    fn a_request_reaches_the_site_that_handshake_and_host_agree_on() {
        let routes = routes();
        for (sni, host, site) in [
            (Some("mail.example.test"), "mail.example.test", Some(0)),
            (Some("MAIL.example.test"), "Mail.Example.Test:443", Some(0)),
            (Some("mail.example.test"), "mail.example.test.", Some(0)),
            (Some("mail.example.test"), "autodiscover.example.test", Some(0)),
            (Some("www.example.test"), "www.example.test:8443", Some(1)),
            (Some("www.example.test"), "mail.example.test", None),
            (Some("mail.example.test"), "www.example.test", None),
            (Some("mail.example.test"), "hidden.example.test", None),
            (Some("mail.example.test"), "unknown.example.test", None),
            (Some("mail.example.test"), "192.168.50.8", None),
            (Some("mail.example.test"), "mail.example.test:x", None),
            (Some("mail.example.test"), "", None),
            (Some("unknown.example.test"), "mail.example.test", None),
            (None, "mail.example.test", Some(0)),
            (None, "www.example.test", None),
        ] {
            assert_eq!(routes.site(sni, host), site, "{sni:?} {host}");
        }
    }

    #[test]
    fn a_handshake_without_a_known_name_gets_the_first_certificate() {
        let routes = routes();
        for (sni, site) in
            [(Some("www.example.test"), Some(1)), (Some("unknown.example.test"), Some(0)), (None, Some(0))]
        {
            assert_eq!(routes.certificate(sni), site, "{sni:?}");
        }
        assert_eq!(Routes::default().certificate(None), None);
    }
}

//! From the name that a client asks for to the site that answers. Pure.
//!
//! There is no default site: a name that no site serves at this address, or that belongs to a site with another certificate,
//! other protocols or other client authentication than the one the TLS handshake was for, gets 421 (Misdirected Request,
//! RFC 9110 15.5.20).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::snapshot::Snapshot;
use super::tls::SiteTls;

/// The names served at one listening address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Name to site. `*.example.test` stands for all names with one label before `.example.test`.
    names: BTreeMap<String, usize>,
    /// Site to the first site here with the same certificate and settings: what a handshake for one is good for.
    alike: BTreeMap<usize, usize>,
    /// Each site's protocols and client authentication.
    tls: BTreeMap<usize, SiteTls>,
    /// The site whose certificate a client gets that names none of these in its handshake: the first one here.
    first: Option<usize>,
}

/// A site's names and what a handshake for it is about.
#[derive(Clone, Copy, Debug)]
pub struct NamedSite<'a> {
    /// Its index.
    pub site: usize,
    /// Its names; `*.` at the start stands for exactly one label.
    pub names: &'a [String],
    /// Its certificate chain, in whatever form all sites have it.
    pub certificate: &'a str,
    /// Protocols and client authentication.
    pub tls: &'a SiteTls,
}

impl Routes {
    /// The names that `snapshot` serves at `address`.
    pub fn at(snapshot: &Snapshot, address: SocketAddr) -> Self {
        let here = snapshot.sites.iter().enumerate().filter(|(_, site)| site.listen.contains(&address));
        Self::new(here.map(|(index, site)| NamedSite {
            site: index,
            names: &site.names,
            certificate: &site.certificate,
            tls: &site.tls,
        }))
    }

    /// The names of `sites`. The first to have a name keeps it.
    pub fn new<'a>(sites: impl IntoIterator<Item = NamedSite<'a>>) -> Self {
        let mut routes = Self::default();
        let mut kinds: Vec<NamedSite<'a>> = Vec::new();
        for site in sites {
            routes.first.get_or_insert(site.site);
            for name in site.names {
                routes.names.entry(normal(name)).or_insert(site.site);
            }
            let alike = |kind: &&NamedSite<'_>| kind.certificate == site.certificate && kind.tls == site.tls;
            let kind = kinds.iter().find(alike).map(|kind| kind.site);
            routes.alike.insert(site.site, kind.unwrap_or(site.site));
            routes.tls.insert(site.site, site.tls.clone());
            if kind.is_none() {
                kinds.push(site);
            }
        }
        routes
    }

    /// The site that a handshake for `sni` is for: the first one here without a name, `None` with a name that is not here.
    pub fn greeted(&self, sni: Option<&str>) -> Option<usize> {
        match sni {
            Some(name) => self.named(name),
            None => self.first,
        }
    }

    /// The site for a request to `host` (the Host header's text) over a connection whose handshake named `sni`; `None`: 421.
    pub fn site(&self, sni: Option<&str>, host: &str) -> Option<usize> {
        let site = self.named(without_port(host)?)?;
        let greeted = self.greeted(sni)?;
        (self.alike.get(&site)? == self.alike.get(&greeted)?).then_some(site)
    }

    /// What a handshake for `sni` made under `before` is worth here: these routes if it would end alike, else none. A certificate
    /// may be replaced under a connection; protocols, and what clients have to show, may not.
    pub fn succeed(self: &Arc<Self>, before: &Self, sni: Option<&str>) -> Arc<Self> {
        let alike = |routes: &Self| routes.greeted(sni).and_then(|site| routes.tls.get(&site).cloned());
        if alike(self) == alike(before) { Arc::clone(self) } else { Arc::default() }
    }

    /// The first site here.
    pub fn first(&self) -> Option<usize> {
        self.first
    }

    /// All sites here, in ascending order.
    pub fn sites(&self) -> impl Iterator<Item = usize> {
        self.alike.keys().copied()
    }

    /// The site with this name.
    fn named(&self, name: &str) -> Option<usize> {
        let name = normal(name);
        if name.contains('*') {
            return None;
        }
        entry(&self.names, &name).copied()
    }
}

/// What `names` has for `name`, a normal one: the exact one before the wildcard (RFC 9525 6.3).
pub(super) fn entry<'a, T>(names: &'a BTreeMap<String, T>, name: &str) -> Option<&'a T> {
    let wildcard = || {
        let (label, parent) = name.split_once('.')?;
        (!label.is_empty()).then(|| names.get(&format!("*.{parent}")))?
    };
    names.get(name).or_else(wildcard)
}

/// `host` without its port. The port itself decides nothing: a router's NAT may have changed it.
pub(super) fn without_port(host: &str) -> Option<&str> {
    match host.split_once(':') {
        None => Some(host),
        Some((name, port)) => port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name),
    }
}

/// Whether a Host header's text is this name, which is in lower case.
pub(super) fn is_name(host: &str, name: &str) -> bool {
    let host = without_port(host).unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(name)
}

/// Names are compared without case and without the root's dot.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::snapshot::{PrivateKey, Site};
    use super::super::tls::{Alpn, ClientAuth};
    use super::*;

    fn routes() -> Routes {
        let at = "192.168.50.8:443".parse().unwrap();
        let elsewhere = "192.168.50.8:8443".parse().unwrap();
        let site = |names: &[&str], certificate: &str, listen| Site {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            listen: vec![listen],
            certificate: certificate.to_owned(),
            key: PrivateKey::new(String::new()),
            previous: Vec::new(),
            redirect: Vec::new(),
            tls: SiteTls::default(),
            staple: None,
            service: super::super::snapshot::tests::to_farm(0),
        };
        let snapshot = Snapshot {
            listen: vec![at, elsewhere],
            sites: vec![
                site(&["mail.example.test", "autodiscover.example.test"], "mail", at),
                site(&["www.example.test"], "www", at),
                site(&["hidden.example.test"], "mail", elsewhere),
            ],
            farms: Vec::new(),
            tcp: Vec::new(),
            drain_timeout: Duration::ZERO,
            limits: Default::default(),
            protection: Default::default(),
            trusted_proxies: Vec::new(),
            tickets: Vec::new(),
            affinity: Default::default(),
            log: Default::default(),
            seed: [0; 2],
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
    fn an_exact_name_comes_before_a_wildcard_and_a_wildcard_is_one_label() {
        let (exact, wildcard) = (["mail.example.test".to_owned()], ["*.Example.test".to_owned()]);
        let tls = SiteTls::default();
        let routes = [(3, &wildcard), (5, &exact)];
        let routes =
            Routes::new(routes.map(|(site, names)| NamedSite { site, names, certificate: "", tls: &tls }));
        for (name, expected) in [
            ("mail.example.test", Some(5)),
            ("MAIL.EXAMPLE.TEST.", Some(5)),
            ("www.example.test", Some(3)),
            ("Www.Example.Test.", Some(3)),
            ("a.b.example.test", None),
            ("example.test", None),
            (".example.test", None),
            ("*.example.test", None),
            ("www.example.test.evil", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(routes.greeted(Some(name)), expected, "{name}");
            assert_eq!(routes.site(Some("mail.example.test"), name), expected, "{name}");
        }
        assert_eq!(routes.sites().collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn a_handshake_for_one_site_is_good_for_another_only_with_all_the_same_settings() {
        let with = |alpn: &[Alpn], client_auth| SiteTls { alpn: alpn.to_vec(), client_auth };
        let required = |ca: &str| ClientAuth::Required { ca: ca.to_owned() };
        let optional = ClientAuth::Optional { ca: "ca".to_owned() };
        let sites = [
            ("own", "certificate", with(&[Alpn::Http11], ClientAuth::Off)),
            ("same", "certificate", with(&[Alpn::Http11], ClientAuth::Off)),
            ("other-certificate", "another", with(&[Alpn::Http11], ClientAuth::Off)),
            ("other-alpn", "certificate", with(&[Alpn::H2, Alpn::Http11], ClientAuth::Off)),
            ("optional", "certificate", with(&[Alpn::Http11], optional)),
            ("required", "certificate", with(&[Alpn::Http11], required("ca"))),
            ("required-too", "certificate", with(&[Alpn::Http11], required("ca"))),
            ("required-otherwise", "certificate", with(&[Alpn::Http11], required("another"))),
        ];
        let names = sites.each_ref().map(|(name, ..)| [(*name).to_owned()]);
        let named = sites.iter().zip(&names).enumerate();
        let routes = Routes::new(named.map(|(site, ((_, certificate, tls), names))| NamedSite {
            site,
            names,
            certificate,
            tls,
        }));
        let alike = [("own", "same"), ("required", "required-too")];
        for (index, (host, ..)) in sites.iter().enumerate() {
            for (sni, ..) in &sites {
                let good = host == sni || alike.contains(&(host, sni)) || alike.contains(&(sni, host));
                assert_eq!(routes.site(Some(sni), host), good.then_some(index), "{sni} {host}");
            }
            let first = ["own", "same"].contains(host).then_some(index);
            assert_eq!(routes.site(None, host), first, "{host} without a name in the handshake");
        }
    }
}

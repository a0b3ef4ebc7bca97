//! Requests without TLS: sent to the same place with it, but for the challenges of certificate authorities. Pure.
//!
//! Autodiscover's last resort is a GET to `http://autodiscover.DOMAIN/` that wants a 302 (MS-OXDISCO 3.1.5.4), so that is what all
//! get; and one for a while, not for ever, costs nothing where browsers are told by HSTS.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};

use super::route::{entry, normal, without_port};
use super::snapshot::Snapshot;

/// The names that are redirected at one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirects(BTreeMap<String, Place>);

/// A site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    port: u16,
    /// Where challenges to its names go.
    acme: Option<SocketAddrV4>,
}

impl Redirects {
    /// The names that `snapshot` redirects at `address`.
    pub fn at(snapshot: &Snapshot, address: SocketAddr) -> Self {
        let mut names = BTreeMap::new();
        for site in snapshot.sites.iter().filter(|site| site.redirect.contains(&address)) {
            let port = site.listen.first().map_or(HTTPS, SocketAddr::port);
            let place = Place { port, acme: site.service.acme };
            for name in &site.names {
                names.entry(normal(name)).or_insert(place);
            }
        }
        Self(names)
    }

    /// Where a request for `host` and `target` is sent; `None`: no site of that name is here.
    pub fn location(&self, host: &str, target: &str) -> Option<String> {
        let name = normal(without_port(host)?);
        match self.place(&name)?.port {
            HTTPS => Some(format!("https://{name}{target}")),
            port => Some(format!("https://{name}:{port}{target}")),
        }
    }

    /// Where a challenge to `host` goes; `None`: it is none, or nobody answers it.
    pub fn challenge(&self, host: &str, target: &str) -> Option<SocketAddrV4> {
        let token = target.strip_prefix(CHALLENGES)?;
        let of_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=LONGEST_TOKEN).contains(&token.len()) || !token.bytes().all(of_token) {
            return None;
        }
        self.place(&normal(without_port(host)?))?.acme
    }

    fn place(&self, name: &str) -> Option<&Place> {
        entry(&self.0, name).filter(|_| !name.contains('*'))
    }
}

/// Above each token (RFC 8555, 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Letters of a token, of base64url; authorities use 43.
const LONGEST_TOKEN: usize = 256;

const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::one_site;
    use super::*;

    #[test]
    fn a_name_that_is_served_is_sent_to_its_site_and_no_other() {
        let plain = "192.168.50.8:80".parse().unwrap();
        let mut snapshot = one_site("192.168.50.8:443".parse().unwrap());
        snapshot.sites[0].redirect = vec![plain];
        snapshot.sites[0].names.push("*.shop.example.test".to_owned());
        let redirects = Redirects::at(&snapshot, plain);
        for (host, wanted) in [
            ("a.shop.example.test", Some("https://a.shop.example.test/owa/?a=b")),
            ("a.b.shop.example.test", None),
            ("*.shop.example.test", None),
            ("mail.example.test", Some("https://mail.example.test/owa/?a=b")),
            ("MAIL.example.test:80", Some("https://mail.example.test/owa/?a=b")),
            ("evil.example.test", None),
            ("mail.example.test:x", None),
        ] {
            assert_eq!(redirects.location(host, "/owa/?a=b").as_deref(), wanted, "{host}");
        }
        snapshot.sites[0].listen = vec!["192.168.50.8:8443".parse().unwrap()];
        let location = Redirects::at(&snapshot, plain).location("mail.example.test", "/");
        assert_eq!(location.as_deref(), Some("https://mail.example.test:8443/"));
        assert_eq!(Redirects::at(&snapshot, "192.168.50.8:81".parse().unwrap()), Redirects::default());
    }

    #[test]
    fn a_challenge_is_a_token_below_its_path_at_a_name_with_somebody_to_answer() {
        let plain = "192.168.50.8:80".parse().unwrap();
        let server = "10.0.0.5:8080".parse().unwrap();
        let mut snapshot = one_site("192.168.50.8:443".parse().unwrap());
        snapshot.sites[0].redirect = vec![plain];
        let (name, token) =
            ("mail.example.test", "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA");
        assert_eq!(Redirects::at(&snapshot, plain).challenge(name, token), None);
        snapshot.sites[0].service.acme = Some(server);
        let redirects = Redirects::at(&snapshot, plain);
        let long = format!("/.well-known/acme-challenge/{}", "a".repeat(257));
        for (host, target, goes) in [
            (name, token, true),
            ("MAIL.example.test.:80", token, true),
            ("other.example.test", token, false),
            (name, "/.well-known/acme-challenge/", false),
            (name, "/.well-known/acme-challenge", false),
            (name, "/.well-known/acme-challenge/a/b", false),
            (name, "/.well-known/acme-challenge/..", false),
            (name, "/.well-known/acme-challenge/%2e%2e", false),
            (name, "/.well-known/acme-challenge/a?b", false),
            (name, "/.well-known/acme-challenge/a.b", false),
            (name, "/.well-known//acme-challenge/a", false),
            (name, "/.WELL-KNOWN/acme-challenge/a", false),
            (name, long.as_str(), false),
        ] {
            assert_eq!(redirects.challenge(host, target), goes.then_some(server), "{host} {target}");
        }
    }
}

//! Proxies in front of this one that may say whom they speak for. Pure.
//!
//! What a proxy wrote last stands last, so the list of addresses is read from its end: the last one that is no trusted proxy's is the
//! client. Whatever stands before it the client may have made up. A list that cannot be read is nobody's: such a request is refused,
//! since its client must not be taken for its proxy, which may be let in where the client is not.

mod forwarded;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::networks::{Access, AccessList, Network, NetworkError};
use crate::proxy::http1::Head;

/// Proxies that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedProxy {
    /// Where they are; at least one.
    pub networks: Vec<Network>,
    /// Where they say whom they speak for.
    pub source: Source,
    /// Whether each of their connections carries the requests of one client alone. Where it does not, requests have a server connection
    /// each, and nobody can log a connection on: what one client's logon opened would be the next one's.
    pub one_client_per_connection: bool,
}

/// Where a proxy says whom it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// In `X-Forwarded-For`.
    XForwardedFor,
    /// In `Forwarded` (RFC 7239).
    Forwarded,
    /// In the PROXY protocol's header, of version 1 or 2, before anything else.
    ProxyProtocol,
}

/// How a connection's requests tell their clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Via {
    /// Where the proxy says whom a request is from; `None`: it is from who has connected.
    pub source: Option<Source>,
    /// Whether the requests may be several clients'.
    pub shared: bool,
}

/// All trusted proxies, ready to be asked.
#[derive(Debug)]
pub struct TrustedProxies {
    each: Vec<(AccessList, Via)>,
}

/// What a trusted proxy says is no list of addresses: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a trusted proxy's word on its client cannot be read")]
pub struct Unreadable;

impl TrustedProxies {
    /// Those of the configuration. The first that has an address counts.
    pub fn new(proxies: &[TrustedProxy]) -> Result<Self, NetworkError> {
        let one = |proxy: &TrustedProxy| {
            let via = Via { source: Some(proxy.source), shared: !proxy.one_client_per_connection };
            Ok((AccessList::new(&proxy.networks, &[])?, via))
        };
        let some = proxies.iter().filter(|proxy| !proxy.networks.is_empty());
        Ok(Self { each: some.map(one).collect::<Result<_, NetworkError>>()? })
    }

    /// The trusted proxy at this address.
    pub fn at(&self, address: IpAddr) -> Option<Via> {
        let has = |(networks, _): &&(AccessList, Via)| networks.access(address) == Access::Allow;
        self.each.iter().find(has).map(|(_, via)| *via)
    }

    /// How the requests of a connection tell their clients that came from `from`, and is from `named` if a PROXY header says so.
    pub fn via(&self, from: IpAddr, named: Option<IpAddr>) -> Via {
        let sender = self.at(from).unwrap_or_default();
        let Some(named) = named else {
            return sender;
        };
        let behind = self.at(named).unwrap_or_default();
        Via { source: behind.source, shared: sender.shared || behind.shared }
    }

    /// The client of a request that came from `peer` in this way.
    pub fn client(&self, via: Via, peer: IpAddr, head: &Head) -> Result<IpAddr, Unreadable> {
        let name = match via.source {
            None | Some(Source::ProxyProtocol) => return Ok(peer),
            Some(Source::XForwardedFor) => "x-forwarded-for",
            Some(Source::Forwarded) => "forwarded",
        };
        let values = head.fields().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        let values: Vec<&[u8]> = values.map(|field| field.value).collect();
        let mut client = peer;
        for value in values.into_iter().rev() {
            let hops = match via.source {
                Some(Source::Forwarded) => forwarded::hops(value).ok_or(Unreadable)?,
                Some(Source::XForwardedFor | Source::ProxyProtocol) | None => {
                    value.split(|byte| *byte == b',').map(forwarded::node).collect()
                }
            };
            for hop in hops.into_iter().rev() {
                match hop {
                    Hop::Address(address) if self.at(address).is_some() => client = address,
                    Hop::Address(address) => return Ok(address),
                    Hop::Unknown => return Ok(client),
                    Hop::Malformed => return Err(Unreadable),
                }
            }
        }
        Ok(client)
    }
}

/// One entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Address(IpAddr),
    /// The proxy knows it and does not say.
    Unknown,
    Malformed,
}

//! Which networks may speak: lists of IPv4 and IPv6 networks of which the longest prefix around an address decides.
//!
//! Networks either nest or are apart, so a list is flattened once into ranges that do not overlap, and an address is looked
//! up by halving: 14 steps among 10,000 networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A network as an operator writes it: `192.0.2.0/24`, `2001:db8::/32`, or an address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = NetworkError;

    /// Text without bits behind the prefix. IPv4-mapped IPv6 networks are IPv4 networks.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| NetworkError::malformed(text))?),
        };
        let net = unmapped(net);
        match net.trunc() {
            network if network == net => Ok(Self(net)),
            network => Err(NetworkError::HostBits { text: text.to_owned(), network }),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a list says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// It may speak.
    Allow,
    /// It may not (`refused`).
    Deny,
}

/// Networks that may speak and networks that may not. Without a list, all may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessList {
    v4: Ranges,
    v6: Ranges,
}

/// First address of each range, ascending from zero, and what holds from it to the next.
type Ranges = Box<[(u128, Access)]>;

impl AccessList {
    /// What `allow` and `deny` come to. Of networks around an address the longest prefix decides; who is in none is denied if
    /// anything is allowed by name, and allowed otherwise.
    pub fn new(allow: &[Network], deny: &[Network]) -> Result<Self, NetworkError> {
        let rest = if allow.is_empty() { Access::Allow } else { Access::Deny };
        let allow = allow.iter().map(|network| (network.0, Access::Allow));
        let mut networks: Vec<_> =
            allow.chain(deny.iter().map(|network| (network.0, Access::Deny))).collect();
        networks.sort_unstable_by_key(|&(net, access)| {
            (net.addr().is_ipv6(), first(net), net.prefix_len(), access)
        });
        networks.dedup();
        if let Some(pair) = networks.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(NetworkError::Contradiction { network: Network(pair[0].0) });
        }
        let (v4, v6): (Vec<_>, Vec<_>) = networks.into_iter().partition(|(net, _)| net.addr().is_ipv4());
        Ok(Self { v4: flattened(&v4, rest), v6: flattened(&v6, rest) })
    }

    /// Whether the client with this address may speak.
    pub fn access(&self, address: IpAddr) -> Access {
        let address = address.to_canonical();
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let behind = ranges.partition_point(|&(first, _)| first <= bits(address));
        ranges[behind - 1].1
    }
}

/// Ranges in place of networks that are sorted, outer before inner.
fn flattened(networks: &[(IpNet, Access)], rest: Access) -> Ranges {
    let mut ranges = vec![(0, rest)];
    // The networks around the place that has been reached: their last addresses, and what they say.
    let mut around: Vec<(u128, Access)> = vec![(u128::MAX, rest)];
    for &(net, access) in networks {
        leave(&mut around, &mut ranges, first(net));
        begin(&mut ranges, first(net), access);
        around.push((last(net), access));
    }
    leave(&mut around, &mut ranges, u128::MAX);
    ranges.dedup_by_key(|&mut (_, access)| access);
    ranges.into()
}

/// Closes the networks that end before `place`; behind each, what is around it holds again.
fn leave(around: &mut Vec<(u128, Access)>, ranges: &mut Vec<(u128, Access)>, place: u128) {
    while let [.., (_, outer), (last, _)] = around[..]
        && last < place
    {
        begin(ranges, last + 1, outer);
        around.pop();
    }
}

fn begin(ranges: &mut Vec<(u128, Access)>, first: u128, access: Access) {
    match ranges.last_mut() {
        Some(range) if range.0 == first => range.1 = access,
        Some(_) | None => ranges.push((first, access)),
    }
}

fn first(net: IpNet) -> u128 {
    bits(net.network())
}

fn last(net: IpNet) -> u128 {
    bits(net.broadcast())
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn unmapped(net: IpNet) -> IpNet {
    let (IpAddr::V4(v4), Some(prefix)) = (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) else {
        return net;
    };
    match net {
        IpNet::V4(_) => net,
        IpNet::V6(_) => Ipv4Net::new(v4, prefix).map_or(net, IpNet::V4),
    }
}

/// A list that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// No address is to be found in it.
    #[error(
        "`{text}` is not a network; hint: \"192.0.2.0/24\", \"2001:db8::/32\" and \"192.0.2.7\" are such"
    )]
    Malformed {
        /// As written, cut.
        text: String,
    },
    /// An address in a network, where the network should be.
    #[error("`{text}` has bits behind its prefix; hint: \"{network}\" is the network around it")]
    HostBits {
        /// As written.
        text: String,
        /// The network.
        network: IpNet,
    },
    /// One network in both lists.
    #[error("{network} is both allowed and denied; hint: remove it from one of the lists")]
    Contradiction {
        /// The network.
        network: Network,
    },
}

impl NetworkError {
    fn malformed(text: &str) -> Self {
        Self::Malformed { text: text.chars().take(SHOWN).collect() }
    }
}

/// Characters of a malformed network that its error repeats.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_network_is_written_without_host_bits() {
        for (text, wanted) in [
            ("192.0.2.0/24", Ok("192.0.2.0/24")),
            ("192.0.2.7", Ok("192.0.2.7/32")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("2001:DB8::/32", Ok("2001:db8::/32")),
            ("2001:db8::1", Ok("2001:db8::1/128")),
            ("::/0", Ok("::/0")),
            ("::ffff:192.0.2.0/120", Ok("192.0.2.0/24")),
            ("::ffff:192.0.2.7", Ok("192.0.2.7/32")),
            (
                "192.0.2.7/24",
                Err(
                    "`192.0.2.7/24` has bits behind its prefix; hint: \"192.0.2.0/24\" is the network around it",
                ),
            ),
            (
                "2001:db8::1/64",
                Err(
                    "`2001:db8::1/64` has bits behind its prefix; hint: \"2001:db8::/64\" is the network around it",
                ),
            ),
            (
                "192.0.2.0/33",
                Err(
                    "`192.0.2.0/33` is not a network; hint: \"192.0.2.0/24\", \"2001:db8::/32\" and \"192.0.2.7\" are such",
                ),
            ),
        ] {
            let read = text.parse::<Network>().map(|network| network.to_string());
            let wanted = wanted.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(read.map_err(|error| error.to_string()), wanted, "{text}");
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let list = AccessList::new(
            &networks(&["10.0.0.0/8", "10.1.2.0/24", "10.1.2.5", "2001:db8::/32"]),
            &networks(&["10.1.0.0/16", "10.1.2.4/30", "2001:db8:bad::/48"]),
        )
        .unwrap();
        for (address, access) in [
            ("10.0.0.0", Access::Allow),
            ("10.255.255.255", Access::Allow),
            ("10.1.0.0", Access::Deny),
            ("10.1.2.3", Access::Allow),
            ("10.1.2.4", Access::Deny),
            ("10.1.2.5", Access::Allow),
            ("10.1.2.6", Access::Deny),
            ("10.1.2.8", Access::Allow),
            ("10.1.3.0", Access::Deny),
            ("10.2.0.0", Access::Allow),
            ("11.0.0.0", Access::Deny),
            ("::ffff:10.1.2.3", Access::Allow),
            ("::10.1.2.3", Access::Deny),
            ("2001:db8::1", Access::Allow),
            ("2001:db8:bad::1", Access::Deny),
            ("2001:db8:bae::", Access::Allow),
            ("2001:db9::", Access::Deny),
        ] {
            assert_eq!(list.access(address.parse().unwrap()), access, "{address}");
        }
    }

    #[test]
    fn who_is_in_no_network_may_speak_unless_others_are_named() {
        let address = "198.51.100.1".parse().unwrap();
        let denied = networks(&["192.0.2.0/24"]);
        assert_eq!(AccessList::new(&[], &[]).unwrap().access(address), Access::Allow);
        assert_eq!(AccessList::new(&[], &denied).unwrap().access(address), Access::Allow);
        assert_eq!(AccessList::new(&denied, &[]).unwrap().access(address), Access::Deny);
    }

    #[test]
    fn networks_of_one_family_say_nothing_of_the_other() {
        let list = AccessList::new(&networks(&["192.0.2.0/24"]), &networks(&["::/0"])).unwrap();
        assert_eq!(list.access("192.0.2.1".parse().unwrap()), Access::Allow);
        assert_eq!(list.access("::ffff:192.0.2.1".parse().unwrap()), Access::Allow);
        assert_eq!(list.access("::1".parse().unwrap()), Access::Deny);
    }

    #[test]
    fn a_network_cannot_be_in_both_lists() {
        let [one, other] = [networks(&["192.0.2.0/24", "192.0.2.0/24"]), networks(&["::ffff:192.0.2.0/120"])];
        let error = AccessList::new(&one, &other).unwrap_err();
        assert_eq!(error, NetworkError::Contradiction { network: one[0] });
        assert!(AccessList::new(&one, &[]).is_ok(), "twice in one list does no harm");
    }

    /// Few addresses, so that networks nest and touch.
    fn any_network() -> impl Strategy<Value = IpNet> {
        let v4 = (0..8_u32, 26..=32_u8).prop_map(|(low, prefix)| {
            IpNet::new(IpAddr::V4((0xffff_ffc0 | low << 3).into()), prefix).unwrap()
        });
        let v6 = (any::<bool>(), 0..8_u128, 122..=128_u8).prop_map(|(high, low, prefix)| {
            let base = if high { u128::MAX << 6 } else { 0 };
            IpNet::new(IpAddr::V6((base | low << 3).into()), prefix).unwrap()
        });
        let all = prop::sample::select(vec!["0.0.0.0/0", "::/0"]).prop_map(|text| text.parse().unwrap());
        prop_oneof![6 => v4, 6 => v6, 1 => all].prop_map(|net| net.trunc())
    }

    proptest! {
        #[test]
        fn halving_finds_what_looking_at_all_of_them_finds(
            nets in prop::collection::btree_map(any_network(), any::<bool>(), 0..24),
            low in 0..64_u32,
        ) {
            let of = |wanted| nets.iter().filter(move |(_, deny)| **deny == wanted).map(|(net, _)| Network(*net));
            let (allow, deny): (Vec<_>, Vec<_>) = (of(false).collect(), of(true).collect());
            let list = AccessList::new(&allow, &deny).unwrap();
            let high = IpAddr::V6((u128::MAX << 6 | u128::from(low)).into());
            let addresses =
                [IpAddr::V4((0xffff_ffc0 | low).into()), IpAddr::V6(u128::from(low).into()), high];
            for address in addresses {
                let longest = nets.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                let denied = longest.map_or(!allow.is_empty(), |(_, deny)| *deny);
                prop_assert_eq!(list.access(address) == Access::Deny, denied, "{}", address);
            }
        }

        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_back(text in "[0-9a-f:./]{0,24}|\\PC{0,200}") {
            match text.parse::<Network>() {
                Ok(network) => prop_assert_eq!(network.to_string().parse(), Ok(network)),
                Err(error) => prop_assert!(error.to_string().len() < 1000),
            }
        }
    }
}

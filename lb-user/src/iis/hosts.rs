//! Names and addresses as lines of a hosts file: `10.0.0.36  sbex1 sbex1.example.test  # comment`. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use thiserror::Error;

/// A line that is none of a hosts file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} is not an address and names; hint: 10.0.0.36 sbex1 sbex1.example.test")]
pub struct HostsError {
    /// From 1.
    pub line: usize,
}

/// The first IPv4 address of each name, which is in lower case. IPv6 addresses are passed over: servers have none here.
pub fn read(text: &str) -> Result<BTreeMap<String, Ipv4Addr>, HostsError> {
    let mut hosts = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next() else { continue };
        let address: IpAddr = address.parse().map_err(|_| HostsError { line: at + 1 })?;
        let IpAddr::V4(address) = address else { continue };
        for name in words {
            hosts.entry(name.to_ascii_lowercase()).or_insert(address);
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_first_address() {
        let hosts =
            read("# servers\n10.0.0.36\tsbex1 SBEX1.example.test # a\n\n::1 localhost\n10.0.0.99 sbex1\n")
                .unwrap();
        assert_eq!(hosts.len(), 2);
        assert_eq!(hosts["sbex1"], Ipv4Addr::new(10, 0, 0, 36));
        assert_eq!(read("10.0.0.1 a\nsbex1 10.0.0.36"), Err(HostsError { line: 2 }));
    }
}

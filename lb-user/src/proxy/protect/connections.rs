//! How many connections there are: of each client, and in all. Counts only; closing one is for who holds its guard.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::client::{ClientNetwork, ClientPrefixes};

/// Open connections by client. Shared by all listeners, and with the next configuration, so that a change forgets nobody.
///
/// Memory: one entry for each client that has a connection, so never more than connections in all. In order and not hashed:
/// nothing that a client chooses makes it slow.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    limits: ConnectionLimits,
    prefixes: ClientPrefixes,
    in_all: u32,
    clients: BTreeMap<ClientNetwork, u32>,
}

/// Most connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of one client network.
    pub per_client: u32,
    /// In all.
    pub in_all: u32,
}

impl Connections {
    /// Nobody is connected.
    pub fn new(limits: ConnectionLimits, prefixes: ClientPrefixes) -> Arc<Self> {
        let open = Open { limits, prefixes, in_all: 0, clients: BTreeMap::new() };
        Arc::new(Self { open: Mutex::new(open) })
    }

    /// Counts a connection from `client` until the guard is dropped.
    pub fn open(self: &Arc<Self>, client: IpAddr) -> Result<Connection, ConnectionRefused> {
        let mut open = self.lock();
        let client = ClientNetwork::of(client, open.prefixes);
        let limits = open.limits;
        if open.in_all >= limits.in_all {
            return Err(ConnectionRefused::InAll { limit: limits.in_all });
        }
        let count = open.clients.get(&client).copied().unwrap_or(0);
        if count >= limits.per_client {
            return Err(ConnectionRefused::PerClient { limit: limits.per_client });
        }
        open.clients.insert(client, count + 1);
        open.in_all += 1;
        Ok(Connection { connections: Arc::clone(self), client })
    }

    /// Holds from now on. Connections beyond them stay.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.lock().limits = limits;
    }

    /// The same with another meaning of a client. Connections that are open stay counted for whom they were.
    pub fn configure(&self, limits: ConnectionLimits, prefixes: ClientPrefixes) {
        let mut open = self.lock();
        (open.limits, open.prefixes) = (limits, prefixes);
    }

    /// How many there are in all.
    pub fn in_all(&self) -> u32 {
        self.lock().in_all
    }

    /// How many the network of `client` has.
    pub fn of(&self, client: IpAddr) -> u32 {
        let open = self.lock();
        open.clients.get(&ClientNetwork::of(client, open.prefixes)).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted connection. Dropped, it counts no more.
#[derive(Debug)]
#[must_use]
pub struct Connection {
    connections: Arc<Connections>,
    client: ClientNetwork,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.in_all -= 1;
        if let Some(count) = open.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.clients.remove(&self.client);
            }
        }
    }
}

/// Why a connection is closed at once (`limit`). Nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConnectionRefused {
    /// The client has too many.
    #[error(
        "the client's network has {limit} connections; hint: if many users share its address, raise the connections per client"
    )]
    PerClient {
        /// The limit.
        limit: u32,
    },
    /// There are too many in all.
    #[error("there are {limit} connections in all; hint: raise the limit if the machine has the memory")]
    InAll {
        /// The limit.
        limit: u32,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connections(per_client: u32, in_all: u32) -> Arc<Connections> {
        Connections::new(ConnectionLimits { per_client, in_all }, ClientPrefixes::default())
    }

    #[test]
    fn a_client_is_refused_beyond_its_limit_and_others_are_not() {
        let connections = connections(2, 10);
        let open = |client: &str| connections.open(client.parse().unwrap());
        let first = open("203.0.113.5").unwrap();
        let _second = open("::ffff:203.0.113.5").unwrap();
        assert_eq!(open("203.0.113.5").unwrap_err(), ConnectionRefused::PerClient { limit: 2 });
        let _other = open("203.0.113.6").unwrap();
        drop(first);
        assert!(open("203.0.113.5").is_ok());
    }

    #[test]
    fn in_all_there_are_no_more_than_the_limit() {
        let connections = connections(5, 2);
        let open = |client: &str| connections.open(client.parse().unwrap());
        let _held = (open("203.0.113.5").unwrap(), open("2001:db8::1").unwrap());
        assert_eq!(open("198.51.100.1").unwrap_err(), ConnectionRefused::InAll { limit: 2 });
        connections.set_limits(ConnectionLimits { per_client: 5, in_all: 3 });
        assert!(open("198.51.100.1").is_ok());
    }

    #[test]
    fn another_meaning_of_a_client_forgets_no_open_connection() {
        let connections = connections(1, 10);
        let open = |client: &str| connections.open(client.parse().unwrap());
        let (first, second) = (open("203.0.113.5").unwrap(), open("203.0.113.6").unwrap());
        let wide = ClientPrefixes { v4: 24, ..ClientPrefixes::default() };
        connections.configure(ConnectionLimits { per_client: 1, in_all: 10 }, wide);
        let network = open("203.0.113.7").unwrap();
        assert!(open("203.0.113.8").is_err());
        drop((first, second, network));
        assert_eq!(connections.in_all(), 0);
        assert!(connections.lock().clients.is_empty());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_guards_and_nothing_is_kept_of_who_left(
            steps in prop::collection::vec((0..6_u8, any::<bool>()), 0..100),
        ) {
            let connections = connections(3, 8);
            let mut held: Vec<(IpAddr, Connection)> = Vec::new();
            for (client, opens) in steps {
                let address = IpAddr::from([203, 0, 113, client]);
                if opens {
                    let full = held.len() >= 8 || held.iter().filter(|(other, _)| *other == address).count() >= 3;
                    match connections.open(address) {
                        Ok(connection) => held.push((address, connection)),
                        Err(_) => prop_assert!(full),
                    }
                } else if let Some(place) = held.iter().position(|(other, _)| *other == address) {
                    drop(held.swap_remove(place));
                }
                prop_assert_eq!(connections.in_all() as usize, held.len());
                let own = held.iter().filter(|(other, _)| *other == address).count();
                prop_assert_eq!(connections.of(address) as usize, own);
            }
            held.clear();
            prop_assert!(connections.lock().clients.is_empty());
        }
    }
}

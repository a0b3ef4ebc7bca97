//! Who may come in, and how much may be asked. Pure: `worker` and `inbound` do what it says.
//!
//! A connection first has a *seat* by its address alone, then *enters* with the key that it proved. Whose key is listed is that node;
//! anybody else is a *stranger*, and let in only while strangers are admitted. Who is who is asked anew with every question: a stranger
//! that is listed meanwhile goes on as that node, and a node that is not any more is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use thiserror::Error;

use super::{MOST_OF_NODE, MOST_OF_STRANGERS, Node};
use crate::shared::keys::VerifyingKey;

/// See the module.
#[derive(Debug, Default)]
pub struct Doors {
    names: BTreeMap<VerifyingKey, String>,
    addresses: BTreeSet<IpAddr>,
    admitted: usize,
    seats: BTreeMap<u64, Seat>,
    /// By whose key they were asked: those that the agent has not answered, and those whose answers are not sent.
    questions: BTreeMap<u64, VerifyingKey>,
    /// Numbers seats and questions.
    last: u64,
}

#[derive(Debug)]
struct Seat {
    address: IpAddr,
    key: Option<VerifyingKey>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The listed node of this name.
    Node(String),
    /// Somebody else.
    Stranger,
}

impl Doors {
    /// A connection came from `address`: its seat.
    pub fn knock(&mut self, address: IpAddr) -> Result<u64, Turned> {
        let of_address = self.seats.values().filter(|seat| seat.address == address).count();
        let unknown = self.seats.values().filter(|seat| !self.addresses.contains(&seat.address)).count();
        if of_address >= MOST_OF_ADDRESS {
            return Err(Turned::Address);
        }
        if self.seats.len() >= MOST || (!self.addresses.contains(&address) && unknown >= MOST_UNKNOWN) {
            return Err(Turned::Full);
        }
        let seat = self.next();
        self.seats.insert(seat, Seat { address, key: None });
        Ok(seat)
    }

    /// Whether somebody with this key would be let in now.
    pub fn may_enter(&self, key: VerifyingKey) -> bool {
        let others = self.strangers().filter(|(_, other)| *other != key);
        self.names.contains_key(&key) || others.count() < self.admitted
    }

    /// Whether this is a listed node's.
    pub fn is_node(&self, key: VerifyingKey) -> bool {
        self.names.contains_key(&key)
    }

    /// Who is on `seat` has proved that it has `key`. Gives the seat of a connection that this one replaces: a node has one, the
    /// newest.
    pub fn enter(&mut self, seat: u64, key: VerifyingKey) -> Result<Option<u64>, Turned> {
        if !self.may_enter(key) {
            return Err(Turned::Stranger);
        }
        let before = self.seats.iter().find(|(_, other)| other.key == Some(key)).map(|(seat, _)| *seat);
        let place = self.seats.get_mut(&seat).ok_or(Turned::Gone)?;
        place.key = Some(key);
        Ok(before)
    }

    /// Who is on `seat` asks something: the question's number, and who that is.
    pub fn ask(&mut self, seat: u64) -> Result<(u64, Who), Turned> {
        let key = self.seats.get(&seat).and_then(|seat| seat.key).ok_or(Turned::Gone)?;
        let name = self.names.get(&key).cloned();
        let asked = self.questions.values();
        let (most, count) = match name {
            Some(_) => (MOST_OF_NODE, asked.filter(|other| **other == key).count()),
            None if self.admitted == 0 => return Err(Turned::Stranger),
            None => (MOST_OF_STRANGERS, asked.filter(|other| !self.names.contains_key(other)).count()),
        };
        if count >= most {
            return Err(Turned::Busy);
        }
        let number = self.next();
        self.questions.insert(number, key);
        Ok((number, name.map_or(Who::Stranger, Who::Node)))
    }

    /// A question is done with: its answer was sent, or there is none.
    pub fn answered(&mut self, question: u64) {
        self.questions.remove(&question);
    }

    /// Nobody is on `seat` any more.
    pub fn leave(&mut self, seat: u64) {
        self.seats.remove(&seat);
    }

    /// These are the nodes from now on. Gives the seats of those who are not any more: they are to be cut off.
    pub fn set_nodes(&mut self, nodes: &[Node]) -> Vec<u64> {
        let names = nodes.iter().map(|node| (node.key, node.name.clone())).collect();
        let before = std::mem::replace(&mut self.names, names);
        self.addresses = nodes.iter().map(|node| IpAddr::V4(node.address)).collect();
        let removed = |key: VerifyingKey| before.contains_key(&key) && !self.names.contains_key(&key);
        let seats = self.seats.iter().filter(|(_, seat)| seat.key.is_some_and(removed));
        seats.map(|(number, _)| *number).collect()
    }

    /// So many strangers may be there at once. With 0, gives the seats of those who wait for no answer: they are to be cut off.
    pub fn admit(&mut self, strangers: usize) -> Vec<u64> {
        self.admitted = strangers;
        if strangers > 0 {
            return Vec::new();
        }
        let waits = |key: VerifyingKey| self.questions.values().any(|other| *other == key);
        self.strangers().filter(|(_, key)| !waits(*key)).map(|(seat, _)| seat).collect()
    }

    fn strangers(&self) -> impl Iterator<Item = (u64, VerifyingKey)> {
        let keys = self.seats.iter().filter_map(|(number, seat)| Some((*number, seat.key?)));
        keys.filter(|(_, key)| !self.names.contains_key(key))
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// Why somebody is not let in, or not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Turned {
    /// Enough connections of this address.
    #[error("there are {MOST_OF_ADDRESS} connections from that address")]
    Address,
    /// Enough connections.
    #[error("there are as many connections as may be")]
    Full,
    /// Its key is not listed, and no more strangers are let in.
    #[error("its key is not listed, and no strangers are let in")]
    Stranger,
    /// Enough questions.
    #[error("as many questions as may be are open")]
    Busy,
    /// It has no seat any more.
    #[error("it was cut off")]
    Gone,
}

/// Most connections at once.
const MOST: usize = 128;

/// Most from addresses that no node is listed with: they cannot keep the nodes out.
const MOST_UNKNOWN: usize = 64;

/// Most from one address.
const MOST_OF_ADDRESS: usize = 8;

#[cfg(test)]
mod tests;

//! What the child says, and what is made of it. `Book` is pure; a child that says anything else than it should, or nothing, is a
//! `Fault`, for `keeper` to replace.

use std::io;

use tokio::net::UnixStream;

use super::error::Fault;
use crate::config::model;
use crate::control::api::{ProxyStatus, ServerStatus};
use crate::proxy::channel::{RECORD_LEN, Record};
use crate::proxy::snapshot::{self, Snapshot};

/// Bytes from the child, cut into records.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
}

impl Records {
    /// As another supervisor left them.
    pub(super) fn resumed(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What is no whole record yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether more came; cancel safe.
    pub(super) async fn read(&mut self, channel: &UnixStream) -> io::Result<bool> {
        loop {
            channel.readable().await?;
            let mut buffer = [0; 64 * RECORD_LEN];
            match channel.try_read(&mut buffer) {
                Ok(length) => {
                    self.bytes.extend_from_slice(&buffer[..length]);
                    return Ok(length > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The child died with our orders unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<[u8; RECORD_LEN]> {
        let record = *self.bytes.first_chunk()?;
        self.bytes.drain(..RECORD_LEN);
        Some(record)
    }
}

/// What is known of the child, from its hostile words. Pure.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) status: ProxyStatus,
    /// How many servers each farm has.
    farms: Vec<usize>,
    pub(super) accepting: bool,
    /// Ticks since the last record, and records since the last tick.
    silent: u32,
    heard: u32,
    /// Whether this child has ever said a word.
    pub(super) greeted: bool,
}

impl Book {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let server = |farm: &snapshot::Farm, server: &model::Server| ServerStatus {
            farm: farm.name.clone(),
            name: server.name.clone(),
            address: server.address.to_string(),
            healthy: false,
        };
        let servers =
            snapshot.farms.iter().flat_map(|farm| farm.servers.iter().map(move |it| server(farm, it)));
        Self {
            status: ProxyStatus { servers: servers.collect(), ..ProxyStatus::default() },
            farms: snapshot.farms.iter().map(|farm| farm.servers.len()).collect(),
            accepting: false,
            silent: 0,
            heard: 0,
            greeted: false,
        }
    }

    /// As another supervisor knew the child: a child says how a server is only when that changes.
    pub(super) fn resumed(
        snapshot: &Snapshot,
        status: ProxyStatus,
        accepting: bool,
        greeted: bool,
    ) -> Result<Self, Fault> {
        let fresh = Self::new(snapshot);
        if status.servers.len() != fresh.status.servers.len() {
            return Err(Fault::NoSuchServer);
        }
        Ok(Self { status, accepting, greeted, ..fresh })
    }

    /// A child was started.
    pub(super) fn started(&mut self, pid: Option<u32>) {
        self.dead();
        self.status.pid = pid;
    }

    /// The child is gone, and with it all that it said.
    pub(super) fn dead(&mut self) {
        self.status = ProxyStatus {
            restarts: self.status.restarts,
            servers: std::mem::take(&mut self.status.servers),
            ..ProxyStatus::default()
        };
        for server in &mut self.status.servers {
            server.healthy = false;
        }
        (self.accepting, self.greeted, self.silent, self.heard) = (false, false, 0, 0);
    }

    /// Believes a record, unless it speaks of what there is not.
    pub(super) fn record(&mut self, record: Record) -> Result<(), Fault> {
        self.silent = 0;
        self.greeted = true;
        self.heard += 1;
        match record {
            Record::Alive { accepting, connections, requests } => {
                self.accepting = accepting;
                self.status.alive = true;
                (self.status.connections, self.status.requests) = (connections, requests);
            }
            Record::ServerHealth { farm, server, healthy } => {
                let server = self.server(usize::from(farm), usize::from(server));
                server.ok_or(Fault::NoSuchServer)?.healthy = healthy;
            }
            Record::Drained => {}
        }
        self.status.ready = self.status.alive && self.accepting && self.every_farm_has_a_server();
        if self.heard > MOST_RECORDS { Err(Fault::Flood) } else { Ok(()) }
    }

    /// A quarter of a second went by.
    pub(super) fn tick(&mut self) -> Result<(), Fault> {
        self.heard = 0;
        self.silent += 1;
        let patience = if self.greeted { SILENT_TICKS } else { FIRST_TICKS };
        if self.silent > patience { Err(Fault::Silent) } else { Ok(()) }
    }

    fn server(&mut self, farm: usize, server: usize) -> Option<&mut ServerStatus> {
        let servers = *self.farms.get(farm)?;
        let before: usize = self.farms[..farm].iter().sum();
        (server < servers).then(|| &mut self.status.servers[before + server])
    }

    fn every_farm_has_a_server(&self) -> bool {
        let mut servers = self.status.servers.as_slice();
        self.farms.iter().all(|farm| {
            let (its, rest) = servers.split_at((*farm).min(servers.len()));
            servers = rest;
            its.iter().any(|server| server.healthy)
        })
    }
}

/// Records that a child may send within a tick: every server's health may change, and an agent that was paused finds as many
/// heartbeats waiting as the socket holds.
const MOST_RECORDS: u32 = 4096;

/// Ticks of silence after which a child is replaced: 2 s.
const SILENT_TICKS: u32 = 8;

/// The same before its first word: 10 s, on a machine that is just starting.
const FIRST_TICKS: u32 = 40;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::snapshot::Verify;

    const TICK: Duration = Duration::from_millis(250);

    fn book(farms: &[usize]) -> Book {
        let server = |number: usize| model::Server {
            name: format!("server{number}"),
            address: "10.0.0.36:443".parse().unwrap(),
        };
        let farm = |servers: &usize| snapshot::Farm {
            name: "farm".to_owned(),
            servers: (0..*servers).map(server).collect(),
            verify: Verify::Nothing,
            health: model::HealthTest {
                path: "/".to_owned(),
                host: "mail.example.test".to_owned(),
                status: 200,
                body: String::new(),
                interval: TICK,
                timeout: TICK,
                failures: 1,
            },
            response_timeout: TICK,
            connect_timeout: TICK,
        };
        Book::new(&Snapshot {
            listen: Vec::new(),
            sites: Vec::new(),
            farms: farms.iter().map(farm).collect(),
            drain_timeout: TICK,
        })
    }

    const ALIVE: Record = Record::Alive { accepting: true, connections: 3, requests: 2 };

    fn health(farm: u16, server: u16, healthy: bool) -> Record {
        Record::ServerHealth { farm, server, healthy }
    }

    #[test]
    fn ready_is_an_accepting_child_with_a_healthy_server_in_every_farm() {
        let mut book = book(&[2, 1]);
        for (record, ready) in [
            (ALIVE, false),
            (health(0, 1, true), false),
            (health(1, 0, true), true),
            (health(0, 0, true), true),
            (health(0, 1, false), true),
            (health(0, 0, false), false),
            (health(0, 0, true), true),
            (Record::Drained, true),
            (Record::Alive { accepting: false, connections: 0, requests: 0 }, false),
            (ALIVE, true),
        ] {
            book.record(record).unwrap();
            assert_eq!(book.status.ready, ready, "{record:?}");
        }
        assert_eq!((book.status.connections, book.status.requests), (3, 2));
        book.dead();
        assert!(
            !book.status.ready
                && !book.status.alive
                && book.status.servers.iter().all(|server| !server.healthy)
        );
    }

    #[test]
    fn a_child_that_speaks_of_what_there_is_not_is_not_believed() {
        for (farm, server) in [(0, 2), (1, 1), (2, 0), (u16::MAX, u16::MAX)] {
            let judged = book(&[2, 1]).record(health(farm, server, true));
            assert!(matches!(judged, Err(Fault::NoSuchServer)), "{farm} {server}");
        }
    }

    #[test]
    fn silence_is_counted_in_ticks_that_the_agent_was_awake_for() {
        let mut book = book(&[1]);
        book.record(ALIVE).unwrap();
        for _ in 0..SILENT_TICKS {
            book.tick().unwrap();
        }
        assert!(matches!(book.tick(), Err(Fault::Silent)));
        book.record(ALIVE).unwrap();
        book.tick().unwrap();
    }

    #[test]
    fn what_waited_for_a_paused_agent_is_no_flood() {
        // A Unix socket of the default size holds fewer than 300 records.
        let mut book = book(&[1]);
        for _ in 0..300 {
            book.record(ALIVE).unwrap();
        }
        assert!((0..MOST_RECORDS).any(|_| matches!(book.record(ALIVE), Err(Fault::Flood))));
    }

    #[test]
    fn records_come_out_whole_however_the_bytes_arrive() {
        let mut records = Records::default();
        records.bytes.extend_from_slice(&ALIVE.encode()[..7]);
        assert_eq!(records.next(), None);
        records.bytes.extend_from_slice(&ALIVE.encode()[7..]);
        records.bytes.extend_from_slice(&Record::Drained.encode()[..1]);
        assert_eq!(records.next().map(Record::decode), Some(Ok(ALIVE)));
        assert_eq!(records.next(), None);
    }
}

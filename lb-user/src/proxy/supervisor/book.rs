//! What the child says, and what is made of it. `Book` is pure; a child that says anything else than it should, or nothing, is a
//! `Fault`, for `keeper` to replace.

use std::io;

use tokio::net::UnixStream;

use super::error::Fault;
use crate::config::model;
use crate::control::api::{PresentedStatus, ProxyStatus, ServerStatus, TestStatus};
use crate::proxy::balance::Health;
use crate::proxy::channel::{RECORD_LEN, Record, ServerIndex, ServerState};
use crate::proxy::snapshot::{Site, Snapshot, Verify};
use crate::proxy::tls::{Fingerprint, leaf};
use crate::wall::WallTime;

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
    /// How many servers each farm, or pool of a TCP service, has.
    farms: Vec<usize>,
    /// The certificates that the servers of each have to present, if they must be the very same: with each its name.
    leaves: Vec<Vec<(String, &'static str)>>,
    pub(super) accepting: bool,
    /// Ticks since the last record, and records since the last tick.
    silent: u32,
    heard: u32,
    /// Whether this child has ever said a word.
    pub(super) greeted: bool,
    /// How many connections it was told are open elsewhere.
    pub(super) elsewhere: u32,
}

impl Book {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let servers = snapshot.server_groups().flat_map(|group| {
            group.servers.iter().map(move |server| untested(&group.name, server, &group.tests))
        });
        Self {
            status: ProxyStatus { servers: servers.collect(), ..ProxyStatus::default() },
            farms: snapshot.server_groups().map(|group| group.servers.len()).collect(),
            leaves: snapshot.farms.iter().enumerate().map(|(farm, _)| leaves(snapshot, farm)).collect(),
            accepting: false,
            silent: 0,
            heard: 0,
            greeted: false,
            elsewhere: 0,
        }
    }

    /// The child serves this from now on. What is known of servers that are in it, too, still is.
    pub(super) fn succeed(&mut self, snapshot: &Snapshot) {
        let fresh = Self::new(snapshot);
        let before = std::mem::replace(&mut self.status.servers, fresh.status.servers);
        for server in &mut self.status.servers {
            let is_it = |known: &&ServerStatus| {
                (&known.farm, &known.name, &known.address) == (&server.farm, &server.name, &server.address)
            };
            if let Some(known) = before.iter().find(is_it) {
                server.follow(known);
            }
        }
        (self.farms, self.leaves) = (fresh.farms, fresh.leaves);
        // Which of a site's certificates a server presents may be another now.
        self.name_presented();
        self.judge();
    }

    /// As another supervisor knew the child: a child says how a server is only when that changes.
    pub(super) fn resumed(
        snapshot: &Snapshot,
        status: ProxyStatus,
        accepting: bool,
        greeted: bool,
        elsewhere: u32,
    ) -> Result<Self, Fault> {
        let fresh = Self::new(snapshot);
        if status.servers.len() != fresh.status.servers.len() {
            return Err(Fault::NoSuchServer);
        }
        Ok(Self { status, accepting, greeted, elsewhere, ..fresh })
    }

    /// A child was started.
    pub(super) fn started(&mut self, pid: Option<u32>) {
        self.dead();
        self.status.pid = pid;
    }

    /// The states that operators gave servers; all others are as configured.
    pub(super) fn states(&mut self, states: &[ServerState]) {
        for server in &mut self.status.servers {
            let is_it = |given: &&ServerState| given.farm == server.farm && given.server == server.name;
            let given = states.iter().find(is_it).map(|given| given.state.as_str());
            server.state = given.map_or_else(|| server.configured.clone(), str::to_owned);
        }
    }

    /// The child is gone, and with it all that it said.
    pub(super) fn dead(&mut self) {
        self.status = ProxyStatus {
            restarts: self.status.restarts,
            closed: std::mem::take(&mut self.status.closed),
            servers: std::mem::take(&mut self.status.servers),
            ..ProxyStatus::default()
        };
        for server in &mut self.status.servers {
            *server = forgotten(std::mem::take(server));
        }
        (self.accepting, self.greeted, self.silent, self.heard, self.elsewhere) = (false, false, 0, 0, 0);
    }

    /// Believes a record, unless it speaks of what there is not; `now`: when it came, by the clock on the wall.
    pub(super) fn record(&mut self, record: Record, now: WallTime) -> Result<(), Fault> {
        self.silent = 0;
        self.greeted = true;
        self.heard += 1;
        match record {
            Record::Alive { accepting, connections, requests } => {
                self.accepting = accepting;
                self.status.alive = true;
                (self.status.connections, self.status.requests) = (connections, requests);
            }
            Record::ServerHealth { of, test, health, finding } => {
                let server = self.server(of)?;
                let told = server.tests.get_mut(usize::from(test)).ok_or(Fault::NoSuchServer)?;
                word(health).clone_into(&mut told.health);
                told.finding = finding.map(|finding| finding.to_string());
                told.tested_ms = finding.map(|_| now.unix_ms());
                server.healthy = server.tests.iter().any(|test| test.health == word(Health::Healthy));
            }
            Record::ServerNow { of, requests, connections } => {
                let server = self.server(of)?;
                (server.requests, server.connections) = (requests, connections);
            }
            Record::ServerRequests { of, count } => self.server(of)?.total = count,
            Record::ServerFailures { of, count } => self.server(of)?.failed = count,
            Record::ServerTime { of, micros } => self.server(of)?.response_us = micros,
            Record::Presented { of, sha256, not_after } => {
                let not_after =
                    (not_after > 0).then(|| WallTime::from_unix_ms(not_after.saturating_mul(1000)));
                let sha256 = Fingerprint(sha256).to_string();
                self.server(of)?.presents = Some(PresentedStatus { sha256, not_after, whose: String::new() });
                self.name_presented();
            }
            Record::Applied { .. } | Record::Cut { .. } | Record::LogonsRefused { .. } | Record::Drained => {}
        }
        self.judge();
        if self.heard > MOST_RECORDS { Err(Fault::Flood) } else { Ok(()) }
    }

    /// A quarter of a second went by.
    pub(super) fn tick(&mut self) -> Result<(), Fault> {
        self.heard = 0;
        self.silent += 1;
        let patience = if self.greeted { SILENT_TICKS } else { FIRST_TICKS };
        if self.silent > patience { Err(Fault::Silent) } else { Ok(()) }
    }

    /// Says of each certificate that a server presents whose it is.
    fn name_presented(&mut self) {
        let mut servers = self.status.servers.iter_mut();
        for (farm, count) in self.farms.iter().enumerate() {
            for server in servers.by_ref().take(*count) {
                if let Some(presents) = &mut server.presents {
                    let known = self.leaves.get(farm).filter(|leaves| !leaves.is_empty());
                    let whose = known.map(|leaves| {
                        let found = leaves.iter().find(|(sha256, _)| *sha256 == presents.sha256);
                        found.map_or("another", |(_, whose)| whose)
                    });
                    whose.unwrap_or_default().clone_into(&mut presents.whose);
                }
            }
        }
    }

    fn judge(&mut self) {
        self.status.ready = self.status.alive && self.accepting && self.every_farm_has_a_server();
    }

    fn server(&mut self, of: ServerIndex) -> Result<&mut ServerStatus, Fault> {
        let (group, server) = (usize::from(of.group), usize::from(of.server));
        let servers = self.farms.get(group).copied().unwrap_or_default();
        if server >= servers {
            return Err(Fault::NoSuchServer);
        }
        let before: usize = self.farms[..group].iter().sum();
        self.status.servers.get_mut(before + server).ok_or(Fault::NoSuchServer)
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

/// A server of which the child said nothing yet.
fn untested(farm: &str, server: &model::Server, tests: &[(String, String)]) -> ServerStatus {
    let test = |(name, what): &(String, String)| TestStatus {
        name: name.clone(),
        what: what.clone(),
        health: word(Health::Untested).to_owned(),
        ..TestStatus::default()
    };
    ServerStatus {
        farm: farm.to_owned(),
        name: server.name.clone(),
        address: server.address.to_string(),
        state: server.share.state.as_str().to_owned(),
        configured: server.share.state.as_str().to_owned(),
        weight: server.share.weight.get(),
        backup: server.share.backup,
        tests: tests.iter().map(test).collect(),
        ..ServerStatus::default()
    }
}

/// The same server without what the child said of it.
fn forgotten(server: ServerStatus) -> ServerStatus {
    let untested = |test: TestStatus| TestStatus {
        health: word(Health::Untested).to_owned(),
        finding: None,
        tested_ms: None,
        ..test
    };
    let ServerStatus { farm, name, address, state, configured, weight, backup, tests, .. } = server;
    let tests = tests.into_iter().map(untested).collect();
    ServerStatus { farm, name, address, state, configured, weight, backup, tests, ..ServerStatus::default() }
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Untested => "untested",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

/// What the servers of a farm may present where that must be the site's own certificate, and whose that is.
fn leaves(snapshot: &Snapshot, farm: usize) -> Vec<(String, &'static str)> {
    if snapshot.farms[farm].verify != Verify::SameCertificate {
        return Vec::new();
    }
    let uses = |site: &&Site| site.service.farms().any(|used| *used == farm);
    let sites = || snapshot.sites.iter().filter(uses);
    let own = sites().filter_map(|site| leaf(&site.certificate)).map(|leaf| (leaf.to_vec(), "the site's"));
    let before =
        sites().flat_map(|site| site.previous.iter().cloned()).map(|leaf| (leaf, "the site's before"));
    own.chain(before).map(|(leaf, whose)| (Fingerprint::of(&leaf).to_string(), whose)).collect()
}

/// Records that a child may send within a tick: every server may be tested and do something else, and an agent that was paused
/// finds as many heartbeats waiting as the socket holds.
const MOST_RECORDS: u32 = 16_384;

/// Ticks of silence after which a child is replaced: 2 s.
const SILENT_TICKS: u32 = 8;

/// The same before its first word: 10 s, on a machine that is just starting.
const FIRST_TICKS: u32 = 40;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::balance::finding::Finding;
    use crate::proxy::balance::settings::State;
    use crate::proxy::snapshot;
    use crate::proxy::snapshot::Verify;

    const TICK: Duration = Duration::from_millis(250);

    fn book(farms: &[usize]) -> Book {
        Book::new(&snapshot_of(farms))
    }

    fn snapshot_of(farms: &[usize]) -> Snapshot {
        let server = |number: usize| model::Server {
            name: format!("server{number}"),
            address: "10.0.0.36:443".parse().unwrap(),
            share: model::Share::default(),
        };
        let farm = |(number, servers): (usize, &usize)| snapshot::Farm {
            name: format!("farm{number}"),
            servers: (0..*servers).map(server).collect(),
            balance: model::Balance::default(),
            verify: Verify::Nothing,
            tests: vec![model::HealthTest::plain("mail.example.test")],
            connect_timeout: TICK,
            reuse: Default::default(),
        };
        Snapshot {
            listen: Vec::new(),
            sites: Vec::new(),
            farms: farms.iter().enumerate().map(farm).collect(),
            tcp: Vec::new(),
            drain_timeout: TICK,
            limits: Default::default(),
            protection: Default::default(),
            trusted_proxies: Vec::new(),
            tickets: Vec::new(),
            affinity: Default::default(),
            seed: [0; 2],
            log: Default::default(),
        }
    }

    #[test]
    fn a_tcp_service_is_ready_when_each_of_its_pools_has_a_healthy_server() {
        let snapshot = Snapshot {
            listen: Vec::new(),
            sites: Vec::new(),
            farms: Vec::new(),
            tcp: vec![snapshot::tests::tcp_service()],
            drain_timeout: TICK,
            limits: Default::default(),
            protection: Default::default(),
            trusted_proxies: Vec::new(),
            tickets: Vec::new(),
            affinity: Default::default(),
            seed: [1, 2],
            log: Default::default(),
        };
        let mut book = Book::new(&snapshot);
        for (record, ready) in [(ALIVE, false), (health(0, 0, true), false), (health(1, 0, true), true)] {
            book.record(record, at(1)).unwrap();
            assert_eq!(book.status.ready, ready, "{record:?}");
        }
        assert!(book.record(health(2, 0, true), at(1)).is_err());
        let farms: Vec<&str> = book.status.servers.iter().map(|server| server.farm.as_str()).collect();
        assert_eq!(farms, ["imap", "imap/a.test"]);
    }

    const ALIVE: Record = Record::Alive { accepting: true, connections: 3, requests: 2 };

    fn health(group: u16, server: u16, healthy: bool) -> Record {
        let health = if healthy { Health::Healthy } else { Health::Unhealthy };
        let finding = Some(Finding::Status(if healthy { 200 } else { 503 }));
        Record::ServerHealth { of: ServerIndex { group, server }, test: 0, health, finding }
    }

    fn at(seconds: u64) -> WallTime {
        WallTime::from_unix_ms(seconds * 1000)
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
            book.record(record, at(1)).unwrap();
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
    fn a_server_is_told_of_test_by_test_and_works_while_one_of_them_says_so() {
        let mut snapshot = snapshot::tests::one_site("192.168.50.8:443".parse().unwrap());
        let owa = snapshot.farms[0].tests[0].clone();
        snapshot.farms[0].tests.push(model::HealthTest { name: "ews".to_owned(), ..owa });
        let mut book = Book::new(&snapshot);
        let of = ServerIndex { group: 0, server: 0 };
        let told = |test, health, finding| Record::ServerHealth { of, test, health, finding };
        for (record, healthy) in [
            (told(0, Health::Healthy, Some(Finding::Status(200))), true),
            (told(1, Health::Healthy, Some(Finding::Status(200))), true),
            (told(0, Health::Unhealthy, Some(Finding::Timeout)), true),
            (told(1, Health::Unhealthy, Some(Finding::Status(503))), false),
        ] {
            book.record(record, at(7)).unwrap();
            assert_eq!(book.status.servers[0].healthy, healthy, "{record:?}");
        }
        for record in [Record::ServerRequests { of, count: 1 << 40 }, Record::ServerFailures { of, count: 2 }]
        {
            book.record(record, at(8)).unwrap();
        }
        let server = &book.status.servers[0];
        let tests: Vec<_> = server
            .tests
            .iter()
            .map(|test| (test.name.as_str(), test.finding.as_deref(), test.tested_ms))
            .collect();
        assert_eq!(tests, [("default", Some("timeout"), Some(7000)), ("ews", Some("503"), Some(7000))]);
        assert_eq!((server.total, server.failed), (1 << 40, 2));
        assert!(book.record(told(2, Health::Healthy, None), at(9)).is_err());
        book.dead();
        assert!(book.status.servers[0].tests.iter().all(|test| test.health == "untested"));
    }

    #[test]
    fn a_server_is_in_the_state_that_an_operator_gave_it_until_he_takes_it_back() {
        let mut book = book(&[2]);
        let of =
            |farm: &str, state| ServerState { farm: farm.to_owned(), server: "server1".to_owned(), state };
        let states = |book: &Book| -> Vec<String> {
            book.status.servers.iter().map(|server| server.state.clone()).collect()
        };
        book.states(&[of("farm0", State::Drain), of("elsewhere", State::Disabled)]);
        assert_eq!(states(&book), ["active", "drain"]);
        book.dead();
        assert_eq!(states(&book), ["active", "drain"], "another child is told the same");
        book.states(&[]);
        assert_eq!(states(&book), ["active", "active"]);
    }

    #[test]
    fn what_is_known_of_a_server_outlives_another_configuration() {
        let mut before = book(&[2, 1]);
        for record in [ALIVE, health(0, 1, true), health(1, 0, true)] {
            before.record(record, at(1)).unwrap();
        }
        let mut snapshot = snapshot_of(&[2, 1]);
        snapshot.farms[0].servers.remove(0);
        before.succeed(&snapshot);
        let known = |book: &Book| -> Vec<bool> { book.status.servers.iter().map(|it| it.healthy).collect() };
        assert_eq!((known(&before), before.status.ready), (vec![true, true], true));
        snapshot.farms[0].servers[0].address = "10.0.0.99:443".parse().unwrap();
        before.succeed(&snapshot);
        assert_eq!((known(&before), before.status.ready), (vec![false, true], false));
        assert!(before.record(health(0, 1, true), at(1)).is_err(), "it is counted as the new one does");
    }

    #[test]
    fn a_child_that_speaks_of_what_there_is_not_is_not_believed() {
        for (farm, server) in [(0, 2), (1, 1), (2, 0), (u16::MAX, u16::MAX)] {
            let judged = book(&[2, 1]).record(health(farm, server, true), at(1));
            assert!(matches!(judged, Err(Fault::NoSuchServer)), "{farm} {server}");
        }
    }

    #[test]
    fn silence_is_counted_in_ticks_that_the_agent_was_awake_for() {
        let mut book = book(&[1]);
        book.record(ALIVE, at(1)).unwrap();
        for _ in 0..SILENT_TICKS {
            book.tick().unwrap();
        }
        assert!(matches!(book.tick(), Err(Fault::Silent)));
        book.record(ALIVE, at(1)).unwrap();
        book.tick().unwrap();
    }

    #[test]
    fn what_waited_for_a_paused_agent_is_no_flood() {
        // A Unix socket of the default size holds fewer than 300 records.
        let mut book = book(&[1]);
        for _ in 0..300 {
            book.record(ALIVE, at(1)).unwrap();
        }
        assert!((0..MOST_RECORDS).any(|_| matches!(book.record(ALIVE, at(1)), Err(Fault::Flood))));
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

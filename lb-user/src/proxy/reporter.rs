//! What the agent is told of the servers: each thing once, and again when it is another. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::channel::{Record, ServerIndex};
use super::group::{Group, TestReport};

/// What the agent knows.
#[derive(Debug, Default)]
pub struct Reporter(BTreeMap<(ServerIndex, Subject), Known>);

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Test(u16),
    Now,
    Requests,
    Failures,
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    record: Record,
    /// How many tests had ended: a newer finding that is the same is news all the same.
    count: u32,
}

impl Reporter {
    /// Gives `send` what the agent does not know. What could not be sent is given to it the next time.
    pub fn report<'a>(
        &mut self,
        groups: impl Iterator<Item = &'a Group>,
        mut send: impl FnMut(Record) -> bool,
    ) {
        for (group, number) in groups.zip(0..=u16::MAX) {
            for (server, index) in (0..group.servers.len()).zip(0..=u16::MAX) {
                let of = ServerIndex { group: number, server: index };
                for (subject, known) in news(group, server, of) {
                    if self.0.get(&(of, subject)) != Some(&known) && send(known.record) {
                        self.0.insert((of, subject), known);
                    }
                }
            }
        }
    }
}

/// All there is to be said of a server.
fn news(group: &Group, server: usize, of: ServerIndex) -> impl Iterator<Item = (Subject, Known)> {
    let counters = group.balance.status(server).counters;
    let load = [
        (
            Subject::Now,
            Record::ServerNow { of, requests: counters.requests, connections: counters.connections },
        ),
        (Subject::Requests, Record::ServerRequests { of, count: counters.total }),
        (Subject::Failures, Record::ServerFailures { of, count: counters.failed }),
        (Subject::Time, Record::ServerTime { of, micros: micros(counters.response_time) }),
    ];
    let load = load.into_iter().map(|(subject, record)| (subject, Known { record, count: 0 }));
    let tests = group.tests(server).zip(0..=u16::MAX).map(move |(report, test)| {
        let TestReport { health, finding, count } = report;
        (Subject::Test(test), Known { record: Record::ServerHealth { of, test, health, finding }, count })
    });
    // First whether it is healthy: a channel may have no room for all at once.
    tests.chain(load)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::balance::finding::Finding;
    use crate::proxy::farm::Farm;
    use crate::proxy::snapshot::tests::one_site;

    #[test]
    fn each_thing_is_told_once_and_again_when_it_is_another_or_was_not_heard() {
        let farm = Farm::in_memory(&one_site("192.0.2.1:443".parse().unwrap()).farms[0], None);
        let mut reporter = Reporter::default();
        let mut told = |heard: bool| {
            let mut records = Vec::new();
            reporter.report(std::iter::once(&farm.group), |record| {
                records.push(record);
                heard
            });
            records
        };
        let of = ServerIndex { group: 0, server: 0 };
        assert_eq!(told(false).len(), 5);
        assert_eq!(told(true).len(), 5);
        assert_eq!(told(true), []);
        farm.group.tested(0, 0, Ok(Finding::Status(200)));
        assert!(
            matches!(told(true)[..], [Record::ServerHealth { test: 0, .. }]),
            "the same finding, but newer"
        );
        let request = farm.group.balance.begin(0);
        let now = Record::ServerNow { of, requests: 1, connections: 0 };
        assert_eq!(told(true), [now, Record::ServerRequests { of, count: 1 }]);
        request.failed();
        drop(request);
        let now = Record::ServerNow { of, requests: 0, connections: 0 };
        assert_eq!(told(true), [now, Record::ServerFailures { of, count: 1 }]);
    }
}

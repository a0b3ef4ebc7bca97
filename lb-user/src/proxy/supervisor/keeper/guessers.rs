//! Whose logons are refused, as the operator is told of it: an event a minute at most, whatever guessers do. Pure.

use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Time;
use crate::proxy::protect::logon::Refused;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::proxy::supervisor) struct Guessers {
    latest: Option<(IpAddr, Refused)>,
    count: u32,
    /// When they were told of last.
    told: Option<Time>,
}

impl Guessers {
    /// So many more are refused, of which this client is the latest.
    pub(super) fn add(&mut self, client: IpAddr, whom: Refused, count: u32) {
        self.latest = Some((client, whom));
        self.count = self.count.saturating_add(count);
    }

    /// What there is to be told now.
    pub(super) fn due(&mut self, now: Time) -> Option<String> {
        if self.told.is_some_and(|told| now.since(told) < EVERY) {
            return None;
        }
        let (client, whom) = self.latest.take()?;
        self.told = Some(now);
        let whom = match whom {
            Refused::Pair => "a user from there",
            Refused::Network => "all from there who never logged on",
        };
        let others = match std::mem::take(&mut self.count) {
            0 | 1 => String::new(),
            count => format!(", and {} more in the last minute", count - 1),
        };
        Some(format!("logons from {client} fail too often: {whom} will be refused for a while{others}"))
    }
}

/// From one event to the next.
const EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessers_are_told_of_at_once_and_then_once_a_minute() {
        let at = |seconds: u64| Time::default() + Duration::from_secs(seconds);
        let client = |last: u8| IpAddr::from([203, 0, 113, last]);
        let mut guessers = Guessers::default();
        assert_eq!(guessers.due(at(0)), None);
        guessers.add(client(5), Refused::Pair, 1);
        let first = "logons from 203.0.113.5 fail too often: a user from there will be refused for a while";
        assert_eq!(guessers.due(at(1)).as_deref(), Some(first));
        guessers.add(client(6), Refused::Pair, 2);
        guessers.add(client(7), Refused::Network, 1);
        assert_eq!((guessers.due(at(2)), guessers.due(at(60))), (None, None));
        let second = "logons from 203.0.113.7 fail too often: all from there who never logged on will be refused for a while, \
                      and 2 more in the last minute";
        assert_eq!(guessers.due(at(61)).as_deref(), Some(second));
        assert_eq!(guessers.due(at(200)), None);
    }
}

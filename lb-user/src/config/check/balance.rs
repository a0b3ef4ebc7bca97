//! How farms spread their requests.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Problems;
use crate::config::model::{Balance, Share};
use crate::config::problem::Problem;
use crate::config::raw::{BalanceTable, FarmTable, ServerEntry};
use crate::proxy::balance::affinity::Affinity;
use crate::proxy::balance::hash::HashOf;
use crate::proxy::balance::settings::{Algorithm, QueueSettings, State, Weight};

/// What `[farm.balance]` says of so many servers.
pub(super) fn balance(farm: &FarmTable, servers: usize, problems: &mut Problems) -> Option<Balance> {
    let raw = &farm.balance;
    let usual = Balance::default();
    let algorithm = algorithm(farm, problems);
    let second = Duration::from_secs(1);
    let slow_start = match &raw.slow_start {
        Some(time) => problems.time("slow_start", time, Duration::ZERO..=second * 3600),
        None => Some(usual.slow_start),
    };
    let length = match &raw.queue {
        Some(length) => problems.number("queue", length, 0..=100_000),
        None => Some(usual.queue.length),
    };
    let timeout = match &raw.queue_timeout {
        Some(time) => problems.time("queue_timeout", time, second / 1000..=second * 600),
        None => Some(usual.queue.timeout),
    };
    let queue = QueueSettings { length: length?, timeout: timeout? };
    let affinity_cookie = affinity_cookie(raw, problems)?;
    let panic_threshold = match &raw.panic_threshold {
        Some(threshold) => problems.number("panic_threshold", threshold, 0..=servers)?,
        None => usual.panic_threshold,
    };
    Some(Balance { algorithm: algorithm?, slow_start: slow_start?, queue, panic_threshold, affinity_cookie })
}

fn affinity_cookie(raw: &BalanceTable, problems: &mut Problems) -> Option<Option<String>> {
    let Some(name) = &raw.affinity_cookie else {
        return Some(None);
    };
    match Affinity::new(name.get_ref(), "", std::iter::empty(), &[]) {
        Ok(_) => Some(Some(name.get_ref().clone())),
        Err(error) => {
            problems.add(Problem::of_error(name.span(), error));
            None
        }
    }
}

fn algorithm(farm: &FarmTable, problems: &mut Problems) -> Option<Algorithm> {
    let BalanceTable { algorithm, hash_header, hash_cookie, hash_query, .. } = &farm.balance;
    let keyed = [
        hash_header.as_ref().map(|name| HashOf::Header(name.get_ref().clone())),
        hash_cookie.as_ref().map(|name| HashOf::Cookie(name.get_ref().clone())),
        hash_query.as_ref().map(|names| HashOf::Query(names.get_ref().clone())),
    ];
    let mut keyed = keyed.into_iter().flatten();
    match (algorithm, keyed.next(), keyed.next()) {
        (None, None, _) => Some(Algorithm::default()),
        (None, Some(of), None) => Some(Algorithm::Hash(of)),
        (Some(name), None, _) => {
            let choices = [
                ("round-robin", 0),
                ("least-requests", 1),
                ("least-response-time", 2),
                ("least-traffic", 3),
                ("hash-url", 4),
                ("hash-client", 5),
            ];
            Some(match problems.choice("algorithm", name, &choices)? {
                1 => Algorithm::LeastRequests,
                2 => Algorithm::LeastResponseTime,
                3 => Algorithm::WeightedTotalTraffic,
                4 => Algorithm::Hash(HashOf::Url),
                5 => Algorithm::Hash(HashOf::Client),
                _ => Algorithm::WeightedRoundRobin,
            })
        }
        (_, Some(_), _) => {
            let text = "of `algorithm`, `hash_header`, `hash_cookie` and `hash_query` only one can be";
            problems.add(Problem::at(farm.name.span(), text));
            None
        }
    }
}

/// A server's share; `None`: something of it cannot be.
pub(super) fn share(raw: &ServerEntry) -> Option<Share> {
    let state = match raw.state.as_deref() {
        None | Some("active") => State::Active,
        Some("drain") => State::Drain,
        Some("disabled") => State::Disabled,
        Some(_) => return None,
    };
    let weight = raw.weight.map_or(Some(Weight::DEFAULT), |weight| Weight::new(weight).ok())?;
    let connections = match raw.connections {
        None => None,
        Some(connections) => Some(NonZeroU32::new(connections)?),
    };
    Some(Share { weight, state, backup: raw.backup, connections })
}

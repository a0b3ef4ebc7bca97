//! Failed logons: who may try again, when, and who not for a while. It says so; waiting and answering is for `guard`.
//!
//! Before a request with a [`Claim`] goes to a server, [`Logons::judge`] says what becomes of it; after the response, the
//! [`Attempt`] that came with the verdict records the [`Outcome`]. What is counted and why is [`LogonPolicy`]'s.
//!
//! Of users only keyed hashes are kept, of Basic's passwords 16 bits of one, which tell a repetition and no password.
//!
//! # What it does not stop
//!
//! - Guessing from many networks at once: each is a pair of its own. Counting the user would lock the user out.
//! - A guesser behind the same address as the user who is logged on there: each success sets the pair back.
//! - Who fills the tables with failures from as many networks as they have places is forgotten, and so are others. Then Active
//!   Directory's own lockout is what remains, as without a proxy.

mod network;
mod outcome;
mod pair;
mod policy;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use self::network::Network;
pub use self::outcome::{Outcome, needs_logon};
use self::pair::{Pair, PairVerdict};
pub use self::policy::LogonPolicy;
use super::HashKey;
use super::client::{ClientNetwork, ClientPrefixes};
use super::credentials::{Claim, Who};
use super::table::Table;
use crate::clock::Time;

/// What is known of logons, of all sites together: they share their users. Shared by all threads.
#[derive(Debug)]
pub struct Logons {
    policy: LogonPolicy,
    prefixes: ClientPrefixes,
    key: HashKey,
    known: Arc<Known>,
}

/// What is remembered.
#[derive(Debug)]
struct Known {
    pairs: Table<Pair>,
    networks: Table<Network>,
}

/// What becomes of an attempt.
#[derive(Debug)]
pub enum Verdict {
    /// It goes to the server.
    Pass(Attempt),
    /// It waits so long, and is judged again. The sum of an attempt's delays is bounded by twice the policy's longest.
    Delay(Duration),
    /// It goes to no server (`refused`), but is best answered as the server would answer a wrong password: a guesser learns
    /// nothing, and a client that tries its machine's own user first goes on to ask for another.
    Refuse {
        /// Until when.
        until: Time,
        /// Who is refused.
        whom: Refused,
    },
}

/// Who is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// This user from this network.
    Pair,
    /// All users of this network who have not logged on there before.
    Network,
}

impl Logons {
    /// Nothing is known yet. Without `policy.enabled`, nothing ever will be.
    pub fn new(policy: LogonPolicy, prefixes: ClientPrefixes, key: HashKey) -> Arc<Self> {
        let (pairs, networks) = if policy.enabled { (policy.pairs, policy.networks) } else { (0, 0) };
        let known = Known { pairs: Table::new(pairs), networks: Table::new(networks) };
        Arc::new(Self { policy, prefixes, key, known: Arc::new(known) })
    }

    /// The same under another policy: what is known stays known, unless there is to be another number of places for it, or clients
    /// are told apart otherwise.
    pub fn renewed(&self, policy: LogonPolicy, prefixes: ClientPrefixes) -> Arc<Self> {
        let rooms = |policy: &LogonPolicy| (policy.enabled, policy.pairs, policy.networks);
        if rooms(&policy) != rooms(&self.policy) || prefixes != self.prefixes {
            return Self::new(policy, prefixes, self.key.clone());
        }
        Arc::new(Self { policy, prefixes, key: self.key.clone(), known: Arc::clone(&self.known) })
    }

    /// Whether anything is counted.
    pub fn is_enabled(&self) -> bool {
        self.policy.enabled
    }

    /// What becomes of `claim` from `client`, which has been delayed for `waited` in all.
    pub fn judge(
        self: &Arc<Self>,
        client: IpAddr,
        claim: &Claim<'_>,
        waited: Duration,
        now: Time,
    ) -> Verdict {
        if !self.policy.enabled {
            return Verdict::Pass(Attempt(None));
        }
        let keys = self.keys(client, claim);
        let network = self
            .known
            .networks
            .update_known(keys.network, |network| network.refuses(&self.policy, keys.user, now));
        if let Some(Some(until)) = network {
            return Verdict::Refuse { until, whom: Refused::Network };
        }
        let judge = |pair: &mut Pair| pair.judge(&self.policy, waited, now);
        match keys.pair.map(|pair| self.known.pairs.update(pair, now, judge)) {
            None | Some(PairVerdict::Pass) => {
                let logons = Arc::clone(self);
                Verdict::Pass(Attempt(Some(UnderWay { logons, keys, judged: now, answered: false })))
            }
            Some(PairVerdict::Delay(delay)) => Verdict::Delay(delay),
            Some(PairVerdict::Refuse(until)) => Verdict::Refuse { until, whom: Refused::Pair },
        }
    }

    fn keys(&self, client: IpAddr, claim: &Claim<'_>) -> Keys {
        let client = ClientNetwork::of(client, self.prefixes).bytes();
        let user = self.key.hash(match &claim.who {
            Who::User(user) => user.bytes(),
            Who::Unreadable => UNREADABLE,
            Who::Unnamed => UNNAMED,
        });
        let pair = || {
            let mut bytes = [0; 24];
            bytes[..16].copy_from_slice(&client);
            bytes[16..].copy_from_slice(&user.to_be_bytes());
            self.key.hash(&bytes)
        };
        let secret = |secret| NonZeroU16::new(self.key.hash(secret) as u16).unwrap_or(NonZeroU16::MAX);
        Keys {
            network: self.key.hash(&client),
            user,
            pair: (claim.who != Who::Unnamed).then(pair),
            secret: claim.secret.map(secret),
        }
    }
}

/// An attempt that is under way. Dropped without a record, the client left before it was answered: that is a failure, unless the
/// pair has succeeded before. Otherwise who only wants an account locked would leave, and never be counted. What no
/// server was asked is recorded as [`Outcome::Unknown`].
#[derive(Debug)]
#[must_use]
pub struct Attempt(Option<UnderWay>);

#[derive(Debug)]
struct UnderWay {
    logons: Arc<Logons>,
    keys: Keys,
    judged: Time,
    answered: bool,
}

/// Hashes.
#[derive(Clone, Copy, Debug)]
struct Keys {
    network: u64,
    user: u64,
    pair: Option<u64>,
    secret: Option<NonZeroU16>,
}

impl Attempt {
    /// Records how it ended. Returns who is refused from now on because of it.
    pub fn record(mut self, outcome: Outcome, now: Time) -> Option<Refused> {
        let attempt = self.0.as_mut()?;
        attempt.answered = true;
        match outcome {
            Outcome::Failed => attempt.failed(now),
            Outcome::Succeeded => {
                attempt.succeeded(now);
                None
            }
            Outcome::Unknown => None,
        }
    }
}

impl UnderWay {
    fn failed(&self, now: Time) -> Option<Refused> {
        let Logons { policy, known, .. } = &*self.logons;
        let keys = self.keys;
        let fail = |pair: &mut Pair| pair.failed(policy, keys.secret, now);
        let pair = keys.pair.is_some_and(|pair| known.pairs.update(pair, now, fail));
        let fail = |network: &mut Network| network.failed(policy, keys.user, now);
        let network = known.networks.update(keys.network, now, fail);
        match (network, pair) {
            (true, _) => Some(Refused::Network),
            (false, true) => Some(Refused::Pair),
            (false, false) => None,
        }
    }

    fn succeeded(&self, now: Time) {
        let Logons { policy, known, .. } = &*self.logons;
        let keys = self.keys;
        if let Some(pair) = keys.pair {
            known.pairs.update(pair, now, |pair| pair.succeeded(policy, now));
        }
        known.networks.update(keys.network, now, |network| network.succeeded(policy, keys.user, now));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(pair) = self.keys.pair else {
            return;
        };
        self.logons.known.pairs.update_known(pair, |pair| {
            pair.ended();
            if !self.answered {
                pair.abandoned(&self.logons.policy, self.keys.secret, self.judged);
            }
        });
    }
}

/// No user has these bytes: they are not UTF-8.
const UNREADABLE: &[u8] = &[0xfe];
const UNNAMED: &[u8] = &[0xff];

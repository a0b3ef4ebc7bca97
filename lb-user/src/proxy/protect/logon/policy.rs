//! When failed logons slow a client down, and when they shut it out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::limits::{LimitError, Seconds, seconds, within};
use super::super::table;

/// The numbers behind every verdict on a logon.
///
/// Two things are counted, each in its own way: a *pair*, which is one user tried from one client network, against guessing a
/// password; and a *network*, against trying few passwords with many users. A user is never counted over all networks: who
/// knows a user's name could lock that user out with it.
///
/// Active Directory counts too, over everything, and locks accounts: set `refuse_after` below the domain's lockout threshold (ten
/// in Microsoft's security baseline), and nobody who guesses from one network locks a mailbox for its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogonPolicy {
    /// Whether anything is counted at all. Default `false`: until somebody has looked at what their clients do, a limit
    /// is as likely to keep out colleagues as strangers.
    pub enabled: bool,
    /// Failures of a pair after which each further attempt is delayed. 0 to 1,000; default 4.
    pub slow_after: u16,
    /// The first delay; each further failure doubles it. 0 to 60 s; default 1 s.
    pub first_delay: Duration,
    /// The longest delay. At least `first_delay`; at most 60 s, because clients give up; default 8 s.
    pub longest_delay: Duration,
    /// Failures of a pair after which it is refused. 1 to 1,000; default 8.
    pub refuse_after: u16,
    /// How long a pair is refused. Up to a day; default 15 min. Then one attempt is let through, and its failure refuses it again.
    pub refuse_for: Duration,
    /// How long after its last failure a pair's failures are forgotten. Up to a day; default 15 min.
    pub forget_after: Duration,
    /// How long a success is remembered: by the pair, which may then try much at once, and by the network, as a user that
    /// belongs there. Up to 30 days; default 24 h.
    pub remember_success: Duration,
    /// Distinct users whose logons failed within `spray_window`, and that never succeeded there, from which on a network
    /// may be refused. 5 to 500; default 30.
    pub spray_users: u16,
    /// Their least share, in per cent, of those and of the users who succeeded there. 51 to 100; default 90: behind a
    /// provider's NAT most users succeed.
    pub spray_share: u8,
    /// Time within which they are counted. Up to a day; default 30 min.
    pub spray_window: Duration,
    /// How long a network's unknown users are refused. Up to a day; default 30 min.
    pub spray_refuse_for: Duration,
    /// Pairs that are remembered, 40 bytes each; beyond that, those that owe least are forgotten. Up to 2^24; default 65,536.
    pub pairs: usize,
    /// Networks that are remembered, 128 bytes each. Up to 2^24; default 16,384.
    pub networks: usize,
}

impl Default for LogonPolicy {
    fn default() -> Self {
        Self {
            enabled: false,
            slow_after: 4,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(8),
            refuse_after: 8,
            refuse_for: Duration::from_secs(15 * 60),
            forget_after: Duration::from_secs(15 * 60),
            remember_success: Duration::from_secs(24 * 3600),
            spray_users: 30,
            spray_share: 90,
            spray_window: Duration::from_secs(30 * 60),
            spray_refuse_for: Duration::from_secs(30 * 60),
            pairs: 1 << 16,
            networks: 1 << 14,
        }
    }
}

impl LogonPolicy {
    /// The first number that is outside its range, if one is.
    pub fn check(&self) -> Result<(), LimitError> {
        const DAY: u64 = 24 * 3600;
        within("slow_after", self.slow_after, 0..=1000)?;
        within("first_delay", Seconds(self.first_delay), seconds(0..=60))?;
        within(
            "longest_delay",
            Seconds(self.longest_delay),
            Seconds(self.first_delay)..=Seconds(Duration::from_secs(60)),
        )?;
        within("refuse_after", self.refuse_after, 1..=1000)?;
        within("refuse_for", Seconds(self.refuse_for), seconds(0..=DAY))?;
        within("forget_after", Seconds(self.forget_after), seconds(0..=DAY))?;
        within("remember_success", Seconds(self.remember_success), seconds(0..=30 * DAY))?;
        within("spray_users", self.spray_users, 5..=500)?;
        within("spray_share", self.spray_share, 51..=100)?;
        within("spray_window", Seconds(self.spray_window), seconds(0..=DAY))?;
        within("spray_refuse_for", Seconds(self.spray_refuse_for), seconds(0..=DAY))?;
        within("pairs", self.pairs, 1..=table::MOST)?;
        within("networks", self.networks, 1..=table::MOST)
    }

    /// How long an attempt waits, all in all, when `counted` failures, or attempts that may become some, came before it.
    ///
    /// From `refuse_after` on it waits for attempts before it to be answered, which decides whether the pair is refused: longer
    /// than all of them waited.
    pub(super) fn delay(&self, counted: u16) -> Duration {
        if counted >= self.refuse_after {
            return self.longest_delay * 2;
        }
        let Some(steps) = counted.checked_sub(self.slow_after) else {
            return Duration::ZERO;
        };
        let doubled = 2_u32.checked_pow(steps.into()).and_then(|times| self.first_delay.checked_mul(times));
        doubled.unwrap_or(Duration::MAX).min(self.longest_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges_and_others_are_named() {
        assert_eq!(LogonPolicy::default().check(), Ok(()));
        let wrong = LogonPolicy { longest_delay: Duration::from_millis(10), ..LogonPolicy::default() };
        assert_eq!(
            wrong.check().unwrap_err().to_string(),
            "the limit `longest_delay` is 0.01 s; hint: 1 s to 60 s are possible"
        );
        assert!(LogonPolicy { refuse_after: 0, ..LogonPolicy::default() }.check().is_err());
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let policy = LogonPolicy { refuse_after: 100, ..LogonPolicy::default() };
        for (counted, seconds) in
            [(0, 0), (3, 0), (4, 1), (5, 2), (6, 4), (7, 8), (8, 8), (99, 8), (100, 16), (u16::MAX, 16)]
        {
            assert_eq!(policy.delay(counted), Duration::from_secs(seconds), "{counted}");
        }
    }
}

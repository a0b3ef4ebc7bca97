//! One user tried from one network.
//!
//! ```text
//!            failures: slow_after        refuse_after
//!   passes ----------------> delayed ----------------> refused
//!     ^                        | ^                        | after refuse_for
//!     |  success, forget_after | +------------------------+ with one attempt left
//!     +------------------------+
//! ```

use std::num::NonZeroU16;
use std::time::Duration;

use super::super::table::Entry;
use super::LogonPolicy;
use crate::clock::Time;

/// What is known of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    failures: u16,
    /// Attempts that are under way: whatever was sent together would else pass together, each as the first.
    under_way: u16,
    /// The last password that failed, as far as 16 bits tell it.
    secret: Option<NonZeroU16>,
    /// When the failures are forgotten.
    forgotten: Time,
    refused_until: Time,
    /// Until when a success is remembered.
    known_until: Time,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairVerdict {
    /// It is under way.
    Pass,
    Delay(Duration),
    Refuse(Time),
}

impl Pair {
    pub(super) fn judge(&mut self, policy: &LogonPolicy, waited: Duration, now: Time) -> PairVerdict {
        if self.refused_until > now {
            return PairVerdict::Refuse(self.refused_until);
        }
        let failures = self.failures_at(now);
        let known = failures == 0 && self.known_until > now;
        let counted = if known { 0 } else { failures.saturating_add(self.under_way) };
        match policy.delay(counted).checked_sub(waited) {
            None | Some(Duration::ZERO) => {
                self.under_way = self.under_way.saturating_add(1);
                PairVerdict::Pass
            }
            Some(delay) => PairVerdict::Delay(delay),
        }
    }

    /// One attempt is under way no longer.
    pub(super) fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether the pair is refused by this. A password that has just failed and fails again is no guess.
    pub(super) fn failed(&mut self, policy: &LogonPolicy, secret: Option<NonZeroU16>, now: Time) -> bool {
        let failures = self.failures_at(now);
        if failures > 0 && secret.is_some() && secret == self.secret {
            return false;
        }
        self.secret = secret;
        self.failures = failures.saturating_add(1);
        self.forgotten = now + policy.forget_after;
        let refused = self.failures >= policy.refuse_after;
        if refused {
            self.failures = policy.refuse_after.saturating_sub(1);
            self.refused_until = now + policy.refuse_for;
            self.forgotten = self.refused_until + policy.forget_after;
        }
        refused
    }

    /// The client left before it was answered, with an attempt that was judged at `judged`.
    pub(super) fn abandoned(&mut self, policy: &LogonPolicy, secret: Option<NonZeroU16>, judged: Time) {
        if self.known_until <= judged {
            self.failed(policy, secret, judged);
        }
    }

    pub(super) fn succeeded(&mut self, policy: &LogonPolicy, now: Time) {
        let known_until = now + policy.remember_success;
        *self = Self { under_way: self.under_way, known_until, ..Self::default() };
    }

    fn failures_at(&self, now: Time) -> u16 {
        if self.forgotten > now { self.failures } else { 0 }
    }
}

impl Entry for Pair {
    /// Failures first, then how long they count.
    fn debt(&self, now: Time) -> u64 {
        let left = self.forgotten.max(self.refused_until).as_nanos().saturating_sub(now.as_nanos());
        let owed = u64::from(self.failures_at(now)) << 48 | left.min((1 << 48) - 1);
        owed.max(u64::from(self.under_way > 0))
    }
}

const _: () = assert!(size_of::<Pair>() == 32);

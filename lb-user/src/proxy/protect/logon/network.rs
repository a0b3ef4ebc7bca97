//! One client network: how many users fail there who never succeed there.
//!
//! A password spray tries few passwords with many users, so that no pair ever fails often. What gives it away is that hardly anyone
//! succeeds. Users are counted by linear counting (Whang et al., 1990) in 256 bits, which is good to a tenth for the numbers
//! asked here, and to a quarter beside a hundred known ones. Those who succeeded are remembered much longer than those who failed, so that on the day when a domain
//! controller is down, and everybody fails, an office is still an office.

use super::super::table::Entry;
use super::LogonPolicy;
use crate::clock::Time;

/// What is known of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Network {
    failing: Users,
    failing_ends: Time,
    /// Those who succeeded since the last turn, and before it.
    known: [Users; 2],
    known_ends: Time,
    refused_until: Time,
}

impl Network {
    /// Until when this user is refused here.
    pub(super) fn refuses(&mut self, policy: &LogonPolicy, user: u64, now: Time) -> Option<Time> {
        self.turn(policy, now);
        (self.refused_until > now && !self.known().has(user)).then_some(self.refused_until)
    }

    /// Whether the network is refused by this.
    pub(super) fn failed(&mut self, policy: &LogonPolicy, user: u64, now: Time) -> bool {
        self.turn(policy, now);
        self.failing.add(user);
        let known = self.known();
        let (failing, succeeding) =
            (self.failing.estimate_beside(known), known.estimate_beside(Users::default()));
        let share = 100.0 * failing / (failing + succeeding).max(1.0);
        let refused = failing >= f64::from(policy.spray_users) && share >= f64::from(policy.spray_share);
        if refused {
            self.refused_until = now + policy.spray_refuse_for;
        }
        refused
    }

    pub(super) fn succeeded(&mut self, policy: &LogonPolicy, user: u64, now: Time) {
        self.turn(policy, now);
        self.known[0].add(user);
    }

    fn known(&self) -> Users {
        self.known[0].or(self.known[1])
    }

    /// Forgets what is over.
    fn turn(&mut self, policy: &LogonPolicy, now: Time) {
        if now >= self.failing_ends {
            self.failing = Users::default();
            self.failing_ends = now + policy.spray_window;
        }
        if now >= self.known_ends {
            let long_ago = now.since(self.known_ends) >= policy.remember_success;
            let before = if long_ago { Users::default() } else { self.known[0] };
            self.known = [Users::default(), before];
            self.known_ends = now + policy.remember_success;
        }
    }
}

impl Entry for Network {
    /// A refusal first, then users.
    fn debt(&self, now: Time) -> u64 {
        let users = self.failing.bits() + self.known[0].bits() + self.known[1].bits();
        let left = self.refused_until.as_nanos().saturating_sub(now.as_nanos());
        if left > 0 { left.saturating_add(u64::from(USERS) * 3) } else { users.into() }
    }
}

/// A set of users, of which a bit each is kept.
#[derive(Clone, Copy, Debug, Default)]
struct Users([u64; 4]);

impl Users {
    /// `user`: a keyed hash, so that nobody can choose users who share a bit.
    fn add(&mut self, user: u64) {
        let (word, bit) = Self::place(user);
        self.0[word] |= bit;
    }

    fn has(self, user: u64) -> bool {
        let (word, bit) = Self::place(user);
        self.0[word] & bit != 0
    }

    fn place(user: u64) -> (usize, u64) {
        ((user >> 6) as usize % 4, 1 << (user % 64))
    }

    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    fn bits(self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// How many users this is, those of `others` left out; judged by the bits that none of them has.
    fn estimate_beside(self, others: Self) -> f64 {
        let alone = Self(std::array::from_fn(|word| self.0[word] & !others.0[word])).bits();
        let free = USERS - others.bits();
        if free == 0 {
            return 0.0;
        }
        // All bits taken is infinitely many; half a bit less is more than anyone asks for.
        let taken = f64::from(alone).min(f64::from(free) - 0.5);
        -f64::from(USERS) * (-taken / f64::from(free)).ln_1p()
    }
}

const USERS: u32 = 256;

const _: () = assert!(size_of::<Network>() == 120);

#[cfg(test)]
mod tests {
    use super::super::super::HashKey;
    use super::*;

    fn users(names: std::ops::Range<u32>) -> impl Iterator<Item = u64> {
        let key = HashKey::new(&[3; 16]);
        names.map(move |name| key.hash(&name.to_be_bytes()))
    }

    fn set(names: std::ops::Range<u32>) -> Users {
        let mut set = Users::default();
        users(names).for_each(|user| set.add(user));
        set
    }

    #[test]
    fn the_estimate_is_good_where_it_decides() {
        for (failing, known) in [(5, 0), (30, 0), (100, 0), (500, 0), (30, 100), (100, 100)] {
            let estimate = set(0..failing).estimate_beside(set(1000..1000 + known));
            let error = (estimate - f64::from(failing)).abs() / f64::from(failing);
            assert!(error < 0.25, "{failing} beside {known}: {estimate}");
        }
        assert_eq!(set(0..50).estimate_beside(set(0..50)), 0.0);
        assert!(set(0..100_000).estimate_beside(Users::default()) > 1000.0);
        assert_eq!(set(0..9).estimate_beside(set(0..100_000)), 0.0);
    }

    #[test]
    fn only_many_failing_users_among_few_known_ones_are_a_spray() {
        let policy = LogonPolicy::default();
        let now = Time::from_nanos(1);
        for (failing, known, refused) in
            [(10, 0, false), (20, 0, false), (45, 0, true), (45, 2, true), (45, 20, false), (200, 100, false)]
        {
            let mut network = Network::default();
            users(1000..1000 + known).for_each(|user| network.succeeded(&policy, user, now));
            let spray = users(0..failing).any(|user| network.failed(&policy, user, now));
            assert_eq!(spray, refused, "{failing} failing, {known} known");
        }
    }

    #[test]
    fn one_user_who_fails_for_ever_is_no_spray() {
        let mut network = Network::default();
        let user = users(0..1).next().unwrap();
        assert!((0..10_000).all(|now| !network.failed(&LogonPolicy::default(), user, Time::from_nanos(now))));
    }

    #[test]
    fn an_office_whose_domain_controller_is_down_is_not_refused() {
        let policy = LogonPolicy::default();
        let mut network = Network::default();
        users(0..200).for_each(|user| network.succeeded(&policy, user, Time::from_nanos(1)));
        let next_day = Time::from_nanos(1) + policy.remember_success;
        assert!(users(0..200).all(|user| !network.failed(&policy, user, next_day)));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let policy = LogonPolicy::default();
        let mut network = Network::default();
        let mut now = Time::from_nanos(1);
        for user in users(0..400) {
            assert!(!network.failed(&policy, user, now), "a user every two minutes");
            now = now + policy.spray_window / 15;
        }
        let user = users(0..1).next().unwrap();
        network.succeeded(&policy, user, now);
        assert!(network.known().has(user));
        network.turn(&policy, now + policy.remember_success * 2);
        assert!(!network.known().has(user));
    }
}

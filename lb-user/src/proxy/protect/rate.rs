//! How often a client may ask: for each site and class of route, a token bucket for each client network.
//!
//! The buckets are GCRA's (ITU-T I.371, annex A): of a bucket only the moment is kept at which it will be full again. Memory is
//! fixed (`table`): 16 bytes for each client, 1 MiB for 65,536 of them.
//!
//! # What an attacker gains from many networks
//!
//! A bucket bounds one client network. Who has a /32 of IPv6 is 2^32 of them, each with its own burst, so no rate here bounds
//! him; the number of connections in all does, and `ClientPrefixes::v6` can be made shorter. Nor can he make a bucket that
//! he does not own refuse anything: a request is charged to its own client only. What he can do is push others' buckets out
//! of the table. Where he does not know the hash's key that means to fill all of it with buckets that owe more than the
//! victim's, and it forgives the victim: at most one more burst each time, never a refusal. Where he wants his own
//! forgotten, he gains that burst, and has paid for it with as many requests from other networks as the table has places.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HashKey;
use super::client::{ClientNetwork, ClientPrefixes};
use super::table::{Entry, Table};
use crate::clock::Time;

/// How many requests in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Requests within each `per`, evenly.
    pub requests: NonZeroU32,
    /// At least a nanosecond for each request.
    pub per: Duration,
    /// Requests that may come at once after a rest.
    pub burst: NonZeroU32,
}

impl Quota {
    /// From one request to the next, in nanoseconds.
    fn interval(self) -> u64 {
        let nanos = self.per.as_nanos() / u128::from(self.requests.get());
        u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
    }
}

/// What a request is charged as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Any request.
    General,
    /// One that tries a password, whatever it asks for ([`super::credentials::Claim`]): charged once more, and more strictly. Who is logged
    /// on by NTLM or Kerberos tries none, Basic with every request.
    Authentication,
}

/// A site's quotas for each client. `None`: any rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteRates {
    /// For `Class::General`.
    pub general: Option<Quota>,
    /// For `Class::Authentication`.
    pub authentication: Option<Quota>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is served, and charged.
    Allow,
    /// It is refused (`limit`), and not charged.
    Refuse {
        /// When one such request will be served again: the `Retry-After` of the 429, rounded up to seconds there.
        retry_after: Duration,
    },
}

/// The buckets of all sites. Shared by all threads.
#[derive(Debug)]
pub struct RateLimiter {
    /// What a site is in the buckets' hashes, and its rates.
    sites: Box<[(u64, SiteRates)]>,
    prefixes: ClientPrefixes,
    key: HashKey,
    /// How many buckets there are to be where there are any.
    capacity: usize,
    buckets: Arc<Table<Bucket>>,
}

impl RateLimiter {
    /// Buckets for the sites, by their indices, of about `capacity` clients in all; at most 2^24. A site's name is what its clients'
    /// buckets are found by later on.
    pub fn new<'a>(
        sites: impl IntoIterator<Item = (&'a str, SiteRates)>,
        prefixes: ClientPrefixes,
        capacity: usize,
        key: HashKey,
    ) -> Self {
        let sites: Box<[_]> =
            sites.into_iter().map(|(name, rates)| (key.hash(name.as_bytes()), rates)).collect();
        let buckets = Arc::new(Table::new(if limited(&sites) { capacity } else { 0 }));
        Self { sites, prefixes, key, capacity, buckets }
    }

    /// The same for other sites or rates: who has used up a site's rate has still used it up, unless there are to be more or fewer
    /// buckets, or clients are told apart otherwise.
    pub fn renewed<'a>(
        &self,
        sites: impl IntoIterator<Item = (&'a str, SiteRates)>,
        prefixes: ClientPrefixes,
        capacity: usize,
    ) -> Self {
        let mut renewed = Self::new(sites, prefixes, 0, self.key.clone());
        renewed.capacity = capacity;
        if limited(&renewed.sites) {
            let same = limited(&self.sites) && (capacity, prefixes) == (self.capacity, self.prefixes);
            renewed.buckets = if same { Arc::clone(&self.buckets) } else { Arc::new(Table::new(capacity)) };
        }
        renewed
    }

    /// Whether a site has a quota of that class.
    pub fn has(&self, site: usize, class: Class) -> bool {
        self.quota(site, class).is_some()
    }

    /// Charges a request to its client. A site that is not among those given has no quota.
    pub fn check(&self, site: usize, class: Class, client: IpAddr, now: Time) -> Decision {
        let Some((site, quota)) = self.quota(site, class) else {
            return Decision::Allow;
        };
        let hash = self.hash(site, class, ClientNetwork::of(client, self.prefixes));
        self.buckets.update(hash, now, |bucket| bucket.charge(quota, now))
    }

    /// A site's quota, and the hash of its name.
    fn quota(&self, site: usize, class: Class) -> Option<(u64, Quota)> {
        let (site, rates) = self.sites.get(site)?;
        let quota = match class {
            Class::General => rates.general,
            Class::Authentication => rates.authentication,
        };
        quota.map(|quota| (*site, quota))
    }

    fn hash(&self, site: u64, class: Class, client: ClientNetwork) -> u64 {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&client.bytes());
        bytes[16..24].copy_from_slice(&site.to_be_bytes());
        bytes[24] = class as u8;
        self.key.hash(&bytes)
    }
}

fn limited(sites: &[(u64, SiteRates)]) -> bool {
    sites.iter().any(|(_, rates)| rates.general.is_some() || rates.authentication.is_some())
}

/// When it is full again; GCRA's theoretical arrival time.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(u64);

impl Bucket {
    fn charge(&mut self, quota: Quota, now: Time) -> Decision {
        let (now, interval) = (now.as_nanos(), quota.interval());
        let full = self.0.max(now).saturating_add(interval);
        let burst = interval.saturating_mul(quota.burst.get().into());
        match (full - now).checked_sub(burst) {
            None | Some(0) => {
                self.0 = full;
                Decision::Allow
            }
            Some(over) => Decision::Refuse { retry_after: Duration::from_nanos(over) },
        }
    }
}

impl Entry for Bucket {
    fn debt(&self, now: Time) -> u64 {
        self.0.saturating_sub(now.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn quota(requests: u32, per: u64, burst: u32) -> Quota {
        Quota {
            requests: NonZeroU32::new(requests).unwrap(),
            per: Duration::from_nanos(per),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn limiter(sites: &[SiteRates], capacity: usize) -> RateLimiter {
        RateLimiter::new(named(sites), ClientPrefixes::default(), capacity, HashKey::new(&[7; 16]))
    }

    fn named(sites: &[SiteRates]) -> impl Iterator<Item = (&str, SiteRates)> {
        ["a.test", "b.test", "c.test"].into_iter().zip(sites.iter().copied())
    }

    fn general(quota: Quota) -> SiteRates {
        SiteRates { general: Some(quota), authentication: None }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter(&[general(quota(10, SECOND, 3))], 64);
        let ask = |millis: u64| {
            let now = Time::from_nanos(SECOND + millis * 1_000_000);
            limiter.check(0, Class::General, "203.0.113.5".parse().unwrap(), now)
        };
        let refused = |millis| Decision::Refuse { retry_after: Duration::from_millis(millis) };
        for (millis, decision) in [
            (0, Decision::Allow),
            (0, Decision::Allow),
            (0, Decision::Allow),
            (0, refused(100)),
            (40, refused(60)),
            (100, Decision::Allow),
            (100, refused(100)),
            (5000, Decision::Allow),
            (5000, Decision::Allow),
            (5000, Decision::Allow),
            (5000, refused(100)),
        ] {
            assert_eq!(ask(millis), decision, "at {millis} ms");
        }
    }

    #[test]
    fn sites_classes_and_clients_are_charged_apart() {
        let once = Some(quota(1, SECOND, 1));
        let both = SiteRates { general: once, authentication: once };
        let limiter = limiter(&[both, both, SiteRates::default()], 64);
        let ask = |site, class, client: &str| {
            limiter.check(site, class, client.parse().unwrap(), Time::from_nanos(SECOND)) == Decision::Allow
        };
        for (site, class, client, allowed) in [
            (0, Class::General, "203.0.113.5", true),
            (0, Class::General, "::ffff:203.0.113.5", false),
            (0, Class::Authentication, "203.0.113.5", true),
            (1, Class::General, "203.0.113.5", true),
            (0, Class::General, "203.0.113.6", true),
            (0, Class::General, "2001:db8::1", true),
            (0, Class::General, "2001:db8::2", false),
            (0, Class::General, "2001:db8:0:1::1", true),
            (2, Class::General, "203.0.113.5", true),
            (2, Class::General, "203.0.113.5", true),
            (9, Class::General, "203.0.113.5", true),
        ] {
            assert_eq!(ask(site, class, client), allowed, "{site} {class:?} {client}");
        }
    }

    #[test]
    fn who_has_many_networks_makes_nobody_else_be_refused() {
        let limiter = limiter(&[general(quota(1, SECOND, 2))], 64);
        let now = Time::from_nanos(SECOND);
        for network in 0..10_000_u128 {
            let attacker = IpAddr::V6((0x2001_0db8_u128 << 96 | network << 64).into());
            for _ in 0..3 {
                limiter.check(0, Class::General, attacker, now);
            }
            if network % 100 == 0 {
                let other = IpAddr::V4((network as u32).into());
                assert_eq!(limiter.check(0, Class::General, other, now), Decision::Allow);
            }
        }
    }

    #[test]
    fn a_new_configuration_forgives_nothing_though_sites_move_and_rates_change() {
        let once = general(quota(1, SECOND, 1));
        let now = Time::from_nanos(SECOND);
        let before = limiter(&[once, once], 64);
        let client: IpAddr = "203.0.113.5".parse().unwrap();
        assert_eq!(before.check(1, Class::General, client, now), Decision::Allow);
        let sites = [("b.test", general(quota(1, 2 * SECOND, 1))), ("a.test", once)];
        let after = before.renewed(sites, ClientPrefixes::default(), 64);
        assert_ne!(after.check(0, Class::General, client, now), Decision::Allow, "the site has moved");
        assert_eq!(after.check(1, Class::General, client, now), Decision::Allow, "asked nothing yet");
        let wider = before.renewed(sites, ClientPrefixes::default(), 128);
        assert_eq!(wider.check(0, Class::General, client, now), Decision::Allow, "another table");
        let off = before.renewed([("b.test", SiteRates::default())], ClientPrefixes::default(), 64);
        assert!(!off.has(0, Class::General));
    }

    #[test]
    fn threads_share_one_bucket() {
        let limiter = limiter(&[general(quota(1, SECOND, 50))], 64);
        let ask = || limiter.check(0, Class::General, [203, 0, 113, 5].into(), Time::from_nanos(SECOND));
        let ask_often = || (0..100).filter(|_| ask() == Decision::Allow).count();
        let allowed: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(ask_often));
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(allowed, 50);
    }

    proptest! {
        #[test]
        fn no_interval_of_any_schedule_serves_more_than_burst_and_rate(
            requests in 1..50_u32,
            burst in 1..20_u32,
            waits in prop::collection::vec(0..SECOND / 5, 1..200),
        ) {
            let quota = quota(requests, SECOND, burst);
            let mut bucket = Bucket::default();
            let mut now = 0;
            let mut served = Vec::new();
            for wait in waits {
                now += wait;
                match bucket.charge(quota, Time::from_nanos(now)) {
                    Decision::Allow => served.push(now),
                    Decision::Refuse { retry_after } => {
                        let later = Time::from_nanos(now) + retry_after;
                        prop_assert_eq!({ bucket }.charge(quota, later), Decision::Allow);
                        let sooner = Time::from_nanos(later.as_nanos() - 1);
                        prop_assert_ne!({ bucket }.charge(quota, sooner), Decision::Allow);
                    }
                }
            }
            for (first, &from) in served.iter().enumerate() {
                for (count, &to) in served[first..].iter().enumerate() {
                    prop_assert!(count as u64 * quota.interval() <= to - from + quota.interval() * u64::from(burst));
                }
            }
        }

        #[test]
        fn no_quota_and_no_time_overflows(requests: u32, per: u64, burst: u32, now: u64, full: u64) {
            let quota = quota(requests.max(1), per, burst.max(1));
            let mut bucket = Bucket(full);
            bucket.charge(quota, Time::from_nanos(now));
            prop_assert!(quota.interval() > 0);
        }
    }
}

//! Which buckets have had no packet for a while: what the XDP program stamps in sticky tables, against the tick that it is now.
//! Read off the cluster thread; what follows from it is the cluster's.

use std::io;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, MapData};
use lb_common::table::{Bucket, Lease, SeenTable};

use super::maps::pinned;
use crate::clock::Time;
use crate::cluster::sets::BucketSet;
use crate::config::model::Spread;

/// A reader of the stamps.
pub struct Idle {
    seen: Array<MapData, SeenTable>,
    lease: Array<MapData, Lease>,
    tick: Duration,
}

impl Idle {
    /// Opens the maps that the data path has pinned in the folder `pins`.
    ///
    /// # Errors
    /// They are not there, or not what they should be.
    pub fn open(pins: &Path) -> io::Result<Self> {
        Ok(Self { seen: pinned(pins, "SEEN")?, lease: pinned(pins, "LEASE")?, tick: Time::coarse_tick() })
    }

    /// The buckets of each owner table that have been idle for at least its timeout; none of tables that are not sticky.
    ///
    /// # Errors
    /// The kernel refused to read a map.
    pub fn find<'a>(&self, tables: impl IntoIterator<Item = &'a Spread>) -> io::Result<Vec<BucketSet>> {
        let lease = self.lease.get(&0, 0).map_err(io::Error::other)?;
        let idle = |(spread, index): (&Spread, u32)| {
            let Some(stickiness) = spread.stickiness else { return Ok(BucketSet::EMPTY) };
            let seen = self.seen.get(&index, 0).map_err(io::Error::other)?;
            // The clock last, so that no stamp is newer than it.
            Ok(idle(&seen, &lease, self.tick, stickiness.timeout, Time::now()))
        };
        tables.into_iter().zip(0..).map(idle).collect()
    }
}

/// The buckets of which no packet was seen for at least `timeout` before `now`. `lease` says which tick it was at some time
/// before, and `tick` how long one is; without a lease ever no bucket is idle.
///
/// Stamps are the low halves of ticks, so one that is older than they can tell (50 days at 1000 ticks a second) may look new.
fn idle(seen: &SeenTable, lease: &Lease, tick: Duration, timeout: Duration, now: Time) -> BucketSet {
    if lease.time == 0 || tick.is_zero() {
        return BucketSet::EMPTY;
    }
    let ticks = |time: Duration| u64::try_from(time.as_nanos() / tick.as_nanos()).unwrap_or(u64::MAX);
    let present = lease.tick.wrapping_add(ticks(now.since(Time::from_nanos(lease.time))));
    // Tick and time were read at different moments, and a time is cut to whole ticks.
    let needed = ticks(timeout).saturating_add(UNSURE);
    let is_idle = |bucket: &Bucket| {
        let stamp = seen.0[bucket.index()];
        // Added to both sides, so that a stamp from just after `present` is new, not as old as a stamp can be.
        let age = (present as u32).wrapping_add(AHEAD).wrapping_sub(stamp);
        stamp == NEVER || u64::from(age) >= needed.saturating_add(u64::from(AHEAD))
    };
    Bucket::all().filter(is_idle).collect()
}

/// The stamp of a bucket of which no packet was ever seen. One packet in four billion leaves it, too.
const NEVER: u32 = 0;

/// By how many ticks the present one may be misjudged, one for each end.
const UNSURE: u64 = 2;

/// How many ticks ahead of the present one a stamp may seem to be: some seconds, if this process was not scheduled for long.
const AHEAD: u32 = 10_000;

#[cfg(test)]
mod tests {
    use lb_common::table::BUCKETS;
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(4);
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Whether a bucket is idle whose packet came `age` before now, `lease` ticks of uptime after the kernel's start.
    fn is_idle(uptime: u64, age: Duration, since_renewal: Duration) -> bool {
        let now = Time::from_nanos(1 << 50);
        let ticks = |time: Duration| (time.as_nanos() / TICK.as_nanos()) as u64;
        let lease = Lease {
            tick: uptime - ticks(since_renewal),
            time: (now - since_renewal).as_nanos(),
            ..Lease::default()
        };
        let mut seen = SeenTable([(uptime - ticks(age)) as u32; BUCKETS]);
        seen.0[7] = NEVER;
        let idle = idle(&seen, &lease, TICK, TIMEOUT, now);
        assert!(idle.contains(Bucket::new(7).unwrap()), "a bucket never seen is idle");
        idle.contains(Bucket::new(8).unwrap())
    }

    #[test]
    fn a_bucket_is_idle_once_its_timeout_is_over() {
        let rows = [(0, false), (1, false), (59, false), (61, true), (3600, true), (86_400 * 40, true)];
        // Linux starts with a tick that wraps five minutes after the start.
        for uptime in [(1 << 40) + 9, (1 << 32) - 75_000, (1 << 32) + 1, (1 << 33) - 1, (7 << 32) + 10_000] {
            for (age, expected) in rows {
                if age * 250 < uptime {
                    let idle = is_idle(uptime, Duration::from_secs(age), Duration::from_millis(20));
                    assert_eq!(idle, expected, "{age} s at tick {uptime}");
                }
            }
        }
    }

    #[test]
    fn a_stamp_from_after_the_clock_was_read_is_new() {
        for ahead in [1, 2, 500, 9_999] {
            for present in [100_000u64, (1 << 32) - 1, 1 << 32] {
                let lease = Lease { tick: present, time: 5, ..Lease::default() };
                let seen = SeenTable([(present + ahead) as u32; BUCKETS]);
                let idle = idle(&seen, &lease, TICK, TIMEOUT, Time::from_nanos(5));
                // The one tick whose low half is 0 counts as never seen.
                assert!(idle.is_empty() || (present + ahead) as u32 == NEVER, "{ahead} after {present}");
            }
        }
    }

    #[test]
    fn without_a_lease_ever_nothing_is_known() {
        let idle = idle(&SeenTable([NEVER; BUCKETS]), &Lease::default(), TICK, TIMEOUT, Time::from_nanos(9));
        assert!(idle.is_empty());
    }

    proptest! {
        #[test]
        fn an_idle_bucket_was_idle_for_the_timeout(
            uptime in 1u64 << 34..1 << 40, age in 0u64..600_000, since_renewal in 0u64..600_000,
        ) {
            let age = Duration::from_millis(age);
            let idle = is_idle(uptime, age, Duration::from_millis(since_renewal));
            prop_assert!(!idle || age >= TIMEOUT);
            prop_assert!(idle || age < TIMEOUT + 4 * TICK);
        }
    }
}

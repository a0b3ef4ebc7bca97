//! The program by which the agent renews the lease, and what the lease means to a packet.

use std::time::Duration;

use lb_common::table::{BucketState, Lease, Renewal};
use lb_common::verdict::Reason;
use lb_user::clock::Time;
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::{Kernel, Setting};

use crate::frames::*;
use crate::scene::*;

const TICK: u64 = 4_000_000;
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_renewed_lease_ends_not_after_its_deadline() {
    in_own_netns(|| {
        let mut node = Node::load(|_| ());
        for left in [Duration::from_millis(50), Duration::from_secs(1), MINUTE, Duration::from_secs(1 << 30)]
        {
            for tick_length in [TICK, 1_000_000, 10_000_000] {
                let until = (Time::now() + left).as_nanos();
                let lease = node.renew(until, tick_length);
                assert_eq!(lease.until, until, "{left:?}");
                let ticks = (lease.until_tick - lease.tick) * tick_length;
                assert!(ticks <= until - lease.time, "{left:?}: {lease:?}");
                assert!(ticks + tick_length > until - lease.time, "a lease far too short: {lease:?}");
            }
        }
        assert_eq!(node.syn(), Reason::NewMine);
    });
}

#[test]
fn a_deadline_in_the_past_is_no_lease() {
    in_own_netns(|| {
        let mut node = Node::load(|_| ());
        let now = Time::now();
        for (until, tick_length) in
            [(0, TICK), (1, TICK), (now.as_nanos(), TICK), ((now + MINUTE).as_nanos(), 0)]
        {
            node.renew((now + MINUTE).as_nanos(), TICK);
            assert_eq!(node.syn(), Reason::NewMine);
            let lease = node.renew(until, tick_length);
            assert_eq!((lease.until_tick, lease.until), (0, 0), "until {until}, ticks of {tick_length}");
            assert!(lease.time >= now.as_nanos() && lease.tick > 0, "{lease:?}");
            assert_eq!(node.syn(), Reason::NewNoLease, "until {until}, ticks of {tick_length}");
        }
    });
}

#[test]
fn a_lease_within_the_present_tick_is_over() {
    in_own_netns(|| {
        let mut node = Node::load(|_| ());
        // The tick is longer than what is left.
        let lease = node.renew((Time::now() + MINUTE).as_nanos(), 10 * MINUTE.as_nanos() as u64);
        assert_eq!(lease.until_tick, lease.tick);
        assert_eq!(node.syn(), Reason::NewNoLease);
    });
}

#[test]
fn a_renewal_that_is_cut_short_changes_nothing() {
    in_own_netns(|| {
        let mut node = Node::load(|_| ());
        let before = node.renew((Time::now() + MINUTE).as_nanos(), TICK);
        let renewal = Renewal { until: 0, tick_length: TICK }.to_bytes();
        assert!(!node.kernel.renew(&renewal[..15]).unwrap());
        assert_eq!(node.kernel.lease().unwrap(), before);
        assert!(node.kernel.renew(&renewal).unwrap());
    });
}

#[test]
fn a_packet_is_judged_by_the_tick_or_where_asked_by_the_nanosecond() {
    // Whether the end as a tick, and the end as a time, are to come; whether the lease lives, and lives precisely.
    let table = [
        (true, true, true, true),
        (true, false, true, false),
        (false, true, false, true),
        (false, false, false, false),
    ];
    in_own_netns(move || {
        let mut coarse = Node::load(|_| ());
        let mut precise = Node::load(|setting| setting.config.precise_lease = 1);
        let now = coarse.renew(0, TICK);
        for (tick_to_come, time_to_come, lives, lives_precisely) in table {
            for (node, lives) in [(&mut coarse, lives), (&mut precise, lives_precisely)] {
                let until_tick = if tick_to_come { u64::MAX } else { now.tick };
                let until = if time_to_come { u64::MAX } else { now.time };
                node.kernel.set_lease(Lease { until_tick, until, ..now }).unwrap();
                let expected = if lives { Reason::NewMine } else { Reason::NewNoLease };
                assert_eq!(node.syn(), expected, "tick {tick_to_come}, time {time_to_come}");
            }
        }
    });
}

/// A node whose buckets are all its own.
struct Node {
    setting: Setting,
    kernel: Kernel,
}

impl Node {
    fn load(change: fn(&mut Setting)) -> Self {
        let mut setting = Scene::new().setting();
        fill(&mut setting, BucketState::Mine);
        change(&mut setting);
        let kernel = Kernel::load(&setting).unwrap();
        Self { setting, kernel }
    }

    /// As the agent does it; gives the lease in force afterwards.
    fn renew(&mut self, until: u64, tick_length: u64) -> Lease {
        assert!(self.kernel.renew(&Renewal { until, tick_length }.to_bytes()).unwrap());
        self.kernel.lease().unwrap()
    }

    /// What becomes of a new connection.
    fn syn(&mut self) -> Reason {
        let frame = V4.tcp(40_000, 443, SYN);
        self.kernel.feed(&frame, &self.setting.feed(&frame)).unwrap().reason
    }
}

//! Kernel and host agree on any frame: verdict, rule, stamp, and every byte of what comes out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use lb_common::table::BucketTable;
use lb_common::verdict::Reason;
use proptest::prelude::*;
use proptest::test_runner::{Config as RunnerConfig, RngAlgorithm, TestRunner};
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::{Kernel, Setting};

use crate::generator::{Damage, damage, noise, well_formed};
use crate::scene::Scene;

/// Of each setting: so many frames, each as it was made and damaged in so many ways.
const CASES: u32 = 1_800;
const DAMAGES: usize = 19;

/// The reasons that take a socket: `sockets.rs` has them.
const OF_SOCKETS: [Reason; 6] = [
    Reason::LocalOpen,
    Reason::LocalTimeWait,
    Reason::LocalHalfOpen,
    Reason::LocalCookie,
    Reason::ListenerOnly,
    Reason::HalfOpenOther,
];

#[test]
fn kernel_and_host_agree_on_random_and_damaged_frames() {
    let mut reasons = BTreeMap::new();
    for setting in settings() {
        for (reason, count) in in_own_netns(|| agree(setting)) {
            *reasons.entry(reason).or_insert(0) += count;
        }
    }
    let fed: u64 = reasons.values().sum();
    println!("{fed} frames: {reasons:?}");
    assert!(fed >= 200_000, "only {fed} frames were compared");
    let missing = Reason::ALL.iter().filter(|reason| !reasons.contains_key(reason));
    assert_eq!(missing.copied().collect::<BTreeSet<_>>(), BTreeSet::from(OF_SOCKETS), "never met");
}

/// Feeds frames to both, and gives how many there were for each reason.
fn agree(setting: Setting) -> BTreeMap<Reason, u64> {
    let kernel = RefCell::new(Kernel::load(&setting).unwrap());
    let fed = Cell::new(0);
    let compare = |frame: &[u8]| {
        fed.set(fed.get() + 1);
        let on_the_host = setting.feed(frame);
        let in_kernel = kernel.borrow_mut().feed(frame, &on_the_host);
        let in_kernel = in_kernel.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        prop_assert_eq!(in_kernel, on_the_host, "the kernel (left) and the host on {:02x?}", frame);
        Ok(())
    };
    let mut cases = runner(CASES);
    let frames = (
        prop_oneof![9 => well_formed(setting.config.vlans), 1 => noise()],
        prop::collection::vec(damage(), DAMAGES),
    );
    let agree = |(frame, damages): (Vec<u8>, Vec<Damage>)| {
        compare(&frame)?;
        damages.iter().try_for_each(|damage| compare(&damage.of(&frame)))
    };
    cases.run(&frames, agree).unwrap();
    let counted = kernel.borrow().audit().unwrap();
    assert_eq!(counted.values().sum::<u64>(), fed.get(), "every frame is counted once");
    counted
}

/// A runner whose random numbers are cheap: in a debug build they would cost more than all else.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let rng_algorithm = RngAlgorithm::XorShift;
    TestRunner::new(RunnerConfig {
        cases,
        rng_algorithm,
        failure_persistence: None,
        ..RunnerConfig::default()
    })
}

/// Every state of a bucket occurs, and bytes that mean none. With and without tags, a lease, a default host, samples; observing.
fn settings() -> Vec<Setting> {
    let make = |vlans: [u16; 2], default_host: bool, change: fn(&mut Setting)| {
        let mut setting = Scene { vlans, default_host, ..Scene::new() }.setting();
        setting.tables.fill(mixed());
        change(&mut setting);
        setting
    };
    vec![
        make([0, 0], false, |_| ()),
        make([0, 0], true, |setting| setting.lease = false),
        make([7, 0], true, |_| ()),
        make([5, 7], false, |setting| setting.config.observe = 1),
        make([0, 0], true, |setting| {
            setting.config.capture_every = 2;
            setting.config.capture_reasons = u64::MAX;
        }),
        make([0, 0], false, |setting| {
            setting.config.precise_lease = 1;
            setting.config.ignore_lease = 1;
            setting.lease = false;
        }),
    ]
}

pub(crate) fn mixed() -> BucketTable {
    let mut table = BucketTable([0; 4096]);
    for (number, byte) in table.0.iter_mut().enumerate() {
        *byte = number as u8 % 5;
    }
    table
}

//! Kernel and host agree on any frame: verdict, rule, stamp, and every byte of what comes out.

use std::cell::{Cell, RefCell};

use lb_common::table::BucketTable;
use proptest::prelude::*;
use proptest::test_runner::{Config as RunnerConfig, TestRunner};
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::{Kernel, Setting};

use crate::generator::{damage, noise, well_formed};
use crate::scene::Scene;

/// Of each setting; and with each case come the frame as it was made and as many damaged in some way.
const CASES: u32 = 3_600;
const DAMAGES: usize = 9;

#[test]
fn kernel_and_host_agree_on_random_and_damaged_frames() {
    let fed: u64 = settings().into_iter().map(|setting| in_own_netns(|| agree(setting))).sum();
    println!("{fed} frames");
    assert!(fed >= 200_000, "only {fed} frames were compared");
}

/// Feeds frames to both, and gives how many there were.
fn agree(setting: Setting) -> u64 {
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
    let cases = RunnerConfig { cases: CASES, failure_persistence: None, ..RunnerConfig::default() };
    let frames = (prop_oneof![9 => well_formed(), 1 => noise()], prop::collection::vec(damage(), DAMAGES));
    let agree = |(frame, damages): (Vec<u8>, Vec<crate::generator::Damage>)| {
        compare(&frame)?;
        damages.iter().try_for_each(|damage| compare(&damage.of(&frame)))
    };
    TestRunner::new(cases).run(&frames, agree).unwrap();
    let counted = kernel.borrow().audit().unwrap();
    assert_eq!(counted, fed.get(), "every frame is counted once");
    counted
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

//! That deliberate bugs are caught: a simulation that notices nothing proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// The first seed of which the simulation fails with a bug, and what it says.
fn caught(bug: Bug, seeds: std::ops::Range<u64>) -> Option<(u64, String)> {
    bug::switch(Some(bug));
    let found = seeds.into_iter().find_map(|seed| {
        let small = 2 + (seed % 3) as u8;
        let failure = catch_unwind(AssertUnwindSafe(|| plans::run(seed, Some(small), false))).err()?;
        let text = failure.downcast::<String>().map_or_else(|_| "a panic".to_owned(), |text| *text);
        Some((seed, text.lines().last().unwrap_or_default().to_owned()))
    });
    bug::switch(None);
    found
}

#[test]
fn every_deliberate_bug_is_caught() {
    let rows = [
        // Two acceptors, or a reset by one who does not know of the other's connections: whichever comes first.
        (Bug::SkipRelease, ""),
        (Bug::IgnoreLease, "are accepted by"),
        (Bug::ResetOrphansAtOnce, "resets connections"),
        (Bug::TakeWithoutAsking, "are accepted by"),
        (Bug::BelieveStale, ""),
    ];
    for (bug, told) in rows {
        let Some((seed, text)) = caught(bug, 0..200) else { panic!("{bug:?} is not caught") };
        println!("{bug:?}: seed {seed}: {text}");
        assert!(text.contains(told), "{bug:?} is caught for another reason: {text}");
    }
}

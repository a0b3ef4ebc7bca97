//! The seeds of a run, on all processors: one line each, and for one that fails how to see what happened.
//!
//! `ROLLCALL_SIM_SEEDS` and `ROLLCALL_SIM_FIRST` say which, `ROLLCALL_SIM_NODES` of how many nodes instead of each seed's own
//! number, `ROLLCALL_SIM_TRACE` prints the trace of each that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::plans::{self, Outcome};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn no_seed_breaks_what_must_hold() {
    let first = setting("ROLLCALL_SIM_FIRST").unwrap_or(0);
    // With 4096 buckets a simulation takes some times as long.
    let usual = if cfg!(feature = "simulation") { 40 } else { 6 };
    let seeds = first..first + setting("ROLLCALL_SIM_SEEDS").unwrap_or(usual);
    let nodes = setting("ROLLCALL_SIM_NODES").map(|nodes| u8::try_from(nodes).unwrap());
    let trace = setting("ROLLCALL_SIM_TRACE").is_some();
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failed;
            }
            match catch_unwind(AssertUnwindSafe(|| plans::run(seed, nodes, trace))) {
                Ok(outcome) => println!("{}", line(seed, &outcome)),
                Err(_) => {
                    println!("seed {seed} failed");
                    failed.push(seed);
                }
            }
        }
    };
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; see one by `cargo xtask simulate --seed SEED --trace`"
    );
}

/// For `cargo xtask simulate`, which reads these.
fn line(seed: u64, outcome: &Outcome) -> String {
    let Outcome { nodes, simulated, steps, checks, slowest, longest_gap } = outcome;
    let (ms, slowest, gap) = (simulated.as_millis(), slowest.as_micros(), longest_gap.as_micros());
    format!(
        "seed {seed} ok nodes {nodes} simulated_ms {ms} steps {steps} checks {checks} converged_us {slowest} gap_us {gap}"
    )
}

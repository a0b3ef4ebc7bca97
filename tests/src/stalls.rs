//! Whether the machine itself stood still, or was too slow for the load, while a lab with load stood: a hypervisor took its processors
//! away.
//!
//! The cluster has no part in that, and nothing that a scenario measures can be told from it: of a frame that the switch gives to
//! two nodes one copy is judged before such a pause and one after it, whatever the leases say. So a test that fails says it, and
//! `cargo xtask test` runs such a test again; one that fails while the machine ran is not.

use std::fmt;
use std::fs;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_user::clock::Time;
use lb_user::sys::run_in_real_time;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::estate::locked;

/// How long a processor must not have run: the default time from one heartbeat to the next, and the promise is that five lost ones
/// in a row are noticed.
const STALL: Duration = Duration::from_millis(25);
/// How often each processor is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Above what runs on this machine, so that only the machine itself delays it.
const PRIORITY: i32 = 98;
/// What part of the processors' time must have been taken away, though never for long.
const STOLEN: f64 = 0.1;
/// Of `/proc/stat`: its unit is USER_HZ, which is 100 on every architecture that this runs on (proc_stat(5)).
const TICK: Duration = Duration::from_millis(10);

/// What part of its attempts a load must have fallen behind by, though it catches up with what a pause made it miss.
const BEHIND: f64 = 0.05;

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

/// The load that the machine is to carry now, or was last.
static PACE: Mutex<Option<Pace>> = Mutex::new(None);

/// Attempts at fixed times.
#[derive(Debug)]
pub struct Pace {
    start: Time,
    period: Duration,
    limit: usize,
    sent: Arc<AtomicUsize>,
    end: Option<Time>,
}

impl Pace {
    /// From `start` on one each `period`, `limit` at most; `sent` counts them.
    pub fn new(start: Time, period: Duration, limit: usize, sent: Arc<AtomicUsize>) -> Self {
        Self { start, period, limit, sent, end: None }
    }

    /// How many there should have been, and how many there were.
    fn account(&self, now: Time) -> (usize, usize) {
        let time = self.end.unwrap_or(now).since(self.start);
        let due = time.as_nanos() / self.period.as_nanos().max(1);
        (usize::try_from(due).unwrap_or(usize::MAX).min(self.limit), self.sent.load(Ordering::Acquire))
    }
}

/// A load begins.
pub fn expect(pace: Pace) {
    *locked(&PACE) = Some(pace);
}

/// It ends.
pub fn expect_no_more() {
    if let Some(pace) = &mut *locked(&PACE) {
        pace.end.get_or_insert_with(Time::now);
    }
}

/// What the machine did since a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    since: Time,
    processors: u32,
    /// Time that had been taken away before, of all processors.
    stolen: Duration,
    stalls: u32,
    longest: Duration,
}

/// What a test says that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
struct StoodStill {
    stalls: u32,
    longest: Duration,
    stolen: Duration,
    /// Attempts that should have been made, and that were.
    load: (usize, usize),
}

impl Seen {
    fn judge(&self, now: Time, stolen: Duration, load: (usize, usize)) -> Option<StoodStill> {
        let stolen = stolen.saturating_sub(self.stolen);
        let time = now.since(self.since).as_secs_f64() * f64::from(self.processors);
        let found = StoodStill { stalls: self.stalls, longest: self.longest, stolen, load };
        let (due, sent) = load;
        let behind = due.saturating_sub(sent) as f64 > BEHIND * due as f64;
        (self.stalls > 0 || behind || stolen.as_secs_f64() > STOLEN * time).then_some(found)
    }
}

impl fmt::Display for StoodStill {
    // `cargo xtask test` looks for how it begins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stalls, longest, stolen, load: (due, sent) } = self;
        write!(
            f,
            "the machine stood still: {stalls} times for {STALL:?} or longer, {longest:?} the longest; {stolen:?} of its \
             processors' time were taken away; {sent} of {due} attempts were made in time"
        )
    }
}

/// Watches from now on; of the time before nothing is known any more. A test that panics says what it saw.
pub fn watch() -> Result<()> {
    static ONCE: Once = Once::new();
    let processors = thread::available_parallelism()?.get();
    let seen = Seen {
        since: Time::now(),
        processors: processors.try_into().unwrap_or(u32::MAX),
        stolen: stolen()?,
        stalls: 0,
        longest: Duration::ZERO,
    };
    *locked(&SEEN) = Some(seen);
    *locked(&PACE) = None;
    ONCE.call_once(|| {
        for processor in 0..processors {
            thread::spawn(move || look(processor));
        }
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            before(panic);
            if let Some(found) = found() {
                eprintln!("{found}");
            }
        }));
    });
    Ok(())
}

fn found() -> Option<StoodStill> {
    let (seen, now) = ((*locked(&SEEN))?, Time::now());
    let load = locked(&PACE).as_ref().map_or((0, 0), |pace| pace.account(now));
    seen.judge(now, stolen().ok()?, load)
}

/// Looks at one processor for as long as the process lives.
fn look(processor: usize) {
    let mut own = CpuSet::new();
    own.set(processor);
    // Without them a busy machine would look like one that stood still: then only stolen time counts.
    if sched_setaffinity(None, &own).is_err() || run_in_real_time(PRIORITY).is_err() {
        return;
    }
    loop {
        let before = Time::now();
        thread::sleep(LOOK);
        let late = Time::now().since(before).saturating_sub(LOOK);
        if late >= STALL
            && let Some(seen) = &mut *locked(&SEEN)
        {
            seen.stalls += 1;
            seen.longest = seen.longest.max(late);
        }
    }
}

/// How much time of this machine's processors went to other machines since it started.
fn stolen() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = stat.lines().next().and_then(|all| all.split_whitespace().nth(8));
    let ticks =
        ticks.and_then(|ticks| ticks.parse().ok()).context("/proc/stat does not say what was stolen")?;
    Ok(TICK.saturating_mul(ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn quiet() -> Seen {
        let since = Time::from_nanos(0);
        Seen { since, processors: 2, stolen: SECOND, stalls: 0, longest: Duration::ZERO }
    }

    #[test]
    fn a_machine_that_ran_is_no_excuse() {
        let end = Time::from_nanos(0) + 10 * SECOND;
        assert_eq!(quiet().judge(end, SECOND, (0, 0)), None);
        assert_eq!(quiet().judge(end, 3 * SECOND, (100, 95)), None, "a tenth of two processors' ten seconds");
    }

    #[test]
    fn a_stall_much_stolen_time_and_a_load_that_fell_behind_are_told() {
        let end = Time::from_nanos(0) + 10 * SECOND;
        let none =
            StoodStill { stalls: 0, longest: Duration::ZERO, stolen: Duration::ZERO, load: (100, 100) };
        let stood = Seen { stalls: 1, longest: SECOND, ..quiet() }.judge(end, SECOND, (100, 100));
        assert_eq!(stood, Some(StoodStill { stalls: 1, longest: SECOND, ..none }));
        let robbed = quiet().judge(end, 4 * SECOND, (100, 100));
        assert_eq!(robbed, Some(StoodStill { stolen: 3 * SECOND, ..none }));
        let slow = quiet().judge(end, SECOND, (100, 94));
        assert_eq!(slow, Some(StoodStill { load: (100, 94), ..none }));
        let words = slow.map(|slow| slow.to_string());
        assert!(words.is_some_and(|words| words.starts_with("the machine stood still: ")));
    }

    #[test]
    fn a_load_is_measured_until_it_ends_and_no_further_than_its_limit() {
        let at = |seconds: u32| Time::from_nanos(0) + seconds * SECOND;
        let sent = Arc::new(AtomicUsize::new(7));
        let mut pace = Pace::new(at(0), SECOND / 2, 30, sent);
        assert_eq!(pace.account(at(4)), (8, 7));
        assert_eq!(pace.account(at(99)), (30, 7));
        pace.end = Some(at(5));
        assert_eq!(pace.account(at(99)), (10, 7));
    }
}
